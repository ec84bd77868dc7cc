//! What was seen of both arms: since the step began, lately, and in the last ten seconds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Seconds over which the canary's share of attempts is measured.
const WINDOW_SECONDS: u64 = 10;

/// How many attempts the planned share is worth beside the observed ones.
const PLANNED_ATTEMPTS: f64 = 20.0;

/// Lately means: the last one to two thousand attempts of the canary.
const LATELY: f64 = 2000.0;

/// After so many good attempts in a row stable is out of suspicion.
const STABLE_CLEAR_AFTER: u64 = 50;

/// Attempts of one release on randomised traffic, or a difference of two such counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Attempts that came to an end.
    pub attempts: u64,
    /// Those that failed, by the guard's `failures`.
    pub failures: u64,
    /// Those that were answered later than the guard's latency limit; never failed ones.
    pub slow: u64,
    /// Requests assigned to the release whose failure the user saw (not those answered by another release after all).
    pub seen: u64,
}

impl Counts {
    /// What came since `earlier`. A total that went back was counted anew from 0.
    pub fn since(self, earlier: Self) -> Self {
        if self.attempts < earlier.attempts {
            return self;
        }
        Self {
            attempts: self.attempts - earlier.attempts,
            failures: self.failures.saturating_sub(earlier.failures),
            slow: self.slow.saturating_sub(earlier.slow),
            seen: self.seen.saturating_sub(earlier.seen),
        }
        .bounded()
    }

    /// Sharded counters are read while they run: a failure may be seen before its attempt is.
    fn bounded(mut self) -> Self {
        self.attempts = self.attempts.max(self.failures + self.slow);
        self
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            attempts: self.attempts + other.attempts,
            failures: self.failures + other.failures,
            slow: self.slow + other.slow,
            seen: self.seen + other.seen,
        }
    }

    /// Attempts that were answered in time or late.
    pub fn answered(self) -> u64 {
        self.attempts.saturating_sub(self.failures)
    }

    /// Failures per attempt, 0 to 1; 0 without attempts.
    pub fn failure_rate(self) -> f64 {
        if self.attempts == 0 { 0.0 } else { self.failures as f64 / self.attempts as f64 }
    }
}

/// One look at a service: totals that only ever grow, and who can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Totals of the canary.
    pub canary: Counts,
    /// Totals of the stable release.
    pub stable: Counts,
    /// Whether the canary has an endpoint that may be used.
    pub canary_ready: bool,
    /// Whether the stable release has one.
    pub stable_ready: bool,
}

/// What both arms did in the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Arms {
    /// The canary's counts.
    pub canary: Counts,
    /// Stable's counts.
    pub stable: Counts,
}

impl Arms {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self { canary: self.canary.plus(other.canary), stable: self.stable.plus(other.stable) }
    }

    /// What came since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self { canary: self.canary.since(earlier.canary), stable: self.stable.since(earlier.stable) }
    }
}

/// Everything the judge remembers of the counts; its size is fixed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observed {
    /// Since the evidence was last reset.
    pub step: Arms,
    /// The last one to two thousand canary attempts, and stable's in the same time.
    pub lately: Lately,
    window: [Slot; WINDOW_SECONDS as usize],
    stable_failed: LastTime,
    stable_slow: LastTime,
}

impl Observed {
    /// Takes in what came since the last look.
    pub fn take(&mut self, now: Duration, came: Arms) {
        self.step = self.step.plus(came);
        self.lately.take(came);
        let second = now.as_secs();
        let slot = &mut self.window[(second % WINDOW_SECONDS) as usize];
        if slot.second != second {
            *slot = Slot { second, ..Slot::default() };
        }
        slot.canary += came.canary.attempts;
        slot.stable += came.stable.attempts;
        self.stable_failed.take(came.stable.attempts, came.stable.failures);
        self.stable_slow.take(came.stable.answered(), came.stable.slow);
    }

    /// The canary's share of attempts in the last 10 s, 0 to 1.
    ///
    /// `planned`, the share it should have, counts for 20 attempts: of a handful of attempts, whose failures
    /// are the very ones being judged, the observed share says too little.
    pub fn share(&self, now: Duration, planned: f64) -> f64 {
        let from = (now.as_secs() + 1).saturating_sub(WINDOW_SECONDS);
        let (canary, stable) = self
            .window
            .iter()
            .filter(|slot| slot.second >= from)
            .fold((0, 0), |(canary, stable), slot| (canary + slot.canary, stable + slot.stable));
        (canary as f64 + PLANNED_ATTEMPTS * planned) / ((canary + stable) as f64 + PLANNED_ATTEMPTS)
    }

    /// Whether any of stable's last 50 attempts failed.
    pub fn stable_failed_lately(&self) -> bool {
        self.stable_failed.is_recent()
    }

    /// Whether any of stable's last 50 answers was slow.
    pub fn stable_slow_lately(&self) -> bool {
        self.stable_slow.is_recent()
    }

    /// Forgets the shares of the last seconds, as one must when the weight changes.
    pub fn forget_shares(&mut self) {
        self.window = Default::default();
    }
}

/// How many good trials there were since the last bad one, if there ever was one.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct LastTime(Option<u64>);

impl LastTime {
    fn take(&mut self, trials: u64, bad: u64) {
        self.0 = if bad > 0 { Some(0) } else { self.0.map(|good| good + trials) };
    }

    fn is_recent(self) -> bool {
        self.0.is_some_and(|good| good < STABLE_CLEAR_AFTER)
    }
}

/// Attempts of one second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Slot {
    second: u64,
    canary: u64,
    stable: u64,
}

/// Failure rates of late: all counts are halved whenever the canary has had 2 000 attempts.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Lately {
    canary: Tally,
    stable: Tally,
}

impl Lately {
    fn take(&mut self, came: Arms) {
        self.canary.add(came.canary);
        self.stable.add(came.stable);
        while self.canary.attempts >= LATELY {
            self.canary.halve();
            self.stable.halve();
        }
    }

    /// The canary's failure rate, 0 to 1.
    pub fn canary_rate(&self) -> f64 {
        self.canary.rate()
    }

    /// How much higher the canary's failure rate is than stable's, −1 to 1.
    pub fn difference(&self) -> f64 {
        self.canary.rate() - self.stable.rate()
    }

    /// The canary's failures and attempts, rounded.
    pub fn canary_counts(&self) -> (u64, u64) {
        (self.canary.failures.round() as u64, self.canary.attempts.round() as u64)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Tally {
    attempts: f64,
    failures: f64,
}

impl Tally {
    fn add(&mut self, counts: Counts) {
        self.attempts += counts.attempts as f64;
        self.failures += counts.failures as f64;
    }

    fn halve(&mut self) {
        self.attempts /= 2.0;
        self.failures /= 2.0;
    }

    fn rate(&self) -> f64 {
        if self.attempts > 0.0 { self.failures / self.attempts } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arms(canary: u64, stable: u64) -> Arms {
        let counts = |attempts| Counts { attempts, ..Counts::default() };
        Arms { canary: counts(canary), stable: counts(stable) }
    }

    #[test]
    fn the_share_is_that_of_the_last_ten_seconds_beside_the_plan() {
        let mut observed = Observed::default();
        let share = |observed: &Observed, second| observed.share(Duration::from_secs(second), 0.5);
        assert_eq!(share(&observed, 0), 0.5);
        observed.take(Duration::from_secs(100), arms(490, 490));
        observed.take(Duration::from_secs(105), arms(0, 1000));
        assert_eq!(share(&observed, 109), 0.25);
        assert_eq!(share(&observed, 110), 10.0 / 1020.0);
        assert_eq!(share(&observed, 115), 0.5);
    }

    #[test]
    fn stable_is_suspect_for_fifty_attempts_after_a_failure() {
        let mut observed = Observed::default();
        assert!(!observed.stable_failed_lately());
        let failed = Counts { attempts: 1, failures: 1, ..Counts::default() };
        observed.take(Duration::ZERO, Arms { stable: failed, ..Arms::default() });
        observed.take(Duration::ZERO, arms(0, 49));
        assert!(observed.stable_failed_lately());
        observed.take(Duration::ZERO, arms(0, 1));
        assert!(!observed.stable_failed_lately());
    }

    #[test]
    fn counters_that_begin_again_are_not_negative() {
        let before = Counts { attempts: 1000, failures: 3, slow: 2, seen: 1 };
        let after = Counts { attempts: 10, failures: 1, slow: 0, seen: 0 };
        assert_eq!(after.since(before), after);
        assert_eq!(before.since(before), Counts::default());
    }

    #[test]
    fn lately_forgets() {
        let mut lately = Lately::default();
        lately.take(arms(1_000_000, 1_000_000));
        assert!(lately.canary.attempts < LATELY);
        let failed = Counts { attempts: 500, failures: 500, ..Counts::default() };
        lately.take(Arms { canary: failed, ..Arms::default() });
        assert!(lately.difference() > 0.2);
    }
}
