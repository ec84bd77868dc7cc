//! Where the workers of a load write down what came back.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::series::{Series, Slicer};
use super::summary::Summary;
use super::tally::{Outcome, Split};

/// How far a load has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Since the load's start.
    pub elapsed: Duration,
    /// What ended since the last time it was asked, and how long ago that was.
    pub recent: Summary,
}

/// The books of a load, one for all its workers.
pub(super) struct Record {
    start: Instant,
    books: Mutex<Books>,
}

struct Books {
    all: Split,
    slicer: Slicer,
    recent: Split,
    asked: Instant,
}

impl Record {
    pub(super) fn new(start: Instant, interval: Duration) -> Self {
        let books =
            Books { all: Split::new(3), slicer: Slicer::new(interval), recent: Split::new(2), asked: start };
        Self { start, books: Mutex::new(books) }
    }

    /// Enters a request that ended now, `time` after it was due.
    pub(super) fn add(&self, outcome: &Outcome, time: Duration) {
        let mut books = self.books.lock();
        let since_start = self.start.elapsed();
        books.all.add(outcome, time);
        books.recent.add(outcome, time);
        books.slicer.at(since_start).add(outcome, time);
    }

    pub(super) fn progress(&self) -> Progress {
        let mut books = self.books.lock();
        let now = Instant::now();
        let recent = std::mem::replace(&mut books.recent, Split::new(2));
        let since = now.duration_since(books.asked);
        books.asked = now;
        drop(books);
        Progress { elapsed: now.duration_since(self.start), recent: Summary::of(&recent, since) }
    }

    /// The whole of it; what is entered later is lost.
    pub(super) fn close(&self) -> (Summary, Series) {
        let mut books = self.books.lock();
        let elapsed = self.start.elapsed();
        let all = std::mem::replace(&mut books.all, Split::new(3));
        let slicer = std::mem::replace(&mut books.slicer, Slicer::new(Duration::from_secs(1)));
        drop(books);
        (Summary::of(&all, elapsed), slicer.finish(elapsed))
    }
}
