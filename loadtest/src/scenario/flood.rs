//! One client sends far more than its share.

use std::time::Duration;

use loadtest::load::{Report, Summary};
use loadtest::origin::Origin;
use loadtest::picture::Picture;
use loadtest::units::count;

use super::Setting;
use super::outcome::Outcome;
use super::promise::Promise;
use super::stage::{Stage, USER, USERS};
use crate::Problem;

pub(super) const NAME: &str = "flood";

/// The limit of each client: twice what a usual one sends, and two seconds' worth at once.
struct Limit {
    rate: u64,
    burst: u64,
}

impl Limit {
    fn of(setting: &Setting) -> Self {
        let rate = (2.0 * setting.rate / USERS as f64).ceil() as u64;
        Self { rate, burst: 2 * rate }
    }

    /// What it lets pass in this time.
    fn passes(&self, seconds: f64) -> u64 {
        self.burst + (self.rate as f64 * seconds).ceil() as u64 + 1
    }
}

pub(super) async fn play(setting: &Setting) -> Result<Outcome, Problem> {
    let origin = Origin::always(200).named("shop").try_start().await?;
    let limit = Limit::of(setting);
    let flood_rate = 2.0 * setting.rate;
    let mut stage = Stage::set(setting, &file(&origin, &limit)).await?;
    stage.rest(0.25).await;
    stage.phase("before");

    let mut flood = stage.joined_by("flooder", flood_rate)?;
    let Limit { rate, burst } = limit;
    stage.tell(
        "flood begins",
        format!(
            "one more client sends {flood_rate} a second, where {rate} and {burst} at once are its limit"
        ),
    );
    stage.rest(0.5).await;
    flood.stop();
    flood.answered().await;
    let flood = flood.report();
    stage.tell(
        "flood ends",
        format!(
            "it stops; {} of {} were refused",
            count(refused(&flood.summary)),
            count(flood.summary.requests)
        ),
    );
    stage.phase("flood");
    stage.rest(0.25).await;

    let mut outcome = stage.end(NAME).await;
    outcome.figures = figures(&flood.summary);
    outcome.promises = promises(&outcome.summary, &flood.summary, &limit);
    outcome.pictures.push(("flood-flooder".to_owned(), picture(flood_rate, &flood)));
    Ok(outcome)
}

fn file(origin: &Origin, Limit { rate, burst }: &Limit) -> String {
    format!(
        "services:\n\
         \x20 shop: {{ endpoints: [\"{}\"] }}\n\
         rate_limits:\n\
         \x20 per-client: {{ key: \"header:{USER}\", rate: {rate}/s, burst: {burst} }}\n\
         routes:\n\
         \x20 shop: {{ limits: [per-client], service: shop }}\n",
        origin.address(),
    )
}

fn figures(flood: &Summary) -> Vec<(&'static str, String)> {
    vec![
        ("requests of the flooder", count(flood.requests)),
        ("passed", count(passed(flood))),
        ("refused with 429", count(refused(flood))),
    ]
}

fn promises(users: &Summary, flood: &Summary, limit: &Limit) -> Vec<Promise> {
    let strange = flood.requests - passed(flood) - refused(flood);
    vec![
        Promise::no_failures("other users see no failure", users),
        Promise::none("other users are not refused", refused(users), users.requests),
        Promise::at_most(
            "the flooder passes as its limit says",
            Some(passed(flood)),
            limit.passes(flood.seconds),
        ),
        Promise::none("the rest is refused with 429: other answers", strange, flood.requests),
    ]
}

fn picture(rate: f64, flood: &Report) -> Picture {
    let lasted = Duration::from_secs(flood.summary.seconds.round() as u64);
    Picture::of("flood: the flooder", rate, lasted, flood)
}

fn passed(seen: &Summary) -> u64 {
    seen.statuses.get(&200).copied().unwrap_or(0)
}

fn refused(seen: &Summary) -> u64 {
    seen.statuses.get(&429).copied().unwrap_or(0)
}
