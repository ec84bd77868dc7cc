//! Is the failure rate above a limit?

use super::{Batch, grow, mean, start_share};

/// A fresh start is made every so many trials.
const BLOCK: u64 = 10;

/// Of a long run of good trials, starts older than this many blocks are folded in one step.
const BLOCKS_ONE_BY_ONE: u64 = 64;

/// Rates we look for, where they lie above the limit. A grid: what matters is that one of them is near the truth.
const RATES: [f64; 6] = [0.02, 0.05, 0.1, 0.25, 0.5, 0.95];

/// An e-process against "each trial fails with probability at most `p₀`, whatever came before".
///
/// For each alternative `p_k > p₀`, with a start of share `w_t` before each block of 10 trials,
/// `M_k ← (M_k + w_t) · (p_k/p₀)^x · ((1−p_k)/(1−p₀))^(1−x)`, `x` being 1 for a failure; the value is the mean of `M_k`.
/// If the chance of a failure is `p ≤ p₀`, each factor has the mean `p·p_k/p₀ + (1−p)(1−p_k)/(1−p₀) ≤ 1`.
#[derive(Debug, Clone, PartialEq)]
pub struct Absolute {
    alternatives: Vec<Alternative>,
    values: Vec<f64>,
    trials: u64,
}

/// What one trial multiplies a value by, as logarithms.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Alternative {
    hit: f64,
    miss: f64,
}

impl Absolute {
    /// Takes the limit, 0 to 1. A limit of 1 can never be passed and one of 0 is taken for one in a million.
    pub fn new(limit: f64) -> Self {
        let limit = limit.max(1e-6);
        let mut rates: Vec<f64> = RATES.into_iter().filter(|rate| *rate > limit).collect();
        if rates.is_empty() && limit < 1.0 {
            rates.push(f64::midpoint(limit, 1.0));
        }
        let alternative =
            |rate: f64| Alternative { hit: (rate / limit).ln(), miss: ((1.0 - rate) / (1.0 - limit)).ln() };
        let alternatives: Vec<_> = rates.into_iter().map(alternative).collect();
        Self { values: vec![0.0; alternatives.len()], alternatives, trials: 0 }
    }

    /// The evidence against the limit; a breach at confidence `1 − α` when it reaches `1/α`.
    pub fn value(&self) -> f64 {
        mean(&self.values)
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.values.fill(0.0);
        self.trials = 0;
    }

    /// Takes trials in. At most 64 steps, however many there are.
    ///
    /// Good trials followed by one failure are taken in their order. Of a batch whose order is not known, all starts due
    /// within are made before its first trial: a start must not be placed where the failures are known to follow.
    pub fn fold(&mut self, batch: Batch) {
        match batch.hits {
            0 => self.misses(batch.trials),
            1 if batch.hit_last => {
                self.misses(batch.trials - 1);
                self.together(1, 1);
            }
            hits => self.together(batch.trials, hits),
        }
    }

    fn misses(&mut self, mut count: u64) {
        let one_by_one = BLOCK * BLOCKS_ONE_BY_ONE;
        if count > one_by_one {
            self.together(count - one_by_one, 0);
            count = one_by_one;
        }
        while count > 0 {
            let run = count.min(BLOCK - self.trials % BLOCK);
            self.together(run, 0);
            count -= run;
        }
    }

    /// Makes the starts due in the next `trials`, then multiplies by all of them.
    fn together(&mut self, trials: u64, hits: u64) {
        let end = self.trials + trials;
        let share = start_share(self.trials.div_ceil(BLOCK), end.div_ceil(BLOCK));
        let misses = trials.saturating_sub(hits) as f64;
        for (value, alternative) in self.values.iter_mut().zip(&self.alternatives) {
            let exponent = hits as f64 * alternative.hit + misses * alternative.miss;
            *value = grow(*value, share, exponent);
        }
        self.trials = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(trials: u64) -> Batch {
        Batch { trials, hits: 0, hit_last: false }
    }

    const FAILURE: Batch = Batch { trials: 1, hits: 1, hit_last: true };

    #[test]
    fn the_value_is_the_formula_written_out() {
        let mut test = Absolute::new(0.3);
        let (mut half, mut almost_all) = (0.0, 0.0);
        for trial in 0..25_u64 {
            let failed = trial % 4 == 3;
            let start = if trial % 10 == 0 {
                let t = (trial / 10) as f64;
                1.0 / ((t + 1.0) * (t + 2.0))
            } else {
                0.0
            };
            let factor = |rate: f64| if failed { rate / 0.3 } else { (1.0 - rate) / 0.7 };
            half = (half + start) * factor(0.5);
            almost_all = (almost_all + start) * factor(0.95);
            test.fold(if failed { FAILURE } else { good(1) });
        }
        let expected = f64::midpoint(half, almost_all);
        assert!((test.value() / expected - 1.0).abs() < 1e-9, "{} is not {expected}", test.value());
    }

    #[test]
    fn good_trials_in_one_batch_are_the_same_as_one_by_one() {
        let (mut one_by_one, mut batched) = (Absolute::new(0.01), Absolute::new(0.01));
        for _ in 0..237 {
            one_by_one.fold(good(1));
        }
        one_by_one.fold(FAILURE);
        batched.fold(Batch { trials: 238, hits: 1, hit_last: true });
        assert!((one_by_one.value() / batched.value() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_long_batch_of_good_trials_only_ever_loses_evidence() {
        let (mut one_by_one, mut batched) = (Absolute::new(0.01), Absolute::new(0.01));
        for _ in 0..50_000 {
            one_by_one.fold(good(1));
        }
        batched.fold(good(50_000));
        assert!(batched.value() <= one_by_one.value());
        assert!(batched.value() > 0.9 * one_by_one.value(), "{} {}", batched.value(), one_by_one.value());
    }

    #[test]
    fn five_failures_after_five_thousand_good_trials_are_enough() {
        let mut test = Absolute::new(0.01);
        test.fold(good(5000));
        for _ in 0..5 {
            test.fold(FAILURE);
        }
        assert!(test.value() >= 1000.0, "{}", test.value());
    }

    #[test]
    fn no_limit_and_no_count_makes_it_infinite_or_undefined() {
        for limit in [0.0, 1e-9, 0.02, 0.5, 0.95, 0.999_999, 1.0] {
            let mut test = Absolute::new(limit);
            for batch in [good(0), good(u64::MAX >> 12), FAILURE] {
                test.fold(batch);
            }
            test.fold(Batch { trials: 1 << 50, hits: 1 << 50, hit_last: false });
            test.fold(Batch { trials: 1 << 50, hits: 1 << 20, hit_last: false });
            assert!(test.value().is_finite(), "{limit}");
        }
    }
}
