//! One check of one endpoint, on a connection of its own, bounded in time and in bytes.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use gateway_core::config::model::{Check, Health, StatusSet};
use h2::RecvStream;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pingora::ErrorType;
use pingora::connectors::TransportConnector;
use pingora::protocols::Stream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::grpc;
use crate::upstream::{CheckedAt, Service};

/// What an endpoint may send before it has answered, in all; more is as good as an end of the connection.
const ANSWER_BYTES: u64 = 64 << 10;

/// The largest header of an answer.
const HEADER_BYTES: usize = 32 << 10;

/// The largest message of a gRPC answer: it has a few bytes.
const MESSAGE_BYTES: usize = 1 << 10;

/// Body bytes that may come unasked on HTTP/2.
const WINDOW_BYTES: u32 = 16 << 10;

/// What a check has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// It is as it should be.
    Good,
    /// It is not, and why.
    Bad(String),
    /// The gateway could not ask: out of descriptors or ports. That says nothing of the endpoint.
    Unasked(String),
}

/// Asks an endpoint, over what its service speaks, for `health.timeout` in all.
pub(super) async fn check(
    connector: &TransportConnector,
    service: &Service,
    at: &CheckedAt,
    health: &Health,
) -> Finding {
    let asked = tokio::time::timeout(health.timeout, ask(connector, service, at, &health.check));
    asked.await.unwrap_or_else(|_| Finding::Bad(silence(health.timeout)))
}

fn silence(timeout: Duration) -> String {
    format!("no answer in {timeout:?}")
}

async fn ask(connector: &TransportConnector, service: &Service, at: &CheckedAt, check: &Check) -> Finding {
    let stream = match connector.new_stream(&at.peer).await {
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
    let host = &at.authority;
    let scheme = if service.template.tls.is_some() { "https" } else { "http" };
    let found = match check {
        Check::Tcp => Ok(()),
        Check::Http { path, status } if service.template.is_http1() => {
            over_http1(stream, host, path).await.and_then(|answer| expect(answer, status))
        }
        Check::Http { path, status } => over_http2(stream, &format!("{scheme}://{host}{path}"))
            .await
            .and_then(|answer| expect(answer, status)),
        Check::Grpc { service } => {
            over_grpc(stream, &format!("{scheme}://{host}{}", grpc::PATH), service).await
        }
    };
    found.map_or_else(Finding::Bad, |()| Finding::Good)
}

fn expect(answer: StatusCode, good: &StatusSet) -> Result<(), String> {
    if good.contains(answer) { Ok(()) } else { Err(format!("status {}", answer.as_u16())) }
}

async fn over_http1(stream: Stream, host: &str, path: &str) -> Result<StatusCode, String> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEADER_BYTES);
    let stream = TokioIo::new(bounded(stream));
    let (mut sender, connection) = builder.handshake(stream).await.map_err(text)?;
    let request =
        request("GET", path).header(header::HOST, host).body(Empty::<Bytes>::new()).map_err(text)?;
    let conversation = async { sender.send_request(request).await.map_err(text) };
    drive(conversation, connection).await.map(|answer| answer.status())
}

async fn over_http2(stream: Stream, url: &str) -> Result<StatusCode, String> {
    let request = request("GET", url).body(()).map_err(text)?;
    let read = async |answer: Response<RecvStream>| Ok(answer.status());
    converse(stream, request, None, read).await
}

async fn over_grpc(stream: Stream, url: &str, service: &str) -> Result<(), String> {
    let request =
        request("POST", url).header(header::CONTENT_TYPE, "application/grpc").header(header::TE, "trailers");
    converse(stream, request.body(()).map_err(text)?, Some(grpc::request(service)), read_grpc).await
}

/// The status comes after the message, or in the header when there is no message.
async fn read_grpc(answer: Response<RecvStream>) -> Result<(), String> {
    let (head, mut body) = answer.into_parts();
    if head.status != StatusCode::OK {
        return Err(format!("status {}", head.status.as_u16()));
    }
    grpc_status(&head.headers).unwrap_or(Ok(()))?;
    let mut message = Vec::new();
    while let Some(chunk) = body.data().await {
        message.extend_from_slice(&chunk.map_err(text)?);
        if message.len() > MESSAGE_BYTES {
            return Err("the answer is too long".to_owned());
        }
    }
    let trailers = body.trailers().await.map_err(text)?.unwrap_or_default();
    grpc_status(&trailers).unwrap_or_else(|| Err("the answer has no grpc-status".to_owned()))?;
    grpc::read(&message)
}

/// What `grpc-status` says, if it is there: 0 is good.
fn grpc_status(fields: &HeaderMap) -> Option<Result<(), String>> {
    let status = fields.get("grpc-status")?;
    Some(if status == "0" {
        Ok(())
    } else {
        Err(format!("grpc-status {}", String::from_utf8_lossy(status.as_bytes())))
    })
}

fn request(method: &str, uri: &str) -> http::request::Builder {
    let agent = concat!("gateway/", env!("CARGO_PKG_VERSION"), " health");
    Request::builder().method(method).uri(uri).header(header::USER_AGENT, agent)
}

/// Sends one request over HTTP/2 and reads its answer. When this ends, or is dropped, the connection is closed.
async fn converse<T>(
    stream: Stream,
    request: Request<()>,
    body: Option<Bytes>,
    read: impl AsyncFnOnce(Response<RecvStream>) -> Result<T, String>,
) -> Result<T, String> {
    let mut builder = h2::client::Builder::new();
    builder.enable_push(false).initial_window_size(WINDOW_BYTES).max_header_list_size(HEADER_BYTES as u32);
    let (mut sender, connection) = builder.handshake(bounded(stream)).await.map_err(text)?;
    let conversation = async {
        let (answer, mut upload) = sender.send_request(request, body.is_none()).map_err(text)?;
        if let Some(body) = body {
            upload.send_data(body, true).map_err(text)?;
        }
        read(answer.await.map_err(text)?).await
    };
    drive(conversation, connection).await
}

/// Reads and writes for a conversation until that is over.
async fn drive<T, E>(
    conversation: impl Future<Output = Result<T, String>>,
    connection: impl Future<Output = Result<(), E>>,
) -> Result<T, String> {
    let (mut conversation, mut connection) = (pin!(conversation), pin!(connection));
    tokio::select! {
        biased;
        answer = &mut conversation => answer,
        // It may have ended with the answer already read.
        _ = &mut connection => conversation.await,
    }
}

/// The stream, of which no more is read than an answer may have.
fn bounded(stream: Stream) -> impl AsyncRead + AsyncWrite + Send + Unpin {
    let (reader, writer) = tokio::io::split(stream);
    tokio::io::join(reader.take(ANSWER_BYTES), writer)
}

/// An error with its causes.
fn text(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
