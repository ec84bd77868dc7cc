//! From a parsed request to the decision where it goes: who is asking, what for, and whether it may.

use std::borrow::Cow;
use std::sync::Arc;

use gateway_core::client_ip;
use gateway_core::config::model::Sticky;
use gateway_core::hop_by_hop::HopByHop;
use gateway_core::route::path;
use gateway_core::route::table::RequestView;
use http::{HeaderValue, Method, Version, header};
use pingora::Error;

use super::context::{Asker, Chosen, Context};
use super::identity;
use super::policy::{self, buffering, cors, max_in_flight};
use super::rejection::Rejection;
use super::respond::Answer;
use crate::listener::Listener;
use crate::listener::client::Client;
use crate::message::{Request, content_length};
use crate::snapshot::{Action, Route};
use crate::upstream::Service;

/// A request that may go on.
pub(super) enum Admitted {
    /// To the chosen release.
    Forward,
    /// To nobody: the gateway answers as its configuration says.
    Answer(Answer),
    /// To nobody: the rest of the request cannot be had.
    Broken(Box<Error>),
}

/// Decides where a request goes.
///
/// # Errors
/// The [`Rejection`] to answer with.
pub(super) async fn admit(client: &mut Client, ctx: &mut Context) -> Result<Admitted, Rejection> {
    let connection = ctx.connection.clone();
    ctx.body.done = client.is_body_done();
    ctx.upgrade = is_websocket(client);
    let request = client.request_mut();
    if !ctx.upgrade {
        // Whoever names another protocol, or none that begins here, has sent an ordinary request (RFC 9110 §7.8).
        request.headers.remove(header::UPGRADE);
    }
    identify(request, ctx);
    check_size(request, &connection.listener)?;
    ctx.host = host(request)?;
    check_fields(request)?;
    if let Some(port) = connection.listener.redirect_port {
        return Ok(Admitted::Answer(Answer::to_https(request, &ctx.host, port)));
    }
    if let Some(answer) = asked_of_the_gateway_itself(request) {
        return Ok(Admitted::Answer(answer));
    }
    ctx.snapshot.reserved.settle(&mut request.headers, &connection.client_fields);
    let route = find_route(request, ctx)?;
    ctx.upgrade &= can_switch(&route);
    ctx.in_flight = Some(route.in_flight.enter());
    ctx.metrics = Some(route.own_metrics.clone());
    ctx.deadline = route.timeout.map(|timeout| ctx.started + timeout);
    ctx.route = Some(route.clone());
    ctx.body.length = content_length(&request.headers);
    if let Some(answer) = policy::admit(client, ctx, &route).await? {
        return Ok(Admitted::Answer(answer));
    }
    let service = match &route.action {
        Action::Forward(service) => service,
        Action::Answer(answer) => return Ok(Admitted::Answer(answer.clone())),
    };
    if let Some(most) = route.buffer_request
        && let Err(error) = buffering::fill(client, ctx, most).await
    {
        return Ok(Admitted::Broken(error));
    }
    // Last, so that nobody who is refused or slow takes a place.
    max_in_flight::admit(ctx, &route).await?;
    choose_release(client.request(), service, ctx);
    Ok(Admitted::Forward)
}

/// Whether a request begins a WebSocket (RFC 6455 §4.2.1). One that has a body does not: it would pass uncounted.
fn is_websocket(client: &Client) -> bool {
    let request = client.request();
    let upgrade = request.headers.get(header::UPGRADE);
    upgrade.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && request.version == Version::HTTP_11
        && request.method == Method::GET
        && HopByHop::is_upgrading(&request.headers)
        && client.is_body_done()
}

/// Whether protocols can be switched on the way to whoever answers; HTTP/2 cannot (RFC 9113 §8.6).
fn can_switch(route: &Route) -> bool {
    !matches!(&route.action, Action::Forward(service) if !service.template.is_http1())
}

/// Who is asking: one client address, one request id.
fn identify(request: &Request, ctx: &mut Context) {
    let snapshot = ctx.snapshot.clone();
    let peer = ctx.connection.peer_ip();
    let resolved = client_ip::resolve(peer, &snapshot.trusted, &request.headers);
    ctx.client = Asker {
        ip: resolved.client_ip,
        https: resolved.proto.map_or(ctx.connection.tls, |proto| proto == "https"),
        forwarded_host: resolved.host.and_then(|host| HeaderValue::from_str(host).ok()),
    };
    let name = &snapshot.model.request_id;
    ctx.request_id = identity::request_id(&request.headers, name, resolved.from_trusted);
    (ctx.trace_parent, ctx.trace_inbound) = identity::trace_parent(&request.headers);
}

fn check_size(request: &Request, listener: &Listener) -> Result<(), Rejection> {
    let target = request.target().len();
    if target as u64 > listener.limits.uri.0 {
        return Err(Rejection::UriTooLong);
    }
    let fields: usize =
        request.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let too_large = (target + fields) as u64 > listener.limits.header_size.0;
    if too_large || request.headers.len() > listener.limits.header_fields {
        return Err(Rejection::HeaderTooLarge);
    }
    Ok(())
}

/// The host asked for: lower case, without port and trailing dot. Empty only for HTTP/1.0, which may name none.
fn host(request: &Request) -> Result<String, Rejection> {
    let mut fields = request.headers.get_all(header::HOST).iter();
    let named = match (fields.next(), fields.next()) {
        (Some(one), None) => Some(one.to_str().map_err(|_| Rejection::BadHost)?),
        (None, _) => None,
        (Some(_), Some(_)) => return Err(Rejection::BadHost),
    };
    let authority = request.authority().map(http::uri::Authority::as_str);
    let Some(text) = authority.or(named) else {
        return if request.version < Version::HTTP_11 { Ok(String::new()) } else { Err(Rejection::BadHost) };
    };
    super::host::normalise(text).ok_or(Rejection::BadHost)
}

/// What HTTP/2 forbids and the library lets through (RFC 9113 §8.2.2).
fn check_fields(request: &Request) -> Result<(), Rejection> {
    if request.version != Version::HTTP_2 {
        return Ok(());
    }
    let connection_specific = [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        http::HeaderName::from_static("keep-alive"),
        http::HeaderName::from_static("proxy-connection"),
    ];
    if connection_specific.iter().any(|name| request.headers.contains_key(name)) {
        return Err(Rejection::BadFields);
    }
    let te = request.headers.get(header::TE);
    if te.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"trailers")) {
        return Err(Rejection::BadFields);
    }
    Ok(())
}

/// `OPTIONS *`, and OPTIONS or TRACE that have no hops left (RFC 9110 §7.6.2, §9.3.7).
fn asked_of_the_gateway_itself(request: &Request) -> Option<Answer> {
    if request.method == Method::OPTIONS && request.target() == b"*" {
        return Some(Answer::empty(http::StatusCode::NO_CONTENT));
    }
    if !matches!(request.method, Method::OPTIONS | Method::TRACE) {
        return None;
    }
    let hops = request.headers.get(header::MAX_FORWARDS)?;
    (hops.as_bytes() == b"0").then(|| Answer::empty(http::StatusCode::OK))
}

fn find_route(request: &Request, ctx: &mut Context) -> Result<Arc<Route>, Rejection> {
    let normal = path::normalise(raw_path(request)).map_err(|_| Rejection::BadPath)?;
    let view = RequestView {
        host: &ctx.host,
        path: &normal,
        method: &request.method,
        headers: &request.headers,
        query: request.uri.query(),
    };
    let routes = &ctx.snapshot.routes;
    // A preflight goes where the request would go that it asks leave for.
    let asked = cors::asked_method(request);
    let asked = asked.and_then(|method| routes.matched(&RequestView { method: &method, ..view }));
    let with_cors = asked.filter(|matched| matched.target.cors.is_some());
    let matched = with_cors.or_else(|| routes.matched(&view)).ok_or(Rejection::NoRoute)?;
    let route = matched.target.clone();
    let rewrite = route.rewrite.as_ref();
    if let Some(rewritten) = rewrite.and_then(|rewrite| rewrite.path(&normal, matched.prefix_bytes)) {
        ctx.path = Some(rewritten.path);
        ctx.stripped = rewritten.stripped;
    } else if let Cow::Owned(path) = normal {
        ctx.path = Some(path);
    }
    Ok(route)
}

/// The path as sent, before the question mark.
fn raw_path(request: &Request) -> &[u8] {
    let target = request.target();
    target.split(|byte| *byte == b'?').next().unwrap_or(target)
}

/// Chooses the release, once and for all attempts.
fn choose_release(request: &Request, service: &Arc<Service>, ctx: &mut Context) {
    let (key, set_cookie) = sticky_key(request, service, ctx);
    let overrides = service.overrides.as_ref();
    let wish = overrides.and_then(|overrides| overrides.wish(&request.headers, ctx.client.ip));
    let (release, why) = service.assign(key.as_deref(), fastrand::u64(..), wish);
    let release = release.clone();
    if let Some(route) = &ctx.route {
        ctx.metrics = Some(route.metrics_for(&release).clone());
    }
    service.budgets.note_request(ctx.started);
    let randomised = why.is_random();
    ctx.chosen = Some(Chosen { service: service.clone(), release, randomised, key, set_cookie });
}

/// What names the user, and the cookie to set when it has just been minted.
fn sticky_key(request: &Request, service: &Service, ctx: &Context) -> (Option<String>, Option<HeaderValue>) {
    let sticky = &service.definition.rollout.sticky;
    let key = identity::sticky_key(sticky, &request.headers, ctx.client.ip);
    let Sticky::Cookie { name, ttl } = sticky else { return (key, None) };
    if key.is_some() {
        return (key, None);
    }
    let user = identity::mint_user();
    let cookie = identity::set_user_cookie(name, &user, *ttl, ctx.client.https);
    (Some(user), cookie)
}
