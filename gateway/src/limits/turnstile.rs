//! How many are let in at a time: a turnstile with a queue before it, first come, first served.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Lets so many in, and the next ones as others leave.
///
/// Entering and leaving cost one atomic step as long as nobody waits. The lock is for the queue alone.
#[derive(Debug)]
pub(crate) struct Turnstile {
    /// A [`Crowd`]. One word, so that who leaves cannot miss who is just beginning to wait.
    crowd: AtomicU64,
    /// Written under the lock.
    most: AtomicU32,
    queue: Mutex<Queue>,
}

/// Those who wait, in the order they came.
#[derive(Debug, Default)]
struct Queue {
    /// The ticket of the next to come; tickets rise.
    next: u64,
    waiting: VecDeque<(u64, oneshot::Sender<()>)>,
}

/// How many are inside, and how many wait. Nobody waits while there is room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Crowd {
    inside: u32,
    waiting: u32,
}

impl Crowd {
    fn of(word: u64) -> Self {
        Self { inside: word as u32, waiting: (word >> 32) as u32 }
    }

    fn word(self) -> u64 {
        u64::from(self.waiting) << 32 | u64::from(self.inside)
    }

    fn may_enter(self, most: u32) -> bool {
        self.waiting == 0 && self.inside < most
    }

    fn one_in(self) -> Self {
        Self { inside: self.inside + 1, ..self }
    }

    fn one_out(self) -> Self {
        Self { inside: self.inside - 1, ..self }
    }

    fn one_more_waits(self) -> Self {
        Self { waiting: self.waiting + 1, ..self }
    }

    fn one_less_waits(self) -> Self {
        Self { waiting: self.waiting - 1, ..self }
    }
}

/// What becomes of one who comes.
#[derive(Debug)]
pub(crate) enum Entry {
    /// There was room.
    Inside(Inside),
    /// There is room in the queue.
    Waiting(Waiting),
    /// There is none.
    Full,
}

/// One who is inside; leaves when dropped.
#[derive(Debug)]
#[must_use = "it leaves at once when dropped"]
pub(crate) struct Inside(Arc<Turnstile>);

/// One who waits; gives the place in the queue up when dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    turnstile: Arc<Turnstile>,
    /// `None` once inside.
    ticket: Option<u64>,
    called: oneshot::Receiver<()>,
}

impl Turnstile {
    /// Lets `most` in at a time.
    pub(crate) fn new(most: u32) -> Self {
        Self { crowd: AtomicU64::new(0), most: AtomicU32::new(most), queue: Mutex::default() }
    }

    /// From now on lets `most` in at a time. Those inside stay, and count.
    pub(crate) fn set_most(&self, most: u32) {
        let mut queue = self.queue.lock();
        self.most.store(most, Relaxed);
        self.call(&mut queue);
    }

    /// Comes in, or waits with at most `room` in the queue.
    pub(crate) fn enter(self: &Arc<Self>, room: u32) -> Entry {
        let most = self.most.load(Relaxed);
        match self.change(|crowd| crowd.may_enter(most).then(|| crowd.one_in())) {
            Ok(_) => Entry::Inside(Inside(self.clone())),
            Err(_) => self.wait(room),
        }
    }

    /// The same under the lock, where nobody else begins or ends to wait and the number does not change.
    fn wait(self: &Arc<Self>, room: u32) -> Entry {
        let mut queue = self.queue.lock();
        let most = self.most.load(Relaxed);
        let found = self.change(|crowd| match crowd {
            _ if crowd.may_enter(most) => Some(crowd.one_in()),
            _ if crowd.waiting < room => Some(crowd.one_more_waits()),
            _ => None,
        });
        match found {
            Err(_) => Entry::Full,
            Ok(crowd) if crowd.may_enter(most) => Entry::Inside(Inside(self.clone())),
            Ok(_) => {
                let (call, called) = oneshot::channel();
                let ticket = queue.next;
                queue.next += 1;
                queue.waiting.push_back((ticket, call));
                Entry::Waiting(Waiting { turnstile: self.clone(), ticket: Some(ticket), called })
            }
        }
    }

    fn leave(&self) {
        let unnoticed = self.change(|crowd| (crowd.waiting == 0).then(|| crowd.one_out()));
        if unnoticed.is_err() {
            let mut queue = self.queue.lock();
            let _ = self.change(|crowd| Some(crowd.one_out()));
            self.call(&mut queue);
        }
    }

    /// Calls in as many as there is room for.
    fn call(&self, queue: &mut Queue) {
        let most = self.most.load(Relaxed);
        let one = |crowd: Crowd| {
            (crowd.waiting > 0 && crowd.inside < most).then(|| crowd.one_less_waits().one_in())
        };
        while self.change(one).is_ok() {
            if let Some((_, call)) = queue.waiting.pop_front() {
                // Heard for sure: who gives up takes the ticket out of the queue first.
                let _ = call.send(());
            }
        }
    }

    /// One atomic step; gives what was before, also when there was nothing to change.
    fn change(&self, step: impl Fn(Crowd) -> Option<Crowd>) -> Result<Crowd, Crowd> {
        let step = |word| step(Crowd::of(word)).map(Crowd::word);
        self.crowd.fetch_update(Relaxed, Relaxed, step).map(Crowd::of).map_err(Crowd::of)
    }
}

impl Waiting {
    /// Waits to be called in, at most for `patience`.
    pub(crate) async fn inside(mut self, patience: Duration) -> Option<Inside> {
        let called = timeout(patience, &mut self.called).await;
        called.ok()?.ok()?;
        self.ticket = None;
        Some(Inside(self.turnstile.clone()))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut queue = self.turnstile.queue.lock();
        if let Ok(at) = queue.waiting.binary_search_by_key(&ticket, |(ticket, _)| *ticket) {
            queue.waiting.remove(at);
            let _ = self.turnstile.change(|crowd| Some(crowd.one_less_waits()));
        } else {
            drop(queue);
            // Called in at the last moment: the place goes to the next.
            self.turnstile.leave();
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn turnstile(most: u32) -> Arc<Turnstile> {
        Arc::new(Turnstile::new(most))
    }

    fn inside(entry: Entry) -> Inside {
        let Entry::Inside(inside) = entry else { panic!("not inside: {entry:?}") };
        inside
    }

    fn waiting(entry: Entry) -> Waiting {
        let Entry::Waiting(waiting) = entry else { panic!("does not wait: {entry:?}") };
        waiting
    }

    fn crowd(turnstile: &Turnstile) -> (u32, u32) {
        let crowd = Crowd::of(turnstile.crowd.load(Relaxed));
        (crowd.inside, crowd.waiting)
    }

    /// Whether it has been called in by now.
    fn is_called(waiting: &mut Waiting) -> bool {
        waiting.called.try_recv().is_ok()
    }

    #[test]
    fn so_many_are_let_in_so_many_wait_and_nobody_else() {
        let turnstile = turnstile(2);
        let _two = (inside(turnstile.enter(1)), inside(turnstile.enter(1)));
        let _one = waiting(turnstile.enter(1));
        assert!(matches!(turnstile.enter(1), Entry::Full));
        assert!(matches!(turnstile.enter(0), Entry::Full));
        assert_eq!(crowd(&turnstile), (2, 1));
    }

    #[test]
    fn who_came_first_is_called_first_and_nobody_overtakes() {
        let turnstile = turnstile(1);
        let first = inside(turnstile.enter(9));
        let (mut second, mut third) = (waiting(turnstile.enter(9)), waiting(turnstile.enter(9)));
        drop(first);
        let _fourth = waiting(turnstile.enter(9));
        assert!(is_called(&mut second) && !is_called(&mut third));
        drop(second);
        assert!(is_called(&mut third), "a place that was called and given up goes to the next");
    }

    #[test]
    fn who_gives_up_frees_the_place_in_the_queue() {
        let turnstile = turnstile(1);
        let first = inside(turnstile.enter(2));
        let (second, mut third) = (waiting(turnstile.enter(2)), waiting(turnstile.enter(2)));
        assert!(matches!(turnstile.enter(2), Entry::Full));
        drop(second);
        let fourth = waiting(turnstile.enter(2));
        drop(first);
        assert!(is_called(&mut third));
        drop((third, fourth));
        assert_eq!(crowd(&turnstile), (0, 0));
    }

    #[test]
    fn another_number_counts_those_who_are_inside() {
        let turnstile = turnstile(3);
        let mut three: Vec<Inside> = (0..3).map(|_| inside(turnstile.enter(0))).collect();
        turnstile.set_most(1);
        three.truncate(1);
        let mut next = waiting(turnstile.enter(9));
        assert!(!is_called(&mut next), "one is inside, and one may be");
        turnstile.set_most(2);
        assert!(is_called(&mut next));
        turnstile.set_most(0);
        assert_eq!(crowd(&turnstile), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_and_a_call_ends_it_sooner() {
        let turnstile = turnstile(1);
        let first = inside(turnstile.enter(2));
        assert!(waiting(turnstile.enter(2)).inside(LONG).await.is_none());
        let waiting = waiting(turnstile.enter(2));
        drop(first);
        let second = waiting.inside(Duration::ZERO).await;
        assert_eq!((second.is_some(), crowd(&turnstile)), (true, (1, 0)));
    }

    /// Threads come, wait, give up and leave at random: the number is never exceeded, and nobody is forgotten.
    #[test]
    fn a_crowd_on_many_threads_is_kept_count_of() {
        const MOST: u32 = 3;
        let (turnstile, now) = (turnstile(MOST), AtomicU32::new(0));
        let visit = |_: Inside| {
            assert!(now.fetch_add(1, Relaxed) < MOST);
            std::thread::yield_now();
            now.fetch_sub(1, Relaxed);
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                    for _ in 0..2_000 {
                        match turnstile.enter(6) {
                            Entry::Inside(inside) => visit(inside),
                            Entry::Waiting(waiting) if fastrand::u8(..4) > 0 => {
                                visit(runtime.block_on(waiting.inside(LONG)).expect("called in the end"));
                            }
                            Entry::Waiting(_) | Entry::Full => {}
                        }
                    }
                });
            }
        });
        assert_eq!(crowd(&turnstile), (0, 0));
        assert!(turnstile.queue.lock().waiting.is_empty());
    }
}
