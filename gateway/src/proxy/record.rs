//! The end of a request: counted and logged.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use gateway_core::outcome::{Outcome, Termination};
use http::{StatusCode, header};
use pingora::{Error, ErrorSource};

use super::attempt::{self, Next};
use super::context::Context;
use super::policy::max_in_flight::Held;
use crate::listener::client::Client;
use crate::runtime::Runtime;
use crate::telemetry::access_log::{Entry, Text, Timers};
use crate::telemetry::metrics::RequestMetrics;

/// Counted for a client that left before an answer began; nginx made the number custom.
const CLIENT_CLOSED: u16 = 499;

/// Records a finished request, however it ended.
pub(super) fn finish(runtime: &Runtime, client: &Client, error: Option<&Error>, ctx: &mut Context) {
    let total = ctx.ended.unwrap_or_else(Instant::now) - ctx.started;
    let timers = Timers { connect: ctx.connected, first_byte: ctx.first_byte, total };
    settle(error, ctx);
    let status = client.answered();
    let counted = status.or(StatusCode::from_u16(CLIENT_CLOSED).ok()).unwrap_or(StatusCode::BAD_REQUEST);
    let metrics = ctx.metrics.take().unwrap_or_else(|| ctx.snapshot.unmatched.clone());
    metrics.record(&client.request().method, counted, timers.total);
    if ctx.snapshot.model.access_log.is_some() {
        runtime.access_log.log(entry(client, ctx, status, metrics, timers));
    }
    ctx.in_flight = None;
    ctx.held = Held::default();
}

/// Ends the attempt that is still under way: its answer has come through, or the client left in the middle of it.
fn settle(error: Option<&Error>, ctx: &mut Context) {
    let left = error.is_some_and(|error| *error.esource() == ErrorSource::Downstream);
    if left && ctx.rejection.is_none() {
        ctx.termination = Termination::ClientClosed;
    }
    let answered = ctx.attempt.as_ref().and_then(|attempt| attempt.answered);
    let outcome =
        if left { Outcome::ClientAbort } else { answered.map_or(Outcome::Local, |(outcome, _)| outcome) };
    attempt::end(ctx, outcome, Next::Nothing);
}

fn entry(
    client: &Client,
    ctx: &mut Context,
    status: Option<StatusCode>,
    metrics: Arc<RequestMetrics>,
    timers: Timers,
) -> Entry {
    let bytes = client.body_sent();
    let request = client.request();
    let path = match request.uri.path_and_query().filter(|_| request.is_plain()) {
        Some(path) => Text::from(path.clone()),
        None => Text::from(String::from_utf8_lossy(request.target()).into_owned()),
    };
    Entry {
        time: SystemTime::now() - timers.total,
        request_id: ctx.request_id.clone().into(),
        trace_id: Some(ctx.trace_parent.trace_id()),
        client_ip: ctx.client.ip,
        user: ctx.user.take(),
        method: request.method.clone(),
        host: std::mem::take(&mut ctx.host).into(),
        path,
        protocol: request.version,
        user_agent: request.headers.get(header::USER_AGENT).cloned(),
        status,
        bytes,
        served_by: metrics,
        endpoint: ctx.last_endpoint.as_ref().map(|endpoint| endpoint.label.clone()),
        attempts: ctx.attempts,
        timers,
        termination: ctx.termination,
    }
}
