//! A canary that is as good as stable.

use super::Setting;
use super::outcome::Outcome;
use super::promise::Promise;
use super::shop::{Rollout, SECOND, Shop};
use super::stage::Stage;
use crate::Problem;

pub(super) const NAME: &str = "good-canary";

/// Attempts without a failure that prove 5 % (docs/rollouts.md, "Going on").
const PROOF: u64 = 59;

pub(super) async fn play(setting: &Setting) -> Result<Outcome, Problem> {
    let shop = Shop::open().await?;
    let rollout = Rollout { steps: &[20, 50, 100], hold: setting.length / 8, ..Rollout::TRIAL };
    let mut stage = Stage::set(setting, &shop.file(setting, &rollout)).await?;
    stage.event("started").await?;
    stage.event("promoted").await?;
    stage.phase("at 20 %");
    stage.event("promoted").await?;
    stage.phase("at 50 %");
    let completed = stage.event("completed").await?;
    stage.phase_to_its_end("at 100 %").await;
    let stayed = stage.rest_watching(&shop.first, 0.25).await;

    let steps = [stage.events.all("promoted"), stage.events.all("completed")].concat();
    let proof = steps.iter().map(|step| step.change.evidence.canary.attempts).min();
    let taken_back = stage.events.all("rolled_back").len() as u64;
    let mut outcome = stage.end(NAME).await;
    outcome.promises = vec![
        Promise::so("it is promoted step by step, to the end", completed.is_some()),
        Promise::at_least("attempts that prove each step", proof, PROOF),
        Promise::at_most("times it is taken back", Some(taken_back), 0),
        Promise::no_failures("users see no failure", &outcome.summary),
        Promise::none(
            &format!("{SECOND} has everything: requests to the old release"),
            stayed,
            outcome.after().requests,
        ),
    ];
    Ok(outcome)
}
