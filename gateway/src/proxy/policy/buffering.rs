//! `buffer_request`: a small body is read whole before anybody is asked, so that a slow client occupies nobody but us.

use std::future::poll_fn;
use std::task::{Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, header};
use pingora::{Error, ErrorType, Result};

use crate::listener::client::Client;
use crate::message::Request;
use crate::proxy::context::Context;
use crate::proxy::forward;
use crate::proxy::patience::Wait;
use crate::proxy::rejection::Rejection;

/// Reads the body, as far as it is not longer than `most` bytes.
///
/// # Errors
/// When the client breaks off, is silent for too long (408), or has sent more than the route takes (413).
pub(in crate::proxy) async fn fill(client: &mut Client, ctx: &mut Context, most: u64) -> Result<()> {
    let body = &mut ctx.body;
    if ctx.upgrade
        || body.done
        || body.length.is_some_and(|length| length > most)
        || is_grpc(client.request())
    {
        return Ok(());
    }
    forward::leave_to_send(client)?;
    body.buffered = true;
    let limit = ctx.route.as_ref().map_or(u64::MAX, |route| route.body_limit);
    while !body.done && body.buffered_bytes() <= most {
        let piece = read(client, ctx.deadline).await?;
        body.buffer(piece.as_deref().unwrap_or_default());
        body.done = piece.is_none() || client.is_body_done();
        if body.buffered_bytes() > limit {
            ctx.rejection = Some(Rejection::BodyTooLarge);
            return Error::e_explain(ErrorType::HTTPStatus(413), "request body over the route's limit");
        }
    }
    if body.done {
        body.length = Some(body.buffered_bytes());
    }
    Ok(())
}

/// The next piece; none at the end.
async fn read(client: &mut Client, deadline: Option<Instant>) -> Result<Option<Bytes>> {
    let due = Instant::now() + client.connection().listener.limits.body_idle;
    let due = deadline.map_or(due, |end| due.min(end));
    poll_fn(|cx| {
        // The client may wait for leave to go on.
        let _flushed = client.poll_flush(cx)?;
        if let Poll::Ready(piece) = client.poll_body(cx) {
            return Poll::Ready(piece);
        }
        ready!(client.timer().poll(due, cx));
        Poll::Ready(Err(Wait::ClientSends.error()))
    })
    .await
}

/// Streams of messages are answered while they are sent.
fn is_grpc(request: &Request) -> bool {
    let kind = request.headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Tells the origin what is known by now: the length, and that nobody waits for leave to send the body.
pub(in crate::proxy) fn request(upstream: &mut HeaderMap, ctx: &Context) {
    let body = &ctx.body;
    if !body.buffered {
        return;
    }
    upstream.remove(header::EXPECT);
    if let Some(length) = body.length.filter(|_| body.done) {
        upstream.insert(header::CONTENT_LENGTH, length.into());
    }
}
