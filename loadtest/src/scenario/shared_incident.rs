//! What lies behind both releases fails, a database perhaps.

use loadtest::origin::Behaviour;

use super::Setting;
use super::outcome::Outcome;
use super::promise::Promise;
use super::shop::{Rollout, SECOND, Shop};
use super::stage::Stage;
use crate::Problem;

pub(super) const NAME: &str = "shared-incident";

pub(super) async fn play(setting: &Setting) -> Result<Outcome, Problem> {
    let shop = Shop::open().await?;
    let mut stage = Stage::set(setting, &shop.file(setting, &Rollout::TRIAL)).await?;
    stage.event("started").await?;
    stage.rest(0.25).await;
    stage.phase("before");

    shop.answer(503);
    stage.tell("both fail", "both releases answer every request with 503 from now on");
    let held = stage.event("held").await?;
    stage.rest(0.25).await;
    shop.answer(200);
    stage.tell("both mended", "both answer with 200 again");
    stage.phase_to_its_end("while both fail").await;
    stage.rest(0.25).await;

    let rollout = stage.gateway.view("/v1/rollouts/shop").await?;
    let taken_back = stage.events.all("rolled_back").len() as u64;
    let reason = held.and_then(|event| event.change.reason).unwrap_or_else(|| "not at all".to_owned());
    let weight = rollout["weight"].as_f64().unwrap_or(0.0);
    let mut outcome = stage.end(NAME).await;
    outcome.promises = vec![
        Promise::that("the rollout is held", reason == "baseline_incident", reason, "baseline_incident"),
        Promise::at_most(&format!("times {SECOND} is rolled back"), Some(taken_back), 0),
        Promise::that("its share stays", weight == 10.0, format!("{weight} %"), "10 %"),
        Promise::no_failures("users are served as soon as it is over", outcome.after()),
    ];
    Ok(outcome)
}

impl Shop {
    fn answer(&self, status: u16) {
        for origin in [&self.first, &self.second] {
            origin.set_behaviour(Behaviour::status(status));
        }
    }
}
