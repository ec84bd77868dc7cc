//! What is changed on the way through: to the request, to its body, and to the answer.

use std::fmt::Write;

use bytes::Bytes;
use gateway_core::hop_by_hop::HopByHop;
use http::{HeaderName, HeaderValue, Method, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use super::context::Context;
use super::policy::buffering;
use super::rejection::Rejection;
use super::shape;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

/// Fields by which a client could pretend to be somebody else.
const SPOOFABLE: [&str; 8] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-prefix",
    "x-forwarded-server",
    "x-real-ip",
];

/// Prepares the request for an origin; called for each attempt, on a fresh copy.
pub(super) fn request(session: &Session, upstream: &mut RequestHeader, ctx: &mut Context) -> Result<()> {
    if let Some(path) = &ctx.path {
        set_path(upstream, path)?;
    }
    join_cookies(session.req_header().version, upstream)?;
    introduce_client(session.req_header(), upstream, ctx)?;
    shape::request(upstream, ctx)?;
    buffering::request(upstream, ctx)?;
    let snapshot = &ctx.snapshot;
    upstream.insert_header(snapshot.model.request_id.clone(), ctx.request_id.clone())?;
    if !ctx.trace_inbound {
        upstream.insert_header(TRACE_PARENT, ctx.trace_parent.to_header_value())?;
    }
    if snapshot.model.via {
        upstream.append_header(header::VIA, via(session.req_header().version))?;
    }
    count_down(upstream)
}

/// The origin receives the path that was matched, so that both mean the same resource.
fn set_path(upstream: &mut RequestHeader, path: &str) -> Result<()> {
    let target = match upstream.uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    if let Some(authority) = upstream.uri.authority().cloned() {
        upstream.insert_header(header::HOST, authority.as_str())?;
    }
    upstream.set_raw_path(target.as_bytes())
}

/// HTTP/2 may send cookies in several fields; origins expect one (RFC 9113 §8.2.3).
fn join_cookies(version: Version, upstream: &mut RequestHeader) -> Result<()> {
    if version != Version::HTTP_2 {
        return Ok(());
    }
    let fields: Vec<&[u8]> =
        upstream.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if fields.len() < 2 {
        return Ok(());
    }
    let joined = fields.join(&b"; "[..]);
    let value = HeaderValue::from_bytes(&joined)
        .map_err(|error| Error::because(ErrorType::InvalidHTTPHeader, "joining cookies", error))?;
    upstream.insert_header(header::COOKIE, value)
}

/// Tells the origin who asks, and removes what the client says of itself unless a trusted proxy said it.
fn introduce_client(request: &RequestHeader, upstream: &mut RequestHeader, ctx: &Context) -> Result<()> {
    for name in SPOOFABLE {
        upstream.remove_header(name);
    }
    let Some(connection) = &ctx.connection else { return Ok(()) };
    let mut chain = String::with_capacity(48);
    // Writing to a String cannot fail.
    let _ = write!(chain, "{}", ctx.client.ip);
    let peer = connection.peer_ip();
    if peer != ctx.client.ip {
        let _ = write!(chain, ", {peer}");
    }
    upstream.insert_header(FORWARDED_FOR, chain)?;
    upstream.insert_header(FORWARDED_PROTO, if ctx.client.https { "https" } else { "http" })?;
    let host = ctx.client.forwarded_host.clone().or_else(|| sent_host(request));
    if let Some(host) = host {
        upstream.insert_header(FORWARDED_HOST, host)?;
    }
    Ok(())
}

fn sent_host(request: &RequestHeader) -> Option<HeaderValue> {
    match request.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => request.headers.get(header::HOST).cloned(),
    }
}

/// The version the message came in (RFC 9110 §7.6.3); the name is a pseudonym, so that no address is told.
fn via(version: Version) -> HeaderValue {
    match version {
        Version::HTTP_2 => HeaderValue::from_static("2 gateway"),
        Version::HTTP_10 => HeaderValue::from_static("1.0 gateway"),
        _ => HeaderValue::from_static("1.1 gateway"),
    }
}

/// One hop less for OPTIONS and TRACE (RFC 9110 §7.6.2).
fn count_down(upstream: &mut RequestHeader) -> Result<()> {
    if !matches!(upstream.method, Method::OPTIONS | Method::TRACE) {
        return Ok(());
    }
    let hops =
        upstream.headers.get(header::MAX_FORWARDS).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    match hops {
        Some(hops) => upstream.insert_header(header::MAX_FORWARDS, hops.saturating_sub(1).to_string()),
        None => Ok(()),
    }
}

/// Counts the request body and stops one that is too large.
///
/// # Errors
/// 413 once the route's limit is passed.
pub(super) fn request_body(body: &mut Option<Bytes>, end_of_stream: bool, ctx: &mut Context) -> Result<()> {
    if ctx.upgrade {
        return Ok(());
    }
    buffering::prepend(body, ctx);
    ctx.body_bytes += body.as_ref().map_or(0, |chunk| chunk.len() as u64);
    ctx.body_done |= end_of_stream;
    if let Some(attempt) = &ctx.attempt {
        attempt.lives(ctx.body_done);
    }
    let limit = ctx.route.as_ref().map_or(u64::MAX, |route| route.body_limit);
    if ctx.body_bytes > limit {
        ctx.rejection = Some(Rejection::BodyTooLarge);
        return Error::e_explain(ErrorType::HTTPStatus(413), "request body over the route's limit");
    }
    // An empty last chunk would be written as a second terminator to an HTTP/1 origin (Pingora #935).
    if end_of_stream && body.as_ref().is_some_and(Bytes::is_empty) {
        *body = None;
    }
    Ok(())
}

/// Prepares an origin's answer for the client.
pub(super) fn response(response: &mut ResponseHeader, ctx: &mut Context) {
    if response.status.is_informational() {
        return;
    }
    let version = response.version;
    remove_hop_by_hop(response);
    // Every value has been checked to be one.
    let _ = shape::response(response, ctx);
    if ctx.snapshot.model.via {
        // A pseudonym and a version are always a header value.
        let _ = response.append_header(header::VIA, via(version));
    }
    if let Some(cookie) = ctx.chosen.as_mut().and_then(|chosen| chosen.set_cookie.take()) {
        let _ = response.append_header(header::SET_COOKIE, cookie);
    }
    stamp(response, ctx);
}

/// Takes away what was for the hop to the origin alone (RFC 9110 §7.6.1).
fn remove_hop_by_hop(response: &mut ResponseHeader) {
    let fields = HopByHop::of(&response.headers, false);
    // Pingora reads the framing from Transfer-Encoding after this and writes its own.
    for name in fields.names().filter(|name| **name != header::TRANSFER_ENCODING) {
        response.remove_header(name);
    }
}

/// HTTP/1.0 knows no chunks, which Pingora has put in place of an unknown length: the end of the connection ends the
/// body instead (RFC 9112 §6.3).
pub(super) fn unchunk(client: Version, response: &mut ResponseHeader) {
    if client < Version::HTTP_11 {
        response.remove_header(&header::TRANSFER_ENCODING);
    }
}

/// Puts the request id on an answer, and what policies have to say.
pub(super) fn stamp(response: &mut ResponseHeader, ctx: &Context) {
    for (name, value) in &ctx.answer_fields {
        let _ = response.insert_header(name.clone(), value.clone());
    }
    let _ = response.insert_header(ctx.snapshot.model.request_id.clone(), ctx.request_id.clone());
}
