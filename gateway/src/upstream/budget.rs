//! How many further tries a service may spend, so that a dying release is not buried under them.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use gateway_core::unit::Ratio;

/// The window over which requests are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// Tries that may always be spent, per second (DESIGN §11).
const FLOOR_PER_SECOND: u64 = 3;

/// What a service may spend beside first tries. It outlives reloads.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    /// Another try at the same release.
    pub(crate) retry: Budget,
    /// Another try at stable, for what the canary failed.
    pub(crate) failover: Budget,
}

impl Budgets {
    /// Counts a request that came at `now`.
    pub(crate) fn note_request(&self, now: Instant) {
        self.retry.note_request(now);
        self.failover.note_request(now);
    }
}

/// A share of a service's requests in the last 10 s, never below 3 a second.
///
/// Two counts of half a window each: what is read covers the last 5 to 10 s, and costs no lock.
#[derive(Debug)]
pub(crate) struct Budget {
    begun: Instant,
    share_ppm: AtomicU32,
    /// Index of the half window the counts below belong to.
    half: AtomicU64,
    requests: [AtomicU64; 2],
    spent: [AtomicU64; 2],
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            share_ppm: AtomicU32::new(0),
            half: AtomicU64::new(0),
            requests: Default::default(),
            spent: Default::default(),
        }
    }
}

impl Budget {
    /// Sets the share that may be spent.
    pub(crate) fn set_share(&self, share: Ratio) {
        self.share_ppm.store((share.get() * 1e6) as u32, Relaxed);
    }

    /// Counts a request that came at `now`.
    pub(crate) fn note_request(&self, now: Instant) {
        let slot = self.turn(now);
        self.requests[slot].fetch_add(1, Relaxed);
    }

    /// Spends one further try, if there is one left.
    pub(crate) fn spend(&self, now: Instant) -> bool {
        let slot = self.turn(now);
        let sum = |counts: &[AtomicU64; 2]| counts[0].load(Relaxed) + counts[1].load(Relaxed);
        let share = sum(&self.requests) * u64::from(self.share_ppm.load(Relaxed)) / 1_000_000;
        let allowed = share.max(FLOOR_PER_SECOND * WINDOW.as_secs());
        if sum(&self.spent) >= allowed {
            return false;
        }
        self.spent[slot].fetch_add(1, Relaxed);
        true
    }

    /// Moves on to the half window of `now`; gives the slot to count in.
    fn turn(&self, now: Instant) -> usize {
        let half = now.saturating_duration_since(self.begun).as_secs() / (WINDOW.as_secs() / 2);
        let before = self.half.load(Relaxed);
        // Whoever moves the window clears it; a count or two may go astray at the edge, which a budget can bear.
        if half > before && self.half.compare_exchange(before, half, Relaxed, Relaxed).is_ok() {
            for slot in half..half + (half - before).min(2) {
                self.requests[slot as usize % 2].store(0, Relaxed);
                self.spent[slot as usize % 2].store(0, Relaxed);
            }
        }
        half as usize % 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(percent: f64) -> (Budget, Instant) {
        let budget = Budget::default();
        budget.set_share(Ratio::new(percent / 100.0).expect("a ratio"));
        let begun = budget.begun;
        (budget, begun)
    }

    fn spend_all(budget: &Budget, now: Instant) -> usize {
        (0..10_000).take_while(|_| budget.spend(now)).count()
    }

    #[test]
    fn a_quiet_service_may_spend_three_a_second() {
        let (budget, begun) = budget(20.0);
        assert_eq!(spend_all(&budget, begun), 30);
        assert_eq!(spend_all(&budget, begun + Duration::from_secs(4)), 0, "the window is not over");
        assert_eq!(spend_all(&budget, begun + Duration::from_secs(11)), 30);
    }

    #[test]
    fn a_busy_service_may_spend_its_share() {
        let (budget, begun) = budget(20.0);
        (0..1000).for_each(|_| budget.note_request(begun));
        assert_eq!(spend_all(&budget, begun), 200);
    }

    #[test]
    fn requests_of_long_ago_grant_nothing() {
        let (budget, begun) = budget(100.0);
        (0..1000).for_each(|_| budget.note_request(begun));
        assert_eq!(spend_all(&budget, begun + Duration::from_secs(3600)), 30);
    }
}
