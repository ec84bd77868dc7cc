//! One try at one endpoint: its choice, its end, and whether there is another.

mod again;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gateway_core::endpoint::InFlight;
use gateway_core::http1::ResponseHead;
use gateway_core::outcome::{Outcome, Termination};
use gateway_core::websocket::{FrameWatch, GOING_AWAY};
use http::{HeaderValue, StatusCode, header};
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::context::{Attempt, Chosen, Context};
use super::patience::Patience;
use super::rejection::Rejection;
use crate::files::SHARES;
use crate::listener::client::Client;
use crate::upstream::ejection;
use crate::upstream::origin::{Origin, http1, http2};
use crate::upstream::pool::{self, ConnectError, ConnectFailure};
use crate::upstream::{Endpoint, Release, Service};

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

/// An attempt that came to nothing.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Box<Error>,
    /// Whether there is another attempt.
    pub(super) again: bool,
}

/// A last failure.
impl From<Box<Error>> for Failure {
    fn from(error: Box<Error>) -> Self {
        Self { error, again: false }
    }
}

/// A connection to an endpoint, or a place on one.
pub(super) enum Connection {
    Http1(pool::Http1),
    Http2(pool::Http2),
}

impl Connection {
    /// Whether it has carried a request before.
    pub(super) fn is_reused(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_reused(),
            Self::Http2(connection) => connection.reused,
        }
    }

    fn socket(&self) -> RawFd {
        match self {
            Self::Http1(connection) => connection.socket(),
            Self::Http2(connection) => connection.socket,
        }
    }
}

/// Chooses an endpoint; called once for each attempt.
///
/// # Errors
/// An error that [`super::respond::fail`] answers with 503 when no release of the service can take it, with 504 when the
/// route's time is over.
pub(super) fn begin(client: &Client, ctx: &mut Context) -> Result<Arc<Endpoint>> {
    if std::mem::take(&mut ctx.failing_over) {
        turn_to_stable(ctx);
    }
    ctx.trying_again = false;
    let Some((endpoint, in_flight)) = pick(ctx) else { return refuse(ctx, Rejection::NoEndpoint) };
    ctx.attempts += 1;
    ctx.rejection = None;
    ctx.body.rewind();
    let attempt = Attempt::new(endpoint.clone(), in_flight, patience(client, ctx));
    if ctx.deadline.is_some_and(|end| attempt.started >= end) {
        return refuse(ctx, Rejection::UpstreamTimeout);
    }
    ctx.attempt = Some(attempt);
    Ok(endpoint)
}

fn patience(client: &Client, ctx: &Context) -> Patience {
    let client = client.connection().listener.limits.body_idle;
    let chosen = ctx.chosen.as_ref();
    chosen.map(|chosen| Patience::new(&chosen.service.template.timeouts, client)).unwrap_or_default()
}

fn started(ctx: &Context) -> Instant {
    ctx.attempt.as_ref().map_or(ctx.started, |attempt| attempt.started)
}

/// A connection to the endpoint: a kept one if there is one.
///
/// # Errors
/// When there is none to be had.
pub(super) async fn connect(
    client: &Client,
    ctx: &Context,
    endpoint: &Endpoint,
) -> Result<Connection, ConnectError> {
    let started = started(ctx);
    let left = ctx.deadline.map(|end| end.saturating_duration_since(started));
    if !endpoint.pool.is_http1() {
        return endpoint.pool.stream(left).await.map(Connection::Http2);
    }
    // What is closed in this very moment is only found out by sending, which these must not do twice.
    let once = !may_be_sent_twice(client, ctx);
    let kept = if ctx.fresh { None } else { endpoint.pool.take(started, once) };
    match kept {
        Some(kept) => Ok(Connection::Http1(kept)),
        None => endpoint.pool.connect(left).await.map(Connection::Http1),
    }
}

/// Begins the request on a connection, as the origin is to see it.
///
/// # Errors
/// When the connection is broken, or the request cannot be told in the origin's protocol.
pub(super) fn ask(client: &Client, ctx: &Context, connection: Connection) -> Result<Origin> {
    let request = super::forward::request(client.request(), ctx, matches!(connection, Connection::Http2(_)))?;
    let bare = ctx.body.is_given();
    Ok(match connection {
        Connection::Http1(connection) => {
            Origin::Http1(Box::new(http1::Exchange::new(connection, request, bare)))
        }
        Connection::Http2(connection) => {
            let tls = ctx.chosen.as_ref().is_some_and(|chosen| chosen.service.template.tls.is_some());
            Origin::Http2(Box::new(http2::Exchange::new(connection, request, tls, bare)?))
        }
    })
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

/// A connection is there, new or from the pool; gives the time of it.
///
/// # Errors
/// An error that [`super::respond::fail`] answers with 503 when a new one takes of the files that are kept back.
pub(super) fn connected(ctx: &mut Context, connection: &Connection) -> Result<Instant> {
    let started = started(ctx);
    if connection.is_reused() {
        return Ok(started);
    }
    if SHARES.are_used_up_by(connection.socket()) {
        end(ctx, Outcome::Local, Next::Nothing);
        let rejection = overloaded(ctx);
        return refuse(ctx, rejection);
    }
    let now = Instant::now();
    ctx.connected = Some(now - started);
    Ok(now)
}

/// The gateway is out of files or ports: soon there may be some again.
fn overloaded(ctx: &mut Context) -> Rejection {
    ctx.answer_fields.push((header::RETRY_AFTER, HeaderValue::from_static("1")));
    Rejection::Overloaded
}

/// The header of the final answer is there.
///
/// # Errors
/// When the answer is not passed on: a switch of protocols nobody asked for, or a failure that another endpoint or stable
/// is to mend.
pub(super) fn answered(client: &Client, response: &ResponseHead, ctx: &mut Context) -> Result<()> {
    if response.status == StatusCode::SWITCHING_PROTOCOLS && !ctx.upgrade {
        return Err(Error::new_up(ErrorType::InvalidHTTPHeader));
    }
    let (Some(chosen), Some(attempt)) = (&ctx.chosen, &mut ctx.attempt) else { return Ok(()) };
    let now = Instant::now();
    let taken = now - attempt.started;
    chosen.release.metrics.responses.observe(taken);
    ctx.first_byte = Some(now - ctx.started);
    let outcome = Outcome::Answered(response.status);
    attempt.answered = Some((outcome, taken));
    let fails = outcome.failure(&chosen.service.definition.rollout.guard.failures).is_some();
    let next = again::after(client, ctx, outcome, false);
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
/// When the release was rolled back and its streams have had their time, or the route's time is over.
pub(super) fn progressed(end_of_stream: bool, ctx: &Context) -> Result<()> {
    if end_of_stream {
        return Ok(());
    }
    if ctx.chosen.as_ref().is_some_and(|chosen| chosen.release.retirement.is_over()) {
        return Error::e_explain(ErrorType::InternalError, "the release was rolled back");
    }
    if ctx.deadline.is_some_and(|end| Instant::now() >= end) {
        return Err(Error::new_up(ErrorType::ReadTimedout));
    }
    Ok(())
}

/// The last words to the client of a tunnel that ends because its release does: as WebSockets should end, if it is
/// between two frames.
pub(super) fn goodbye(frames: &FrameWatch) -> Bytes {
    Bytes::from_static(if frames.is_between_frames() { &GOING_AWAY } else { &[] })
}

/// No connection. Nothing was sent, so any method may be tried elsewhere.
pub(super) fn not_connected(client: &Client, ctx: &mut Context, error: &ConnectError) -> Failure {
    let outcome = match error.kind {
        ConnectFailure::Tls => Outcome::Tls,
        ConnectFailure::Local => Outcome::Local,
        ConnectFailure::Connect => Outcome::Connect,
    };
    ctx.rejection = Some(match outcome {
        Outcome::Local => overloaded(ctx),
        _ if error.timed_out => Rejection::UpstreamTimeout,
        _ => Rejection::UpstreamUnreachable,
    });
    let again = settle(client, ctx, outcome, true);
    Failure { error: Error::new_up(ErrorType::ConnectError), again }
}

/// A connection broke, or what came over it cannot be used; `stale` says that it had been kept too long. An error that
/// may be retried says that the origin has not begun with the request.
///
/// All of the policy is here: never again after an answer began, never twice for a method that is not safe, never
/// without the whole body at hand.
pub(super) fn broke(client: &Client, ctx: &mut Context, error: Box<Error>, stale: bool) -> Failure {
    if ctx.trying_again || ctx.failing_over {
        return Failure { error, again: true };
    }
    if *error.esource() != ErrorSource::Upstream {
        let left = *error.esource() == ErrorSource::Downstream;
        end(ctx, if left { Outcome::ClientAbort } else { Outcome::Local }, Next::Nothing);
        return error.into();
    }
    let unanswered = client.answered().is_none();
    let repeatable = may_be_sent_twice(client, ctx) || error.retry() && ctx.body.is_at_hand();
    // Once: who refuses every stream of a connection would be asked without end. What cannot be sent again has failed,
    // and maybe by what it asks for: it counts.
    if stale && !ctx.fresh && unanswered && is_connection_lost(&error) && repeatable {
        end(ctx, Outcome::Stale, Next::Retry);
        ctx.rejection = Some(Rejection::UpstreamFailed);
        ctx.fresh = true;
        return Failure { error, again: true };
    }
    let (outcome, rejection) = diagnose(&error, unanswered);
    ctx.rejection = Some(rejection);
    let again = settle(client, ctx, outcome, false);
    Failure { error, again }
}

fn may_be_sent_twice(client: &Client, ctx: &Context) -> bool {
    client.request().method.is_idempotent() && ctx.body.is_at_hand()
}

fn is_connection_lost(error: &Error) -> bool {
    use ErrorType::{ConnectionClosed, ReadError, WriteError};
    matches!(error.etype(), ConnectionClosed | ReadError | WriteError)
}

fn diagnose(error: &Error, unanswered: bool) -> (Outcome, Rejection) {
    match error.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => (Outcome::Timeout, Rejection::UpstreamTimeout),
        ErrorType::InvalidHTTPHeader | ErrorType::InvalidH2 => {
            (Outcome::Malformed, Rejection::UpstreamMalformed)
        }
        _ if unanswered => (Outcome::Reset, Rejection::UpstreamFailed),
        _ => (Outcome::Truncated, Rejection::UpstreamFailed),
    }
}

/// Ends a failed attempt; says whether there is another one, by the service's retry policy or at stable.
fn settle(client: &Client, ctx: &mut Context, outcome: Outcome, unsent: bool) -> bool {
    let next = again::after(client, ctx, outcome, unsent);
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
