//! What of a rollout outlives the process: its state, its latches and its last changes. Readable by people.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::judge::{Breach, Evidence};
use super::state::{Hold, State};
use crate::name::ReleaseName;
use crate::unit::Weight;

/// The form of [`Record`]; another one is not read.
pub const VERSION: u32 = 1;

/// How many changes are kept.
pub const MAX_CHANGES: usize = 200;

/// Everything about a service's rollout that must survive a restart. Evidence does not: it is gathered anew.
///
/// Times are since the Unix epoch, in seconds; weights in percent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`VERSION`] when written.
    pub version: u32,
    /// Where the rollout is.
    pub state: State,
    /// The release that serves what the canary does not.
    pub stable: ReleaseName,
    /// The release that is tried.
    pub canary: Option<ReleaseName>,
    /// The file's `stable` when this was written; another one is a cutover.
    pub declared_stable: ReleaseName,
    /// When the step under way began.
    #[serde(with = "seconds")]
    pub since: Duration,
    /// The weight of that step, should the plan have changed meanwhile.
    #[serde(with = "percent")]
    pub weight: Weight,
    /// Whether a person said pause.
    pub paused: bool,
    /// A weight set by hand.
    pub manual: Option<Manual>,
    /// Releases that get no traffic until `retry`.
    pub rolled_back: BTreeSet<ReleaseName>,
    /// The last [`MAX_CHANGES`] changes, the newest last.
    pub history: VecDeque<Change>,
}

impl Record {
    /// Whether this program can follow it: it has the right version and at most as much history as is kept.
    pub fn is_current(&self) -> bool {
        self.version == VERSION && self.history.len() <= MAX_CHANGES
    }
}

/// A weight set by hand.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Manual {
    /// The canary's share.
    #[serde(with = "percent")]
    pub weight: Weight,
    /// When the plan's weight returns, if ever by itself.
    #[serde(with = "maybe_seconds")]
    pub until: Option<Duration>,
}

/// One change of a rollout, with all that led to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// When, since the Unix epoch, in seconds.
    #[serde(with = "seconds")]
    pub at: Duration,
    /// The release that is tried, or was.
    pub canary: Option<ReleaseName>,
    /// The release beside it.
    pub stable: ReleaseName,
    /// Where it was.
    pub from: State,
    /// Where it is.
    pub to: State,
    /// The canary's share from now on, in percent.
    #[serde(with = "percent")]
    pub weight: Weight,
    /// Why.
    pub cause: Cause,
    /// What was seen before the change.
    pub evidence: Evidence,
}

/// Why a rollout changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The canary has an endpoint.
    Ready,
    /// The step's time is over and its evidence suffices.
    Proved,
    /// Something is in the way.
    Held(Hold),
    /// What was in the way is gone.
    Released(Hold),
    /// A limit was crossed.
    Breach(Breach),
    /// `promote`.
    Promoted,
    /// `pause`.
    Paused,
    /// `resume`.
    Resumed,
    /// `abort`.
    Aborted,
    /// `retry`.
    Retried,
    /// `weight`, or its end.
    Weight,
    /// The file names another canary, or one for the first time.
    Named,
    /// The file names no canary any more.
    Removed,
    /// The file's plan or guard changed.
    Replanned,
    /// The file made the canary stable.
    Adopted,
    /// The file made another release stable.
    CutOver,
    /// What was remembered cannot be read.
    Unreadable,
}

impl Cause {
    /// The one word of the admin API.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Proved => "proved",
            Self::Held(_) => "held",
            Self::Released(_) => "released",
            Self::Breach(_) => "breach",
            Self::Promoted => "promoted",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Aborted => "aborted",
            Self::Retried => "retried",
            Self::Weight => "weight",
            Self::Named => "named",
            Self::Removed => "removed",
            Self::Replanned => "replanned",
            Self::Adopted => "adopted",
            Self::CutOver => "cut_over",
            Self::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Breach(breach) => return breach.fmt(f),
            Self::Held(hold) => return write!(f, "waits: {}", hold.name()),
            Self::Released(hold) => return write!(f, "goes on after: {}", hold.name()),
            _ => {}
        }
        f.write_str(match self {
            Self::Ready => "the canary has an endpoint",
            Self::Proved => "the step's time is over and its evidence suffices",
            Self::Promoted => "promoted by hand",
            Self::Paused => "paused by hand",
            Self::Resumed => "resumed by hand",
            Self::Aborted => "aborted by hand",
            Self::Retried => "retried by hand",
            Self::Weight => "a weight set by hand began or ended",
            Self::Named => "the file names this canary",
            Self::Removed => "the file names no canary",
            Self::Replanned => "the file's plan or guard changed",
            Self::Adopted => "the file made the canary stable",
            Self::CutOver => "the file made another release stable",
            Self::Unreadable => "what was remembered cannot be read",
            Self::Breach(_) | Self::Held(_) | Self::Released(_) => "",
        })
    }
}

mod seconds {
    use super::{Deserialize, Duration};
    use serde::{Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(time.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

mod maybe_seconds {
    use super::{Deserialize, Duration};
    use serde::{Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(|time| time.as_secs_f64()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let seconds = Option::<f64>::deserialize(deserializer)?;
        seconds.map(Duration::try_from_secs_f64).transpose().map_err(D::Error::custom)
    }
}

mod percent {
    use super::{Deserialize, Weight};
    use serde::{Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(weight: &Weight, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(weight.percent())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Weight, D::Error> {
        Weight::from_percent(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
