//! What a load came to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::client::{Answer, Failure};

/// Times are kept up to ten minutes, in microseconds with three digits.
const LONGEST_MICROS: u64 = 600_000_000;

/// What a load came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Requests that were sent, or could not be.
    pub requests: u64,
    /// Requests that were answered in full.
    pub answered: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Answers by `x-release`, where they had one.
    pub releases: BTreeMap<String, u64>,
    /// Requests without a full answer, by what went wrong.
    pub errors: BTreeMap<Failure, u64>,
    /// Requests sent again because a kept connection had been closed; answered, so no errors.
    pub retries: u64,
    /// Body bytes received in full answers.
    pub body_bytes: u64,
    /// From the first request's due time to the last answer.
    pub seconds: f64,
    /// Full answers a second.
    pub rate: f64,
    /// Times from when a request was due to the end of its answer.
    pub latency: Latency,
}

/// Response times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it: the mean, quantiles in percent, the longest")]
pub struct Latency {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Summary {
    /// Requests that were not answered, or with a status of 500 and above.
    pub fn failed(&self) -> u64 {
        let server_errors: u64 = self.statuses.range(500..).map(|(_, count)| count).sum();
        server_errors + self.errors.values().sum::<u64>()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, answered, seconds, rate, latency, .. } = self;
        writeln!(f, "requests   {requests}, {answered} answered in {seconds:.1} s, {rate:.1}/s")?;
        for (status, count) in &self.statuses {
            writeln!(f, "  {status}      {count}")?;
        }
        for (release, count) in &self.releases {
            writeln!(f, "release    {release}: {count} ({:.2} %)", share(*count, *answered))?;
        }
        for (failure, count) in &self.errors {
            writeln!(f, "error      {failure}: {count}")?;
        }
        let Latency { mean, p50, p90, p95, p99, p999, max } = latency;
        writeln!(f, "latency    mean {mean:.2} ms")?;
        write!(f, "  p50 {p50:.2}  p90 {p90:.2}  p95 {p95:.2}  p99 {p99:.2}  p99.9 {p999:.2}  max {max:.2}")
    }
}

fn share(count: u64, total: u64) -> f64 {
    count as f64 * 100.0 / total.max(1) as f64
}

/// Counts as they grow.
pub(super) struct Tally {
    statuses: BTreeMap<u16, u64>,
    releases: BTreeMap<String, u64>,
    errors: BTreeMap<Failure, u64>,
    retries: u64,
    body_bytes: u64,
    times: Histogram<u64>,
}

impl Tally {
    pub(super) fn new() -> Self {
        let times = Histogram::new_with_bounds(1, LONGEST_MICROS, 3);
        Self {
            statuses: BTreeMap::new(),
            releases: BTreeMap::new(),
            errors: BTreeMap::new(),
            retries: 0,
            body_bytes: 0,
            times: times
                .expect("1 is positive, the longest time more than twice as long, 3 digits at most 5"),
        }
    }

    pub(super) fn answered(&mut self, answer: &Answer, time: Duration) {
        *self.statuses.entry(answer.status.as_u16()).or_default() += 1;
        if let Some(release) = &answer.release {
            match self.releases.get_mut(release) {
                Some(count) => *count += 1,
                None => *self.releases.entry(release.clone()).or_default() += 1,
            }
        }
        self.retries += u64::from(answer.retried);
        self.body_bytes += answer.body_bytes;
        self.times.saturating_record(u64::try_from(time.as_micros()).unwrap_or(LONGEST_MICROS).max(1));
    }

    pub(super) fn failed(&mut self, failure: Failure) {
        *self.errors.entry(failure).or_default() += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        add(&mut self.statuses, &other.statuses);
        add(&mut self.releases, &other.releases);
        add(&mut self.errors, &other.errors);
        self.retries += other.retries;
        self.body_bytes += other.body_bytes;
        self.times.add(&other.times).expect("both histograms have the same bounds");
    }

    pub(super) fn summary(self, time: Duration) -> Summary {
        let answered = self.times.len();
        let requests = answered + self.errors.values().sum::<u64>();
        let seconds = time.as_secs_f64();
        let milliseconds = |micros: u64| micros as f64 / 1000.0;
        let at = |quantile: f64| milliseconds(self.times.value_at_quantile(quantile));
        let latency = Latency {
            mean: self.times.mean() / 1000.0,
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: milliseconds(self.times.max()),
        };
        Summary {
            requests,
            answered,
            statuses: self.statuses,
            releases: self.releases,
            errors: self.errors,
            retries: self.retries,
            body_bytes: self.body_bytes,
            seconds,
            rate: answered as f64 / seconds.max(f64::MIN_POSITIVE),
            latency,
        }
    }
}

fn add<K: Ord + Clone>(total: &mut BTreeMap<K, u64>, part: &BTreeMap<K, u64>) {
    for (key, count) in part {
        *total.entry(key.clone()).or_default() += count;
    }
}
