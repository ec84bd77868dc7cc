//! The access log: one line of JSON a request, written by a thread of its own.
//!
//! A request moves its [`Entry`] into a bounded queue and goes on; when the queue is full, because the target is
//! slower than the traffic, the entry is dropped and counted. The writer sleeps until a first entry comes, then collects
//! for 10 ms at a time, so that under load no request has to wake it and each write carries many lines.

mod clock;
mod entry;
mod line;
mod lines;
mod sink;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use gateway_core::config::model::AccessLog as Target;
use parking_lot::Mutex;

pub use self::entry::{Entry, Text, Timers};
pub use self::lines::Lines;
use self::sink::Sink;
use super::counters::ShardedCounter;

/// Entries that may wait: a tenth of a second at 80 000 requests a second, in a few megabytes.
const QUEUE: usize = 8192;

/// How long entries may wait to be written together.
const LINGER: Duration = Duration::from_millis(10);

/// Lines are written once they fill this many bytes, even if more wait.
const BATCH_BYTES: usize = 256 * 1024;

/// The way to the writer's thread, which ends, everything written, when this is dropped.
pub struct AccessLog {
    /// `None` only wakes the writer.
    queue: SyncSender<Option<Entry>>,
    orders: Arc<Mutex<Vec<Order>>>,
    dropped: Arc<ShardedCounter>,
}

/// What the writer does once all entries that were logged before are written.
enum Order {
    /// Write to another target, or to none.
    Switch(Option<Sink>),
    /// Open the file anew.
    Reopen,
    /// Tell that everything is written.
    Report(Sender<()>),
}

impl AccessLog {
    /// Opens `target` and starts the writer; without a target entries vanish uncounted. Lost ones are added to `dropped`.
    ///
    /// # Errors
    /// The target cannot be opened, or no thread can be started.
    pub fn start(target: Option<Target>, dropped: Arc<ShardedCounter>) -> io::Result<Self> {
        let sink = target.map(Sink::open).transpose()?;
        let (log, writer) = pair(sink, dropped, QUEUE);
        thread::Builder::new().name("access-log".into()).spawn(move || writer.run())?;
        Ok(log)
    }

    /// Hands over one entry. Never waits; a full queue drops the entry and counts it.
    pub fn log(&self, entry: Entry) {
        if self.queue.try_send(Some(entry)).is_err() {
            self.dropped.add(1);
        }
    }

    /// Writes to `target` from now on. What was logged before still goes to the old one, and so may what is logged while
    /// the writer changes over; a [`Self::flush`] between tells when it has. No line is lost.
    ///
    /// # Errors
    /// The new target cannot be opened; then nothing changes.
    pub fn switch(&self, target: Option<Target>) -> io::Result<()> {
        let sink = target.map(Sink::open).transpose()?;
        self.order(Order::Switch(sink));
        Ok(())
    }

    /// Opens the file anew under its name, for whoever rotates logs. What was logged before goes to the old file.
    pub fn reopen(&self) {
        self.order(Order::Reopen);
    }

    /// Waits until everything logged before is written or lost, at most `patience`. False when that was too short.
    pub fn flush(&self, patience: Duration) -> bool {
        let (report, done) = channel();
        self.order(Order::Report(report));
        done.recv_timeout(patience) != Err(RecvTimeoutError::Timeout)
    }

    fn order(&self, order: Order) {
        self.orders.lock().push(order);
        // With a full queue the writer is awake and will look for orders by itself.
        let _ = self.queue.try_send(None);
    }
}

/// Both ends of a queue for `capacity` entries.
fn pair(sink: Option<Sink>, dropped: Arc<ShardedCounter>, capacity: usize) -> (AccessLog, Writer) {
    let (sender, receiver) = sync_channel(capacity);
    let orders = Arc::new(Mutex::new(Vec::new()));
    let log = AccessLog { queue: sender, orders: Arc::clone(&orders), dropped: Arc::clone(&dropped) };
    (log, Writer { queue: receiver, orders, dropped, sink, lines: Lines::default(), capacity })
}

/// The thread that formats and writes.
struct Writer {
    queue: Receiver<Option<Entry>>,
    orders: Arc<Mutex<Vec<Order>>>,
    dropped: Arc<ShardedCounter>,
    sink: Option<Sink>,
    lines: Lines,
    capacity: usize,
}

impl Writer {
    /// Works until every sender is gone.
    fn run(mut self) {
        while let Ok(first) = self.queue.recv() {
            self.add(first);
            loop {
                thread::sleep(LINGER);
                if self.round() == 0 {
                    break;
                }
            }
        }
    }

    /// Writes what waits, then follows the orders given before. Gives how many messages there were.
    fn round(&mut self) -> usize {
        // Orders first: what was logged before an order is in the queue by the time the order is seen.
        let orders = std::mem::take(&mut *self.orders.lock());
        let mut count = 0;
        while count < self.capacity {
            let Ok(message) = self.queue.try_recv() else { break };
            self.add(message);
            count += 1;
        }
        self.write();
        for order in orders {
            self.follow(order);
        }
        count
    }

    fn add(&mut self, message: Option<Entry>) {
        if let (Some(entry), Some(_)) = (message, &self.sink) {
            self.lines.add(&entry);
            if self.lines.as_bytes().len() >= BATCH_BYTES {
                self.write();
            }
        }
    }

    fn write(&mut self) {
        if let Some(sink) = &mut self.sink
            && !self.lines.as_bytes().is_empty()
        {
            self.dropped.add(sink.write(self.lines.as_bytes()));
        }
        self.lines.clear();
    }

    fn follow(&mut self, order: Order) {
        match order {
            Order::Switch(sink) => self.sink = sink,
            Order::Reopen => {
                if let Some(sink) = &mut self.sink {
                    sink.reopen();
                }
            }
            // Whoever asked may have lost patience.
            Order::Report(done) => drop(done.send(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::entry::tests::entry;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn dropped() -> Arc<ShardedCounter> {
        Arc::new(ShardedCounter::new())
    }

    fn file(path: &Path) -> Option<Target> {
        Some(Target::File(path.into()))
    }

    fn start(target: Option<Target>) -> (AccessLog, Arc<ShardedCounter>) {
        let dropped = dropped();
        (AccessLog::start(target, Arc::clone(&dropped)).unwrap(), dropped)
    }

    /// The paths logged in a file, each line being JSON.
    fn paths(path: &Path) -> Vec<String> {
        let path_of = |line: &str| {
            let json: serde_json::Value = serde_json::from_str(line).unwrap();
            json["path"].as_str().unwrap().to_owned()
        };
        fs::read_to_string(path).unwrap().lines().map(path_of).collect()
    }

    fn directory() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("one.log"), directory.path().join("two.log"));
        (directory, one, two)
    }

    #[test]
    fn entries_are_written_in_order_and_all_of_them() {
        let (_directory, one, _) = directory();
        let (log, dropped) = start(file(&one));
        for number in 0..5000 {
            log.log(entry(format!("/{number}")));
        }
        assert!(log.flush(PATIENCE));
        assert_eq!(paths(&one), (0..5000).map(|number| format!("/{number}")).collect::<Vec<_>>());
        assert_eq!(dropped.sum(), 0);
    }

    #[test]
    fn a_full_queue_drops_and_counts_without_waiting() {
        let (_directory, one, _) = directory();
        let dropped = dropped();
        let sink = Sink::open(Target::File(one.clone())).unwrap();
        let (log, mut writer) = pair(Some(sink), Arc::clone(&dropped), 2);
        for path in ["/1", "/2", "/3", "/4"] {
            log.log(entry(path));
        }
        assert_eq!(dropped.sum(), 2);
        writer.round();
        log.log(entry("/5"));
        writer.round();
        assert_eq!(paths(&one), ["/1", "/2", "/5"]);
        assert_eq!(dropped.sum(), 2);
    }

    #[test]
    fn an_order_reaches_the_writer_even_when_the_queue_is_full() {
        let (_directory, one, two) = directory();
        let sink = Sink::open(Target::File(one.clone())).unwrap();
        let (log, mut writer) = pair(Some(sink), dropped(), 1);
        log.log(entry("/before"));
        log.switch(file(&two)).unwrap();
        writer.round();
        log.log(entry("/after"));
        writer.round();
        assert_eq!((paths(&one), paths(&two)), (vec!["/before".to_owned()], vec!["/after".to_owned()]));
    }

    #[test]
    fn a_full_disk_is_counted_and_another_target_recovers() {
        let (_directory, one, _) = directory();
        let (log, dropped) = start(file(Path::new("/dev/full")));
        log.log(entry("/lost"));
        log.log(entry("/lost"));
        assert!(log.flush(PATIENCE));
        assert_eq!(dropped.sum(), 2);
        log.switch(file(&one)).unwrap();
        log.log(entry("/kept"));
        assert!(log.flush(PATIENCE));
        // An entry logged during the change may have met the full disk still; one after it may not.
        log.log(entry("/kept too"));
        assert!(log.flush(PATIENCE));
        assert_eq!(paths(&one).last().map(String::as_str), Some("/kept too"));
        assert_eq!(dropped.sum() + paths(&one).len() as u64, 4, "each line is written or counted");
    }

    #[test]
    fn a_rotated_file_is_left_and_no_line_is_lost() {
        let (_directory, one, two) = directory();
        let (log, dropped) = start(file(&one));
        log.log(entry("/before"));
        assert!(log.flush(PATIENCE));
        fs::rename(&one, &two).unwrap();
        log.reopen();
        assert!(log.flush(PATIENCE));
        log.log(entry("/after"));
        assert!(log.flush(PATIENCE));
        assert_eq!((paths(&two), paths(&one)), (vec!["/before".to_owned()], vec!["/after".to_owned()]));
        assert_eq!(dropped.sum(), 0);
    }

    #[test]
    fn a_target_that_cannot_be_opened_is_refused_and_the_old_one_serves_on() {
        let (directory, one, _) = directory();
        assert!(AccessLog::start(file(&directory.path().join("absent/log")), dropped()).is_err());
        let (log, _) = start(file(&one));
        assert!(log.switch(file(&directory.path().join("absent/log"))).is_err());
        log.log(entry("/"));
        assert!(log.flush(PATIENCE));
        assert_eq!(paths(&one), ["/"]);
    }

    #[test]
    fn a_log_switched_off_counts_nothing_as_lost() {
        let (log, dropped) = start(None);
        log.log(entry("/"));
        assert!(log.flush(PATIENCE));
        assert_eq!(dropped.sum(), 0);
    }

    #[test]
    fn flush_gives_up_on_a_writer_that_does_not_move() {
        let (log, _stuck) = pair(None, dropped(), 1);
        assert!(!log.flush(Duration::from_millis(1)));
    }
}
