//! Answers of the gateway's own, and what becomes of a request that fails.

use bytes::Bytes;
use gateway_core::config::model;
use gateway_core::outcome::Termination;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::date::get_cached_date;
use pingora::proxy::Session;
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::context::Context;
use super::forward;
use super::rejection::Rejection;
use super::shape;

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
    pub(crate) fn to_https(request: &RequestHeader, host: &str, port: u16) -> Self {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        let target = request.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        Self::redirect(StatusCode::PERMANENT_REDIRECT, &format!("https://{host}{port}{target}"))
    }
}

/// Sends an answer and keeps the connection.
pub(super) async fn answer(session: &mut Session, ctx: &mut Context, answer: Answer) -> Result<()> {
    ctx.termination = answer.termination;
    let mut headers = HeaderMap::with_capacity(answer.fields.len() + 5);
    for (name, value) in answer.fields {
        headers.append(name, value);
    }
    send(session, ctx, answer.status, headers, answer.body).await
}

/// Turns a request away; the connection stays when the rest of the request comes soon.
pub(super) async fn reject(session: &mut Session, ctx: &mut Context, rejection: Rejection) -> Result<()> {
    note(ctx, rejection);
    let (content_type, body) = rejection.body(&session.req_header().headers, &ctx.request_id);
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    send(session, ctx, rejection.status(), headers, body).await
}

/// Ends a request that failed on its way; gives the status for the record, 0 when nobody is left to read one.
pub(super) async fn fail(session: &mut Session, ctx: &mut Context, error: &Error) -> u16 {
    let Some(rejection) = blame(error, ctx) else {
        ctx.termination = Termination::ClientClosed;
        return 0;
    };
    // What follows on this connection cannot be told from the rest of this request.
    session.set_keepalive(None);
    if session.response_written().is_some() {
        note(ctx, rejection);
        return 0;
    }
    if reject(session, ctx, rejection).await.is_err() {
        ctx.termination = Termination::ClientClosed;
    } else if rejection != Rejection::RequestTimeout {
        // Closed over what the client still sends, the connection would be reset and the answer lost.
        let _ = session.as_mut().drain_request_body().await;
    }
    rejection.status().as_u16()
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
    if let (Some(reason), Some(connection)) = (rejection.bad_request(), &ctx.connection) {
        connection.listener.metrics.bad_requests.count(reason);
    }
}

async fn send(
    session: &mut Session,
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
    let bodiless = empty_by_status || body.is_empty() || session.req_header().method == Method::HEAD;
    let mut parts = Response::new(()).into_parts().0;
    (parts.status, parts.headers) = (status, headers);
    session.write_response_header(Box::new(ResponseHeader::from(parts)), bodiless).await?;
    if !bodiless {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}
