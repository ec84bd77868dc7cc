//! When requests are due.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Gives out the numbers of requests with their due times; asked by every worker.
pub(super) struct Schedule {
    pub(super) start: Instant,
    pace: Pace,
    count: u64,
    next: AtomicU64,
    stopped: AtomicBool,
    done: Box<dyn Fn() -> bool + Send + Sync>,
}

/// A rate that is reached along a straight line from nothing, and kept.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Pace {
    rate: f64,
    ramp_seconds: f64,
}

impl Pace {
    /// Requests due before `seconds`.
    fn requests(self, seconds: f64) -> f64 {
        if seconds < self.ramp_seconds {
            self.rate * seconds * seconds / (2.0 * self.ramp_seconds)
        } else {
            self.rate * (seconds - self.ramp_seconds / 2.0)
        }
    }

    /// When request `number` is due, in seconds; the first is 0.
    fn due(self, number: u64) -> f64 {
        let number = number as f64;
        let in_ramp = self.rate * self.ramp_seconds / 2.0;
        if number < in_ramp {
            (2.0 * number * self.ramp_seconds / self.rate).sqrt()
        } else {
            self.ramp_seconds / 2.0 + number / self.rate
        }
    }
}

impl Schedule {
    /// `rate` requests a second, above 0, for `duration`; within `ramp` the rate grows from 0. None
    /// are due any more once it is `done`.
    pub(super) fn new(
        rate: f64,
        ramp: Duration,
        duration: Duration,
        done: Box<dyn Fn() -> bool + Send + Sync>,
    ) -> Self {
        let pace = Pace { rate, ramp_seconds: ramp.as_secs_f64() };
        let count = pace.requests(duration.as_secs_f64()).round().max(1.0) as u64;
        Self {
            start: Instant::now(),
            pace,
            count,
            next: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            done,
        }
    }

    /// The number of the next request that nobody has taken, and when it is due.
    pub(super) fn take(&self) -> Option<(u64, Instant)> {
        if self.stopped.load(Ordering::Relaxed) || (self.done)() {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let due = || self.start + Duration::from_secs_f64(self.pace.due(number));
        (number < self.count).then(|| (number, due()))
    }

    /// Gives out no more.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_evenly_spaced() {
        let pace = Pace { rate: 50.0, ramp_seconds: 0.0 };
        assert_eq!((pace.due(0), pace.due(1), pace.due(100)), (0.0, 0.02, 2.0));
        assert_eq!(pace.requests(10.0), 500.0);
    }

    #[test]
    fn a_ramp_sends_half_as_many_while_it_lasts() {
        let pace = Pace { rate: 100.0, ramp_seconds: 10.0 };
        assert_eq!((pace.requests(10.0), pace.requests(5.0), pace.requests(20.0)), (500.0, 125.0, 1500.0));
        for number in [0, 1, 125, 499, 500, 501, 1500] {
            let at = pace.due(number);
            assert!((pace.requests(at) - number as f64).abs() < 1e-6, "request {number} at {at}");
        }
    }
}
