//! `GET /v1/events`: changes of rollouts and switches as they happen (server-sent events, HTML §9.2).

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{self, KeepAlive, Sse};
use futures_util::Stream;
use futures_util::stream::unfold;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;

use super::view;
use crate::admin::Shared;
use crate::admin::problem::Problem;
use crate::rollouts::events::{Event, SwitchEvent, Told};

/// Where a reader begins: after the event of this id; without one, with the next that happens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Begin {
    since: Option<u64>,
}

/// Sends what was kept after `since`, then what happens. `Last-Event-ID` outranks it, as a reader that connects again
/// repeats its first address.
pub(super) async fn stream(
    State(runtime): Shared,
    headers: HeaderMap,
    begin: Result<Query<Begin>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    let bad = |error: QueryRejection| Problem::new(StatusCode::BAD_REQUEST, error.body_text());
    let Query(Begin { since }) = begin.map_err(bad)?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let (kept, next) = runtime.events.since(last.or(since).unwrap_or(u64::MAX));
    let reader = Reader { kept: kept.into(), next };
    Ok(Sse::new(unfold(reader, Reader::read)).keep_alive(KeepAlive::default()))
}

/// What one reader has yet to be sent.
struct Reader {
    kept: VecDeque<Told>,
    next: Receiver<Told>,
}

impl Reader {
    /// The next event. Ends when the reader has fallen behind: it connects again and misses nothing that is kept.
    async fn read(mut self) -> Option<(Result<sse::Event, Infallible>, Self)> {
        let event = match self.kept.pop_front() {
            Some(kept) => kept,
            None => self.next.recv().await.ok()?,
        };
        Some((Ok(sent(&event)), self))
    }
}

fn sent(told: &Told) -> sse::Event {
    let data = match told {
        Told::Rollout(event) => rollout(event),
        Told::Switch(event) => switch(event),
    };
    sse::Event::default().id(told.id().to_string()).data(data.to_string())
}

fn rollout(event: &Event) -> Value {
    json!({
        "id": event.id,
        "at": event.at,
        "service": event.service,
        "kind": event.kind,
        "text": event.text,
        "change": view::change(&event.change),
    })
}

/// Times are seconds since 1970, as in every event.
fn switch(event: &SwitchEvent) -> Value {
    let SwitchEvent { id, switched } = event;
    json!({
        "id": id,
        "at": switched.at.as_secs_f64(),
        "kind": switched.kind,
        "text": switched.to_string(),
        "route": switched.route,
        "to": switched.to,
        "until": switched.until.map(|until| until.as_secs_f64()),
        "by": switched.by,
    })
}
