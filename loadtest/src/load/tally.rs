//! Counts of what came back, as they grow.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::client::{Answer, Failed, Failure};
use super::summary::{Latency, Part};

/// Times are kept up to ten minutes, in microseconds.
const LONGEST_MICROS: u64 = 600_000_000;

/// How a request ended.
pub(super) type Outcome = Result<Answer, Failed>;

/// What one release answered, or all of them.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) errors: BTreeMap<Failure, u64>,
    pub(super) retries: u64,
    pub(super) body_bytes: u64,
    times: Histogram<u64>,
}

impl Tally {
    /// Times are kept with so many digits, at most 5.
    pub(super) fn new(digits: u8) -> Self {
        let times = Histogram::new_with_bounds(1, LONGEST_MICROS, digits);
        Self {
            statuses: BTreeMap::new(),
            errors: BTreeMap::new(),
            retries: 0,
            body_bytes: 0,
            times: times.expect("1 is positive, the longest time more than twice as long, digits at most 5"),
        }
    }

    pub(super) fn add(&mut self, outcome: &Outcome, time: Duration) {
        match outcome {
            Ok(answer) => {
                *self.statuses.entry(answer.status.as_u16()).or_default() += 1;
                self.retries += u64::from(answer.retried);
                self.body_bytes += answer.body_bytes;
                let micros = u64::try_from(time.as_micros()).unwrap_or(LONGEST_MICROS);
                self.times.saturating_record(micros.max(1));
            }
            Err(failed) => *self.errors.entry(failed.failure).or_default() += 1,
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        merge(&mut self.statuses, &other.statuses);
        merge(&mut self.errors, &other.errors);
        self.retries += other.retries;
        self.body_bytes += other.body_bytes;
        self.times.add(&other.times).expect("both histograms have the same bounds");
    }

    pub(super) fn answered(&self) -> u64 {
        self.times.len()
    }

    pub(super) fn part(&self) -> Part {
        Part {
            requests: self.answered() + self.errors.values().sum::<u64>(),
            answered: self.answered(),
            statuses: self.statuses.clone(),
            errors: self.errors.clone(),
            latency: self.latency(),
        }
    }

    pub(super) fn latency(&self) -> Latency {
        let milliseconds = |micros: u64| micros as f64 / 1000.0;
        let at = |quantile: f64| milliseconds(self.times.value_at_quantile(quantile));
        Latency {
            mean: self.times.mean() / 1000.0,
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: milliseconds(self.times.max()),
        }
    }
}

fn merge<K: Ord + Clone>(total: &mut BTreeMap<K, u64>, part: &BTreeMap<K, u64>) {
    for (key, count) in part {
        *total.entry(key.clone()).or_default() += count;
    }
}

/// Tallies by release, and one for what names none.
#[derive(Debug)]
pub(super) struct Split {
    digits: u8,
    pub(super) named: BTreeMap<String, Tally>,
    pub(super) unnamed: Tally,
}

impl Split {
    pub(super) fn new(digits: u8) -> Self {
        Self { digits, named: BTreeMap::new(), unnamed: Tally::new(digits) }
    }

    pub(super) fn add(&mut self, outcome: &Outcome, time: Duration) {
        let release = match outcome {
            Ok(answer) => &answer.release,
            Err(failed) => &failed.release,
        };
        let tally = match release {
            None => &mut self.unnamed,
            Some(release) => {
                if !self.named.contains_key(release) {
                    self.named.insert(release.clone(), Tally::new(self.digits));
                }
                self.named.get_mut(release).expect("it was there or has just been put there")
            }
        };
        tally.add(outcome, time);
    }

    /// All of them together.
    pub(super) fn total(&self) -> Tally {
        let mut total = self.unnamed.clone();
        self.named.values().for_each(|tally| total.merge(tally));
        total
    }
}
