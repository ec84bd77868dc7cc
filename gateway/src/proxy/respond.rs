//! Answers of the gateway's own, and what becomes of a request that fails.

use std::future::poll_fn;
use std::task::{Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use gateway_core::config::model;
use gateway_core::http1::ResponseHead;
use gateway_core::outcome::Termination;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pingora::protocols::http::date::get_cached_date;
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::context::Context;
use super::forward;
use super::patience::Wait;
use super::rejection::Rejection;
use super::shape;
use crate::listener::client::Client;
use crate::message::Request;

/// An answer the configuration or HTTP itself asks for. Cloning one copies no text.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) fields: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
    pub(crate) termination: Termination,
}

impl Answer {
    /// A status without a body.
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self { status, fields: Vec::new(), body: Bytes::new(), termination: Termination::Responded }
    }

    /// What a `redirect` route says.
    pub(crate) fn redirect(status: StatusCode, to: &str) -> Self {
        let location = HeaderValue::from_str(to).ok().map(|to| (header::LOCATION, to));
        Self {
            fields: location.into_iter().collect(),
            termination: Termination::Redirected,
            ..Self::empty(status)
        }
    }

    /// The place it sends clients to.
    pub(crate) fn location(&self) -> Option<&str> {
        let (_, place) = self.fields.iter().find(|(name, _)| name == header::LOCATION)?;
        place.to_str().ok()
    }

    /// What a `respond` route says.
    pub(crate) fn respond(
        status: StatusCode,
        fields: &[(HeaderName, HeaderValue)],
        body: &model::Body,
    ) -> Self {
        let content_type = HeaderValue::from_str(&body.content_type).ok().filter(|kind| !kind.is_empty());
        let content_type = content_type.map(|kind| (header::CONTENT_TYPE, kind));
        let fields = content_type.into_iter().chain(fields.iter().cloned()).collect();
        Self { fields, body: Bytes::copy_from_slice(body.text.as_bytes()), ..Self::empty(status) }
    }

    /// The same place over https; 308, so that method and body are kept (RFC 9110 §15.4.9).
    pub(crate) fn to_https(request: &Request, host: &str, port: u16) -> Self {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        let target = request.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        Self::redirect(StatusCode::PERMANENT_REDIRECT, &format!("https://{host}{port}{target}"))
    }
}

/// Sends an answer and keeps the connection.
pub(super) async fn answer(client: &mut Client, ctx: &mut Context, answer: Answer) -> Result<()> {
    ctx.termination = answer.termination;
    let mut headers = HeaderMap::with_capacity(answer.fields.len() + 5);
    for (name, value) in answer.fields {
        headers.append(name, value);
    }
    send(client, ctx, answer.status, headers, answer.body).await
}

/// Turns a request away; the connection stays when the rest of the request comes soon.
pub(super) async fn reject(client: &mut Client, ctx: &mut Context, rejection: Rejection) -> Result<()> {
    note(ctx, rejection);
    let (content_type, body) = rejection.body(&client.request().headers, &ctx.request_id);
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    send(client, ctx, rejection.status(), headers, body).await
}

/// Ends a request that failed on its way.
pub(super) async fn fail(client: &mut Client, ctx: &mut Context, error: &Error) {
    let Some(rejection) = blame(error, ctx) else {
        ctx.termination = Termination::ClientClosed;
        client.give_up();
        return;
    };
    // What follows on this connection cannot be told from the rest of this request.
    client.close();
    if client.answered().is_some() {
        note(ctx, rejection);
    } else if reject(client, ctx, rejection).await.is_err() {
        ctx.termination = Termination::ClientClosed;
    }
}

/// Whose fault an error is; `None` when the client is gone.
fn blame(error: &Error, ctx: &Context) -> Option<Rejection> {
    if let Some(rejection) = ctx.rejection {
        return Some(rejection);
    }
    match (error.esource(), error.etype()) {
        (_, ErrorType::HTTPStatus(400)) => Some(Rejection::BadFields),
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => Some(Rejection::RequestTimeout),
        (ErrorSource::Downstream, ErrorType::InvalidHTTPHeader | ErrorType::H2Error) => {
            Some(Rejection::BadFields)
        }
        (ErrorSource::Downstream, _) => None,
        (ErrorSource::Upstream, _) => Some(Rejection::UpstreamFailed),
        _ => Some(Rejection::Internal),
    }
}

fn note(ctx: &mut Context, rejection: Rejection) {
    ctx.rejection = Some(rejection);
    ctx.termination = rejection.termination();
    if let Some(reason) = rejection.bad_request() {
        ctx.connection.listener.metrics.bad_requests.count(reason);
    }
}

async fn send(
    client: &mut Client,
    ctx: &mut Context,
    status: StatusCode,
    mut headers: HeaderMap,
    body: Bytes,
) -> Result<()> {
    shape::response(&mut headers, ctx);
    // RFC 9110 §8.6: never with 204, and with 304 it would tell the length of what was not sent.
    let empty_by_status = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if !empty_by_status {
        headers.insert(header::CONTENT_LENGTH, body.len().into());
    }
    headers.insert(header::DATE, get_cached_date());
    forward::stamp(&mut headers, ctx);
    let bodiless = empty_by_status || body.is_empty() || client.request().method == Method::HEAD;
    client.send_head(ResponseHead { status, reason: None, version: Version::HTTP_11, headers }, bodiless)?;
    if !bodiless {
        client.send_body(body, true)?;
    }
    flush(client).await
}

/// Waits until the client has taken the answer.
async fn flush(client: &mut Client) -> Result<()> {
    let due = Instant::now() + client.connection().listener.limits.body_idle;
    poll_fn(|cx| {
        if let Poll::Ready(flushed) = client.poll_flush(cx) {
            return Poll::Ready(flushed);
        }
        ready!(client.timer().poll(due, cx));
        Poll::Ready(Err(Wait::ClientTakes.error()))
    })
    .await
}
