//! How long an origin takes: a time, or a distribution of times.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::behaviour::fraction;
use crate::units;

/// How long it takes to answer. Written `20ms`, `uniform:5ms..50ms`, `exponential:20ms` (its mean), or
/// `lognormal:20ms,0.5` (its median, and the spread of its logarithm).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Delay {
    /// Always the same.
    Fixed(Duration),
    /// Anything between two times, equally likely.
    Uniform(Duration, Duration),
    /// Many short times and few long ones, about this mean.
    Exponential(Duration),
    /// As real services answer: half below the median, and a tail that grows with sigma.
    LogNormal {
        /// Half of the times are below it.
        median: Duration,
        /// The standard deviation of the times' natural logarithm, 0 to 5.
        sigma: f64,
    },
}

impl Delay {
    /// The time of request `number`: random to look at, and the same in every run. At most ten minutes.
    pub(super) fn of(self, number: u64) -> Duration {
        let chance = fraction(number ^ u64::from(u32::MAX));
        let (base, factor) = match self {
            Self::Fixed(time) => return time,
            Self::Uniform(least, most) => return least + most.saturating_sub(least).mul_f64(chance),
            Self::Exponential(mean) => (mean, -(1.0 - chance).ln()),
            Self::LogNormal { median, sigma } => {
                // Box and Muller: two even chances make a normal one.
                let radius = (-2.0 * (1.0 - chance).ln()).sqrt();
                let angle = std::f64::consts::TAU * fraction(!number);
                (median, (sigma * radius * angle.cos()).exp())
            }
        };
        Duration::from_secs_f64((base.as_secs_f64() * factor).min(600.0))
    }
}

impl FromStr for Delay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((kind, rest)) = text.split_once(':') else { return units::duration(text).map(Self::Fixed) };
        match kind.trim() {
            "uniform" => {
                let (least, most) = rest.split_once("..").ok_or("write it like `uniform:5ms..50ms`")?;
                let (least, most) = (units::duration(least)?, units::duration(most)?);
                if least > most {
                    Err("the first time is the longer one".to_owned())
                } else {
                    Ok(Self::Uniform(least, most))
                }
            }
            "exponential" => units::duration(rest).map(Self::Exponential),
            "lognormal" => {
                let (median, sigma) = rest.split_once(',').ok_or("write it like `lognormal:20ms,0.5`")?;
                let sigma = sigma.trim().parse().ok().filter(|sigma| (0.0..=5.0).contains(sigma));
                Ok(Self::LogNormal {
                    median: units::duration(median)?,
                    sigma: sigma.ok_or("sigma is a number from 0 to 5")?,
                })
            }
            other => {
                Err(format!("`{other}` is no distribution; there are uniform, exponential and lognormal"))
            }
        }
    }
}

impl TryFrom<String> for Delay {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Delay> for String {
    fn from(delay: Delay) -> Self {
        delay.to_string()
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(time) => write!(f, "{time:?}"),
            Self::Uniform(least, most) => write!(f, "uniform:{least:?}..{most:?}"),
            Self::Exponential(mean) => write!(f, "exponential:{mean:?}"),
            Self::LogNormal { median, sigma } => write!(f, "lognormal:{median:?},{sigma}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten thousand times in milliseconds, in order.
    fn sample(text: &str) -> Vec<f64> {
        let delay: Delay = text.parse().unwrap();
        let mut times: Vec<f64> =
            (1..=10_000).map(|number| delay.of(number).as_secs_f64() * 1000.0).collect();
        times.sort_by(f64::total_cmp);
        times
    }

    #[test]
    fn distributions_have_the_shape_they_are_named_for() {
        assert!(sample("20ms").iter().all(|time| *time == 20.0));
        let uniform = sample("uniform:10ms..30ms");
        assert!(uniform[0] >= 10.0 && uniform[9999] < 30.0 && (19.0..21.0).contains(&uniform[5000]));
        let exponential = sample("exponential:20ms");
        let mean = exponential.iter().sum::<f64>() / 10_000.0;
        assert!((19.0..21.0).contains(&mean) && (12.9..14.9).contains(&exponential[5000]), "{mean}");
        let lognormal = sample("lognormal:20ms,0.5");
        assert!((19.0..21.0).contains(&lognormal[5000]), "median {}", lognormal[5000]);
        // One standard deviation above the median: a factor of e^0.5.
        assert!((31.0..35.0).contains(&lognormal[8413]), "p84 {}", lognormal[8413]);
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["20ms", "1.5s", "uniform:5ms..50ms", "exponential:20ms", "lognormal:20ms,0.5"] {
            assert_eq!(text.parse::<Delay>().unwrap().to_string(), text);
        }
        for bad in [
            "fast",
            "normal:20ms,5ms",
            "uniform:5ms",
            "uniform:9ms..5ms",
            "lognormal:20ms",
            "lognormal:20ms,9",
        ] {
            assert!(bad.parse::<Delay>().is_err(), "{bad}");
        }
    }
}
