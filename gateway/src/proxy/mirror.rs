//! `mirror`: a copy of a request goes to another service, and nobody waits for what becomes of it.
//!
//! A request that passed its route's policies draws for the share. The copy's header is what the origin would get; its
//! body is gathered while it is forwarded, and the copy leaves when the client has sent all of it. What follows is a task
//! of its own: no attempt, no outcome, no evidence, and neither retried nor judged.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use gateway_core::config::model;
use gateway_core::name::{RouteName, ServiceName};
use http::{HeaderName, HeaderValue, Uri, Version, header};
use indexmap::IndexMap;
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType, OrErr, Result};
use tokio::time::{Instant, timeout_at};

use super::context::Context;
use super::forward;
use crate::message::Request;
use crate::telemetry::instruments::Occupied;
use crate::telemetry::labels::Mirrored;
use crate::telemetry::metrics::MirrorMetrics;
use crate::upstream::aside::Aside;
use crate::upstream::peer::PeerTemplate;
use crate::upstream::{Materials, Service};

/// Tells origins that a request is a copy. No client can say so of itself.
pub(super) const MARK: HeaderName = HeaderName::from_static("x-mirrored");

/// Copies of one route that may exist at a time, from the request's header to the end of the answer.
const PLACES: i64 = 256;

/// How long a copy may be on its way, whatever the service's own time-outs allow.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where copies of a route's requests go.
pub(crate) struct Mirror {
    service: Arc<Service>,
    /// 0 to 1.
    share: f64,
    /// In bytes.
    body_limit: u64,
    patience: Duration,
    metrics: MirrorMetrics,
    aside: Arc<Aside>,
}

/// A copy whose body is not complete yet. One that is dropped without being sent counts as skipped.
pub(crate) struct Draft {
    copy: Option<Duplicate>,
    /// The attempt that the body so far was read for: another one begins it anew.
    attempt: u32,
}

/// A request for the mirrored service.
struct Duplicate {
    mirror: Arc<Mirror>,
    header: Box<RequestHeader>,
    body: BytesMut,
    /// What a `hash` balance goes by.
    key: Option<String>,
    _place: Occupied,
}

impl Mirror {
    /// `None` only for a service that does not exist, which the model rules out.
    pub(crate) fn new(
        route: &RouteName,
        mirror: &model::Mirror,
        services: &IndexMap<ServiceName, Arc<Service>>,
        materials: &Materials<'_>,
    ) -> Option<Arc<Self>> {
        let service = services.get(&mirror.service)?.clone();
        let timeouts = &service.template.timeouts;
        Some(Arc::new(Self {
            share: mirror.share.get(),
            body_limit: mirror.body_limit.0,
            patience: timeouts.connect.saturating_add(timeouts.first_byte).min(PATIENCE),
            metrics: materials.metrics.mirror(route, &mirror.service),
            aside: materials.registry.aside(),
            service,
        }))
    }

    /// Copies a request that is about to be forwarded.
    ///
    /// # Errors
    /// Why there is no copy of it.
    fn copy(self: &Arc<Self>, request: &Request, ctx: &Context) -> Result<Duplicate, Mirrored> {
        let too_large = ctx.body.length.is_some_and(|length| length > self.body_limit);
        // A copy of a copy could go round for ever.
        if ctx.upgrade || too_large || request.headers.contains_key(&MARK) {
            return Err(Mirrored::Skipped);
        }
        let place = self.metrics.in_flight.enter();
        if self.metrics.in_flight.get() > PLACES {
            return Err(Mirrored::Dropped);
        }
        let header = header(request, ctx, &self.service.template).map_err(|_| Mirrored::Skipped)?;
        let key = ctx.chosen.as_ref().and_then(|chosen| chosen.key.clone());
        Ok(Duplicate { mirror: self.clone(), header, body: BytesMut::new(), key, _place: place })
    }

    fn failed(&self, endpoint: &str, error: &Error) {
        let timed_out = matches!(
            error.etype(),
            ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout | ErrorType::WriteTimedout
        );
        self.metrics.results.count(if timed_out { Mirrored::Timeout } else { Mirrored::Failed });
        let service = &self.service.name;
        tracing::debug!(%service, endpoint, error = error.etype().as_str(), "a mirrored request failed");
    }
}

/// Begins a copy, if the request's route is mirrored and the lot falls on it; one without a body leaves at once.
pub(super) fn begin(request: &Request, ctx: &mut Context) {
    let Some(mirror) = ctx.route.as_ref().and_then(|route| route.mirror.as_ref()) else { return };
    if fastrand::f64() >= mirror.share {
        return;
    }
    let mirror = mirror.clone();
    match mirror.copy(request, ctx) {
        Ok(copy) if ctx.body.is_given() => drop(tokio::spawn(copy.deliver())),
        Ok(copy) => ctx.mirror = Some(Box::new(Draft { copy: Some(copy), attempt: ctx.attempts })),
        Err(why) => mirror.metrics.results.count(why),
    }
}

/// Takes a piece of the request's body; with the last one the copy leaves.
pub(super) fn body(piece: &[u8], end_of_stream: bool, ctx: &mut Context) {
    let Some(draft) = &mut ctx.mirror else { return };
    if !draft.add(piece, ctx.attempts) {
        ctx.mirror = None;
    } else if end_of_stream && let Some(draft) = ctx.mirror.take() {
        draft.send();
    }
}

impl Draft {
    /// Copies the bytes: a piece may be a small part of a large buffer, and what is held must be what is counted.
    ///
    /// Says whether the body is still within the limit.
    fn add(&mut self, piece: &[u8], attempt: u32) -> bool {
        let Some(copy) = &mut self.copy else { return false };
        if self.attempt != attempt {
            copy.body.clear();
            self.attempt = attempt;
        }
        let fits = (copy.body.len() + piece.len()) as u64 <= copy.mirror.body_limit;
        if fits {
            copy.body.extend_from_slice(piece);
        }
        fits
    }

    fn send(mut self) {
        let Some(mut copy) = self.copy.take() else { return };
        // A number is always a header value.
        let _ = copy.header.insert_header(header::CONTENT_LENGTH, copy.body.len());
        tokio::spawn(copy.deliver());
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(copy) = &self.copy {
            copy.mirror.metrics.results.count(Mirrored::Skipped);
        }
    }
}

impl Duplicate {
    /// Sends the copy, once, and counts what became of it.
    async fn deliver(self) {
        let Self { mirror, header, body, key, _place } = self;
        let deadline = Instant::now() + mirror.patience;
        let Some((endpoint, _busy)) = mirror.service.stable().pick_aside(key.as_deref()) else {
            return mirror.metrics.results.count(Mirrored::Failed);
        };
        match timeout_at(deadline, mirror.aside.ask(&endpoint.peer, header, body.freeze())).await {
            Ok(Ok(session)) => {
                mirror.metrics.results.count(Mirrored::Answered);
                // How the rest of the answer ends is nobody's concern.
                let _ = timeout_at(deadline, mirror.aside.discard(&endpoint.peer, session)).await;
            }
            Ok(Err(error)) => mirror.failed(&endpoint.label, &error),
            Err(_) => mirror.metrics.results.count(Mirrored::Timeout),
        }
    }
}

/// The header as an origin of the route would get it, marked, and as the mirrored service speaks.
fn header(asked: &Request, ctx: &Context, template: &PeerTemplate) -> Result<Box<RequestHeader>> {
    let unfit = || Error::new(ErrorType::InvalidHTTPHeader);
    if !asked.is_plain() {
        return Err(unfit());
    }
    let Request { method, uri, mut headers, .. } = forward::request(asked, ctx, !template.is_http1())?;
    headers.remove(header::EXPECT);
    headers.insert(MARK, HeaderValue::from_static("true"));
    let host =
        if template.is_http1() { headers.get(header::HOST).cloned() } else { headers.remove(header::HOST) };
    let host = host.ok_or_else(unfit)?;
    let target = uri.into_parts().path_and_query.ok_or_else(unfit)?;
    let uri = match template.is_http1() {
        true => Uri::from(target),
        false => {
            let scheme = if template.tls.is_some() { "https" } else { "http" };
            let uri = Uri::builder().scheme(scheme).authority(host.as_bytes()).path_and_query(target);
            uri.build().or_err(ErrorType::InvalidHTTPHeader, "the target of a copy")?
        }
    };
    let mut parts = http::Request::new(()).into_parts().0;
    let version = if template.is_http1() { Version::HTTP_11 } else { Version::HTTP_2 };
    (parts.method, parts.uri, parts.version, parts.headers) = (method, uri, version, headers);
    Ok(Box::new(RequestHeader::from(parts)))
}
