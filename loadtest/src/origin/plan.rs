//! A behaviour as data: what the command line says at first, and what the control port says later.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::behaviour::Behaviour;
use super::delay::Delay;
use super::ending::{Ending, Mix};

/// What an origin does, as JSON. Without any key it answers 200 at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plan {
    /// How exchanges end: `200:98,500:2`.
    pub mix: Mix,
    /// How long they take: `20ms`, `lognormal:20ms,0.5`.
    pub latency: Delay,
    /// From this request on, they end as `fail_with` says; the first is 1, counted from when the plan begins.
    pub fail_from: Option<u64>,
    /// What happens from `fail_from` on.
    pub fail_with: Ending,
    /// Bytes in each body, instead of a short text.
    pub body_bytes: Option<u64>,
    /// Describe each request in JSON instead.
    pub echo: bool,
    /// Fields of each answer.
    pub headers: BTreeMap<String, String>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            mix: Mix::default(),
            latency: Delay::Fixed(std::time::Duration::ZERO),
            fail_from: None,
            fail_with: Ending::Status(500),
            body_bytes: None,
            echo: false,
            headers: BTreeMap::new(),
        }
    }
}

impl Plan {
    /// The behaviour it describes.
    ///
    /// # Errors
    /// A sentence on the first field that HTTP does not allow.
    pub fn behaviour(&self) -> Result<Behaviour, String> {
        let mut behaviour = if self.echo { Behaviour::echo() } else { Behaviour::status(200) };
        if let Some(bytes) = self.body_bytes {
            behaviour = behaviour.body_of(bytes);
        }
        for (name, value) in &self.headers {
            let fine =
                HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_str(value).is_ok();
            if !fine {
                return Err(format!("`{name}: {value}` is not a field"));
            }
            behaviour = behaviour.header(name, value);
        }
        behaviour = behaviour.ending(self.mix.clone()).delayed(self.latency);
        Ok(match self.fail_from {
            Some(first) => behaviour.ending_from(first, self.fail_with),
            None => behaviour,
        })
    }
}
