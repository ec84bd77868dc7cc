//! How high a failure rate may be, given what was seen.
//!
//! Clopper & Pearson (1934): the bound is the rate at which so few failures would be seen only once in twenty times. It
//! is exact for every sample, where the normal approximations (Wilson among them) promise too much for the handful of
//! failures a good canary has; and asking whether it lies below a limit takes one binomial tail and no inversion.

/// 1 − the confidence of the bounds.
pub const ALPHA: f64 = 0.05;

/// Whether the one-sided 95 % upper bound on the rate is at most `limit` (0 to 1). Never without trials.
pub fn at_most(failures: u64, trials: u64, limit: f64) -> bool {
    limit >= 1.0 && trials > 0 || lower_tail(failures, trials, limit) <= ALPHA
}

/// Whether the one-sided 95 % lower bound on the rate is above `limit` (0 to 1).
pub fn above(failures: u64, trials: u64, limit: f64) -> bool {
    failures > 0 && limit < 1.0 && lower_tail(failures - 1, trials, limit) >= 1.0 - ALPHA
}

/// The one-sided 95 % upper bound on the rate, 0 to 1; 1 without trials.
pub fn upper(failures: u64, trials: u64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if lower_tail(failures, trials, middle) > ALPHA {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The chance of at most `failures` in `trials` when each fails with probability `rate`. About √trials steps.
fn lower_tail(failures: u64, trials: u64, rate: f64) -> f64 {
    if failures >= trials || rate <= 0.0 {
        return 1.0;
    }
    if rate >= 1.0 {
        return 0.0;
    }
    // Summed from the boundary away from the mean, where terms shrink fast; the far side is the rest to 1.
    if failures as f64 <= trials as f64 * rate {
        tail(failures, trials, rate)
    } else {
        1.0 - tail(trials - failures - 1, trials, 1.0 - rate)
    }
}

/// The sum of binomial probabilities from `failures`, at most the mean, down to 0.
fn tail(failures: u64, trials: u64, rate: f64) -> f64 {
    let (n, k) = (trials as f64, failures as f64);
    let choose = ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k);
    let mut term = (choose + k * rate.ln() + (n - k) * (-rate).ln_1p()).exp();
    let mut sum = term;
    let mut i = k;
    while i > 0.0 && term > sum * 1e-12 {
        term *= i * (1.0 - rate) / ((n - i + 1.0) * rate);
        sum += term;
        i -= 1.0;
    }
    sum.min(1.0)
}

/// `ln(n!)`, by Stirling's series where it is good to eleven digits and by multiplication below.
fn ln_factorial(n: f64) -> f64 {
    if n < 16.0 {
        return (2..=n as u64).map(|i| i as f64).product::<f64>().ln();
    }
    let x = n + 1.0;
    let series = 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3)) + 1.0 / (1260.0 * x.powi(5));
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Upper 95 % bounds have the closed form 1 − 0.05^(1/n) without failures; the others are from tables.
    #[test]
    fn the_bound_is_the_one_in_the_tables() {
        for (failures, trials, expected) in [
            (0, 59, 0.049_508),
            (0, 299, 0.009_969),
            (1, 20, 0.216_106),
            (2, 20, 0.282_619),
            (5, 100, 0.102_253),
            (10, 10, 1.0),
            (0, 0, 1.0),
        ] {
            let bound = upper(failures, trials);
            assert!((bound - expected).abs() < 2e-5, "{failures} of {trials}: {bound}");
        }
    }

    #[test]
    fn fifty_nine_clean_attempts_prove_five_percent_and_fifty_eight_do_not() {
        assert!(at_most(0, 59, 0.05));
        assert!(!at_most(0, 58, 0.05));
        assert!(!at_most(0, 0, 1.0));
    }

    #[test]
    fn two_of_twenty_prove_nothing_about_five_percent() {
        assert!(!at_most(2, 20, 0.05));
        assert!(!above(2, 20, 0.05));
        assert!(above(4, 20, 0.05));
    }

    #[test]
    fn a_million_trials_are_no_trouble() {
        assert!(at_most(49_000, 1_000_000, 0.05));
        assert!(!at_most(49_900, 1_000_000, 0.05));
        assert!(above(51_000, 1_000_000, 0.05));
        assert!((upper(50_000, 1_000_000) - 0.050_36).abs() < 1e-4);
    }
}
