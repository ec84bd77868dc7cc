//! A performance budget: what a load may come to, written `p95<200ms,errors<0.1%`.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::load::{Latency, Summary};
use crate::units;

/// Clauses that all have to be met.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget(Vec<Clause>);

/// One demand, such as `canary:p99<=1.5s`.
#[derive(Debug, Clone, PartialEq)]
pub struct Clause {
    release: Option<String>,
    limit: Limit,
    comparison: Comparison,
}

/// What is measured, and the value it is compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Limit {
    Time(Quantile, Milliseconds),
    /// Of all requests, in percent.
    ErrorShare(f64),
    ErrorCount(u64),
    /// Full answers a second.
    Rate(f64),
}

type Milliseconds = f64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantile {
    Mean,
    P50,
    P90,
    P95,
    P99,
    P999,
    Max,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Less,
    AtMost,
    More,
    AtLeast,
}

/// How a clause turned out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// The clause, as written.
    #[serde(serialize_with = "as_text")]
    pub clause: Clause,
    /// What was measured, with its unit; none if there was nothing to measure.
    pub measured: Option<String>,
    /// Whether the clause is met; without a measurement it is not.
    pub met: bool,
}

/// Why a text is not a budget.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misread {
    /// There is nothing between two commas, or nothing at all.
    #[error("a clause is empty; write them like `p95<200ms,errors<0.1%`")]
    Empty,
    /// None of `<`, `<=`, `>` and `>=`.
    #[error("`{0}` compares nothing; write it like `p95<200ms`")]
    Comparison(String),
    /// Not a measure.
    #[error("`{0}` is not measured; there are mean, p50, p90, p95, p99, p99.9, max, errors and rate")]
    Measure(String),
    /// The value does not fit the measure.
    #[error("`{value}` is no limit for {measure}; {expected}")]
    Value {
        /// What is compared.
        measure: String,
        /// As written.
        value: String,
        /// What it should look like.
        expected: &'static str,
    },
}

impl Budget {
    /// Holds every clause against what was measured, in the order they were written.
    pub fn judge(&self, summary: &Summary) -> Vec<Verdict> {
        self.0.iter().map(|clause| clause.judge(summary)).collect()
    }
}

impl FromStr for Budget {
    type Err = Misread;

    fn from_str(text: &str) -> Result<Self, Misread> {
        text.split(',').map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

/// The figures a clause looks at: those of everything, or of one release.
struct Figures {
    requests: u64,
    answered: u64,
    failed: u64,
    seconds: f64,
    latency: Latency,
}

impl Figures {
    fn of(summary: &Summary, release: Option<&str>) -> Option<Self> {
        let Some(release) = release else {
            let Summary { requests, answered, seconds, latency, .. } = *summary;
            return Some(Self { requests, answered, failed: summary.failed(), seconds, latency });
        };
        let part = summary.releases.get(release)?;
        Some(Self {
            requests: part.requests,
            answered: part.answered,
            failed: part.failed(),
            seconds: summary.seconds,
            latency: part.latency,
        })
    }
}

impl Clause {
    fn judge(&self, summary: &Summary) -> Verdict {
        let measured =
            Figures::of(summary, self.release.as_deref()).and_then(|figures| self.measure(&figures));
        Verdict {
            clause: self.clone(),
            met: measured.as_ref().is_some_and(|(value, limit, _)| self.comparison.holds(*value, *limit)),
            measured: measured.map(|(_, _, text)| text),
        }
    }

    /// The value, what it is compared with, and the value as text; none if nothing can be said.
    fn measure(&self, figures: &Figures) -> Option<(f64, f64, String)> {
        let Figures { requests, failed, .. } = *figures;
        match self.limit {
            Limit::Time(quantile, limit) => {
                let value = (figures.answered > 0).then(|| quantile.of(&figures.latency))?;
                Some((value, limit, units::milliseconds(value)))
            }
            Limit::ErrorShare(limit) if requests > 0 => {
                let share = failed as f64 * 100.0 / requests as f64;
                Some((share, limit, units::percent(failed, requests)))
            }
            Limit::ErrorShare(_) => None,
            Limit::ErrorCount(limit) => Some((failed as f64, limit as f64, units::count(failed))),
            Limit::Rate(limit) => {
                let rate = figures.answered as f64 / figures.seconds.max(f64::MIN_POSITIVE);
                Some((rate, limit, format!("{rate:.1}/s")))
            }
        }
    }
}

impl FromStr for Clause {
    type Err = Misread;

    fn from_str(text: &str) -> Result<Self, Misread> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Misread::Empty);
        }
        let at = text.find(['<', '>']).ok_or_else(|| Misread::Comparison(text.to_owned()))?;
        let (subject, rest) = text.split_at(at);
        let (comparison, value) = Comparison::read(rest);
        let (release, measure) = match subject.trim().rsplit_once(':') {
            Some((release, measure)) => (Some(release.trim().to_owned()), measure.trim()),
            None => (None, subject.trim()),
        };
        Ok(Self { release, limit: Limit::read(measure, value.trim())?, comparison })
    }
}

impl Limit {
    fn read(measure: &str, value: &str) -> Result<Self, Misread> {
        let misread =
            |expected| Misread::Value { measure: measure.to_owned(), value: value.to_owned(), expected };
        match measure {
            "errors" => {
                Self::errors(value).ok_or_else(|| misread("write a share like 0.1% or a count like 3"))
            }
            "rate" => {
                let number = value.strip_suffix("/s").unwrap_or(value).trim();
                let rate =
                    positive(number).ok_or_else(|| misread("write answers a second like 500 or 500/s"))?;
                Ok(Self::Rate(rate))
            }
            _ => {
                let quantile = Quantile::read(measure).ok_or_else(|| Misread::Measure(measure.to_owned()))?;
                let expected = "write a time like 200ms or 1.5s";
                if value.ends_with(|c: char| c.is_ascii_digit()) {
                    return Err(misread(expected));
                }
                let time = units::duration(value).map_err(|_| misread(expected))?;
                Ok(Self::Time(quantile, time.as_secs_f64() * 1000.0))
            }
        }
    }

    fn errors(value: &str) -> Option<Self> {
        match value.strip_suffix('%') {
            Some(share) => positive(share.trim()).filter(|share| *share <= 100.0).map(Self::ErrorShare),
            None => value.parse().ok().map(Self::ErrorCount),
        }
    }
}

/// A number from 0 on.
fn positive(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0)
}

impl Quantile {
    const ALL: [(Self, &str); 7] = [
        (Self::Mean, "mean"),
        (Self::P50, "p50"),
        (Self::P90, "p90"),
        (Self::P95, "p95"),
        (Self::P99, "p99"),
        (Self::P999, "p99.9"),
        (Self::Max, "max"),
    ];

    fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, name)| *name == text).map(|(quantile, _)| quantile)
    }

    fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(quantile, _)| *quantile == self).map_or("", |(_, name)| name)
    }

    fn of(self, latency: &Latency) -> Milliseconds {
        match self {
            Self::Mean => latency.mean,
            Self::P50 => latency.p50,
            Self::P90 => latency.p90,
            Self::P95 => latency.p95,
            Self::P99 => latency.p99,
            Self::P999 => latency.p999,
            Self::Max => latency.max,
        }
    }
}

impl Comparison {
    /// Reads the sign that `text` begins with, `<` or `>`.
    fn read(text: &str) -> (Self, &str) {
        for (sign, comparison) in [("<=", Self::AtMost), (">=", Self::AtLeast), ("<", Self::Less)] {
            if let Some(rest) = text.strip_prefix(sign) {
                return (comparison, rest);
            }
        }
        (Self::More, text.trim_start_matches('>'))
    }

    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Less => value < limit,
            Self::AtMost => value <= limit,
            Self::More => value > limit,
            Self::AtLeast => value >= limit,
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::More => ">",
            Self::AtLeast => ">=",
        }
    }
}

impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(release) = &self.release {
            write!(f, "{release}: ")?;
        }
        let sign = self.comparison.sign();
        match self.limit {
            Limit::Time(quantile, limit) => {
                write!(f, "{} {sign} {}", quantile.name(), units::milliseconds(limit))
            }
            Limit::ErrorShare(limit) => write!(f, "errors {sign} {limit} %"),
            Limit::ErrorCount(limit) => write!(f, "errors {sign} {limit}"),
            Limit::Rate(limit) => write!(f, "rate {sign} {limit}/s"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.met { "met   " } else { "MISSED" };
        let measured = self.measured.as_deref().unwrap_or("nothing answered");
        write!(f, "{word}  {:<28}  {measured}", self.clause.to_string())
    }
}

fn as_text<S: Serializer>(clause: &Clause, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(clause)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::load::{Failure, Part};

    fn latency(p95: f64) -> Latency {
        Latency { mean: 10.0, p50: 8.0, p90: 50.0, p95, p99: 200.0, p999: 300.0, max: 400.0 }
    }

    fn summary() -> Summary {
        let canary = Part {
            requests: 100,
            answered: 100,
            statuses: [(200, 90), (500, 10)].into(),
            errors: BTreeMap::new(),
            latency: latency(900.0),
        };
        Summary {
            requests: 1000,
            answered: 998,
            statuses: [(200, 980), (429, 8), (500, 10)].into(),
            releases: [("canary".to_owned(), canary)].into(),
            errors: [(Failure::Timeout, 2)].into(),
            retries: 0,
            body_bytes: 0,
            seconds: 10.0,
            rate: 99.8,
            latency: latency(100.0),
        }
    }

    fn met(budget: &str) -> Vec<bool> {
        let budget: Budget = budget.parse().unwrap();
        budget.judge(&summary()).iter().map(|verdict| verdict.met).collect()
    }

    #[test]
    fn each_clause_is_held_against_its_measure() {
        assert_eq!(met("p95<200ms,errors<0.1%"), [true, false]);
        assert_eq!(met("p95<100ms, p95<=100ms, p95>100ms, p95>=0.1s"), [false, true, false, true]);
        assert_eq!(met("mean<=10ms,p50<9ms,p90<=50ms,p99<201ms,p99.9<301ms,max<401ms"), [true; 6]);
        assert_eq!(met("errors<=12,errors<12,errors<=1.2%,errors<1.2%"), [true, false, true, false]);
        assert_eq!(met("rate>=99.8,rate>=99.9/s"), [true, false]);
    }

    #[test]
    fn one_release_is_judged_by_its_own_figures() {
        assert_eq!(met("canary:p95<200ms,canary:errors<=10%,canary:rate>=10"), [false, true, true]);
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        assert_eq!(met("stable:p95<200ms,stable:errors<=100%,stable:rate>=0"), [false; 3]);
        let nothing = Summary { answered: 0, requests: 0, ..summary() };
        let verdicts = "max<1h,errors<=100%".parse::<Budget>().unwrap().judge(&nothing);
        assert!(verdicts.iter().all(|verdict| !verdict.met && verdict.measured.is_none()), "{verdicts:?}");
    }

    #[test]
    fn a_verdict_reads_as_a_line() {
        let lines: Vec<_> = "p95<200ms,errors<0.1%"
            .parse::<Budget>()
            .unwrap()
            .judge(&summary())
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(lines[0], "met     p95 < 200 ms                  100 ms");
        assert_eq!(lines[1], "MISSED  errors < 0.1 %                1.20 %");
    }

    #[test]
    fn a_misread_budget_says_what_would_be_right() {
        let misread = |text: &str| text.parse::<Budget>().unwrap_err().to_string();
        assert_eq!(misread("p95<200ms,"), "a clause is empty; write them like `p95<200ms,errors<0.1%`");
        assert_eq!(misread("p95=200ms"), "`p95=200ms` compares nothing; write it like `p95<200ms`");
        assert!(misread("p42<200ms").starts_with("`p42` is not measured; there are mean, p50"));
        assert_eq!(misread("p95<200"), "`200` is no limit for p95; write a time like 200ms or 1.5s");
        assert_eq!(misread("p95<fast"), "`fast` is no limit for p95; write a time like 200ms or 1.5s");
        assert_eq!(
            misread("errors<few"),
            "`few` is no limit for errors; write a share like 0.1% or a count like 3"
        );
        assert_eq!(
            misread("errors<101%"),
            "`101%` is no limit for errors; write a share like 0.1% or a count like 3"
        );
        assert_eq!(misread("rate>=x"), "`x` is no limit for rate; write answers a second like 500 or 500/s");
    }
}
