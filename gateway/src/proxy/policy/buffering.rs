//! `buffer_request`: a small body is read whole before anybody is asked, so that a slow client occupies nobody but us.
//!
//! Pingora sends a body that was read beforehand from its retry buffer alone, which takes [`BUFFERABLE`] bytes and drops
//! them all when one more comes. A body turns out to be longer only between two reads, and how much a read brings is not
//! ours to say: what the retry buffer has dropped by then is kept here, and goes out before the next piece.

use std::time::Instant;

use bytes::Bytes;
use gateway_core::config::model::BUFFERABLE;
use http::{HeaderMap, Version, header};
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use crate::proxy::context::Context;
use crate::proxy::rejection::Rejection;

/// The most that one HTTP/2 read brings: we leave SETTINGS_MAX_FRAME_SIZE at its default.
const FRAME_BYTES: u64 = 16 << 10;

/// What was read of a body before anybody was asked.
#[derive(Debug)]
pub(crate) struct Buffered {
    /// In bytes, of a body that is whole.
    length: Option<u64>,
    /// The beginning of a body, where Pingora's retry buffer was too small for it.
    overflow: Vec<u8>,
}

impl Buffered {
    /// Whether nothing of the overflow has been sent to anybody.
    pub(crate) fn is_untouched(&self) -> bool {
        !self.overflow.is_empty()
    }
}

/// Reads the body, as far as it is not longer than `most` bytes.
///
/// # Errors
/// When the client breaks off, is silent for too long (408), or has sent more than the route takes (413).
pub(in crate::proxy) async fn fill(session: &mut Session, ctx: &mut Context, most: u64) -> Result<()> {
    if ctx.upgrade || ctx.body_done || ctx.body_length.is_some_and(|length| length > most) || is_grpc(session)
    {
        return Ok(());
    }
    if is_awaiting_leave(session.req_header()) {
        session.as_mut().write_continue_response().await?;
    }
    session.as_mut().enable_retry_buffering();
    let unannounced = ctx.body_length.is_none();
    // Over HTTP/2 the last piece may be its own end, after which there is no next one to put the overflow before.
    let most = if session.is_http2() && unannounced { most.min(BUFFERABLE.0 - FRAME_BYTES) } else { most };
    let limit = ctx.route.as_ref().map_or(u64::MAX, |route| route.body_limit);
    let (mut bytes, mut overflow) = (0, Vec::new());
    let mut whole = false;
    while !whole && bytes <= most {
        let piece = read(session, ctx).await?;
        whole = piece.is_none();
        let piece = piece.unwrap_or_default();
        bytes += piece.len() as u64;
        if bytes > limit {
            ctx.rejection = Some(Rejection::BodyTooLarge);
            return Error::e_explain(ErrorType::HTTPStatus(413), "request body over the route's limit");
        }
        if unannounced {
            overflow.extend_from_slice(&piece);
        }
    }
    if !session.as_ref().retry_buffer_truncated() {
        overflow = Vec::new();
    }
    if whole {
        ctx.body_done = true;
        ctx.body_length = Some(bytes);
    }
    ctx.buffered = Some(Box::new(Buffered { length: whole.then_some(bytes), overflow }));
    Ok(())
}

/// The next piece; none at the end.
async fn read(session: &mut Session, ctx: &Context) -> Result<Option<Bytes>> {
    let idle = ctx.connection.as_ref().map(|connection| connection.listener.limits.body_idle);
    let left = ctx.deadline.map(|end| end.saturating_duration_since(Instant::now()));
    let reading = session.as_mut().read_request_body();
    let read = match idle.into_iter().chain(left).min() {
        Some(patience) => tokio::time::timeout(patience, reading)
            .await
            .unwrap_or_else(|_| Error::e_explain(ErrorType::ReadTimedout, "waiting for a request body")),
        None => reading.await,
    };
    read.map_err(Error::into_down)
}

/// Streams of messages are answered while they are sent.
fn is_grpc(session: &Session) -> bool {
    let kind = session.req_header().headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Whether the client sends no body before it is told to (RFC 9110 §10.1.1); HTTP/1.0 cannot be told.
fn is_awaiting_leave(request: &RequestHeader) -> bool {
    let expect = request.headers.get(header::EXPECT);
    request.version > Version::HTTP_10
        && expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Tells the origin what is known by now: the length, and that nobody waits for leave to send the body.
pub(in crate::proxy) fn request(upstream: &mut HeaderMap, ctx: &Context) {
    let Some(buffered) = &ctx.buffered else { return };
    upstream.remove(header::EXPECT);
    if let Some(length) = buffered.length {
        upstream.remove(header::TRANSFER_ENCODING);
        upstream.insert(header::CONTENT_LENGTH, length.into());
    }
}

/// Puts what has been kept in front of the next piece.
pub(in crate::proxy) fn prepend(body: &mut Option<Bytes>, ctx: &mut Context) {
    let Some(buffered) = ctx.buffered.as_mut().filter(|buffered| buffered.is_untouched()) else { return };
    let mut first = std::mem::take(&mut buffered.overflow);
    first.extend_from_slice(body.as_deref().unwrap_or_default());
    *body = Some(first.into());
}
