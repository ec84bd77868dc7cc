//! The file changes again and again, while users go on.

use std::time::Duration;

use loadtest::origin::Origin;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Setting;
use super::outcome::{Outcome, told};
use super::promise::Promise;
use super::stage::Stage;
use crate::Problem;

pub(super) const NAME: &str = "reload-storm";

/// Reloads a second, for half of the scenario: hundreds also when that is short.
const A_SECOND: u32 = 100;

pub(super) async fn play(setting: &Setting) -> Result<Outcome, Problem> {
    let start = async || Origin::always(200).named("shop").try_start().await;
    let origins = [start().await?, start().await?];
    let mut stage = Stage::set(setting, &file(&origins, 0)).await?;
    stage.rest(0.25).await;
    stage.phase("before");

    let reloads = (setting.length.as_secs_f64() / 2.0 * f64::from(A_SECOND)) as u64;
    stage.tell(
        "storm begins",
        format!("{reloads} reloads begin, each with other routes, limits and endpoints"),
    );
    let times = storm(&stage, &origins, reloads).await?;
    stage.tell("storm ends", format!("the last of {reloads} reloads is in force"));
    stage.phase_to_its_end("storm").await;
    stage.rest(0.25).await;

    let status = stage.gateway.view("/v1/status").await?;
    let routes = stage.gateway.view("/v1/routes").await?.to_string();
    let changes = status["revision"].as_u64().map(|revision| revision.saturating_sub(1));
    let mut outcome = stage.end(NAME).await;
    outcome.figures = vec![
        ("median of the times a reload took", told(quantile(&times, 0.5))),
        ("the longest of them", told(quantile(&times, 1.0))),
    ];
    outcome.promises = vec![
        Promise::no_failures("not a request fails", &outcome.summary),
        Promise::at_least("revisions that came into force", changes, reloads),
        Promise::so("the last is the one in force", routes.contains(&format!("\"{}\"", route(reloads)))),
    ];
    Ok(outcome)
}

/// How long each reload took, shortest first.
async fn storm(stage: &Stage, origins: &[Origin; 2], reloads: u64) -> Result<Vec<Duration>, Problem> {
    let mut pace = interval(Duration::from_secs(1) / A_SECOND);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut times = Vec::new();
    for revision in 1..=reloads {
        pace.tick().await;
        let asked = Instant::now();
        stage.gateway.reload(&file(origins, revision)).await?;
        times.push(asked.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

/// Every revision has a route of its own and another limit, and every second one more endpoint.
fn file(origins: &[Origin; 2], revision: u64) -> String {
    let [first, second] = origins.each_ref().map(|origin| format!("\"{}\"", origin.address()));
    let endpoints = if revision.is_multiple_of(2) { first } else { format!("{first}, {second}") };
    format!(
        "services:\n\
         \x20 shop: {{ endpoints: [{endpoints}] }}\n\
         rate_limits:\n\
         \x20 generous: {{ key: client_ip, rate: {}/s }}\n\
         routes:\n\
         \x20 shop: {{ limits: [generous], service: shop }}\n\
         \x20 {}: {{ match: {{ path: /revision }}, respond: {{ status: 204 }} }}\n",
        100_000 + revision,
        route(revision),
    )
}

fn route(revision: u64) -> String {
    format!("revision-{revision}")
}

fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let index = (sorted.len().saturating_sub(1) as f64 * share) as usize;
    sorted.get(index).copied().unwrap_or_default()
}
