//! Ends of an attempt that Pingora's single read time-out cannot express.
//!
//! Pingora has one time-out for every read from an origin. A service may allow 5 s to the first byte and an hour of
//! silence in a stream. Pingora then gets the longer of the two, and the shorter is watched here: when it passes, the
//! origin's socket is shut down, which Pingora sees as a broken connection and the proxy reports as a time-out. A tunnel
//! to a release that was rolled back ends the same way.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Watches one attempt on one HTTP/1 connection; dropping it calls it off.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    begun: Instant,
    /// Milliseconds after `begun`.
    deadline: AtomicU64,
    /// Beyond which it is never extended, likewise.
    last: u64,
    /// Tells that the deadline has come nearer: a sleep until the former one would be too long.
    nearer: Notify,
    bitten: AtomicBool,
}

impl Watchdog {
    /// Watches `socket`, whose first byte is due within `limit` and whose last one by `end`. `None` when the process is
    /// out of descriptors.
    ///
    /// The descriptor is duplicated, so that a number used again meanwhile is never hit.
    pub(crate) fn watch(socket: RawFd, limit: Duration, end: Option<Instant>) -> Option<Self> {
        let shared = Arc::new(Shared::new(limit, end));
        let task = tokio::spawn(bite(shared.clone(), duplicate(socket)?, silence(shared.clone())));
        Some(Self { shared, task })
    }

    /// Watches `socket` likewise, and until `over` comes.
    pub(crate) fn watch_until(
        over: impl Future<Output = ()> + Send + 'static,
        socket: RawFd,
        limit: Duration,
        end: Option<Instant>,
    ) -> Option<Self> {
        let shared = Arc::new(Shared::new(limit, end));
        let silence = silence(shared.clone());
        let either = async {
            tokio::select! {
                () = silence => {}
                () = over => {}
            }
        };
        let task = tokio::spawn(bite(shared.clone(), duplicate(socket)?, either));
        Some(Self { shared, task })
    }

    /// Minds silence and the end no more.
    pub(crate) fn leave_alone(&self) {
        self.shared.deadline.store(u64::MAX, Ordering::Relaxed);
    }

    /// Grants `limit` from now on, be that later than what was granted before or sooner.
    pub(crate) fn extend(&self, limit: Duration) {
        let deadline = millis(self.shared.begun.elapsed() + limit).min(self.shared.last);
        if deadline < self.shared.deadline.swap(deadline, Ordering::Relaxed) {
            self.shared.nearer.notify_one();
        }
    }

    /// Whether the deadline has passed and the socket was shut down.
    pub(crate) fn has_bitten(&self) -> bool {
        self.shared.bitten.load(Ordering::Relaxed)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn new(limit: Duration, end: Option<Instant>) -> Self {
        let begun = Instant::now();
        let last = end.map_or(u64::MAX, |end| millis(end.saturating_duration_since(begun)));
        let deadline = AtomicU64::new(millis(limit).min(last));
        Self { begun, deadline, last, nearer: Notify::new(), bitten: AtomicBool::new(false) }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn duplicate(socket: RawFd) -> Option<OwnedFd> {
    // SAFETY: Pingora owns the socket for as long as the hook that calls this runs; it is only duplicated here.
    unsafe { BorrowedFd::borrow_raw(socket) }.try_clone_to_owned().ok()
}

/// Ends when the deadline has passed without being extended.
async fn silence(shared: Arc<Shared>) {
    loop {
        let deadline = Duration::from_millis(shared.deadline.load(Ordering::Relaxed));
        let left = deadline.saturating_sub(shared.begun.elapsed());
        if left.is_zero() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            () = shared.nearer.notified() => {}
        }
    }
}

async fn bite(shared: Arc<Shared>, socket: OwnedFd, end: impl Future<Output = ()>) {
    end.await;
    shared.bitten.store(true, Ordering::Relaxed);
    // SAFETY: the descriptor is ours until this function ends.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_socket_ends_when_the_deadline_passes_and_not_before() {
        let (mut ours, theirs) = UnixStream::pair().expect("a socket pair");
        let dog = Watchdog::watch(theirs.as_raw_fd(), Duration::from_millis(20), None).expect("a watchdog");
        dog.extend(Duration::from_millis(40));
        assert!(!dog.has_bitten());
        let read = tokio::task::spawn_blocking(move || ours.read(&mut [0; 1]));
        assert_eq!(read.await.expect("the reader").expect("end of stream"), 0);
        assert!(dog.has_bitten());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_deadline_that_comes_nearer_is_kept() {
        let (mut ours, theirs) = UnixStream::pair().expect("a socket pair");
        let dog = Watchdog::watch(theirs.as_raw_fd(), Duration::from_secs(3600), None).expect("a watchdog");
        tokio::task::yield_now().await;
        dog.extend(Duration::from_millis(20));
        let read = tokio::task::spawn_blocking(move || ours.read(&mut [0; 1]));
        assert_eq!(read.await.expect("the reader").expect("end of stream"), 0);
    }

    #[tokio::test]
    async fn a_watchdog_that_is_called_off_leaves_the_socket_alone() {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        drop(Watchdog::watch(theirs.as_raw_fd(), Duration::ZERO, None));
        ours.set_nonblocking(true).expect("a socket option");
        tokio::task::yield_now().await;
        let error = (&ours).read(&mut [0; 1]).expect_err("nothing to read");
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    }
}
