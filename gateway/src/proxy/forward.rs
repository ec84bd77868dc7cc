//! What is changed on the way through: to the request, to its body, and to the answer.

use std::net::IpAddr;

use bytes::Bytes;
use gateway_core::hop_by_hop::HopByHop;
use http::header::Entry;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header, request,
    response,
};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use super::context::Context;
use super::identity::TRACE_PARENT;
use super::mirror;
use super::policy::buffering;
use super::rejection::Rejection;
use super::shape;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Room for the fields that are added to a message on its way.
const ADDED: usize = 8;

/// Prepares the request for an origin; called for each attempt, on a fresh copy.
///
/// Names go out in lower case, as HTTP/2 has them and other proxies send them: to keep how a client spelled them would
/// mean to do all of this twice.
pub(super) fn request(session: &Session, upstream: &mut RequestHeader, ctx: &Context) -> Result<()> {
    // What the URI does not hold: an absolute form, or bytes that are not UTF-8.
    let target =
        Some(upstream.raw_path()).filter(|target| !target.starts_with(b"/") || !upstream.raw_path_is_utf8());
    let target = target.filter(|_| ctx.path.is_none()).map(<[u8]>::to_vec);
    let empty = RequestHeader::from(Request::new(()).into_parts().0);
    let mut parts = request::Parts::from(std::mem::replace(upstream, empty));
    parts.headers.reserve(ADDED);
    edit_request(session.req_header(), &mut parts, ctx)?;
    *upstream = RequestHeader::from(parts);
    match target {
        Some(target) => upstream.set_raw_path(&target),
        None => Ok(()),
    }
}

fn edit_request(asked: &RequestHeader, upstream: &mut request::Parts, ctx: &Context) -> Result<()> {
    if let Some(path) = &ctx.path {
        set_path(upstream, path)?;
    }
    let headers = &mut upstream.headers;
    join_cookies(asked.version, headers)?;
    introduce_client(asked, headers, ctx);
    if ctx.user.is_some() {
        // Whom the password was for has seen it.
        headers.remove(header::AUTHORIZATION);
    }
    shape::request(headers, ctx);
    buffering::request(headers, ctx);
    let snapshot = &ctx.snapshot;
    headers.insert(snapshot.model.request_id.clone(), ctx.request_id.clone());
    if !ctx.trace_inbound {
        headers.insert(TRACE_PARENT, ctx.trace_parent.to_header_value());
    }
    if snapshot.model.via {
        headers.append(header::VIA, via(asked.version));
    }
    if matches!(upstream.method, Method::OPTIONS | Method::TRACE) {
        count_down(headers);
    }
    Ok(())
}

/// The origin receives the path that was matched, so that both mean the same resource.
fn set_path(upstream: &mut request::Parts, path: &str) -> Result<()> {
    if let Some(authority) = upstream.uri.authority() {
        upstream.headers.insert(header::HOST, field(authority.as_str())?);
    }
    let target = match upstream.uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let built = Uri::builder().path_and_query(target).build();
    upstream.uri =
        built.map_err(|error| Error::because(ErrorType::InvalidHTTPHeader, "rewriting a path", error))?;
    Ok(())
}

fn field(text: impl AsRef<[u8]>) -> Result<HeaderValue> {
    let value = HeaderValue::from_bytes(text.as_ref());
    value.map_err(|error| Error::because(ErrorType::InvalidHTTPHeader, "forwarding a field", error))
}

/// HTTP/2 may send cookies in several fields; origins expect one (RFC 9113 §8.2.3).
fn join_cookies(version: Version, headers: &mut HeaderMap) -> Result<()> {
    if version != Version::HTTP_2 {
        return Ok(());
    }
    let fields: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if fields.len() > 1 {
        let joined = field(fields.join(&b"; "[..]))?;
        headers.insert(header::COOKIE, joined);
    }
    Ok(())
}

/// Tells the origin who asks, and removes what the client says of itself unless a trusted proxy said it.
fn introduce_client(asked: &RequestHeader, headers: &mut HeaderMap, ctx: &Context) {
    let claims: Vec<HeaderName> = headers.keys().filter(|name| is_claim(name)).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
    let Some(connection) = &ctx.connection else { return };
    // Once more: a client can have fields taken away by naming them in Connection.
    for (name, value) in connection.client_fields.iter() {
        headers.insert(name.clone(), value.clone());
    }
    let peer = connection.peer_ip();
    if headers.contains_key(&mirror::MARK) && !ctx.snapshot.trusted.contains(peer) {
        headers.remove(&mirror::MARK);
    }
    let chain = if peer == ctx.client.ip { connection.peer_field() } else { chain(ctx.client.ip, peer) };
    headers.insert(FORWARDED_FOR, chain);
    let proto = HeaderValue::from_static(if ctx.client.https { "https" } else { "http" });
    headers.insert(FORWARDED_PROTO, proto);
    if let Some(host) = ctx.client.forwarded_host.clone().or_else(|| sent_host(asked)) {
        headers.insert(FORWARDED_HOST, host);
    }
}

/// Whether a client could pretend to be somebody else by a field.
fn is_claim(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "forwarded"
            | "x-forwarded-for"
            | "x-forwarded-host"
            | "x-forwarded-port"
            | "x-forwarded-proto"
            | "x-forwarded-prefix"
            | "x-forwarded-server"
            | "x-real-ip"
    )
}

/// The client, and the proxy it came through.
fn chain(client: IpAddr, peer: IpAddr) -> HeaderValue {
    HeaderValue::try_from(format!("{client}, {peer}")).expect("addresses, a comma and a space")
}

fn sent_host(asked: &RequestHeader) -> Option<HeaderValue> {
    match asked.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => asked.headers.get(header::HOST).cloned(),
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

/// One hop less (RFC 9110 §7.6.2).
fn count_down(headers: &mut HeaderMap) {
    let Entry::Occupied(mut field) = headers.entry(header::MAX_FORWARDS) else { return };
    let hops = field.get().to_str().ok().and_then(|hops| hops.parse::<u32>().ok());
    if let Some(hops) = hops {
        field.insert(hops.saturating_sub(1).into());
    }
}

/// Counts the request body and stops one that is too large.
///
/// # Errors
/// 413 once the route's limit is passed.
pub(super) fn request_body(body: &mut Option<Bytes>, end_of_stream: bool, ctx: &mut Context) -> Result<()> {
    if ctx.is_tunnel() {
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

/// Prepares an origin's answer for the client; names go out in lower case here as well.
pub(super) fn response(response: &mut ResponseHeader, ctx: &mut Context) {
    let switching = response.status == StatusCode::SWITCHING_PROTOCOLS;
    if response.status.is_informational() && !switching {
        return;
    }
    let reason =
        response.get_reason_phrase().filter(|reason| Some(*reason) != response.status.canonical_reason());
    let reason = reason.map(str::to_owned);
    let empty = ResponseHeader::from(Response::new(()).into_parts().0);
    let mut parts = response::Parts::from(std::mem::replace(response, empty));
    parts.headers.reserve(ADDED);
    edit_response(&mut parts, ctx);
    *response = ResponseHeader::from(parts);
    if reason.is_some() {
        // It was read as a reason phrase, so it is one.
        let _ = response.set_reason_phrase(reason.as_deref());
    }
}

fn edit_response(response: &mut response::Parts, ctx: &mut Context) {
    let headers = &mut response.headers;
    remove_hop_by_hop(headers, response.status == StatusCode::SWITCHING_PROTOCOLS);
    shape::response(headers, ctx);
    if ctx.snapshot.model.via {
        headers.append(header::VIA, via(response.version));
    }
    if let Some(cookie) = ctx.chosen.as_mut().and_then(|chosen| chosen.set_cookie.take()) {
        headers.append(header::SET_COOKIE, cookie);
    }
    stamp(headers, ctx);
}

/// Takes away what was for the hop to the origin alone (RFC 9110 §7.6.1).
fn remove_hop_by_hop(headers: &mut HeaderMap, switching: bool) {
    let fields = HopByHop::of(headers, switching);
    // Pingora reads the framing from Transfer-Encoding after this and writes its own.
    for name in fields.names().filter(|name| **name != header::TRANSFER_ENCODING) {
        headers.remove(name);
    }
    if switching {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
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
pub(super) fn stamp(headers: &mut HeaderMap, ctx: &Context) {
    for (name, value) in &ctx.answer_fields {
        headers.insert(name.clone(), value.clone());
    }
    headers.insert(ctx.snapshot.model.request_id.clone(), ctx.request_id.clone());
}
