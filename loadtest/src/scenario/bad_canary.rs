//! A canary begins to fail every request.

use loadtest::origin::{Behaviour, Ending};

use super::Setting;
use super::outcome::{Detection, Outcome};
use super::promise::Promise;
use super::shop::{Rollout, SECOND, Shop};
use super::stage::Stage;
use crate::Problem;

pub(super) const NAME: &str = "bad-canary";

/// How many failures it takes, by `consecutive_failures` and by the tests (docs/rollouts.md, "How soon").
const FAILURES: u64 = 5;

pub(super) async fn play(setting: &Setting) -> Result<Outcome, Problem> {
    let shop = Shop::open().await?;
    let file = shop.file(setting, &Rollout::TRIAL);
    let mut stage = Stage::set(setting, &file).await?;
    stage.event("started").await?;
    stage.rest(0.25).await;
    stage.phase("before");

    shop.second.set_behaviour(Behaviour::status(500));
    stage.tell("shop-2 fails", format!("{SECOND} answers every request with 500 from now on"));
    let rolled_back = stage.event("rolled_back").await?;
    stage.phase_to_its_end("while it fails").await;

    let reached = shop.second.hits();
    stage.reload(&file, "the same file again").await?;
    stage.rest(0.25).await;
    let reached_after = (shop.second.hits() - reached) as u64;

    let mut outcome = stage.end(NAME).await;
    let counts = rolled_back.as_ref().map(|event| event.change.evidence.canary.clone());
    let after = outcome.seen("after").map_or(0, |after| after.requests);
    outcome.promises = vec![
        Promise::no_failures("users see no failure of the canary", &outcome.summary),
        Promise::at_most("failures until it is out", counts.as_ref().map(|counts| counts.failures), FAILURES),
        Promise::none("it stays out, also after a reload: requests that reach it", reached_after, after),
    ];
    outcome.detection = rolled_back.zip(counts).map(|(event, counts)| {
        Detection::new(counts.attempts, counts.failures, shop.second.first(Ending::Status(500)), event.time())
    });
    Ok(outcome)
}
