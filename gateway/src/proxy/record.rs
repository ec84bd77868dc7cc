//! The end of a request: counted, logged, and its connection ready for the next one.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use gateway_core::outcome::{Outcome, Termination};
use http::{Method, StatusCode, Version, header};
use pingora::proxy::Session;
use pingora::{Error, ErrorSource};

use super::attempt;
use super::context::Context;
use crate::listener::connection::Phase;
use crate::runtime::Runtime;
use crate::telemetry::access_log::{Entry, Timers};
use crate::telemetry::metrics::RequestMetrics;

/// Records a finished request, however it ended.
pub(super) fn finish(runtime: &Runtime, session: &Session, error: Option<&Error>, ctx: &mut Context) {
    let total = ctx.started.elapsed();
    settle_attempt(error, ctx);
    if error.is_some_and(|error| *error.esource() == ErrorSource::Downstream) && ctx.rejection.is_none() {
        ctx.termination = Termination::ClientClosed;
    }
    let status = session.response_written().map(|response| response.status);
    let metrics = ctx.metrics.clone().unwrap_or_else(|| ctx.snapshot.unmatched.clone());
    metrics.record(&session.req_header().method, status.unwrap_or(CLIENT_CLOSED), total);
    if ctx.snapshot.model.access_log.is_some() {
        let timers = Timers { connect: ctx.connected, first_byte: ctx.first_byte, total };
        runtime.access_log.log(entry(session, ctx, status, metrics, timers));
    }
    if let Some(connection) = &ctx.connection {
        connection.enter(Phase::Idle);
    }
}

/// What nginx made the custom for a client that left before an answer began.
const CLIENT_CLOSED: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => StatusCode::BAD_REQUEST,
};
