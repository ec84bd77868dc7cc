//! Quantities with their units: shares, multiples, rates, sizes and durations, as written in the configuration file.
//!
//! A number without its unit is an error everywhere: `timeout: 30` means seconds to one reader and milliseconds to the
//! next.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// Why a string is not the quantity that is due.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUnit {
    /// A number alone.
    #[error("a bare number has no unit here: write {example}")]
    Bare {
        /// The same number with a unit, or a list of them.
        example: String,
    },
    /// Not of the form at all.
    #[error("`{text}` is not {what}")]
    Form {
        /// What was written.
        text: String,
        /// What is due, with an example.
        what: &'static str,
    },
    /// Of the form, outside what makes sense.
    #[error("`{text}` is out of range: {range}")]
    Range {
        /// What was written.
        text: String,
        /// What is allowed.
        range: &'static str,
    },
}

/// `12.5kB` → (`12.5`, `kB`); digits and one point, then the rest.
fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

fn number(text: &str, part: &str, what: &'static str) -> Result<f64, InvalidUnit> {
    part.parse::<f64>().map_err(|_| InvalidUnit::Form { text: text.into(), what })
}

/// A share of the whole, kept exactly in parts per million: 0 (none) to 1 000 000 (all).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Weight(u32);

impl Weight {
    /// No traffic.
    pub const ZERO: Self = Self(0);
    /// All traffic.
    pub const FULL: Self = Self(1_000_000);

    /// Takes a percentage from 0 to 100, rounded to a millionth of the whole.
    ///
    /// # Errors
    /// [`InvalidUnit::Range`] outside 0 to 100 and for NaN.
    pub fn from_percent(percent: f64) -> Result<Self, InvalidUnit> {
        if !(0.0..=100.0).contains(&percent) {
            return Err(InvalidUnit::Range { text: format!("{percent}%"), range: "0% to 100%" });
        }
        Ok(Self((percent * 10_000.0).round() as u32))
    }

    /// 0.0 to 100.0.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// Parts per million, 0 to 1 000 000.
    pub fn ppm(self) -> u32 {
        self.0
    }
}

impl FromStr for Weight {
    type Err = InvalidUnit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ratio::from_str(text).and_then(|ratio| Self::from_percent(ratio.get() * 100.0))
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.percent())
    }
}

impl Serialize for Weight {
    /// As a number from 0 to 100.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.percent())
    }
}

/// A proportion from 0 to 1, written `5%`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Ratio(f64);

impl Ratio {
    /// Everything.
    pub const ONE: Self = Self(1.0);

    /// Takes a proportion from 0 to 1.
    ///
    /// # Errors
    /// [`InvalidUnit::Range`] outside 0 to 1 and for NaN.
    pub fn new(proportion: f64) -> Result<Self, InvalidUnit> {
        if !(0.0..=1.0).contains(&proportion) {
            return Err(InvalidUnit::Range { text: proportion.to_string(), range: "0% to 100%" });
        }
        Ok(Self(proportion))
    }

    /// 0.0 to 1.0.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Ratio {
    type Err = InvalidUnit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WHAT: &str = "a percentage like 5% or 0.1%";
        let (digits, unit) = split_unit(text);
        match unit {
            "%" => {
                let percent = number(text, digits, WHAT)?;
                Self::new(percent / 100.0)
                    .map_err(|_| InvalidUnit::Range { text: text.into(), range: "0% to 100%" })
            }
            "" if !digits.is_empty() => Err(InvalidUnit::Bare { example: format!("{digits}%") }),
            _ => Err(InvalidUnit::Form { text: text.into(), what: WHAT }),
        }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Six decimals hide what binary fractions add: 0.999 × 100 is 99.9, not 99.90000000000001.
        write!(f, "{}%", (self.0 * 1e8).round() / 1e6)
    }
}

/// How many times as much, at least once, written `1.2x`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Multiple(f64);

impl Multiple {
    /// Takes a factor of at least 1.
    ///
    /// # Errors
    /// [`InvalidUnit::Range`] below 1 and for what is not finite.
    pub fn new(factor: f64) -> Result<Self, InvalidUnit> {
        if !factor.is_finite() || factor < 1.0 {
            return Err(InvalidUnit::Range { text: factor.to_string(), range: "1x or more" });
        }
        Ok(Self(factor))
    }

    /// 1.0 or more.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Multiple {
    type Err = InvalidUnit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WHAT: &str = "a multiple like 1.2x or 2x";
        let (digits, unit) = split_unit(text);
        match unit {
            "x" => Self::new(number(text, digits, WHAT)?),
            "" if !digits.is_empty() => Err(InvalidUnit::Bare { example: format!("{digits}x") }),
            _ => Err(InvalidUnit::Form { text: text.into(), what: WHAT }),
        }
    }
}

impl fmt::Display for Multiple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x", self.0)
    }
}

/// So many in a period, written `100/s`, `30/m` or `500/h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many, at least 1.
    pub count: u32,
    /// In how long: a second, a minute or an hour.
    pub period: Duration,
}

impl FromStr for Rate {
    type Err = InvalidUnit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WHAT: &str = "a rate like 100/s, 30/m or 500/h";
        let form = || InvalidUnit::Form { text: text.into(), what: WHAT };
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidUnit::Bare { example: format!("{text}/s or {text}/m") });
        }
        let (count, unit) = text.split_once('/').ok_or_else(form)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(form()),
        };
        let count: u32 = count.parse().map_err(|_| form())?;
        if count == 0 {
            return Err(InvalidUnit::Range { text: text.into(), range: "at least 1 in the period" });
        }
        Ok(Self { count, period: Duration::from_secs(seconds) })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.period.as_secs() {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

/// A number of bytes, written `512B`, `64KiB`, `10MiB`, `1GiB` (or the decimal `kB`, `MB`, `GB`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = InvalidUnit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WHAT: &str = "a size like 64KiB or 10MiB";
        let (digits, unit) = split_unit(text);
        let factor = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "" if !digits.is_empty() => {
                return Err(InvalidUnit::Bare { example: format!("{digits}B, {digits}KiB or {digits}MiB") });
            }
            _ => return Err(InvalidUnit::Form { text: text.into(), what: WHAT }),
        };
        Ok(Self((number(text, digits, WHAT)? * f64::from(factor)) as u64))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = [(30, "GiB"), (20, "MiB"), (10, "KiB")]
            .into_iter()
            .find(|(shift, _)| self.0 > 0 && self.0.is_multiple_of(1 << shift))
            .map_or((self.0, "B"), |(shift, unit)| (self.0 >> shift, unit));
        write!(f, "{value}{unit}")
    }
}

/// Reads `500ms`, `10s`, `5m`, `1h` or `30d`.
///
/// # Errors
/// [`InvalidUnit`] for a bare number, an unknown unit, and what is longer than 10 years.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidUnit> {
    const WHAT: &str = "a duration like 500ms, 10s, 5m, 1h or 30d";
    let (digits, unit) = split_unit(text);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        "" if !digits.is_empty() => {
            return Err(InvalidUnit::Bare { example: format!("{digits}s or {digits}ms") });
        }
        _ => return Err(InvalidUnit::Form { text: text.into(), what: WHAT }),
    };
    let total = number(text, digits, WHAT)? * seconds;
    if total > 10.0 * 366.0 * 86_400.0 {
        return Err(InvalidUnit::Range { text: text.into(), range: "at most 10 years" });
    }
    Ok(Duration::from_secs_f64(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_keep_a_thousandth_of_a_percent() {
        assert_eq!("10%".parse(), Ok(Weight(100_000)));
        assert_eq!("0.1%".parse(), Ok(Weight(1_000)));
        assert_eq!("100%".parse(), Ok(Weight::FULL));
        assert_eq!("33.3%".parse::<Weight>().expect("a weight").to_string(), "33.3%");
    }

    #[test]
    fn a_bare_number_names_the_units_it_could_have() {
        let bare = |example: &str| InvalidUnit::Bare { example: example.into() };
        assert_eq!("10".parse::<Weight>(), Err(bare("10%")));
        assert_eq!("2".parse::<Multiple>(), Err(bare("2x")));
        assert_eq!("100".parse::<Rate>(), Err(bare("100/s or 100/m")));
        assert_eq!("64".parse::<ByteSize>(), Err(bare("64B, 64KiB or 64MiB")));
        assert_eq!(parse_duration("30"), Err(bare("30s or 30ms")));
    }

    #[test]
    fn nonsense_and_extremes_are_refused_without_panic() {
        for text in ["", "%", "-5%", "101%", "1e9%", "NaN%", "..%", "5 %%"] {
            assert!(text.parse::<Ratio>().is_err(), "{text}");
        }
        for text in ["", "s", "-1s", "1.2.3s", "99999999d", "5 parsecs"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for text in ["0/s", "1/d", "/s", "1.5/s", "99999999999/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        assert!("0.5x".parse::<Multiple>().is_err());
    }

    #[test]
    fn durations_sizes_and_rates_read_as_written() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5h"), Ok(Duration::from_secs(5400)));
        assert_eq!("10MiB".parse(), Ok(ByteSize(10 << 20)));
        assert_eq!(ByteSize(64 << 10).to_string(), "64KiB");
        assert_eq!("30/m".parse::<Rate>().expect("a rate").to_string(), "30/m");
        assert_eq!(Ratio(0.999).to_string(), "99.9%");
    }
}
