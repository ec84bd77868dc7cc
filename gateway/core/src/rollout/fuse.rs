//! Fuses: simple limits that no statistics can argue away.

use serde::{Deserialize, Serialize};

use super::evidence::{Arms, Counts};
use super::test::Batch;

/// Failures in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InARow(u64);

impl InARow {
    /// Takes attempts in. Of a mixed batch without a known order only the last failure can be counted.
    pub fn fold(&mut self, attempts: Batch) {
        self.0 = match attempts.hits {
            0 if attempts.trials == 0 => self.0,
            0 => 0,
            hits if hits == attempts.trials => self.0.saturating_add(hits),
            _ => 1,
        };
    }

    /// How many there are now.
    pub fn count(self) -> u64 {
        self.0
    }
}

/// Failures users saw beyond what stable would have given them: the blast radius.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlastRadius {
    /// The guard's limit; what stable is assumed to give when it was never seen.
    assumed_rate: f64,
    alpha: f64,
    before: Excess,
    baseline: Counts,
}

/// Failures of the canary, what stable would have given instead, and how far chance may carry the two apart.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Excess {
    /// Failures that users of the canary saw.
    pub seen: f64,
    /// What stable would have given them.
    pub expected: f64,
    /// The variance of the difference if both arms fail alike.
    pub variance: f64,
}

impl Excess {
    /// Failures beyond what stable would have given.
    pub fn beyond(self) -> f64 {
        self.seen - self.expected
    }
}

impl BlastRadius {
    /// Takes the guard's `max` and α, each 0 to 1.
    pub fn new(assumed_rate: f64, alpha: f64) -> Self {
        Self { assumed_rate, alpha, before: Excess::default(), baseline: Counts::default() }
    }

    /// The excess since the rollout began; `step` is what came since the last [`BlastRadius::carry`].
    ///
    /// Stable's rate is that of the same time, or of the last time it had traffic, or the guard's `max` if it never had.
    pub fn excess(&self, step: Arms) -> Excess {
        let stable = if step.stable.attempts > 0 { step.stable } else { self.baseline };
        let (n, seen) = (step.canary.attempts as f64, step.canary.seen as f64);
        if stable.attempts == 0 {
            let expected = n * self.assumed_rate;
            return self.before.plus(Excess { seen, expected, variance: expected });
        }
        let (m, failed) = (stable.attempts as f64, stable.seen as f64);
        let alike = if step.stable.attempts > 0 { (seen + failed) / (n + m) } else { failed / m };
        self.before.plus(Excess { seen, expected: n * failed / m, variance: n * alike * (1.0 + n / m) })
    }

    /// The excess, if it reaches `limit` and is more than chance makes of two equal arms.
    ///
    /// Without the second half a busy canary that is exactly as good as stable would trip the fuse one day: the
    /// difference of two equal arms wanders as far as `√variance`. How far chance reaches at *any* time, but for a
    /// share α of rollouts, is the one-sided normal mixture bound (Robbins 1970; Howard, Ramdas, McAuliffe & Sekhon
    /// 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences"), with a third of the logarithm added
    /// because counts have the longer tail of Poisson's law (Boucheron, Lugosi & Massart 2013, §2.4).
    pub fn blown(&self, step: Arms, limit: u32) -> Option<Excess> {
        let excess = self.excess(step);
        let reached = excess.beyond() >= f64::from(limit) && excess.beyond() > self.chance(excess.variance);
        reached.then_some(excess)
    }

    /// Keeps what `step` gave before its counts are dropped.
    pub fn carry(&mut self, step: Arms) {
        self.before = self.excess(step);
        if step.stable.attempts > 0 {
            self.baseline = step.stable;
        }
    }

    fn chance(&self, variance: f64) -> f64 {
        /// The variance at which the bound is tightest: that of some ten failures.
        const TUNED_TO: f64 = 10.0;
        let spread = variance + TUNED_TO;
        let odds = ((spread / TUNED_TO).sqrt() / (2.0 * self.alpha)).ln_1p();
        (2.0 * spread * odds).sqrt() + odds / 3.0
    }
}

impl Excess {
    fn plus(self, other: Self) -> Self {
        Self {
            seen: self.seen + other.seen,
            expected: self.expected + other.expected,
            variance: self.variance + other.variance,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arms(canary: (u64, u64), stable: (u64, u64)) -> Arms {
        let counts = |(attempts, seen)| Counts { attempts, seen, failures: seen, slow: 0 };
        Arms { canary: counts(canary), stable: counts(stable) }
    }

    #[test]
    fn a_success_between_ends_the_row() {
        let mut row = InARow::default();
        let failed = |trials| Batch { trials, hits: 1, hit_last: true };
        row.fold(failed(1));
        row.fold(failed(1));
        assert_eq!(row.count(), 2);
        row.fold(failed(2));
        assert_eq!(row.count(), 1);
        row.fold(Batch { trials: 3, hits: 0, hit_last: false });
        assert_eq!(row.count(), 0);
    }

    #[test]
    fn twenty_five_failures_beyond_stable_blow_the_fuse_and_twenty_four_do_not() {
        let fuse = BlastRadius::new(0.05, 0.001);
        assert_eq!(fuse.blown(arms((6000, 24), (54_000, 0)), 25), None);
        assert!(fuse.blown(arms((6000, 25), (54_000, 0)), 25).is_some());
        assert_eq!(fuse.blown(arms((6000, 29), (54_000, 54)), 25), None);
        assert!(fuse.blown(arms((6000, 31), (54_000, 54)), 25).is_some());
    }

    #[test]
    fn twenty_five_beyond_is_chance_when_both_arms_fail_by_the_thousand() {
        let fuse = BlastRadius::new(0.05, 0.001);
        assert_eq!(fuse.blown(arms((100_000, 1030), (900_000, 9000)), 25), None);
        assert!(fuse.blown(arms((100_000, 1300), (900_000, 9000)), 25).is_some());
    }

    #[test]
    fn what_users_saw_in_earlier_steps_counts_on() {
        let mut fuse = BlastRadius::new(0.05, 0.001);
        fuse.carry(arms((3000, 20), (27_000, 0)));
        assert_eq!(fuse.blown(arms((0, 0), (0, 0)), 25), None);
        assert!(fuse.blown(arms((1000, 5), (1000, 0)), 25).is_some());
    }

    #[test]
    fn without_stable_its_last_rate_is_taken_and_without_any_the_limit() {
        let mut fuse = BlastRadius::new(0.05, 0.001);
        assert_eq!(fuse.excess(arms((1000, 60), (0, 0))).expected, 50.0);
        fuse.carry(arms((0, 0), (1000, 10)));
        assert_eq!(fuse.excess(arms((1000, 60), (0, 0))).expected, 10.0);
    }
}
