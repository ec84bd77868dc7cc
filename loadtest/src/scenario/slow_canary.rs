//! A canary becomes slow, and fails nothing.

use std::time::{Duration, SystemTime};

use loadtest::origin::Behaviour;

use super::Setting;
use super::outcome::{Detection, Outcome};
use super::promise::Promise;
use super::shop::{Rollout, SECOND, Shop};
use super::stage::Stage;
use crate::Problem;

pub(super) const NAME: &str = "slow-canary";

/// How long an answer of the canary takes, where 1 s is the limit for 95 % of them.
const SLOW: Duration = Duration::from_millis(1500);
const GUARD: &str = ", latency: { quantile: 95%, max: 1s }";

/// How many slow answers it takes when all are (docs/rollouts.md, "How soon": p95 limit, 100 %).
const ANSWERS: u64 = 5;

pub(super) async fn play(setting: &Setting) -> Result<Outcome, Problem> {
    let shop = Shop::open().await?;
    let file = shop.file(setting, &Rollout { guard: GUARD, ..Rollout::TRIAL });
    let mut stage = Stage::set(setting, &file).await?;
    stage.event("started", "shop-2 at 10 %").await?;
    stage.rest(0.25).await;
    stage.phase("before");

    let begun = SystemTime::now();
    shop.second.set_behaviour(Behaviour::status(200).delay(SLOW));
    stage.tell("shop-2 is slow", format!("{SECOND} takes {} ms for every answer", SLOW.as_millis()));
    let rolled_back = stage.event("rolled_back", "rolled back").await?;
    tokio::time::sleep(SLOW).await;
    stage.phase_to_its_end("while it is slow").await;
    let reached = shop.second.hits();
    stage.rest(0.25).await;
    let reached_after = (shop.second.hits() - reached) as u64;

    let mut outcome = stage.end(NAME).await;
    let counts = rolled_back.as_ref().map(|event| event.change.evidence.canary.clone());
    let after = outcome.seen("after").map_or(0, |after| after.requests);
    outcome.promises = vec![
        Promise::at_most("slow answers until it is out", counts.as_ref().map(|counts| counts.slow), ANSWERS),
        Promise::no_failures("users see no failure", &outcome.summary),
        Promise::none("it stays out: requests that reach it", reached_after, after),
    ];
    outcome.detection = rolled_back
        .zip(counts)
        .map(|(event, counts)| Detection::new(counts.attempts, counts.slow, Some(begun), event.time()));
    Ok(outcome)
}
