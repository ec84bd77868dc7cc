//! What a scenario came to, for people and for scripts.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use loadtest::load::Summary;
use loadtest::picture::Picture;
use loadtest::units::{count, milliseconds};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::admin::{Counts, Event};
use super::promise::Promise;
use crate::Problem;

/// What came of it, told when it is over.
pub(crate) struct Outcome {
    pub(super) scenario: &'static str,
    pub(super) summary: Summary,
    pub(super) phases: Vec<Phase>,
    pub(super) moments: Vec<Moment>,
    pub(super) detection: Option<Detection>,
    pub(super) figures: Vec<(&'static str, String)>,
    pub(super) promises: Vec<Promise>,
    /// With the ends of their files' names.
    pub(super) pictures: Vec<(String, Picture)>,
    /// The gateway's last words, for when a promise is broken.
    pub(super) log_tail: String,
}

/// A stretch of time, and what ended in it.
#[derive(Serialize)]
pub(super) struct Phase {
    pub(super) name: &'static str,
    #[serde(flatten, serialize_with = "figures")]
    pub(super) seen: Summary,
}

/// Something that happened.
#[derive(Serialize)]
pub(super) struct Moment {
    /// Since the load's start.
    #[serde(rename = "at_seconds", serialize_with = "seconds")]
    pub(super) at: Duration,
    /// For the picture; none for what does not belong there.
    #[serde(skip)]
    pub(super) mark: String,
    pub(super) text: String,
}

/// How soon something wrong was found.
#[derive(Serialize)]
pub(super) struct Detection {
    /// Attempts on the canary in the step, until the verdict.
    pub(super) attempts: u64,
    /// Those of them that spoke against it.
    pub(super) against: u64,
    /// From when it began to when the weight was 0.
    #[serde(rename = "milliseconds", serialize_with = "as_milliseconds")]
    pub(super) took: Option<Duration>,
}

impl Detection {
    /// By the record of the change; `begun` is when it went wrong, `against` what spoke for that.
    pub(super) fn of(event: &Event, against: fn(&Counts) -> u64, begun: Option<SystemTime>) -> Self {
        let counts = &event.change.evidence.canary;
        let took = begun.and_then(|begun| event.time().duration_since(begun).ok());
        Self { attempts: counts.attempts, against: against(counts), took }
    }
}

impl Outcome {
    /// Whether every promise was kept.
    pub(crate) fn kept(&self) -> bool {
        self.promises.iter().all(|promise| promise.kept)
    }

    /// The end of the gateway's log.
    pub(crate) fn log_tail(&self) -> &str {
        &self.log_tail
    }

    /// The names of those that were not.
    pub(crate) fn broken(&self) -> Vec<&str> {
        let broken = self.promises.iter().filter(|promise| !promise.kept);
        broken.map(|promise| promise.name.as_str()).collect()
    }

    /// What the last phase saw.
    pub(super) fn after(&self) -> &Summary {
        self.phases.last().map_or(&self.summary, |phase| &phase.seen)
    }

    /// Writes its pictures into a directory, as SVG and PNG.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn draw(&self, directory: &Path) -> Result<(), Problem> {
        for (name, picture) in &self.pictures {
            for end in ["svg", "png"] {
                let path = directory.join(format!("{name}.{end}"));
                picture.write(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            }
        }
        Ok(())
    }

    /// For scripts; times in the units that the keys say.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "scenario": self.scenario,
            "kept": self.kept(),
            "requests": self.summary.requests,
            "failures_users_saw": self.summary.failed(),
            "detection": self.detection,
            "phases": self.phases,
            "moments": self.moments,
            "figures": self.figures.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect::<Vec<_>>(),
            "promises": self.promises,
        })
    }

    /// The rows of figures above the promises.
    fn rows(&self) -> Vec<(&str, String)> {
        let mut rows = vec![
            ("requests", count(self.summary.requests)),
            ("failures users saw", count(self.summary.failed())),
        ];
        if let Some(Detection { attempts, against, took }) = &self.detection {
            let attempts = format!("{}, of which {} against it", count(*attempts), count(*against));
            rows.push(("attempts on the canary until the verdict", attempts));
            let took = took.map_or_else(|| "unknown".to_owned(), told);
            rows.push(("from the first of those to weight 0", took));
        }
        rows.extend(self.figures.iter().map(|(name, value)| (*name, value.clone())));
        rows
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<20}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "phase", "requests", "failed", "p50", "p99", "max"
        )?;
        for Phase { name, seen } in &self.phases {
            write!(f, "{name:<20}{:>10}{:>10}", count(seen.requests), count(seen.failed()))?;
            let latency = &seen.latency;
            let times = [latency.p50, latency.p99, latency.max].map(milliseconds);
            writeln!(f, "{:>10}{:>10}{:>10}", times[0], times[1], times[2])?;
        }
        writeln!(f)?;
        for (name, value) in self.rows() {
            writeln!(f, "{name:<44}{value}")?;
        }
        writeln!(f)?;
        let longest = self.promises.iter().map(|promise| promise.name.chars().count()).max().unwrap_or(0);
        for Promise { name, measured, limit, kept } in &self.promises {
            let word = if *kept { "kept" } else { "BROKEN" };
            writeln!(f, "{word:<8}{name:<longest$}  {measured}  (promised: {limit})")?;
        }
        Ok(())
    }
}

/// A time, as it is told.
pub(super) fn told(time: Duration) -> String {
    milliseconds(time.as_secs_f64() * 1e3)
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

fn as_milliseconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64() * 1e3).serialize(serializer)
}

/// The figures of a phase that the table has, too.
fn figures<S: Serializer>(seen: &Summary, serializer: S) -> Result<S::Ok, S::Error> {
    let latency = &seen.latency;
    let value = json!({
        "requests": seen.requests, "failed": seen.failed(), "latency": latency,
    });
    value.serialize(serializer)
}
