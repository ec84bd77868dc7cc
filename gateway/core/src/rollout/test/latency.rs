//! Are too many answers slow?

use super::{Absolute, Batch};

/// The absolute test on "took longer than the limit", with `p₀ = 1 − quantile`: if the quantile keeps the limit, at most
/// that share of answers is slow.
///
/// A trial is an attempt that was *answered*: its time to the response header is known. A failed one is judged by the
/// other tests; it is neither fast nor slow.
#[derive(Debug, Clone, PartialEq)]
pub struct Latency(Absolute);

impl Latency {
    /// Takes the share of answers that must be in time, 0 to 1.
    pub fn new(quantile: f64) -> Self {
        Self(Absolute::new(1.0 - quantile))
    }

    /// Takes answers in; a hit is a slow one.
    pub fn fold(&mut self, answers: Batch) {
        self.0.fold(answers);
    }

    /// The evidence against the quantile; a breach when it reaches `1/α`.
    pub fn value(&self) -> f64 {
        self.0.value()
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.0.reset();
    }
}
