//! A counter that many threads add to without sharing a cache line.

use std::cell::Cell;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::available_parallelism;

/// More shards than this are not worth their memory.
const MAX_SHARDS: usize = 16;

static SHARDS: LazyLock<usize> = LazyLock::new(|| {
    available_parallelism().map_or(1, |threads| threads.get().next_power_of_two().min(MAX_SHARDS))
});

/// How many shards a counter has: the processors this process may use, rounded up to a power of two, at most 16.
pub(super) fn shards() -> usize {
    *SHARDS
}

/// The calling thread's shard, below `count`, which is a power of two. Threads take turns as they first ask.
pub(super) fn shard(count: usize) -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    const NONE: usize = usize::MAX;
    thread_local! { static OWN: Cell<usize> = const { Cell::new(NONE) } }
    OWN.with(|own| {
        if own.get() == NONE {
            own.set(NEXT.fetch_add(1, Relaxed) % NONE);
        }
        own.get() & (count - 1)
    })
}

/// Keeps its content on cache lines of its own: two, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Padded<T>(pub(super) T);

/// A count that only grows, spread so that threads rarely meet.
///
/// Adding is one relaxed atomic addition, about a nanosecond or two; reading adds up at most 16 shards. It takes
/// 128 bytes a shard.
#[derive(Debug)]
pub struct ShardedCounter {
    shards: Box<[Padded<AtomicU64>]>,
}

impl ShardedCounter {
    /// Counts from zero.
    pub fn new() -> Self {
        Self { shards: (0..shards()).map(|_| Padded::default()).collect() }
    }

    /// Adds `count`. Never blocks, never allocates.
    pub fn add(&self, count: u64) {
        self.shards[shard(self.shards.len())].0.fetch_add(count, Relaxed);
    }

    /// The sum so far. Additions that happen meanwhile are in it or not; one that is in it stays in it.
    pub fn sum(&self) -> u64 {
        self.shards.iter().map(|shard| shard.0.load(Relaxed)).fold(0, u64::wrapping_add)
    }
}

impl Default for ShardedCounter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn nothing_is_lost_between_threads() {
        let counter = ShardedCounter::new();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        counter.add(1);
                    }
                });
            }
        });
        assert_eq!(counter.sum(), 80_000);
    }

    #[test]
    fn a_thread_keeps_its_shard_and_shards_fit_any_power_of_two() {
        for count in [1, 2, 4, 16] {
            assert!(shard(count) < count);
            assert_eq!(shard(count), shard(count));
        }
        assert!(shards().is_power_of_two());
    }

    #[test]
    fn each_shard_has_cache_lines_of_its_own() {
        assert_eq!(size_of::<Padded<AtomicU64>>(), 128);
    }
}
