//! A rollout as the admin API tells it.

use gateway_core::rollout::Evidence;
use serde::Deserialize;
use serde_json::Value;

use crate::cli::Failure;

/// One rollout; what else the gateway tells is left aside. Times are seconds since 1970, weights percent, rates 0 to 1.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct View {
    pub(super) service: String,
    pub(super) stable: String,
    pub(super) canary: Option<String>,
    pub(super) state: String,
    pub(super) reason: Option<String>,
    pub(super) text: String,
    pub(super) step: Option<usize>,
    pub(super) weight: f64,
    pub(super) since: f64,
    pub(super) next: Option<f64>,
    pub(super) plan: Vec<Step>,
    pub(super) guard: Guard,
    pub(super) evidence: Evidence,
    pub(super) history: Vec<Change>,
    #[serde(default)]
    pub(super) kill: bool,
    #[serde(default)]
    pub(super) others: Vec<View>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Step {
    /// `None`: no time ends it.
    pub(super) hold_seconds: Option<f64>,
    pub(super) min_requests: u64,
    pub(super) gate: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Guard {
    pub(super) error_rate: ErrorRate,
    pub(super) consecutive_failures: u64,
    pub(super) max_failed_requests: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct ErrorRate {
    pub(super) max: f64,
}

/// One change.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Change {
    pub(super) at: f64,
    pub(super) to: String,
    pub(super) reason: Option<String>,
    pub(super) step: Option<usize>,
    pub(super) canary: Option<String>,
    pub(super) weight: f64,
    pub(super) cause: String,
    pub(super) why: String,
    pub(super) evidence: Evidence,
}

impl View {
    /// Reads the rollout of one service.
    pub(super) fn read(body: &Value) -> Result<Self, Failure> {
        Self::deserialize(body).map_err(|error| strange(&error))
    }

    /// Reads a list of them.
    pub(super) fn read_all(body: &Value) -> Result<Vec<Self>, Failure> {
        Vec::deserialize(body).map_err(|error| strange(&error))
    }

    /// It, and the others of its split.
    pub(super) fn with_others(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.others)
    }

    /// The change that took the canary's traffic away, if nothing has given it back.
    pub(super) fn fall(&self) -> Option<&Change> {
        let falls = self.history.iter().rev().take_while(|_| self.state == "rolled_back");
        let mut falls = falls.filter(|change| change.to == "rolled_back" && change.canary == self.canary);
        falls.find(|change| matches!(change.cause.as_str(), "breach" | "aborted" | "unreadable"))
    }
}

fn strange(error: &serde_json::Error) -> Failure {
    Failure::Failed(format!("the gateway's answer is not understood, is it of another version? ({error})"))
}
