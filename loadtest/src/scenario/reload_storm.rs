//! The file changes again and again, as fast as the gateway takes it.

use std::time::Duration;

use loadtest::origin::Origin;
use tokio::time::Instant;

use super::Setting;
use super::outcome::Outcome;
use super::promise::Promise;
use super::stage::Stage;
use crate::Problem;

pub(super) const NAME: &str = "reload-storm";

/// Reloads for each second that the scenario takes: hundreds, as the docs say, also when it is quick.
const A_SECOND: f64 = 50.0;

pub(super) async fn play(setting: &Setting) -> Result<Outcome, Problem> {
    let start = async || Origin::always(200).named("shop").try_start().await;
    let origins = [start().await?, start().await?];
    let mut stage = Stage::set(setting, &file(&origins, 0)).await?;
    stage.rest(0.25).await;
    stage.phase("before");

    let storm = (setting.length.as_secs_f64() * A_SECOND) as u64;
    stage.tell("storm begins", format!("{storm} reloads begin, each changes routes, limits and endpoints"));
    let mut times = Vec::new();
    for revision in 1..=storm {
        let asked = Instant::now();
        stage.gateway.reload(&file(&origins, revision)).await?;
        times.push(asked.elapsed());
    }
    stage.tell("storm ends", format!("the last of {storm} reloads is in force"));
    stage.phase_to_its_end("storm").await;
    let routes = stage.gateway.admin.view("/v1/routes").await?.to_string();
    stage.rest(0.25).await;

    let last = format!("revision-{storm}");
    let in_force = routes.contains(&last);
    let mut outcome = stage.end(NAME).await;
    times.sort_unstable();
    outcome.figures = vec![(
        "a reload took: median, longest",
        format!("{}, {}", quantile(&times, 0.5), quantile(&times, 1.0)),
    )];
    outcome.promises = vec![
        Promise::no_failures("not a request fails", &outcome.summary),
        Promise::at_least("reloads that took effect", Some(times.len() as u64), storm),
        Promise::that("the last is the one in force", in_force, if in_force { "yes" } else { "no" }, "yes"),
    ];
    Ok(outcome)
}

/// Every revision has a route of its own, another limit, and every second one more endpoint.
fn file(origins: &[Origin; 2], revision: u64) -> String {
    let [first, second] = origins.each_ref().map(|origin| format!("\"{}\"", origin.address()));
    let endpoints = if revision % 2 == 0 { first } else { format!("{first}, {second}") };
    format!(
        "services:\n\
         \x20 shop: {{ endpoints: [{endpoints}] }}\n\
         rate_limits:\n\
         \x20 generous: {{ key: client_ip, rate: {}/s }}\n\
         routes:\n\
         \x20 shop: {{ limits: [generous], service: shop }}\n\
         \x20 revision-{revision}: {{ match: {{ path: /revision }}, respond: {{ status: 204 }} }}\n",
        1_000_000 + revision,
    )
}

fn quantile(sorted: &[Duration], share: f64) -> String {
    let index = (sorted.len().saturating_sub(1) as f64 * share) as usize;
    sorted
        .get(index)
        .map_or_else(|| "none".to_owned(), |time| loadtest::units::milliseconds(time.as_secs_f64() * 1e3))
}
