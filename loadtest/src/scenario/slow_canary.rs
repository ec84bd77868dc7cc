//! A canary that is slow, and fails nothing.

use std::time::Duration;

use loadtest::origin::{Behaviour, Ending};

use super::Setting;
use super::outcome::{Detection, Outcome, told};
use super::promise::Promise;
use super::shop::{Rollout, SECOND, Shop};
use super::stage::Stage;
use crate::Problem;

pub(super) const NAME: &str = "slow-canary";

/// How long an answer of the canary takes, where 2 s is the limit for 95 % of them.
const SLOW: Duration = Duration::from_millis(2500);
const GUARD: &str = ", latency: { quantile: 95%, max: 2s }";

/// How many slow answers it takes when all are (docs/rollouts.md, "How soon": p95 limit, 100 %).
const ANSWERS: u64 = 5;

pub(super) async fn play(setting: &Setting) -> Result<Outcome, Problem> {
    let shop = Shop::open().await?;
    let file = |canary| shop.file(setting, &Rollout { canary, guard: GUARD, ..Rollout::TRIAL });
    let mut stage = Stage::set(setting, &file(None)).await?;
    stage.rest(0.25).await;
    stage.phase("before");

    shop.second.set_behaviour(Behaviour::status(200).delay(SLOW));
    stage.reload(&file(Some(SECOND)), "the file names shop-2").await?;
    stage.event("started").await?;
    stage.tell("", format!("{SECOND} takes {} for every answer", told(SLOW)));
    let rolled_back = stage.event("rolled_back").await?;
    // Those that it has already are answered, too.
    tokio::time::sleep(SLOW).await;
    stage.phase_to_its_end("while it has a part").await;
    let reached = stage.rest_watching(&shop.second, 0.25).await;

    let begun = shop.second.first(Ending::Status(200));
    let detection = rolled_back.map(|event| Detection::of(&event, |counts| counts.slow, begun));
    let slow = detection.as_ref().map(|detection| detection.against);
    let mut outcome = stage.end(NAME).await;
    outcome.promises = vec![
        Promise::at_most("slow answers until it is out", slow, ANSWERS),
        Promise::no_failures("users see no failure", &outcome.summary),
        Promise::none("it stays out: requests that reach it", reached, outcome.after().requests),
    ];
    outcome.detection = detection;
    Ok(outcome)
}
