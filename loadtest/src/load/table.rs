//! A summary as a table for people.

use std::fmt;

use super::client::Failure;
use super::summary::{Latency, Part, Summary};
use crate::units::{count, milliseconds, percent};

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.failed();
        writeln!(
            f,
            "{} requests in {:.1} s: {} answered ({:.1}/s), {} failed ({})",
            count(self.requests),
            self.seconds,
            count(self.answered),
            self.rate,
            count(failed),
            percent(failed, self.requests)
        )?;
        if self.retries > 0 {
            writeln!(f, "{} were sent again: a kept connection had been closed", count(self.retries))?;
        }
        writeln!(f, "\n{:<28}{:>12}{:>10}", "answer", "requests", "share")?;
        for (status, answers) in &self.statuses {
            row(f, &status.to_string(), *answers, self.requests)?;
        }
        for (failure, requests) in &self.errors {
            row(f, &failure.to_string(), *requests, self.requests)?;
        }
        latencies(f, self)
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, part: u64, whole: u64) -> fmt::Result {
    writeln!(f, "{name:<28}{:>12}{:>10}", count(part), percent(part, whole))
}

fn latencies(f: &mut fmt::Formatter<'_>, summary: &Summary) -> fmt::Result {
    let Summary { requests, releases, .. } = summary;
    write!(f, "\n{:<16}{:>12}{:>10}{:>10}", "release", "requests", "share", "failed")?;
    write!(f, "{:>10}{:>10}{:>10}{:>10}{:>10}", "p50", "p90", "p99", "p99.9", "max")?;
    for (name, part) in releases {
        let Part { requests: own, latency, .. } = part;
        line(f, name, (*own, *requests), part.failed(), (*own > 0).then_some(latency))?;
    }
    let named: u64 = releases.values().map(|part| part.requests).sum();
    if named > 0 && named < *requests {
        let failed = summary.failed() - releases.values().map(Part::failed).sum::<u64>();
        line(f, "(not named)", (requests - named, *requests), failed, None)?;
    }
    line(
        f,
        "all",
        (*requests, *requests),
        summary.failed(),
        (summary.answered > 0).then_some(&summary.latency),
    )
}

fn line(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    (part, whole): (u64, u64),
    failed: u64,
    latency: Option<&Latency>,
) -> fmt::Result {
    write!(f, "\n{name:<16}{:>12}{:>10}{:>10}", count(part), percent(part, whole), count(failed))?;
    if let Some(Latency { p50, p90, p99, p999, max, .. }) = latency {
        for value in [p50, p90, p99, p999, max] {
            write!(f, "{:>10}", milliseconds(*value))?;
        }
    }
    Ok(())
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Connect => "no connection",
            Self::Tls => "TLS failed",
            Self::Closed => "closed without an answer",
            Self::Truncated => "answer broken off",
            Self::Timeout => "timed out",
        })
    }
}
