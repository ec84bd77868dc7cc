//! Attempts of one release on randomised traffic, counted as they end.

use std::sync::atomic::{AtomicU64, Ordering};

use gateway_core::rollout::Counts;

use crate::telemetry::counters::ShardedCounter;

/// Running totals of one release. They outlive reloads and never go back.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    attempts: ShardedCounter,
    failures: AtomicU64,
    slow: AtomicU64,
    seen: AtomicU64,
}

impl Tally {
    /// An attempt that was answered in time: one addition, on a cache line of this thread's own.
    pub(crate) fn success(&self) {
        self.attempts.add(1);
    }

    /// An attempt that failed.
    pub(crate) fn failure(&self) {
        self.attempts.add(1);
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// An attempt that was answered, later than the guard allows.
    pub(crate) fn slow(&self) {
        self.attempts.add(1);
        self.slow.fetch_add(1, Ordering::Relaxed);
    }

    /// A request whose failure its user saw.
    pub(crate) fn seen(&self) {
        self.seen.fetch_add(1, Ordering::Relaxed);
    }

    /// The totals. What is counted meanwhile may be in them in part.
    pub(crate) fn counts(&self) -> Counts {
        let (failures, slow) = (self.failures.load(Ordering::Relaxed), self.slow.load(Ordering::Relaxed));
        let seen = self.seen.load(Ordering::Relaxed);
        Counts { attempts: self.attempts.sum(), failures, slow, seen }
    }
}
