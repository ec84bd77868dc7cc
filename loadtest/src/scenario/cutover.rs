//! Blue/green: one word of the file changes.

use super::Setting;
use super::outcome::{Outcome, told};
use super::promise::Promise;
use super::shop::{FIRST, Rollout, SECOND, Shop};
use super::stage::Stage;
use crate::Problem;

pub(super) const NAME: &str = "cutover";

pub(super) async fn play(setting: &Setting) -> Result<Outcome, Problem> {
    let shop = Shop::open().await?;
    let hold = setting.length / 8;
    let stable = |stable| shop.file(setting, &Rollout { stable, canary: None, hold, ..Rollout::TRIAL });
    let mut stage = Stage::set(setting, &stable(FIRST)).await?;
    stage.rest(0.25).await;
    stage.phase("before");

    let took = stage.reload(&stable(SECOND), "stable: shop-2").await?;
    stage.phase_to_its_end("cutover").await;
    let (old, new) = (shop.first.hits(), shop.second.hits());
    let completed = stage.event("completed").await?;
    stage.rest(0.25).await;
    let (old, new) = ((shop.first.hits() - old) as u64, (shop.second.hits() - new) as u64);

    let mut outcome = stage.end(NAME).await;
    outcome.figures = vec![("the reload took", told(took))];
    outcome.promises = vec![
        Promise::no_failures("not a request fails", &outcome.summary),
        Promise::none("the new release gets everything: requests to the old one", old, old + new),
        Promise::so("it is watched, and completed", completed.is_some()),
    ];
    Ok(outcome)
}
