//! How an exchange ends, and mixes of endings.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How an exchange ends: written as a status, or as one of `close`, `reset` and `truncate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Ending {
    /// A full answer with this status, 200 to 599.
    Status(u16),
    /// The connection is closed without an answer.
    Close,
    /// The connection is reset without an answer.
    Reset,
    /// The answer breaks off in the middle of its body.
    Truncate,
}

impl FromStr for Ending {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let status = text.trim().parse().ok().filter(|status| (200..600).contains(status));
        match text.trim() {
            "close" => Ok(Self::Close),
            "reset" => Ok(Self::Reset),
            "truncate" => Ok(Self::Truncate),
            other => status.map(Self::Status).ok_or_else(|| {
                format!("`{other}` is no ending; write a status from 200 to 599, close, reset or truncate")
            }),
        }
    }
}

impl TryFrom<String> for Ending {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Ending> for String {
    fn from(ending: Ending) -> Self {
        ending.to_string()
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::Close => f.write_str("close"),
            Self::Reset => f.write_str("reset"),
            Self::Truncate => f.write_str("truncate"),
        }
    }
}

/// Endings by weight, written `200:98,500:2`; one alone needs no weight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mix {
    parts: Vec<(Ending, u32)>,
}

impl Mix {
    /// The ending for a `chance` in [0, 1).
    pub(super) fn pick(&self, chance: f64) -> Ending {
        let total: u64 = self.parts.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut ticket = (chance * total as f64) as u64;
        for (ending, weight) in &self.parts {
            match ticket.checked_sub(u64::from(*weight)) {
                Some(rest) => ticket = rest,
                None => return *ending,
            }
        }
        self.parts[self.parts.len() - 1].0
    }

    /// The first status of the mix, which endings without one are made from.
    pub(super) fn usual(&self) -> u16 {
        let status = |(ending, _): &(Ending, u32)| match ending {
            Ending::Status(status) => Some(*status),
            Ending::Close | Ending::Reset | Ending::Truncate => None,
        };
        self.parts.iter().find_map(status).unwrap_or(200)
    }
}

impl Default for Mix {
    fn default() -> Self {
        Self { parts: vec![(Ending::Status(200), 1)] }
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        for part in text.split(',') {
            let (ending, weight) = part.split_once(':').unwrap_or((part, "1"));
            let weight =
                weight.trim().parse().map_err(|_| format!("`{weight}` is no weight; write it like 500:2"))?;
            parts.push((ending.parse()?, weight));
        }
        if parts.iter().all(|(_, weight)| *weight == 0) {
            return Err("no weight is above 0".to_owned());
        }
        Ok(Self { parts })
    }
}

impl TryFrom<String> for Mix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Mix> for String {
    fn from(mix: Mix) -> Self {
        mix.to_string()
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (ending, weight)) in self.parts.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            write!(f, "{comma}{ending}:{weight}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_is_picked_by_weight() {
        let mix: Mix = "200:98,500:1,reset:1".parse().unwrap();
        let picked = [0.0, 0.979, 0.985, 0.995].map(|chance| mix.pick(chance).to_string());
        assert_eq!(picked, ["200", "200", "500", "reset"]);
        assert_eq!(mix.to_string(), "200:98,500:1,reset:1");
        assert_eq!("503".parse::<Mix>().unwrap().pick(0.5), Ending::Status(503));
        assert_eq!("reset:1,204:0".parse::<Mix>().unwrap().usual(), 204);
    }

    #[test]
    fn a_misread_mix_says_what_would_be_right() {
        let misread = |text: &str| text.parse::<Mix>().unwrap_err();
        assert!(misread("200:98,explode:2").starts_with("`explode` is no ending; write a status"));
        assert!(misread("700").starts_with("`700` is no ending"));
        assert_eq!(misread("200:many"), "`many` is no weight; write it like 500:2");
        assert_eq!(misread("200:0"), "no weight is above 0");
    }
}
