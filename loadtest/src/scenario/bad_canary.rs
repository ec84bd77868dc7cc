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

    stage.reload(&file, "the same file again").await?;
    let reached = stage.rest_watching(&shop.second, 0.25).await;

    let begun = shop.second.first(Ending::Status(500));
    let detection = rolled_back.map(|event| Detection::of(&event, |counts| counts.failures, begun));
    let failures = detection.as_ref().map(|detection| detection.against);
    let mut outcome = stage.end(NAME).await;
    outcome.promises = vec![
        Promise::no_failures("users see no failure of the canary", &outcome.summary),
        Promise::at_most("failures until it is out", failures, FAILURES),
        Promise::none(
            "it stays out, also after a reload: requests that reach it",
            reached,
            outcome.after().requests,
        ),
    ];
    outcome.detection = detection;
    Ok(outcome)
}
