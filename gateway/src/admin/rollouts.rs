//! Rollouts over the admin API: what they do, and what people ask of them.

mod events;
mod text;
mod view;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use gateway_core::rollout::{Command, Manual, Refusal};
use gateway_core::unit::{Weight, parse_duration};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::problem::Problem;
use crate::rollouts::Rollouts;
use crate::rollouts::supervisor::Supervisor;
use crate::runtime::Runtime;

pub(super) use self::view::lines;

/// Everything below `/v1` that is about rollouts.
pub(super) fn router() -> Router<Arc<Runtime>> {
    Router::new()
        .route("/v1/rollouts", get(list))
        .route("/v1/rollouts/{service}", get(show))
        .route("/v1/rollouts/{service}/weight", put(set_weight))
        .route("/v1/rollouts/{service}/{command}", post(command))
        .route("/v1/kill", put(kill))
        .route("/v1/events", get(events::stream))
}

/// How long an order waits until it is on disk.
const SAVE_PATIENCE: Duration = Duration::from_secs(2);

type Answer = Result<Json<Value>, Problem>;

async fn list(State(runtime): Shared) -> Json<Value> {
    let rollouts = &runtime.rollouts;
    let killed = rollouts.is_killed();
    let all = rollouts.all().into_iter();
    let views = all.filter_map(|(name, supervisor)| view::service(name.as_str(), &supervisor, killed));
    Json(json!({ "kill": killed, "rollouts": views.collect::<Vec<_>>() }))
}

async fn show(State(runtime): Shared, Path(service): Path<String>) -> Answer {
    let supervisor = find(&runtime.rollouts, &service)?;
    answer(&runtime, &service, &supervisor)
}

async fn command(State(runtime): Shared, Path((service, word)): Path<(String, String)>) -> Answer {
    let command = match word.as_str() {
        "promote" => Command::Promote,
        "pause" => Command::Pause,
        "resume" => Command::Resume,
        "abort" => Command::Abort,
        "retry" => Command::Retry,
        _ => {
            let detail = format!("`{word}` is not one of promote, pause, resume, abort, retry");
            return Err(Problem::new(StatusCode::NOT_FOUND, detail));
        }
    };
    let supervisor = find(&runtime.rollouts, &service)?;
    order(&runtime, &service, &supervisor, command).await
}

/// `{"weight": 30, "expires": "10m"}`; without `expires` the weight stays until `resume`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightBody {
    weight: f64,
    expires: Option<String>,
}

async fn set_weight(
    State(runtime): Shared,
    Path(service): Path<String>,
    body: Result<Json<WeightBody>, JsonRejection>,
) -> Answer {
    let supervisor = find(&runtime.rollouts, &service)?;
    let WeightBody { weight, expires } = read(body)?;
    let weight = Weight::from_percent(weight).map_err(|error| bad(format!("weight: {error}")))?;
    let expires = expires.map(|text| lasting(&text)).transpose()?;
    let until = expires.map(|lasts| runtime.rollouts.now() + lasts);
    order(&runtime, &service, &supervisor, Command::Weight(Manual { weight, until })).await
}

/// Longer than nothing; [`parse_duration`] has an upper bound.
pub(super) fn lasting(text: &str) -> Result<Duration, Problem> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Err(bad("expires: it would be over at once".into())),
        Ok(lasts) => Ok(lasts),
        Err(error) => Err(bad(format!("expires: {error}"))),
    }
}

/// `{"on": true}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    on: bool,
}

async fn kill(State(runtime): Shared, body: Result<Json<Switch>, JsonRejection>) -> Answer {
    let Switch { on } = read(body)?;
    let saved = runtime.rollouts.kill(on).await;
    Ok(Json(json!({ "on": on, "saved": saved })))
}

fn find(rollouts: &Rollouts, service: &str) -> Result<Arc<Supervisor>, Problem> {
    rollouts.find(service).ok_or_else(|| unknown(rollouts, service))
}

/// Acts at once, then waits a while for the disk: `saved` says whether a restart would know of it already.
async fn order(runtime: &Runtime, service: &str, supervisor: &Supervisor, command: Command) -> Answer {
    let refused = |refusal: Refusal| {
        Problem::new(StatusCode::CONFLICT, refusal.to_string()).with("service", service.into())
    };
    supervisor.command(command).map_err(refused)?;
    let saved = runtime.flush(SAVE_PATIENCE).await;
    let Json(mut view) = answer(runtime, service, supervisor)?;
    view["saved"] = saved.into();
    Ok(Json(view))
}

fn answer(runtime: &Runtime, service: &str, supervisor: &Supervisor) -> Answer {
    let gone = || Problem::new(StatusCode::NOT_FOUND, format!("service `{service}` has just been removed"));
    view::service(service, supervisor, runtime.rollouts.is_killed()).map(Json).ok_or_else(gone)
}

fn unknown(rollouts: &Rollouts, service: &str) -> Problem {
    let known: Vec<_> = rollouts.all().into_iter().map(|(name, _)| name.to_string()).collect();
    let detail = format!("there is no service `{service}`; there are {}", known.join(", "));
    Problem::new(StatusCode::NOT_FOUND, detail)
}

pub(super) fn read<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Problem> {
    let bad = |rejection: JsonRejection| Problem::new(rejection.status(), rejection.body_text());
    body.map(|Json(value)| value).map_err(bad)
}

pub(super) fn bad(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

#[cfg(test)]
mod tests;
