//! Maintenance of routes over the admin API: how the switches stand, and throwing them.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use gateway_core::config::problem::{list, nearest};
use gateway_core::name::RouteName;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::Shared;
use super::problem::Problem;
use super::rollouts::{bad, lasting, read};
use crate::maintenance::Standing;
use crate::rollouts::switches::{Position, Switched};
use crate::runtime::Runtime;
use crate::telemetry::rfc3339::Rfc3339;

/// Everything below `/v1` that is about maintenance.
pub(super) fn router() -> Router<Arc<Runtime>> {
    Router::new()
        .route("/v1/switches", get(switches))
        .route("/v1/routes/{route}/maintenance", get(show).put(throw))
}

type Answer = Result<Json<Value>, Problem>;

/// How all switches stand, and what was done with them.
async fn switches(State(runtime): Shared) -> Json<Value> {
    Json(json!({
        "kill": runtime.rollouts.is_killed(),
        "maintenance": lines(&runtime),
        "history": runtime.maintenance.history().map(|switched| change(&switched)).collect::<Vec<_>>(),
    }))
}

async fn show(State(runtime): Shared, Path(route): Path<String>) -> Answer {
    let (name, standing) = find(&runtime, &route)?;
    Ok(Json(line(&name, standing)))
}

/// `{"on": true, "expires": "30m"}`; `"on": null` gives the route back to the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    #[serde(deserialize_with = "said")]
    on: Option<bool>,
    expires: Option<String>,
}

/// A null must be written: a forgotten key is a mistake.
fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    Option::deserialize(deserializer)
}

/// Acts at once, then waits a while for the disk: `saved` says whether a restart would know of it already.
async fn throw(
    State(runtime): Shared,
    Path(route): Path<String>,
    body: Result<Json<Switch>, JsonRejection>,
) -> Answer {
    let (name, before) = find(&runtime, &route)?;
    let Switch { on, expires } = read(body)?;
    let to = match on {
        Some(true) => Position::On,
        Some(false) => Position::Off,
        None => Position::File,
    };
    if to != Position::File && before.file.is_none() {
        return Err(unknown(&runtime, &route));
    }
    let lasts = expires.map(|text| lasting(&text)).transpose()?;
    if to == Position::File && lasts.is_some() {
        return Err(bad("expires: the file's word has no end".into()));
    }
    let saved = runtime.maintenance.throw(&name, to, lasts).await;
    let standing = find(&runtime, &route).map_or(Standing::default(), |(_, standing)| standing);
    let mut view = line(&name, standing);
    view["saved"] = saved.into();
    Ok(Json(view))
}

/// A route that serves, or one that is gone and whose switch is remembered.
fn find(runtime: &Runtime, route: &str) -> Result<(RouteName, Standing), Problem> {
    let snapshot = runtime.snapshot();
    let serves = snapshot.routes.in_order().find(|(name, _)| name.as_str() == route);
    if let Some((name, served)) = serves {
        return Ok((name.clone(), served.maintenance.standing()));
    }
    let thrown = runtime.maintenance.thrown().into_iter().find(|(name, _)| name.as_str() == route);
    let (name, thrown) = thrown.ok_or_else(|| unknown(runtime, route))?;
    Ok((name, Standing { file: None, thrown: Some(thrown) }))
}

fn unknown(runtime: &Runtime, route: &str) -> Problem {
    let snapshot = runtime.snapshot();
    let names = || snapshot.model.routes.keys().map(RouteName::as_str);
    let near = nearest(route, names()).map_or(String::new(), |near| format!("did you mean `{near}`? "));
    let detail = format!("there is no route `{route}`; {near}there are {}", list(names()));
    Problem::new(StatusCode::NOT_FOUND, detail)
}

/// A line for each route that is in maintenance or was switched by hand.
pub(super) fn lines(runtime: &Runtime) -> Vec<Value> {
    let snapshot = runtime.snapshot();
    let routes = snapshot.routes.in_order().map(|(name, route)| (name, route.maintenance.standing()));
    let notable = routes.filter(|(_, standing)| standing.is_on() || standing.thrown.is_some());
    let mut lines: Vec<Value> = notable.map(|(name, standing)| line(name, standing)).collect();
    for (name, thrown) in runtime.maintenance.thrown() {
        if !snapshot.model.routes.contains_key(&name) {
            lines.push(line(&name, Standing { file: None, thrown: Some(thrown) }));
        }
    }
    lines
}

fn line(route: &RouteName, standing: Standing) -> Value {
    let mut line = json!({ "route": route });
    if let (Some(line), Value::Object(fields)) = (line.as_object_mut(), view(standing)) {
        line.extend(fields);
    }
    line
}

/// `file` is what the file says, null for a route that it does not have at the moment.
pub(super) fn view(standing: Standing) -> Value {
    let Standing { file, thrown } = standing;
    json!({
        "on": standing.is_on(),
        "by": if thrown.is_some() { "switch" } else { "file" },
        "file": file,
        "since": thrown.map(|thrown| time(thrown.since)),
        "until": thrown.and_then(|thrown| thrown.until).map(time),
    })
}

fn change(switched: &Switched) -> Value {
    json!({
        "at": time(switched.at),
        "kind": switched.kind,
        "route": switched.route,
        "to": switched.to,
        "until": switched.until.map(time),
        "by": switched.by,
        "text": switched.to_string(),
    })
}

fn time(since_1970: Duration) -> String {
    Rfc3339(UNIX_EPOCH + since_1970).to_string()
}

#[cfg(test)]
mod tests;
