//! What is changed on the way through: to the request, to its body, and to the answer.

use std::net::IpAddr;

use gateway_core::hop_by_hop::HopByHop;
use gateway_core::http1::ResponseHead;
use http::header::Entry;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pingora::protocols::http::date::get_cached_date;
use pingora::{Error, ErrorType, Result};

use super::context::Context;
use super::identity::TRACE_PARENT;
use super::mirror;
use super::policy::buffering;
use super::rejection::Rejection;
use super::shape;
use crate::listener::client::Client;
use crate::message::Request;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Room for the fields that are added to a message on its way.
const ADDED: usize = 8;

/// The request as an origin is to get it; made anew for each attempt. What belongs to the client's own connection is gone,
/// but for the wish for a WebSocket, and with `trailers` the word that they are understood.
///
/// # Errors
/// When what a policy has made of it is no request.
pub(super) fn request(asked: &Request, ctx: &Context, trailers: bool) -> Result<Request> {
    let mut upstream = asked.with_headers(next_hop(&asked.headers, ctx.upgrade, trailers));
    if asked.version == Version::HTTP_2 {
        name_host(&mut upstream)?;
        join_cookies(&mut upstream.headers)?;
    }
    if let Some(path) = &ctx.path {
        set_path(&mut upstream, path)?;
    }
    edit_request(asked, &mut upstream, ctx);
    Ok(upstream)
}

/// The fields that go on, without those that were meant for this hop (RFC 9110 §7.6.1) and those by which a client tells
/// of itself. A request's trailers are not passed on, so none are announced; those of an answer are, over HTTP/2.
fn next_hop(asked: &HeaderMap, upgrade: bool, trailers: bool) -> HeaderMap {
    let hop = HopByHop::of(asked, upgrade);
    let mut headers = HeaderMap::with_capacity(asked.len() + ADDED);
    for (name, value) in asked {
        if !hop.ends(name) && !is_claim(name) && *name != header::TRAILER {
            headers.append(name.clone(), value.clone());
        }
    }
    if trailers && hop.te_trailers() {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    headers
}

fn edit_request(asked: &Request, upstream: &mut Request, ctx: &Context) {
    let headers = &mut upstream.headers;
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
}

/// Over HTTP/2 the host may be in the target alone (RFC 9113 §8.3.1).
fn name_host(upstream: &mut Request) -> Result<()> {
    if let Some(authority) = upstream.authority() {
        let host = field(authority.as_str())?;
        upstream.headers.insert(header::HOST, host);
    }
    Ok(())
}

/// The origin receives the path that was matched, so that both mean the same resource.
fn set_path(upstream: &mut Request, path: &str) -> Result<()> {
    let target = match upstream.uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let target = PathAndQuery::try_from(target);
    let target =
        target.map_err(|error| Error::because(ErrorType::InvalidHTTPHeader, "rewriting a path", error))?;
    upstream.set_target(target);
    Ok(())
}

/// Tells a client that waits for it to send its body (RFC 9110 §10.1.1), where no origin will.
///
/// # Errors
/// The client has left.
pub(super) fn leave_to_send(client: &mut Client) -> Result<()> {
    if !client.request().awaits_leave() {
        return Ok(());
    }
    client.send_interim(ResponseHead {
        status: StatusCode::CONTINUE,
        reason: None,
        version: Version::HTTP_11,
        headers: HeaderMap::new(),
    })
}

fn field(text: impl AsRef<[u8]>) -> Result<HeaderValue> {
    let value = HeaderValue::from_bytes(text.as_ref());
    value.map_err(|error| Error::because(ErrorType::InvalidHTTPHeader, "forwarding a field", error))
}

/// HTTP/2 may send cookies in several fields; origins expect one (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) -> Result<()> {
    let fields: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if fields.len() > 1 {
        let joined = field(fields.join(&b"; "[..]))?;
        headers.insert(header::COOKIE, joined);
    }
    Ok(())
}

/// Tells the origin who asks.
fn introduce_client(asked: &Request, headers: &mut HeaderMap, ctx: &Context) {
    let connection = &ctx.connection;
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

fn sent_host(asked: &Request) -> Option<HeaderValue> {
    match asked.authority() {
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

/// Counts a piece of the request's body and stops one that is too large.
///
/// # Errors
/// 413 once the route's limit is passed.
pub(super) fn request_body(piece: &[u8], ctx: &mut Context) -> Result<()> {
    ctx.body.forwarded += piece.len() as u64;
    if ctx.route.as_ref().is_some_and(|route| ctx.body.forwarded > route.body_limit) {
        ctx.rejection = Some(Rejection::BodyTooLarge);
        return Error::e_explain(ErrorType::HTTPStatus(413), "request body over the route's limit");
    }
    Ok(())
}

/// Prepares an interim answer, which has no body that anything could frame (RFC 9110 §8.6, RFC 9112 §6.1).
pub(super) fn interim(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers, false);
    headers.remove(header::CONTENT_LENGTH);
}

/// Prepares the header of an origin's final answer for the client.
pub(super) fn response(response: &mut ResponseHead, ctx: &mut Context) {
    response.headers.reserve(ADDED);
    remove_hop_by_hop(&mut response.headers, response.status == StatusCode::SWITCHING_PROTOCOLS);
    shape::response(&mut response.headers, ctx);
    if ctx.snapshot.model.via {
        response.headers.append(header::VIA, via(response.version));
    }
    if let Some(cookie) = ctx.chosen.as_mut().and_then(|chosen| chosen.set_cookie.take()) {
        response.headers.append(header::SET_COOKIE, cookie);
    }
    // RFC 9110 §6.6.1: whoever receives an answer without a date adds one.
    response.headers.entry(header::DATE).or_insert_with(get_cached_date);
    stamp(&mut response.headers, ctx);
}

fn remove_hop_by_hop(headers: &mut HeaderMap, switching: bool) {
    HopByHop::of(headers, switching).remove_from(headers);
    if switching {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    }
}

/// Puts the request id on an answer, and what policies have to say.
pub(super) fn stamp(headers: &mut HeaderMap, ctx: &Context) {
    for (name, value) in &ctx.answer_fields {
        headers.insert(name.clone(), value.clone());
    }
    headers.insert(ctx.snapshot.model.request_id.clone(), ctx.request_id.clone());
}
