//! One of three endpoints dies, and comes back.

use std::net::SocketAddr;
use std::time::Duration;

use loadtest::origin::Origin;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::Setting;
use super::outcome::{Outcome, told};
use super::promise::Promise;
use super::stage::{PATIENCE, Stage};
use crate::Problem;

pub(super) const NAME: &str = "dying-endpoint";

/// How often the state of endpoints is asked for.
const LOOK: Duration = Duration::from_millis(10);

pub(super) async fn play(setting: &Setting) -> Result<Outcome, Problem> {
    let start = async |name| Origin::always(200).named(name).try_start().await;
    let (first, dying, third) = (start("first").await?, start("dying").await?, start("third").await?);
    let address: SocketAddr = dying.address().parse()?;
    let mut stage = Stage::set(setting, &file([&first, &dying, &third])).await?;
    stage.rest(0.25).await;
    stage.phase("before");

    let asked_before = dying.hits();
    dying.stop().await;
    stage.tell("it dies", format!("{address} closes every connection and takes no more"));
    let ejected = ejected_within(&stage, &address).await?;
    if let Some(ejected) = ejected {
        stage.tell("ejected", format!("it is ejected, {} later", told(ejected)));
    }
    stage.rest(0.25).await;
    stage.phase("while it is dead");

    let back = revived(address).await?;
    stage.tell("it is back", "it answers again");
    let returned = asked_within(&back).await;
    stage.tell("has requests again", "it gets requests again");
    stage.rest(0.25).await;
    let retries = stage.gateway.counter("upstream_retries_total").await?;

    let mut outcome = stage.end(NAME).await;
    outcome.figures = vec![
        ("requests it had before it died", asked_before.to_string()),
        ("requests tried again elsewhere", retries.to_string()),
        ("from its death to its ejection", ejected.map_or_else(|| "never".to_owned(), told)),
    ];
    outcome.promises = vec![
        Promise::no_failures("users see no failure of safe requests", &outcome.summary),
        Promise::so("it is ejected", ejected.is_some()),
        Promise::so("it gets requests again once it is back", returned),
    ];
    Ok(outcome)
}

fn file(endpoints: [&Origin; 3]) -> String {
    let endpoints = endpoints.map(|origin| format!("\"{}\"", origin.address())).join(", ");
    format!(
        "services:\n\
         \x20 shop:\n\
         \x20   endpoints: [{endpoints}]\n\
         \x20   retry: {{ attempts: 1, on: [connect, reset] }}\n\
         \x20   eject: {{ consecutive_failures: 3, for: 1s }}\n\
         routes:\n\
         \x20 shop: {{ service: shop }}\n"
    )
}

/// How long the gateway took to leave it out.
async fn ejected_within(stage: &Stage, address: &SocketAddr) -> Result<Option<Duration>, Problem> {
    let begun = Instant::now();
    let address = address.to_string();
    while begun.elapsed() < PATIENCE {
        if is_ejected(&stage.gateway.view("/v1/services").await?, &address) {
            return Ok(Some(begun.elapsed()));
        }
        sleep(LOOK).await;
    }
    Ok(None)
}

fn is_ejected(services: &Value, address: &str) -> bool {
    let list = |value: &Value, key| value[key].as_array().cloned().unwrap_or_default();
    let releases = list(services, "services").into_iter().flat_map(|service| list(&service, "releases"));
    let mut endpoints = releases.flat_map(|release| list(&release, "endpoints"));
    endpoints.any(|endpoint| endpoint["address"] == address && endpoint["ejected"] == true)
}

/// The endpoint, at its old address; somebody's outgoing connection may have the port for a moment.
async fn revived(address: SocketAddr) -> Result<Origin, Problem> {
    let begun = Instant::now();
    loop {
        match Origin::always(200).named("dying").listen(address).try_start().await {
            Ok(origin) => return Ok(origin),
            Err(error) if begun.elapsed() > PATIENCE => return Err(format!("{address}: {error}").into()),
            Err(_) => sleep(LOOK).await,
        }
    }
}

async fn asked_within(origin: &Origin) -> bool {
    let begun = Instant::now();
    while origin.hits() == 0 && begun.elapsed() < PATIENCE {
        sleep(LOOK).await;
    }
    origin.hits() > 0
}
