//! Does the canary fail more often than stable?

use super::{grow, mean, start_share};

/// Ratios of failure rates we look for, where they lie above the limit.
const RATIOS: [f64; 4] = [2.0, 4.0, 10.0, 50.0];

/// An e-process against "the canary's failure rate is at most `λ₀` times stable's".
///
/// A trial is a failure in either arm, and its outcome is the arm. With `ρ` the canary's share of attempts, a ratio of
/// `λ` makes it the canary with probability `ρλ/(1 + ρ(λ−1))`. So with `c = 1` for the canary, and a start before each
/// failure, `R_k ← (R_k + w_j) · (λ_k/λ₀)^c · (1+ρ(λ₀−1))/(1+ρ(λ_k−1))`; the value is the mean of `R_k`.
///
/// How often things fail altogether does not enter: an incident that hits both arms alike cancels out (the conditional
/// test of two rates, Przyborowski & Wilenski 1940, made sequential).
#[derive(Debug, Clone, PartialEq)]
pub struct Relative {
    limit: f64,
    ratios: Vec<f64>,
    values: Vec<f64>,
    failures: u64,
}

impl Relative {
    /// Takes the ratio that is still allowed, at least 1.
    pub fn new(limit: f64) -> Self {
        let mut ratios: Vec<f64> = RATIOS.into_iter().filter(|ratio| *ratio > limit).collect();
        if ratios.is_empty() {
            ratios.push(2.0 * limit);
        }
        Self { limit, values: vec![0.0; ratios.len()], ratios, failures: 0 }
    }

    /// The evidence against the ratio; a breach when it reaches `1/α`.
    pub fn value(&self) -> f64 {
        mean(&self.values)
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.values.fill(0.0);
        self.failures = 0;
    }

    /// Takes failures of both arms in; `share` is the canary's share of attempts around them, 0 to 1.
    pub fn fold(&mut self, canary: u64, stable: u64, share: f64) {
        let end = self.failures + canary + stable;
        let start = start_share(self.failures, end);
        for (value, ratio) in self.values.iter_mut().zip(&self.ratios) {
            let canary_arm = (ratio / self.limit).ln();
            let either_arm = ((1.0 + share * (self.limit - 1.0)) / (1.0 + share * (ratio - 1.0))).ln();
            let exponent = canary as f64 * canary_arm + (canary + stable) as f64 * either_arm;
            *value = grow(*value, start, exponent);
        }
        self.failures = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_the_formula_written_out() {
        let mut test = Relative::new(5.0);
        let (mut ten, mut fifty) = (0.0, 0.0);
        for (j, canary) in [true, true, false, true, false, true].into_iter().enumerate() {
            let start = 1.0 / ((j as f64 + 1.0) * (j as f64 + 2.0));
            let factor = |ratio: f64| {
                let arm = if canary { ratio / 5.0 } else { 1.0 };
                arm * (1.0 + 0.1 * 4.0) / (1.0 + 0.1 * (ratio - 1.0))
            };
            ten = (ten + start) * factor(10.0);
            fifty = (fifty + start) * factor(50.0);
            test.fold(u64::from(canary), u64::from(!canary), 0.1);
        }
        let expected = f64::midpoint(ten, fifty);
        assert!((test.value() / expected - 1.0).abs() < 1e-9, "{} is not {expected}", test.value());
    }

    #[test]
    fn five_failures_of_a_tenth_of_the_traffic_are_enough() {
        let mut test = Relative::new(1.2);
        (0..5).for_each(|_| test.fold(1, 0, 0.1));
        assert!(test.value() >= 1000.0, "{}", test.value());
    }

    #[test]
    fn failures_in_proportion_to_traffic_say_nothing() {
        let mut test = Relative::new(1.2);
        (0..10_000).for_each(|i| test.fold(u64::from(i % 10 == 9), u64::from(i % 10 != 9), 0.1));
        assert!(test.value() < 1.0, "{}", test.value());
    }

    #[test]
    fn no_share_and_no_count_makes_it_infinite_or_undefined() {
        for (limit, share) in [(1.0, 0.0), (1.0, 1.0), (1e9, 0.5), (60.0, 1e-12)] {
            let mut test = Relative::new(limit);
            test.fold(0, 0, share);
            test.fold(1 << 50, 0, share);
            test.fold(0, 1 << 50, share);
            assert!(test.value().is_finite(), "{limit} {share}");
        }
    }
}
