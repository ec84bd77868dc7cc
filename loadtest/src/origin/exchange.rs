//! One request and its answer, as the script says.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, TRAILER, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::behaviour::{Behaviour, Content, Fault, Turn};
use super::record::Entry;
use super::server::Connection;

/// Bytes of one made-up chunk.
const CHUNK_BYTES: usize = 16 << 10;

type Frames = StreamBody<ReceiverStream>;
type ReceiverStream = futures_util::stream::BoxStream<'static, io::Result<Frame<Bytes>>>;
type Body = Either<Full<Bytes>, Frames>;

/// Counts a request as active until its answer is with the transport, or given up.
struct Active {
    connection: Arc<Connection>,
    idle: Option<Duration>,
    closes: bool,
}

impl Active {
    fn new(connection: &Arc<Connection>, behaviour: &Behaviour) -> Self {
        connection.active.fetch_add(1, Ordering::Relaxed);
        let closes = behaviour.fault == Some(Fault::CloseAfterResponse);
        Self { connection: Arc::clone(connection), idle: behaviour.idle, closes }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.connection.touch(self.idle);
        self.connection.active.fetch_sub(1, Ordering::Relaxed);
        if self.closes {
            self.connection.control.close();
        }
    }
}

/// Answers one request. An error closes the connection, or resets the stream on HTTP/2.
pub(super) async fn answer(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> io::Result<Response<Body>> {
    let (mut head, incoming) = request.into_parts();
    let entry = Entry::new(&head, connection.number);
    connection.state.record(&entry);
    let _unanswered = connection.state.unanswered();
    let reused = connection.begun.fetch_add(1, Ordering::Relaxed) > 0;
    let script = connection.state.script(head.uri.path());
    let Turn { status, delay, fault, ending } = script.next();
    let behaviour = Behaviour { fault, ..script.behaviour.clone() };
    let active = Active::new(&connection, &behaviour);
    connection.state.ends(ending);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    before_header(&behaviour, &connection, reused)?;

    let wants_websocket =
        matches!(behaviour.content, Content::WebSocket) && head.headers.contains_key(UPGRADE);
    if wants_websocket && let Some(upgrade) = head.extensions.remove::<OnUpgrade>() {
        return Ok(websocket(&head.headers, upgrade, active));
    }
    let (content, incoming) = match behaviour.content.clone() {
        Content::Echo => (Content::Echo, Some(incoming)),
        content if behaviour.reads_body => {
            read(incoming, &entry).await;
            (described(content, head.uri.path(), &entry), None)
        }
        content => (content, Some(incoming)),
    };
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = status;
    headers(&mut response, &behaviour, &content, connection.state.name());
    let answer = Answer { behaviour, content, incoming, entry, connection };
    *response.body_mut() = body(answer, active);
    Ok(response)
}

/// The faults that leave a client without any answer.
fn before_header(behaviour: &Behaviour, connection: &Connection, reused: bool) -> io::Result<()> {
    match behaviour.fault {
        Some(Fault::ResetBeforeHeader) => connection.control.reset(),
        Some(Fault::CloseBeforeHeader) => {}
        Some(Fault::CloseOnReuse) if reused => {}
        _ => return Ok(()),
    }
    Err(io::ErrorKind::ConnectionReset.into())
}

async fn read(mut incoming: Incoming, entry: &Entry) {
    while let Some(frame) = incoming.frame().await {
        match frame {
            Ok(frame) => remember(&frame, entry),
            Err(_) => return,
        }
    }
    entry.complete();
}

fn remember(frame: &Frame<Bytes>, entry: &Entry) {
    if let Some(data) = frame.data_ref() {
        entry.data(data);
    }
    if let Some(trailers) = frame.trailers_ref() {
        entry.trailers(trailers);
    }
}

/// A description turned into the bytes that are sent.
fn described(content: Content, path: &str, entry: &Entry) -> Content {
    if !matches!(content, Content::Description) {
        return content;
    }
    let request = entry.snapshot();
    if path.ends_with("/echo") {
        return Content::Fixed(request.body.into());
    }
    let description = json!({
        "method": request.method.as_str(),
        "path": request.path,
        "version": format!("{:?}", request.version),
        "headers": request.headers,
        "body": request.text(),
        "body_bytes": request.body_bytes,
        "body_xxh3": format!("{:016x}", request.body_xxh3),
    });
    Content::Fixed(description.to_string().into())
}

fn headers(response: &mut Response<Body>, behaviour: &Behaviour, content: &Content, name: &str) {
    let headers = response.headers_mut();
    add(headers, "x-release", name);
    for (name, value) in &behaviour.headers {
        add(headers, name, value);
    }
    let kind = match behaviour.content {
        Content::Description => "application/json",
        _ => "text/plain",
    };
    headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(kind));
    for (name, _) in &behaviour.trailers {
        if let Ok(name) = HeaderValue::from_str(name) {
            headers.append(TRAILER, name);
        }
    }
    if let Some(bytes) = length(content)
        && !behaviour.chunked
    {
        headers.insert(CONTENT_LENGTH, bytes.into());
    }
}

/// # Panics
/// When a script holds a field that is none; scripts are written by hand.
fn add(headers: &mut HeaderMap, name: &str, value: &str) {
    let name = HeaderName::from_bytes(name.as_bytes());
    let value = HeaderValue::from_str(value);
    match (name, value) {
        (Ok(name), Ok(value)) => headers.append(name, value),
        _ => panic!("a script holds a malformed field"),
    };
}

fn length(content: &Content) -> Option<u64> {
    match content {
        Content::Fixed(bytes) => Some(bytes.len() as u64),
        Content::Sized(bytes) => Some(*bytes),
        Content::Drip { chunk, times, .. } => Some(chunk.len() as u64 * u64::from(*times)),
        Content::Description | Content::Echo | Content::Events(_) | Content::WebSocket => None,
    }
}

/// Everything an answer's body needs.
struct Answer {
    behaviour: Behaviour,
    content: Content,
    incoming: Option<Incoming>,
    entry: Entry,
    connection: Arc<Connection>,
}

fn body(answer: Answer, active: Active) -> Body {
    let plain = answer.behaviour.fault.is_none() && !answer.behaviour.chunked && answer.incoming.is_none();
    if plain && let Content::Fixed(bytes) = &answer.content {
        answer.connection.state.add_sent(bytes.len());
        return Either::Left(Full::new(bytes.clone()));
    }
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut sink = Sink::new(sender, &answer);
        // A client that has gone needs no rest of the body.
        let _ = produce(answer, &mut sink).await;
    });
    let frames = futures_util::stream::unfold((receiver, active), async |(mut receiver, active)| {
        receiver.recv().await.map(|frame| (frame, (receiver, active)))
    });
    Either::Right(StreamBody::new(frames.boxed()))
}

/// Takes the frames of a body until the client has gone or the fault is due.
struct Sink {
    sender: mpsc::Sender<io::Result<Frame<Bytes>>>,
    connection: Arc<Connection>,
    /// Bytes until the body breaks off.
    left: Option<u64>,
}

/// Nothing more can be sent.
struct Gone;

impl Sink {
    fn new(sender: mpsc::Sender<io::Result<Frame<Bytes>>>, answer: &Answer) -> Self {
        let left = match answer.behaviour.fault {
            Some(Fault::BreakOffAfter(bytes) | Fault::ResetAfter(bytes)) => Some(bytes),
            _ => None,
        };
        Self { sender, connection: Arc::clone(&answer.connection), left }
    }

    async fn send(&mut self, mut bytes: Bytes) -> Result<(), Gone> {
        if let Some(left) = &mut self.left {
            bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= bytes.len() as u64;
        }
        if !bytes.is_empty() {
            let count = bytes.len();
            self.frame(Frame::data(bytes)).await?;
            self.connection.state.add_sent(count);
        }
        if self.left == Some(0) { Err(Gone) } else { Ok(()) }
    }

    async fn frame(&self, frame: Frame<Bytes>) -> Result<(), Gone> {
        self.sender.send(Ok(frame)).await.map_err(|_| Gone)
    }

    /// Breaks the body off after what was sent has left.
    async fn break_off(&self) {
        // All permits free means that hyper took the last frame; it flushes before it asks for more.
        if let Ok(permit) = self.sender.reserve().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
            permit.send(Err(io::ErrorKind::BrokenPipe.into()));
        }
    }
}

async fn produce(answer: Answer, sink: &mut Sink) -> Result<(), Gone> {
    let Answer { behaviour, content, incoming, entry, .. } = answer;
    let outcome = fill(content, incoming, &entry, sink).await;
    match behaviour.fault {
        Some(Fault::ResetAfter(_)) => {
            sink.connection.control.reset();
            sink.break_off().await;
        }
        Some(Fault::BreakOffAfter(_)) => sink.break_off().await,
        _ => {}
    }
    outcome?;
    if !behaviour.trailers.is_empty() {
        let mut trailers = HeaderMap::new();
        for (name, value) in &behaviour.trailers {
            add(&mut trailers, name, value);
        }
        sink.frame(Frame::trailers(trailers)).await?;
    }
    Ok(())
}

async fn fill(
    content: Content,
    incoming: Option<Incoming>,
    entry: &Entry,
    sink: &mut Sink,
) -> Result<(), Gone> {
    match content {
        Content::Fixed(bytes) => sink.send(bytes).await,
        Content::Sized(bytes) => sized(bytes, sink).await,
        Content::Drip { chunk, times, pause } => {
            for turn in 0..times {
                if turn > 0 {
                    tokio::time::sleep(pause).await;
                }
                sink.send(chunk.clone()).await?;
            }
            Ok(())
        }
        Content::Events(events) => {
            let mut events = events.subscribe();
            while let Ok(bytes) = events.recv().await {
                sink.send(bytes).await?;
            }
            Ok(())
        }
        Content::Echo => echo(incoming, entry, sink).await,
        Content::Description | Content::WebSocket => sink.send(Bytes::from_static(b"not here\n")).await,
    }
}

async fn sized(mut left: u64, sink: &mut Sink) -> Result<(), Gone> {
    let chunk = Bytes::from(vec![b'.'; CHUNK_BYTES]);
    while left > 0 {
        let bytes = chunk.slice(..CHUNK_BYTES.min(usize::try_from(left).unwrap_or(CHUNK_BYTES)));
        left -= bytes.len() as u64;
        sink.send(bytes).await?;
    }
    Ok(())
}

async fn echo(incoming: Option<Incoming>, entry: &Entry, sink: &mut Sink) -> Result<(), Gone> {
    let Some(mut incoming) = incoming else { return Ok(()) };
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|_| Gone)?;
        remember(&frame, entry);
        if let Ok(bytes) = frame.into_data() {
            sink.send(bytes).await?;
        }
    }
    entry.complete();
    Ok(())
}

fn websocket(headers: &HeaderMap, upgrade: OnUpgrade, active: Active) -> Response<Body> {
    let key = headers.get(SEC_WEBSOCKET_KEY).map_or(&b""[..], HeaderValue::as_bytes);
    let accept = derive_accept_key(key);
    let name = active.connection.state.name().to_owned();
    tokio::spawn(async move {
        let mut running = active.connection.state.running();
        tokio::select! {
            () = echo_messages(upgrade) => {}
            // Told or closed, the origin has ended.
            _ = running.changed() => {}
        }
        drop(active);
    });
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    add(response.headers_mut(), "x-release", &name);
    add(response.headers_mut(), UPGRADE.as_str(), "websocket");
    add(response.headers_mut(), CONNECTION.as_str(), "Upgrade");
    add(response.headers_mut(), SEC_WEBSOCKET_ACCEPT.as_str(), &accept);
    response
}

/// Sends back every message until the client closes or breaks off.
async fn echo_messages(upgrade: OnUpgrade) {
    let Ok(upgraded) = upgrade.await else { return };
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        let closing = message.is_close();
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() || closing {
            break;
        }
    }
    // The closing handshake is finished as far as the client still takes part.
    let _ = socket.close(None).await;
}
