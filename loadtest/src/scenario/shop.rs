//! A service with two releases: what the scenarios of rollouts put behind the gateway.

use std::time::Duration;

use loadtest::origin::Origin;

use super::Setting;
use crate::Problem;

/// The releases by name; which of them is the canary is the file's word.
pub(super) const FIRST: &str = "shop-1";
pub(super) const SECOND: &str = "shop-2";

/// Both releases, running.
pub(super) struct Shop {
    pub(super) first: Origin,
    pub(super) second: Origin,
}

/// What the file says of the rollout.
pub(super) struct Rollout {
    pub(super) stable: &'static str,
    pub(super) canary: Option<&'static str>,
    /// Shares in percent; each is held for so long at least.
    pub(super) steps: &'static [u32],
    pub(super) hold: Duration,
    /// More keys of the guard, beside an error rate of 5 % at most.
    pub(super) guard: &'static str,
}

impl Rollout {
    /// The second release as the canary, with a share of 10 % for longer than any scenario takes.
    pub(super) const TRIAL: Self = Self {
        stable: FIRST,
        canary: Some(SECOND),
        steps: &[10, 100],
        hold: Duration::from_secs(600),
        guard: "",
    };
}

impl Shop {
    /// Starts both; they answer everything at once with 200.
    ///
    /// # Errors
    /// When the system gives no port.
    pub(super) async fn open() -> Result<Self, Problem> {
        let start = async |name| Origin::always(200).named(name).try_start().await;
        Ok(Self { first: start(FIRST).await?, second: start(SECOND).await? })
    }

    /// The body of the gateway's file.
    pub(super) fn file(&self, setting: &Setting, rollout: &Rollout) -> String {
        let Rollout { stable, canary, steps, hold, guard } = rollout;
        let canary = canary.map_or_else(String::new, |canary| format!("    canary: {canary}\n"));
        let hold = hold.as_millis();
        let steps: Vec<_> =
            steps.iter().map(|weight| format!("{{ weight: {weight}%, hold: {hold}ms }}")).collect();
        let failover = if setting.failover { "      failover: { to: stable }\n" } else { "" };
        format!(
            "services:\n\
             \x20 shop:\n\
             \x20   releases:\n\
             \x20     {FIRST}: {{ endpoints: [\"{}\"] }}\n\
             \x20     {SECOND}: {{ endpoints: [\"{}\"] }}\n\
             \x20   stable: {stable}\n\
             {canary}\
             \x20   rollout:\n\
             \x20     steps: [{}]\n\
             \x20     guard: {{ error_rate: {{ warn: 1%, max: 5% }}{guard} }}\n\
             {failover}\
             routes:\n\
             \x20 shop: {{ service: shop }}\n",
            self.first.address(),
            self.second.address(),
            steps.join(", "),
        )
    }
}
