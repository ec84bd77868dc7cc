//! What a load came to.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::client::Failure;
use super::tally::Split;

/// What a load came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Requests that were sent, or could not be.
    pub requests: u64,
    /// Requests that were answered in full.
    pub answered: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// The same by release, for answers that name one.
    pub releases: BTreeMap<String, Part>,
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

/// What one release came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Requests of which an answer by this release began.
    pub requests: u64,
    /// Requests that were answered in full.
    pub answered: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Answers that broke off or took too long.
    pub errors: BTreeMap<Failure, u64>,
    /// Times from when a request was due to the end of its answer.
    pub latency: Latency,
}

/// Response times in milliseconds; all 0 without answers.
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
    /// Of everything in `split`, in the time it took.
    pub(super) fn of(split: &Split, time: Duration) -> Self {
        let total = split.total();
        let Part { requests, answered, statuses, errors, latency } = total.part();
        let seconds = time.as_secs_f64();
        Self {
            requests,
            answered,
            statuses,
            releases: split.named.iter().map(|(name, tally)| (name.clone(), tally.part())).collect(),
            errors,
            retries: total.retries,
            body_bytes: total.body_bytes,
            seconds,
            rate: answered as f64 / seconds.max(f64::MIN_POSITIVE),
            latency,
        }
    }

    /// Requests that were not answered, or with a status of 500 and above.
    pub fn failed(&self) -> u64 {
        failed(&self.statuses, &self.errors)
    }

    /// Whether there was not even a connection for any request.
    pub fn never_connected(&self) -> bool {
        let unconnected =
            [Failure::Connect, Failure::Tls].map(|why| self.errors.get(&why).copied().unwrap_or(0));
        self.requests > 0 && unconnected.iter().sum::<u64>() == self.requests
    }
}

impl Part {
    /// Requests that were not answered in full, or with a status of 500 and above.
    pub fn failed(&self) -> u64 {
        failed(&self.statuses, &self.errors)
    }
}

fn failed(statuses: &BTreeMap<u16, u64>, errors: &BTreeMap<Failure, u64>) -> u64 {
    let server_errors: u64 = statuses.range(500..).map(|(_, count)| count).sum();
    server_errors + errors.values().sum::<u64>()
}
