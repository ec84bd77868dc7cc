//! How many connections may wait, over all pools.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::files::SHARES;

/// That of the process.
pub(super) static IDLE: LazyLock<Bound> = LazyLock::new(|| Bound::new(SHARES.idle));

/// A number of things that there may be at once.
#[derive(Debug)]
pub(crate) struct Bound {
    most: usize,
    taken: AtomicUsize,
}

/// One of them, until it goes.
#[derive(Debug)]
pub(super) struct Room(&'static Bound);

impl Bound {
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: AtomicUsize::new(0) }
    }

    /// Room for one more, if there is any.
    pub(super) fn room(&'static self) -> Option<Room> {
        let room = Room(self);
        (self.taken.fetch_add(1, Ordering::Relaxed) < self.most).then_some(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}
