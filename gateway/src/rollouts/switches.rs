//! Switches that people throw, as they are remembered and told: the kill switch, and the maintenance of routes.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use gateway_core::name::RouteName;
use serde::{Deserialize, Serialize};

use crate::telemetry::rfc3339::Rfc3339;

/// The form of `switches.json`; another one is not read.
const VERSION: u32 = 1;

/// How many changes are kept.
const MAX_CHANGES: usize = 200;

/// `switches.json`. Times are since the Unix epoch, in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Switches {
    version: u32,
    /// Whether everything goes to stable.
    pub(super) kill: bool,
    /// Routes whose maintenance was switched by hand, also those that the file does not have at the moment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) maintenance: BTreeMap<RouteName, Thrown>,
    /// The last [`MAX_CHANGES`] changes, the newest last.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub(super) history: VecDeque<Switched>,
}

/// The maintenance of a route as it was switched by hand.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Thrown {
    pub(crate) on: bool,
    #[serde(with = "seconds")]
    pub(crate) since: Duration,
    /// When the file's word holds again, if ever by itself.
    #[serde(default, with = "maybe_seconds", skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<Duration>,
}

/// A switch that was thrown, or fell back by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Switched {
    #[serde(with = "seconds")]
    pub(crate) at: Duration,
    pub(crate) kind: Kind,
    /// Of the kill switch there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) route: Option<RouteName>,
    pub(crate) to: Position,
    #[serde(default, with = "maybe_seconds", skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<Duration>,
    pub(crate) by: By,
}

/// Which switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Kill,
    Maintenance,
}

/// Where a switch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Position {
    On,
    Off,
    /// Where the file says.
    File,
}

/// Who moved it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum By {
    Hand,
    /// Its time was over.
    Time,
}

impl Default for Switches {
    fn default() -> Self {
        Self { version: VERSION, kill: false, maintenance: BTreeMap::new(), history: VecDeque::new() }
    }
}

impl Switches {
    /// What is left when nobody knows how the switches stood: all traffic goes to stable, for it may have been kept from
    /// a canary, and the file alone says which routes are in maintenance.
    pub(super) fn unknown() -> Self {
        Self { kill: true, ..Self::default() }
    }

    /// Whether this program can follow it: it has the right version and at most as much history as is kept.
    pub(super) fn is_current(&self) -> bool {
        self.version == VERSION && self.history.len() <= MAX_CHANGES
    }

    /// Moves the switch, and keeps the change.
    pub(super) fn apply(&mut self, switched: &Switched) {
        match (&switched.route, switched.thrown()) {
            (None, _) => self.kill = switched.to == Position::On,
            (Some(route), Some(thrown)) => drop(self.maintenance.insert(route.clone(), thrown)),
            (Some(route), None) => drop(self.maintenance.remove(route)),
        }
        if self.history.len() >= MAX_CHANGES {
            self.history.pop_front();
        }
        self.history.push_back(switched.clone());
    }
}

impl Switched {
    /// The kill switch was thrown.
    pub(crate) fn kill(at: Duration, on: bool) -> Self {
        let to = if on { Position::On } else { Position::Off };
        Self { at, kind: Kind::Kill, route: None, to, until: None, by: By::Hand }
    }

    /// The maintenance of a route was switched by hand.
    pub(crate) fn maintenance(at: Duration, route: RouteName, to: Position, until: Option<Duration>) -> Self {
        Self { at, kind: Kind::Maintenance, route: Some(route), to, until, by: By::Hand }
    }

    /// The time was over for which the maintenance of a route was switched.
    pub(crate) fn expired(at: Duration, route: RouteName) -> Self {
        Self { by: By::Time, ..Self::maintenance(at, route, Position::File, None) }
    }

    /// What holds from now on instead of the file's word.
    pub(crate) fn thrown(&self) -> Option<Thrown> {
        let on = match self.to {
            Position::On => true,
            Position::Off => false,
            Position::File => return None,
        };
        Some(Thrown { on, since: self.at, until: self.until })
    }
}

/// What happened, in a sentence.
impl fmt::Display for Switched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.route, self.to) {
            (None, Position::On) => {
                return f.write_str("the kill switch was thrown: all traffic goes to stable");
            }
            (None, _) => return f.write_str("the kill switch was thrown back"),
            (Some(route), Position::On) => write!(f, "{route}: switched into maintenance by hand")?,
            (Some(route), Position::Off) => write!(f, "{route}: switched out of maintenance by hand")?,
            (Some(route), Position::File) => {
                let why = if self.by == By::Time { "its time is over" } else { "thrown back by hand" };
                write!(f, "{route}: the file says again whether it is in maintenance, {why}")?;
            }
        }
        match self.until {
            Some(until) => write!(f, ", until {}", Rfc3339(UNIX_EPOCH + until)),
            None => Ok(()),
        }
    }
}

/// Times since 1970 as seconds.
mod seconds {
    use std::time::Duration;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    /// The year 10000: what is later was never meant, and would be too far to write as a date.
    const END: Duration = Duration::from_secs(253_402_300_800);

    pub(super) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(time.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let time = Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)?;
        if time < END { Ok(time) } else { Err(D::Error::custom("a time after the year 9999")) }
    }
}

/// The same, of a time that may never be.
mod maybe_seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Seconds(#[serde(with = "super::seconds")] Duration);

    pub(super) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(Seconds).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Seconds>::deserialize(deserializer)?.map(|Seconds(time)| time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> RouteName {
        RouteName::new("api").unwrap()
    }

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    #[test]
    fn each_switch_moves_alone_and_what_moved_is_kept() {
        let mut switches = Switches::default();
        let until = Some(NOW + Duration::from_secs(60));
        switches.apply(&Switched::maintenance(NOW, route(), Position::On, until));
        switches.apply(&Switched::kill(NOW, true));
        assert!(switches.kill);
        assert_eq!(switches.maintenance[&route()], Thrown { on: true, since: NOW, until });
        switches.apply(&Switched::kill(NOW, false));
        assert!(switches.maintenance.contains_key(&route()), "the kill switch leaves routes alone");
        switches.apply(&Switched::expired(NOW, route()));
        assert!(!switches.kill && switches.maintenance.is_empty());
        assert_eq!(switches.history.len(), 4);

        let text = serde_json::to_string(&switches).unwrap();
        assert_eq!(serde_json::from_str::<Switches>(&text).unwrap(), switches, "{text}");
    }

    #[test]
    fn only_so_many_changes_are_kept() {
        let mut switches = Switches::default();
        for n in 0..=MAX_CHANGES as u64 {
            switches.apply(&Switched::kill(Duration::from_secs(n), true));
        }
        assert!(switches.is_current());
        assert_eq!(switches.history[0].at, Duration::from_secs(1));
    }

    #[test]
    fn a_file_of_before_there_was_maintenance_is_read() {
        let before: Switches = serde_json::from_str(r#"{"version": 1, "kill": true}"#).unwrap();
        assert!(before.is_current() && before.kill && before.maintenance.is_empty());
        assert_eq!(serde_json::to_string(&before).unwrap(), r#"{"version":1,"kill":true}"#);
    }

    #[test]
    fn times_that_cannot_be_are_not_read() {
        for time in ["-1", "1e300", "253402300800", "\"soon\""] {
            let text = format!("{{\"on\": true, \"since\": {time}}}");
            assert!(serde_json::from_str::<Thrown>(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_change_is_one_sentence() {
        let told = |to, until| Switched::maintenance(NOW, route(), to, until).to_string();
        assert_eq!(
            told(Position::On, Some(NOW)),
            "api: switched into maintenance by hand, until 2027-01-15T08:00:00.000Z"
        );
        assert_eq!(told(Position::Off, None), "api: switched out of maintenance by hand");
        assert_eq!(
            Switched::expired(NOW, route()).to_string(),
            "api: the file says again whether it is in maintenance, its time is over"
        );
    }
}
