//! What came back, slice of time by slice of time.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::tally::{Split, Tally};

/// A load over time. Each answer counts where it ended, not where it was due: a stall is a gap, and then late answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// How long each slice is, in seconds; the last may be shorter.
    pub interval_seconds: f64,
    /// From the load's start to its last answer.
    pub seconds: f64,
    /// Without gaps, from the load's start to its last answer.
    pub slices: Vec<Slice>,
}

/// What ended within one slice of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// When it began, in seconds from the load's start.
    pub at: f64,
    /// Everything.
    pub total: Cell,
    /// By the release that answered; what named none is only in `total`.
    pub releases: BTreeMap<String, Cell>,
}

/// Figures of one slice.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Requests that ended, answered or not.
    pub requests: u64,
    /// Full answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without a full answer.
    pub errors: u64,
    /// The median time of full answers in milliseconds; 0 without answers.
    pub p50: f64,
    /// The 99th percentile in milliseconds.
    pub p99: f64,
    /// The longest time in milliseconds.
    pub max: f64,
}

impl Cell {
    fn of(tally: &Tally) -> Self {
        let latency = tally.latency();
        let errors = tally.errors.values().sum::<u64>();
        Self {
            requests: tally.answered() + errors,
            statuses: tally.statuses.clone(),
            errors,
            p50: latency.p50,
            p99: latency.p99,
            max: latency.max,
        }
    }

    /// Requests that were not answered, or with a status of 500 and above.
    pub fn failed(&self) -> u64 {
        self.errors + self.statuses.range(500..).map(|(_, count)| count).sum::<u64>()
    }

    /// Answers with a status of 400 to 499.
    pub fn refused(&self) -> u64 {
        self.statuses.range(400..500).map(|(_, count)| count).sum()
    }
}

impl Series {
    /// Every release that answered, in order.
    pub fn releases(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.slices.iter().flat_map(|slice| slice.releases.keys().map(String::as_str)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// A slice's length that makes a picture of a load of `duration` neither coarse nor restless.
    pub fn interval_for(duration: Duration) -> Duration {
        const STEPS: [u64; 10] = [200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000, 300_000, 3_600_000];
        let enough = |step: &u64| u128::from(*step) * 150 >= duration.as_millis();
        Duration::from_millis(STEPS.into_iter().find(enough).unwrap_or(STEPS[STEPS.len() - 1]))
    }
}

/// Builds a series from outcomes in the order they happened.
#[derive(Debug)]
pub(super) struct Slicer {
    interval: Duration,
    slices: Vec<Slice>,
    current: Split,
}

impl Slicer {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, slices: Vec::new(), current: Split::new(2) }
    }

    /// Where outcomes of this moment belong; earlier slices are closed. A moment that comes late counts in the open one.
    pub(super) fn at(&mut self, since_start: Duration) -> &mut Split {
        let index = (since_start.as_secs_f64() / self.interval.as_secs_f64()) as usize;
        while self.slices.len() < index {
            self.close();
        }
        &mut self.current
    }

    fn close(&mut self) {
        let split = std::mem::replace(&mut self.current, Split::new(2));
        self.slices.push(Slice {
            at: self.slices.len() as f64 * self.interval.as_secs_f64(),
            total: Cell::of(&split.total()),
            releases: split.named.iter().map(|(name, tally)| (name.clone(), Cell::of(tally))).collect(),
        });
    }

    /// The series of a load that lasted so long.
    pub(super) fn finish(mut self, lasted: Duration) -> Series {
        self.close();
        Series {
            interval_seconds: self.interval.as_secs_f64(),
            seconds: lasted.as_secs_f64(),
            slices: self.slices,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_have_no_gaps_and_late_comers_join_the_open_one() {
        let mut slicer = Slicer::new(Duration::from_secs(1));
        let second = Duration::from_secs;
        for at in [0, 0, 3, 1] {
            let failed = super::super::client::Failed::from(super::super::Failure::Closed);
            slicer.at(second(at)).add(&Err(failed), second(0));
        }
        let series = slicer.finish(second(4));
        let counts: Vec<_> = series.slices.iter().map(|slice| (slice.at, slice.total.requests)).collect();
        assert_eq!(counts, [(0.0, 2), (1.0, 0), (2.0, 0), (3.0, 2)]);
    }

    #[test]
    fn longer_loads_have_longer_slices() {
        let interval = |seconds| Series::interval_for(Duration::from_secs(seconds)).as_millis();
        assert_eq!(
            [1, 30, 60, 600, 86_400, 31_536_000].map(interval),
            [200, 200, 500, 5000, 3_600_000, 3_600_000]
        );
    }
}
