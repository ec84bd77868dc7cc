//! One try at one endpoint: its choice, its end, and whether there is another.

mod again;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gateway_core::endpoint::InFlight;
use gateway_core::outcome::{Outcome, Termination};
use gateway_core::websocket::{FrameWatch, GOING_AWAY};
use http::{HeaderValue, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::upstreams::peer::{HttpPeer, PeerOptions};
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::context::{Attempt, Chosen, Context};
use super::patience::Patience;
use super::rejection::Rejection;
use super::watchdog::Watchdog;
use crate::files::SHARES;
use crate::upstream::ejection;
use crate::upstream::{Endpoint, Release, Service, TUNNEL_IDLE};

/// What follows an attempt that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Its outcome is the request's.
    Nothing,
    /// Another endpoint of the same release.
    Retry,
    /// The stable release.
    Failover,
}

/// Chooses an endpoint; called once for each attempt.
///
/// # Errors
/// An error that [`super::respond::fail`] answers with 503 when no release of the service can take it.
pub(super) fn begin(session: &Session, ctx: &mut Context) -> Result<Box<HttpPeer>> {
    if std::mem::take(&mut ctx.failing_over) {
        turn_to_stable(ctx);
    }
    let Some((endpoint, in_flight)) = pick(ctx) else { return refuse(ctx, Rejection::NoEndpoint) };
    ctx.attempts += 1;
    ctx.rejection = None;
    // Each try sends the body from its beginning.
    ctx.body_bytes = 0;
    let patience = patience(session, ctx);
    let attempt = Attempt::new(endpoint, in_flight, patience);
    let mut peer = Box::new(attempt.endpoint.peer.clone());
    if ctx.upgrade {
        peer.options.read_timeout = Some(TUNNEL_IDLE);
        peer.options.write_timeout = Some(TUNNEL_IDLE);
        peer.options.set_http_version(1, 1);
    } else {
        wait(&mut peer.options, &patience, ctx);
    }
    if let Some(end) = ctx.deadline {
        let left = end.saturating_duration_since(attempt.started);
        if left.is_zero() {
            return refuse(ctx, Rejection::UpstreamTimeout);
        }
        bound(&mut peer.options, left, ctx.upgrade);
    }
    ctx.attempt = Some(attempt);
    Ok(peer)
}

/// Pingora itself watches HTTP/1 clients for pauses in a body; an origin that does not read what has come is told from
/// them by waiting longer.
fn patience(session: &Session, ctx: &Context) -> Patience {
    let timeouts = ctx.chosen.as_ref().map(|chosen| &chosen.service.template.timeouts);
    let timeouts = timeouts.cloned().unwrap_or_default();
    let body_idle = ctx.connection.as_ref().map(|connection| connection.listener.limits.body_idle);
    let upload = if session.is_http2() { body_idle } else { body_idle.max(Some(timeouts.idle)) };
    Patience::new(&timeouts, upload.filter(|_| !ctx.body_done))
}

fn wait(options: &mut PeerOptions, patience: &Patience, ctx: &Context) {
    let http1 = ctx.chosen.as_ref().is_some_and(|chosen| chosen.service.template.is_http1());
    options.read_timeout =
        Some(if http1 { patience.longest() } else { patience.longest_from_header(ctx.body_length) });
}

/// No single wait may be longer than the time that is left, but for those of a WebSocket once it is open.
fn bound(options: &mut PeerOptions, left: Duration, upgrade: bool) {
    let connecting = [&mut options.connection_timeout, &mut options.total_connection_timeout];
    let exchanging = [&mut options.read_timeout, &mut options.write_timeout];
    for wait in connecting.into_iter().chain(exchanging.into_iter().filter(|_| !upgrade)) {
        *wait = Some(wait.map_or(left, |wait| wait.min(left)));
    }
}

fn refuse<T>(ctx: &mut Context, rejection: Rejection) -> Result<T> {
    ctx.rejection = Some(rejection);
    Error::e_explain(ErrorType::HTTPStatus(rejection.status().as_u16()), rejection.code())
}

/// An endpoint of the chosen release; of another one when that has none at all.
fn pick(ctx: &mut Context) -> Option<(Arc<Endpoint>, InFlight)> {
    let chosen = ctx.chosen.as_mut()?;
    let key = chosen.key.as_deref();
    if let Some(picked) = chosen.release.pick(&mut ctx.tried, key, ctx.client.ip) {
        return Some(picked);
    }
    let other = standby(&chosen.service, &chosen.release)?;
    let picked = other.pick(&mut ctx.tried, key, ctx.client.ip)?;
    chosen.release = other;
    chosen.randomised = false;
    recount(ctx);
    Some(picked)
}

/// Who serves in place of a release without endpoints: stable, and for stable whoever has traffic.
fn standby(service: &Service, release: &Release) -> Option<Arc<Release>> {
    let division = service.division();
    if division.stable() != release.index {
        return Some(service.releases[division.stable()].clone());
    }
    let has_traffic =
        |other: &&Arc<Release>| division.weight(other.index).ppm() > 0 && other.index != release.index;
    service.releases.iter().find(has_traffic).cloned()
}

/// The canary has failed the request; from here on it is stable's, and no evidence any more.
fn turn_to_stable(ctx: &mut Context) {
    let Some(chosen) = &mut ctx.chosen else { return };
    chosen.release.metrics.failovers.add(1);
    chosen.release = chosen.service.stable().clone();
    chosen.randomised = false;
    ctx.termination = Termination::FailedOver;
    recount(ctx);
}

/// The request counts for the release that answers it.
fn recount(ctx: &mut Context) {
    if let (Some(route), Some(chosen)) = (&ctx.route, &ctx.chosen) {
        ctx.metrics = Some(route.metrics_for(&chosen.release).clone());
    }
}

/// A connection is there, new or from the pool.
///
/// # Errors
/// An error that [`super::respond::fail`] answers with 503 when a new one takes of the files that are kept back.
pub(super) fn connected(ctx: &mut Context, socket: RawFd, reused: bool) -> Result<()> {
    if !reused && SHARES.are_used_up_by(socket) {
        end(ctx, Outcome::Local, Next::Nothing);
        let rejection = overloaded(ctx);
        return refuse(ctx, rejection);
    }
    let (Some(chosen), Some(attempt)) = (&ctx.chosen, &mut ctx.attempt) else { return Ok(()) };
    if !reused {
        ctx.connected = Some(attempt.started.elapsed());
    }
    let template = &chosen.service.template;
    if ctx.upgrade {
        let (over, limit) = (chosen.release.retirement.over(), attempt.patience.at(ctx.body_done, false));
        attempt.watchdog = Watchdog::watch_until(over, socket, limit, ctx.deadline);
    } else if template.is_http1() && (!attempt.patience.is_uniform() || ctx.deadline.is_some()) {
        let limit = attempt.patience.at(ctx.body_done, false);
        attempt.watchdog = Watchdog::watch(socket, limit, ctx.deadline);
    }
    Ok(())
}

/// The gateway is out of files or ports: soon there may be some again.
fn overloaded(ctx: &mut Context) -> Rejection {
    ctx.answer_fields.push((header::RETRY_AFTER, HeaderValue::from_static("1")));
    Rejection::Overloaded
}

/// A response header is there. Interim answers pass through here too.
///
/// # Errors
/// When the answer is not passed on: a switch of protocols nobody asked for, or a failure that another endpoint or stable
/// is to mend.
pub(super) fn answered(session: &Session, response: &ResponseHeader, ctx: &mut Context) -> Result<()> {
    let switching = response.status == StatusCode::SWITCHING_PROTOCOLS;
    if switching && !ctx.upgrade {
        return Err(Error::new_up(ErrorType::InvalidHTTPHeader));
    }
    if response.status.is_informational() && !switching {
        return Ok(());
    }
    let (Some(chosen), Some(attempt)) = (&ctx.chosen, &mut ctx.attempt) else { return Ok(()) };
    let now = Instant::now();
    let taken = now - attempt.started;
    chosen.release.metrics.responses.observe(taken);
    ctx.first_byte = Some(now - ctx.started);
    let outcome = Outcome::Answered(response.status);
    attempt.answered = Some((outcome, taken));
    match &attempt.watchdog {
        Some(watchdog) if switching => watchdog.leave_alone(),
        _ => attempt.lives(ctx.body_done),
    }
    let fails = outcome.failure(&chosen.service.definition.rollout.guard.failures).is_some();
    let next = again::after(session, ctx, outcome, false);
    if !fails && next == Next::Nothing {
        return Ok(());
    }
    end(ctx, outcome, next);
    ctx.trying_again = next == Next::Retry;
    if next == Next::Nothing {
        return Ok(());
    }
    Err(Error::new_up(ErrorType::HTTPStatus(response.status.as_u16())))
}

/// A piece of the answer's body is there, or its end.
///
/// # Errors
/// When the release was rolled back and its streams have had their time.
pub(super) fn progressed(body: &mut Option<Bytes>, end_of_stream: bool, ctx: &mut Context) -> Result<()> {
    let Some(chosen) = &ctx.chosen else { return Ok(()) };
    if ctx.is_tunnel() {
        let retired = chosen.release.retirement.is_over();
        say_goodbye(body, end_of_stream && retired, &mut ctx.frames);
        return Ok(());
    }
    if chosen.release.retirement.is_over() && !end_of_stream {
        return Error::e_explain(ErrorType::InternalError, "the release was rolled back");
    }
    if !end_of_stream && ctx.deadline.is_some_and(|end| Instant::now() >= end) {
        return Err(Error::new_up(ErrorType::ReadTimedout));
    }
    if let Some(attempt) = &ctx.attempt {
        attempt.lives(ctx.body_done);
    }
    Ok(())
}

/// A tunnel that ends because its release does ends as WebSockets should, if it ends between two frames.
fn say_goodbye(body: &mut Option<Bytes>, leaving: bool, frames: &mut FrameWatch) {
    frames.feed(body.as_deref().unwrap_or_default());
    if leaving && frames.is_between_frames() {
        let mut last = body.take().unwrap_or_default().to_vec();
        last.extend_from_slice(&GOING_AWAY);
        *body = Some(last.into());
    }
}

/// No connection. Nothing was sent, so any method may be tried elsewhere.
pub(super) fn not_connected(session: &Session, ctx: &mut Context, mut error: Box<Error>) -> Box<Error> {
    let outcome = match error.etype() {
        ErrorType::TLSHandshakeFailure
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::InvalidCert
        | ErrorType::HandshakeError => Outcome::Tls,
        ErrorType::InternalError | ErrorType::BindError | ErrorType::SocketError => Outcome::Local,
        _ => Outcome::Connect,
    };
    let timed_out = matches!(error.etype(), ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout);
    ctx.rejection = Some(match outcome {
        Outcome::Local => overloaded(ctx),
        _ if timed_out => Rejection::UpstreamTimeout,
        _ => Rejection::UpstreamUnreachable,
    });
    error.set_retry(settle(session, ctx, outcome, true));
    error
}

/// A connection broke, or what came over it cannot be used.
///
/// This replaces Pingora's own policy, so all of it is here: never after an answer began, never twice for a method that
/// is not safe, never without the whole body at hand.
pub(super) fn broke(
    session: &Session,
    ctx: &mut Context,
    mut error: Box<Error>,
    client_reused: bool,
) -> Box<Error> {
    // Settles what Pingora left open for reused connections; asking later would panic.
    error.retry.decide_reuse(client_reused);
    if std::mem::take(&mut ctx.trying_again) || ctx.failing_over {
        error.set_retry(true);
        return error;
    }
    if *error.esource() != ErrorSource::Upstream {
        let client = *error.esource() == ErrorSource::Downstream;
        end(ctx, if client { Outcome::ClientAbort } else { Outcome::Local }, Next::Nothing);
        error.set_retry(false);
        return error;
    }
    let unanswered = session.response_written().is_none();
    if client_reused && error.retry() && unanswered {
        end(ctx, Outcome::Stale, Next::Retry);
        ctx.rejection = Some(Rejection::UpstreamFailed);
        let idempotent = session.req_header().method.is_idempotent();
        error.set_retry(idempotent && !session.as_ref().retry_buffer_truncated());
        return error;
    }
    let (outcome, rejection) = diagnose(session, ctx, &error);
    ctx.rejection = Some(rejection);
    error.set_retry(settle(session, ctx, outcome, false));
    error
}

fn diagnose(session: &Session, ctx: &Context, error: &Error) -> (Outcome, Rejection) {
    let watchdog = ctx.attempt.as_ref().and_then(|attempt| attempt.watchdog.as_ref());
    let unread = *error.etype() == ErrorType::WriteTimedout;
    let silent = unread || *error.etype() == ErrorType::ReadTimedout;
    let timed_out = silent || watchdog.is_some_and(Watchdog::has_bitten);
    let answering = session.response_written().is_some();
    if timed_out && !unread && !ctx.body_done && !answering {
        // The origin still waits for the rest of the request, and so do we.
        return (Outcome::ClientAbort, Rejection::RequestTimeout);
    }
    match error.etype() {
        _ if timed_out => (Outcome::Timeout, Rejection::UpstreamTimeout),
        ErrorType::InvalidHTTPHeader | ErrorType::InvalidH2 => {
            (Outcome::Malformed, Rejection::UpstreamMalformed)
        }
        _ if answering => (Outcome::Truncated, Rejection::UpstreamFailed),
        _ => (Outcome::Reset, Rejection::UpstreamFailed),
    }
}

/// Ends a failed attempt; says whether there is another one, by the service's retry policy or at stable.
fn settle(session: &Session, ctx: &mut Context, outcome: Outcome, unsent: bool) -> bool {
    let next = again::after(session, ctx, outcome, unsent);
    end(ctx, outcome, next);
    next != Next::Nothing
}

/// Ends the attempt under way, if one is: counted, and judged at once when it failed.
pub(super) fn end(ctx: &mut Context, outcome: Outcome, next: Next) {
    let Some(attempt) = ctx.attempt.take() else { return };
    ctx.failing_over = next == Next::Failover;
    if let Some(chosen) = &ctx.chosen {
        chosen.release.metrics.attempts.count(outcome);
        ejection::note(&chosen.service, &chosen.release, &attempt.endpoint, outcome);
        let late = attempt.answered.map(|(_, taken)| taken);
        if chosen.randomised {
            judge(chosen, outcome, late, next == Next::Nothing);
        }
    }
    ctx.last_endpoint = Some(attempt.endpoint);
}

/// Counts the attempt as evidence; a failure is judged before the request goes on.
fn judge(chosen: &Chosen, outcome: Outcome, taken: Option<Duration>, seen: bool) {
    if matches!(outcome, Outcome::ClientAbort | Outcome::Local | Outcome::Stale) {
        return;
    }
    let guard = &chosen.service.definition.rollout.guard;
    let tally = &chosen.release.tally;
    if outcome.failure(&guard.failures).is_some() {
        tally.failure();
        if seen {
            tally.seen();
        }
    } else if guard.latency.as_ref().zip(taken).is_some_and(|(limit, taken)| taken > limit.max) {
        tally.slow();
        return chosen.service.supervisor.on_slow();
    } else {
        return tally.success();
    }
    chosen.service.supervisor.on_failure();
}
