//! One check of one endpoint: a new connection, a GET, and the status of the answer.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use gateway_core::config::model::Health;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pingora::ErrorType;
use pingora::connectors::TransportConnector;
use pingora::protocols::Stream;

use crate::upstream::{Endpoint, Service};

/// What a check has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// An answer of 200 to 399.
    Good,
    /// Anything else, and what.
    Bad(String),
    /// The gateway could not ask: out of descriptors or ports. That says nothing of the endpoint.
    Unasked(String),
}

/// Asks an endpoint, over what its service speaks, for `health.timeout` in all.
pub(super) async fn check(
    connector: &TransportConnector,
    service: &Service,
    endpoint: &Endpoint,
    health: &Health,
) -> Finding {
    let asked = tokio::time::timeout(health.timeout, ask(connector, service, endpoint, health));
    asked.await.unwrap_or_else(|_| Finding::Bad(silence(health.timeout)))
}

fn silence(timeout: Duration) -> String {
    format!("no answer in {timeout:?}")
}

async fn ask(
    connector: &TransportConnector,
    service: &Service,
    endpoint: &Endpoint,
    health: &Health,
) -> Finding {
    let stream = match connector.new_stream(&endpoint.peer).await {
        Ok(stream) => stream,
        Err(error) => {
            let reason = error.etype().as_str().to_owned();
            return match error.etype() {
                ErrorType::InternalError | ErrorType::BindError | ErrorType::SocketError => {
                    Finding::Unasked(reason)
                }
                _ => Finding::Bad(reason),
            };
        }
    };
    let answer = match service.template.is_http1() {
        true => over_http1(stream, endpoint, &health.path).await,
        false => over_http2(stream, endpoint, &health.path, service.template.tls.is_some()).await,
    };
    match answer {
        Ok(status) if status.is_success() || status.is_redirection() => Finding::Good,
        Ok(status) => Finding::Bad(format!("status {}", status.as_u16())),
        Err(reason) => Finding::Bad(reason),
    }
}

async fn over_http1(stream: Stream, endpoint: &Endpoint, path: &str) -> Result<StatusCode, String> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    let request = request(path).header(header::HOST, &endpoint.authority);
    let request = request.body(Empty::<Bytes>::new()).map_err(text)?;
    answer(sender.send_request(request), connection).await
}

async fn over_http2(
    stream: Stream,
    endpoint: &Endpoint,
    path: &str,
    tls: bool,
) -> Result<StatusCode, String> {
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(text)?;
    let scheme = if tls { "https" } else { "http" };
    let request = request(&format!("{scheme}://{}{path}", endpoint.authority));
    let request = request.body(Empty::<Bytes>::new()).map_err(text)?;
    answer(sender.send_request(request), connection).await
}

fn request(uri: &str) -> http::request::Builder {
    Request::get(uri).header(header::USER_AGENT, concat!("gateway/", env!("CARGO_PKG_VERSION"), " health"))
}

/// Drives the connection until the answer's header is there; the body is nobody's concern.
async fn answer<B>(
    answer: impl Future<Output = hyper::Result<http::Response<B>>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> Result<StatusCode, String> {
    let (mut answer, mut connection) = (pin!(answer), pin!(connection));
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        // It may have ended with the answer already read.
        _ = &mut connection => answer.await,
    };
    answer.map(|answer| answer.status()).map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
