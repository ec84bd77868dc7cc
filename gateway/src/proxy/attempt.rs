//! One try at one endpoint: its choice, its end, and whether there is another.

use std::os::fd::RawFd;
use std::time::Instant;

use gateway_core::outcome::Outcome;
use http::StatusCode;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::context::{Attempt, Chosen, Context};
use super::rejection::Rejection;
use super::watchdog::Watchdog;
use crate::upstream::TUNNEL_IDLE;

/// Chooses an endpoint; called once for each attempt.
///
/// # Errors
/// An error that [`super::respond::fail`] answers with 503 when the release has no endpoint.
pub(super) fn begin(ctx: &mut Context) -> Result<Box<HttpPeer>> {
    let Some(chosen) = &ctx.chosen else { return refuse(ctx, Rejection::Internal) };
    let key = chosen.key.as_deref().map(str::as_bytes);
    let Some((endpoint, in_flight)) = chosen.release.pick(&mut ctx.tried, key) else {
        return refuse(ctx, Rejection::NoEndpoint);
    };
    ctx.attempts += 1;
    ctx.rejection = None;
    let mut peer = Box::new(endpoint.peer.clone());
    if ctx.upgrade {
        peer.options.read_timeout = Some(TUNNEL_IDLE);
        peer.options.write_timeout = Some(TUNNEL_IDLE);
        peer.options.set_http_version(1, 1);
    }
    ctx.attempt = Some(Attempt::new(endpoint, in_flight));
    Ok(peer)
}

fn refuse<T>(ctx: &mut Context, rejection: Rejection) -> Result<T> {
    ctx.rejection = Some(rejection);
    Error::e_explain(ErrorType::HTTPStatus(rejection.status().as_u16()), rejection.code())
}

/// A connection is there, new or from the pool.
pub(super) fn connected(ctx: &mut Context, socket: RawFd, reused: bool) {
    let (Some(chosen), Some(attempt)) = (&ctx.chosen, &mut ctx.attempt) else { return };
    if !reused {
        ctx.connected = Some(attempt.started.elapsed());
    }
    let template = &chosen.service.template;
    if template.needs_watchdog() && !ctx.upgrade {
        attempt.watchdog = Watchdog::watch(socket, template.timeouts.first_byte);
    }
}

/// A response header is there. Interim answers pass through here too.
///
/// # Errors
/// When the answer cannot be passed on: a switch of protocols nobody asked for.
pub(super) fn answered(response: &ResponseHeader, ctx: &mut Context) -> Result<()> {
    let switching = response.status == StatusCode::SWITCHING_PROTOCOLS;
    if switching && !ctx.upgrade {
        ctx.rejection = Some(Rejection::UpstreamFailed);
        return Err(Error::new_up(ErrorType::InvalidHTTPHeader));
    }
    if response.status.is_informational() && !switching {
        return Ok(());
    }
    let (Some(chosen), Some(attempt)) = (&ctx.chosen, &mut ctx.attempt) else { return Ok(()) };
    let now = Instant::now();
    chosen.release.metrics.responses.observe(now - attempt.started);
    ctx.first_byte = Some(now - ctx.started);
    attempt.outcome = Some(Outcome::Answered(response.status));
    if let Some(watchdog) = &attempt.watchdog {
        watchdog.extend(chosen.service.template.timeouts.idle);
    }
    Ok(())
}

/// A piece of the answer's body is there.
pub(super) fn progressed(ctx: &Context) {
    let (Some(chosen), Some(attempt)) = (&ctx.chosen, &ctx.attempt) else { return };
    if let Some(watchdog) = &attempt.watchdog {
        watchdog.extend(chosen.service.template.timeouts.idle);
    }
}

/// No connection. Nothing was sent, so any method may be tried elsewhere.
pub(super) fn not_connected(ctx: &mut Context, mut error: Box<Error>) -> Box<Error> {
    let outcome = match error.etype() {
        ErrorType::TLSHandshakeFailure
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::InvalidCert
        | ErrorType::HandshakeError => Outcome::Tls,
        ErrorType::InternalError | ErrorType::BindError | ErrorType::SocketError => Outcome::Local,
        _ => Outcome::Connect,
    };
    let timed_out = matches!(error.etype(), ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout);
    ctx.rejection = Some(if timed_out { Rejection::UpstreamTimeout } else { Rejection::UpstreamFailed });
    let again = settle(ctx, outcome, true);
    error.set_retry(again);
    error
}

/// A connection broke, or what came over it cannot be used.
///
/// This replaces Pingora's own policy, so all of it is here: never after an answer began, never twice for a method that
/// is not safe, never without the whole body at hand.
pub(super) fn broke(
    session: &mut Session,
    ctx: &mut Context,
    mut error: Box<Error>,
    client_reused: bool,
) -> Box<Error> {
    // Settles what Pingora left open for reused connections; asking later would panic.
    error.retry.decide_reuse(client_reused);
    let repeatable = session.response_written().is_none()
        && session.req_header().method.is_safe()
        && !session.as_ref().retry_buffer_truncated();
    if *error.esource() != ErrorSource::Upstream {
        let outcome =
            if *error.esource() == ErrorSource::Downstream { Outcome::ClientAbort } else { Outcome::Local };
        end(ctx, outcome);
        error.set_retry(false);
        return error;
    }
    if client_reused && error.retry() && session.response_written().is_none() {
        end(ctx, Outcome::Stale);
        ctx.rejection = Some(Rejection::UpstreamFailed);
        let idempotent = session.req_header().method.is_idempotent();
        error.set_retry(idempotent && !session.as_ref().retry_buffer_truncated());
        return error;
    }
    let (outcome, rejection) = diagnose(session, ctx, &error);
    ctx.rejection = Some(rejection);
    let again = settle(ctx, outcome, repeatable);
    error.set_retry(again);
    error
}

fn diagnose(session: &Session, ctx: &Context, error: &Error) -> (Outcome, Rejection) {
    let bitten =
        ctx.attempt.as_ref().and_then(|attempt| attempt.watchdog.as_ref()).is_some_and(Watchdog::has_bitten);
    let timed_out = bitten
        || matches!(
            error.etype(),
            ErrorType::ReadTimedout | ErrorType::WriteTimedout | ErrorType::ConnectTimedout
        );
    if timed_out && !ctx.body_done && session.response_written().is_none() {
        // The origin still waits for the rest of the request, and so do we.
        return (Outcome::ClientAbort, Rejection::RequestTimeout);
    }
    let answering = session.response_written().is_some();
    match error.etype() {
        _ if timed_out => (Outcome::Timeout, Rejection::UpstreamTimeout),
        ErrorType::InvalidHTTPHeader | ErrorType::InvalidH2 => {
            (Outcome::Malformed, Rejection::UpstreamFailed)
        }
        _ if answering => (Outcome::Truncated, Rejection::UpstreamFailed),
        _ => (Outcome::Reset, Rejection::UpstreamFailed),
    }
}

/// Ends the attempt; says whether the service's retry policy grants another one.
fn settle(ctx: &mut Context, outcome: Outcome, repeatable: bool) -> bool {
    end(ctx, outcome);
    let Some(Chosen { service, .. }) = &ctx.chosen else { return false };
    let wanted =
        outcome.failure(&service.retry.on).filter(|_| repeatable && ctx.attempts <= service.retry.attempts);
    match wanted {
        Some(failure) if service.budget.spend(Instant::now()) => {
            service.retries.count(failure);
            true
        }
        _ => false,
    }
}

/// Records how the attempt ended. What an answer's header said stands until its body breaks off.
pub(crate) fn end(ctx: &mut Context, outcome: Outcome) {
    let Some(attempt) = ctx.attempt.take() else { return };
    if let Some(chosen) = &ctx.chosen {
        chosen.release.metrics.attempts.count(outcome);
    }
    ctx.last_endpoint = Some(attempt.endpoint);
}
