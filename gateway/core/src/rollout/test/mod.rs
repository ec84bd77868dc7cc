//! Sequential tests that may be looked at after every attempt.
//!
//! Each is an *e-process*: a non-negative number that starts at 1 and, while the canary keeps its limit, is expected
//! never to grow. By Ville's inequality (Ville 1939; Ramdas, Grünwald, Vovk & Shafer 2023, "Game-theoretic statistics and
//! safe anytime-valid inference") the chance that it *ever* reaches `1/α` is then at most `α`, however often we look.
//!
//! Restarts keep health from becoming credit. A test that began with 5 000 good attempts would need as many bad ones to
//! turn; so a fresh test begins every so often, each with a share of the whole, and their sum is watched (an e-detector
//! whose weights add up to 1: Shin, Ramdas & Rinaldo 2024, "E-detectors"). Start number `t` gets the share
//! `1/((t+1)(t+2))`; these add up to 1, so the sum is an e-process like its parts.

mod absolute;
mod latency;
mod relative;

pub use absolute::Absolute;
pub use latency::Latency;
pub use relative::Relative;

/// Values beyond this are all the same to us; without a cap a test that nobody acts on would overflow.
const CAP: f64 = 1e30;

/// The largest exponent taken in one fold: `CAP · e^MAX_EXPONENT` is still finite.
const MAX_EXPONENT: f64 = 600.0;

/// Trials as they reach a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// How many trials.
    pub trials: u64,
    /// How many of them counted against the canary, at most `trials`.
    pub hits: u64,
    /// Whether a single hit is known to have come last, as it is when a failure is judged the moment it happens.
    pub hit_last: bool,
}

/// The shares of starts `from..to` together: the sum of `1/((t+1)(t+2))` telescopes.
fn start_share(from: u64, to: u64) -> f64 {
    1.0 / (from as f64 + 1.0) - 1.0 / (to as f64 + 1.0)
}

/// `(value + share) · e^exponent`, kept finite.
fn grow(value: f64, share: f64, exponent: f64) -> f64 {
    ((value + share) * exponent.min(MAX_EXPONENT).exp()).min(CAP)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
