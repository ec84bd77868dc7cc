//! Requests as a test writes them, and what comes back.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use loadtest::origin::Origin;
use serde_json::Value;
use std::sync::Mutex;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::certificates::Leaf;
use super::connection::{Duplex, Handshake, tcp};
use super::gateway::PATIENCE;

type Body = UnsyncBoxBody<Bytes, io::Error>;
type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The addresses of a gateway.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) https: String,
    pub(crate) http: String,
    pub(crate) admin: String,
}

/// Which listener a request goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listener {
    Tls,
    Plain,
    Admin,
}

/// A request, sent by awaiting it.
#[derive(Clone)]
pub(crate) struct Request {
    target: Target,
    listener: Listener,
    http2: bool,
    method: Method,
    path: String,
    host: String,
    headers: Vec<(String, String)>,
    body: Bytes,
    identity: Option<&'static Leaf>,
    source: Option<IpAddr>,
    preface: Vec<u8>,
}

impl Request {
    pub(crate) fn new(target: Target, method: Method, path: &str) -> Self {
        Self {
            target,
            listener: Listener::Tls,
            http2: false,
            method,
            path: path.to_owned(),
            host: "shop.example".to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
            identity: None,
            source: None,
            preface: Vec::new(),
        }
    }

    /// To the admin listener, by its own name.
    pub(crate) fn on_admin(mut self) -> Self {
        self.listener = Listener::Admin;
        self.host = self.target.admin.clone();
        self
    }

    /// To the plain listener.
    pub(crate) fn plain(mut self) -> Self {
        self.listener = Listener::Plain;
        self
    }

    /// Over HTTP/2.
    pub(crate) fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Another Host or `:authority`.
    pub(crate) fn host(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    /// One more field.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Shows a certificate in the TLS handshake.
    pub(crate) fn identity(mut self, leaf: &'static Leaf) -> Self {
        self.identity = Some(leaf);
        self
    }

    /// Comes from this address of the loopback, as `127.0.0.2`.
    pub(crate) fn source(mut self, source: &str) -> Self {
        self.source = Some(source.parse().unwrap());
        self
    }

    /// Sends these bytes first on the connection, before any TLS.
    pub(crate) fn preface(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.preface = bytes.into();
        self
    }

    /// The same request so many times, one after the other, on one connection as long as it is kept.
    pub(crate) fn repeat(self, times: usize) -> Repeat {
        Repeat { request: self, times }
    }

    /// Opens the connection this request would go on.
    pub(crate) async fn connect(&self) -> Result<Client, String> {
        let connecting = async {
            let stream: Box<dyn Duplex> = match self.listener {
                Listener::Tls => Box::new(self.handshake().connect().await?),
                Listener::Plain => Box::new(self.tcp(&self.target.http).await?),
                Listener::Admin => Box::new(self.tcp(&self.target.admin).await?),
            };
            Client::new(stream, self.http2).await.map_err(io::Error::other)
        };
        within(connecting).await?.map_err(|error| format!("no connection: {error}"))
    }

    async fn tcp(&self, address: &str) -> io::Result<tokio::net::TcpStream> {
        let mut stream = tcp(address, self.source).await?;
        tokio::io::AsyncWriteExt::write_all(&mut stream, &self.preface).await?;
        Ok(stream)
    }

    fn handshake(&self) -> Handshake {
        let mut handshake = Handshake::new(self.target.https.clone()).preface(self.preface.clone());
        if let Some(source) = self.source {
            handshake = handshake.source(source);
        }
        if let Some(leaf) = self.identity {
            handshake = handshake.identity(leaf);
        }
        handshake.alpn(&[if self.http2 { "h2" } else { "http/1.1" }])
    }

    fn message(&self, body: Body) -> http::Request<Body> {
        let mut message = http::Request::new(body);
        *message.method_mut() = self.method.clone();
        let scheme = if self.listener == Listener::Tls { "https" } else { "http" };
        let uri =
            if self.http2 { format!("{scheme}://{}{}", self.host, self.path) } else { self.path.clone() };
        *message.uri_mut() = uri.parse::<Uri>().unwrap();
        if self.http2 {
            *message.version_mut() = Version::HTTP_2;
        } else {
            message.headers_mut().insert(HOST, HeaderValue::from_str(&self.host).unwrap());
        }
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            message.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
        }
        message
    }

    /// Sends it on a connection of its own.
    pub(crate) async fn try_send(self) -> Result<Answer, String> {
        self.start().await?.finish().await
    }

    /// Sends it and returns at the answer's header.
    pub(crate) async fn start(self) -> Result<Streaming, String> {
        let mut client = self.connect().await?;
        client.start(&self).await
    }

    /// Begins a request whose body the test sends piece by piece.
    pub(crate) async fn upload(self) -> Upload {
        let mut client = self.connect().await.unwrap();
        client.upload(&self).await
    }
}

impl IntoFuture for Request {
    type Output = Answer;
    type IntoFuture = Boxed<Answer>;

    fn into_future(self) -> Self::IntoFuture {
        let what = format!("{} {}", self.method, self.path);
        Box::pin(async move { self.try_send().await.unwrap_or_else(|error| panic!("{what}: {error}")) })
    }
}

/// One request many times.
pub(crate) struct Repeat {
    request: Request,
    times: usize,
}

impl IntoFuture for Repeat {
    type Output = Answers;
    type IntoFuture = Boxed<Answers>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let mut client = self.request.connect().await.unwrap();
            let mut answers = Answers::default();
            for _ in 0..self.times {
                if client.is_closed().await {
                    client = self.request.connect().await.unwrap();
                }
                answers.add(&client.send(&self.request).await.unwrap());
            }
            answers
        })
    }
}

/// Counts of many answers.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// By status.
    pub(crate) statuses: BTreeMap<u16, usize>,
    /// By `x-release`.
    pub(crate) releases: BTreeMap<String, usize>,
}

impl Answers {
    pub(crate) fn add(&mut self, answer: &Answer) {
        *self.statuses.entry(answer.status.as_u16()).or_default() += 1;
        *self.releases.entry(answer.release().to_owned()).or_default() += 1;
    }

    /// How many a release answered.
    pub(crate) fn served_by(&self, origin: &Origin) -> usize {
        self.releases.get(origin.name()).copied().unwrap_or(0)
    }

    /// How many had this status.
    pub(crate) fn with_status(&self, status: u16) -> usize {
        self.statuses.get(&status).copied().unwrap_or(0)
    }
}

/// An open connection.
pub(crate) struct Client {
    sender: Sender,
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Client {
    async fn new(stream: Box<dyn Duplex>, http2: bool) -> hyper::Result<Self> {
        let io = TokioIo::new(stream);
        let sender = if http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await?;
            tokio::spawn(connection);
            Sender::Http1(sender)
        };
        Ok(Self { sender })
    }

    /// Whether the gateway has closed it or is about to.
    pub(crate) async fn is_closed(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await.is_err(),
            Sender::Http2(sender) => sender.ready().await.is_err(),
        }
    }

    /// Sends a request and takes the whole answer.
    pub(crate) async fn send(&mut self, request: &Request) -> Result<Answer, String> {
        self.start(request).await?.finish().await
    }

    /// Sends a request and returns at the answer's header.
    pub(crate) async fn start(&mut self, request: &Request) -> Result<Streaming, String> {
        let body = Full::new(request.body.clone()).map_err(|never| match never {}).boxed_unsync();
        self.sending(request.message(body)).await?.await
    }

    /// Begins a request whose body the test sends piece by piece.
    pub(crate) async fn upload(&mut self, request: &Request) -> Upload {
        let (sender, receiver) = mpsc::channel(1);
        let frames = futures_util::stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|frame| (frame, receiver))
        });
        let body = StreamBody::new(frames.boxed()).boxed_unsync();
        let answer = self.sending(request.message(body)).await.unwrap();
        Upload { sender: Some(sender), answer: tokio::spawn(answer) }
    }

    async fn sending(
        &mut self,
        mut message: http::Request<Body>,
    ) -> Result<impl Future<Output = Result<Streaming, String>> + Send + 'static, String> {
        let interim = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&interim);
        hyper::ext::on_informational(&mut message, move |answer| {
            seen.lock().unwrap().push((answer.status(), answer.headers().clone()));
        });
        let sending: Boxed<hyper::Result<http::Response<Incoming>>> = match &mut self.sender {
            Sender::Http1(sender) => {
                within(sender.ready()).await?.map_err(|error| describe(&error))?;
                Box::pin(sender.send_request(message))
            }
            Sender::Http2(sender) => {
                within(sender.ready()).await?.map_err(|error| describe(&error))?;
                Box::pin(sender.send_request(message))
            }
        };
        Ok(async move {
            let (head, body) = within(sending).await?.map_err(|error| describe(&error))?.into_parts();
            let interim = std::mem::take(&mut *interim.lock().unwrap());
            Ok(Streaming { status: head.status, version: head.version, headers: head.headers, interim, body })
        })
    }
}

/// A request under way whose body the test sends.
pub(crate) struct Upload {
    sender: Option<mpsc::Sender<io::Result<Frame<Bytes>>>>,
    answer: tokio::task::JoinHandle<Result<Streaming, String>>,
}

impl Upload {
    /// Sends a piece; waits until the connection has room for it. False when nobody takes it any more.
    pub(crate) async fn send(&self, bytes: impl Into<Bytes>) -> bool {
        let sender = self.sender.as_ref().expect("the body has not ended");
        sender.send(Ok(Frame::data(bytes.into()))).await.is_ok()
    }

    /// Sends a piece if there is room for it within this time.
    pub(crate) async fn send_within(&self, bytes: impl Into<Bytes>, time: Duration) -> bool {
        timeout(time, self.send(bytes)).await.unwrap_or(false)
    }

    /// Ends the body.
    pub(crate) fn end(&mut self) {
        self.sender = None;
    }

    /// Breaks the body off.
    pub(crate) async fn abort(&mut self) {
        if let Some(sender) = self.sender.take() {
            // A connection that has gone is aborted already.
            let _ = sender.send(Err(io::ErrorKind::Interrupted.into())).await;
        }
    }

    /// Waits for the answer's header; the body may go on.
    pub(crate) async fn started(&mut self) -> Result<Streaming, String> {
        within(&mut self.answer).await?.expect("the client does not panic")
    }

    /// Ends the body and takes the whole answer.
    pub(crate) async fn finish(mut self) -> Result<Answer, String> {
        self.end();
        self.started().await?.finish().await
    }
}

/// An answer whose body is still to come.
#[derive(Debug)]
pub(crate) struct Streaming {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) interim: Vec<(StatusCode, HeaderMap)>,
    body: Incoming,
}

impl Streaming {
    /// The next piece of the body; `None` at its end, an error when it broke off.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            match within(self.body.frame()).await? {
                None => return Ok(None),
                Some(Err(error)) => return Err(describe(&error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The whole answer; one whose body broke off says so in `broken`.
    pub(crate) async fn finish(self) -> Result<Answer, String> {
        let Self { status, version, headers, interim, mut body } = self;
        let mut answer = Answer {
            status,
            version,
            headers,
            interim,
            body: Bytes::new(),
            trailers: HeaderMap::new(),
            broken: None,
        };
        let mut bytes = BytesMut::new();
        while let Some(frame) = within(body.frame()).await? {
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => bytes.extend_from_slice(&data),
                Ok(Err(frame)) => answer.trailers.extend(frame.into_trailers().unwrap_or_default()),
                Err(error) => {
                    answer.broken = Some(describe(&error));
                    break;
                }
            }
        }
        answer.body = bytes.freeze();
        Ok(answer)
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    /// 1xx answers that came before, over HTTP/1.1.
    pub(crate) interim: Vec<(StatusCode, HeaderMap)>,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
    /// What broke the body off, if it does not look complete.
    pub(crate) broken: Option<String>,
}

impl Answer {
    /// The first value of a field.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("the field is text"))
    }

    /// Which release answered; empty when none did.
    pub(crate) fn release(&self) -> &str {
        self.header("x-release").unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

async fn within<T>(future: impl Future<Output = T>) -> Result<T, String> {
    timeout(PATIENCE, future).await.map_err(|_| format!("no answer within {PATIENCE:?}"))
}

/// An error with everything that caused it.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
