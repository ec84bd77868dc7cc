//! HTTP/1 clients: one request after the other on a connection.
//!
//! Between two requests a connection is its socket, its TLS state and a few words: buffers come with the first byte of a
//! request and go with the last one of its answer.

mod exchange;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use gateway_core::http1::{
    BadHead, Framing, HeadReader, RequestHead, check_authority, is_persistent, request_framing,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

pub(crate) use self::exchange::Exchange;
use super::connection::Connection;
use super::refusal::Refusal;
use super::transport::Transport;
use crate::message::Request;
use crate::wire::{Queue, Timer, poll_fill};

/// What is read of a request before there is a buffer for it.
const EARLY: usize = 4096;

/// How much of a body is read at a time: a TLS record, or two.
const AT_A_TIME: usize = 32 << 10;

/// How long, and how much, a client that was turned away may go on sending before its connection is cut: it should read
/// the answer first.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 256 << 10;

/// A client's connection over HTTP/1.
#[derive(Debug)]
pub(crate) struct Wire {
    transport: Transport,
    pub(super) connection: Arc<Connection>,
    /// Bytes that came in and are not taken.
    inbox: BytesMut,
    outbox: Queue,
    timer: Timer,
    requests: u32,
}

/// What comes next on a connection.
pub(super) enum Next {
    /// A request.
    Request(Box<Opening>),
    /// The client has left, or was silent for too long.
    Nothing,
    /// Something that is no request.
    Refused(Refusal),
}

/// The beginning of a request.
pub(super) struct Opening {
    request: Request,
    framing: Framing,
    persistent: bool,
}

impl Wire {
    pub(crate) fn new(transport: Transport, connection: Arc<Connection>) -> Self {
        Self {
            transport,
            connection,
            inbox: BytesMut::new(),
            outbox: Queue::default(),
            timer: Timer::default(),
            requests: 0,
        }
    }

    /// Waits for the next request. An idle client is let go once the listener has `closed`.
    pub(super) async fn next(&mut self, mut closed: Pin<&mut impl Future<Output = ()>>) -> Next {
        let mut reader = HeadReader::default();
        if self.inbox.is_empty() {
            // Empty, it would still hold what the last request was read into.
            self.inbox = BytesMut::new();
        }
        let mut due = None;
        poll_fn(|cx| {
            loop {
                if !self.inbox.is_empty()
                    && let Some(next) = self.parse(&mut reader)
                {
                    return Poll::Ready(next);
                }
                match self.poll_early(cx) {
                    Poll::Ready(true) => {}
                    Poll::Ready(false) => return Poll::Ready(Next::Nothing),
                    Poll::Pending => break,
                }
            }
            if self.inbox.is_empty() && closed.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Next::Nothing);
            }
            let idle = self.is_idle();
            ready!(self.timer.poll(self.due(&mut due, idle), cx));
            Poll::Ready(if idle { Next::Nothing } else { Next::Refused(Refusal::HeaderTimeout) })
        })
        .await
    }

    /// Whether the client owes us nothing: its first header is due from the handshake on, a later one from its first byte
    /// on.
    fn is_idle(&self) -> bool {
        self.requests > 0 && self.inbox.is_empty()
    }

    /// Until when is waited, from the moment on that it is waited for.
    fn due(&self, due: &mut Option<(bool, Instant)>, idle: bool) -> Instant {
        let limits = &self.connection.listener.limits;
        let limit = if idle { limits.keepalive } else { limits.header };
        match *due {
            Some((known, due)) if known == idle => due,
            _ => due.insert((idle, Instant::now() + limit)).1,
        }
    }

    /// The request in the inbox, if it is there.
    fn parse(&mut self, reader: &mut HeadReader) -> Option<Next> {
        let limits = &self.connection.listener.limits;
        match reader.request(&mut self.inbox, limits.header_fields.saturating_add(1)) {
            Ok(Some(head)) => Some(self.open(head).unwrap_or_else(Next::Refused)),
            Ok(None) if self.inbox.len() as u64 > limits.header_size.0 => {
                Some(Next::Refused(Refusal::HeaderTooLarge))
            }
            Ok(None) => None,
            Err(bad) => Some(Next::Refused(refusal(&bad))),
        }
    }

    fn open(&mut self, mut head: RequestHead) -> Result<Next, Refusal> {
        check_authority(&head.method, &head.target, &head.headers).map_err(|bad| refusal(&bad))?;
        let framed = request_framing(head.version, &mut head.headers).map_err(|bad| refusal(&bad))?;
        let persistent = !framed.close && is_persistent(head.version, &head.headers);
        let framing = framed.framing;
        self.requests += 1;
        let request = Request::http1(head).ok_or(Refusal::Malformed)?;
        Ok(Next::Request(Box::new(Opening { request, framing, persistent })))
    }

    /// Reads the first bytes there are, without a buffer while there are none; false at the end.
    fn poll_early(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut space = [std::mem::MaybeUninit::uninit(); EARLY];
        let mut buf = ReadBuf::uninit(&mut space);
        let read = ready!(Pin::new(&mut self.transport).poll_read(cx, &mut buf));
        self.inbox.extend_from_slice(buf.filled());
        Poll::Ready(read.is_ok() && !buf.filled().is_empty())
    }

    /// Reads more of a body; 0 at the end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        poll_fill(&mut self.transport, &mut self.inbox, AT_A_TIME, cx)
    }

    /// Ready when everything has left.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outbox.poll_empty(&mut self.transport, cx)
    }

    /// Tells a client why it is turned away, and ends the connection.
    pub(super) async fn refuse(mut self, refusal: Refusal) {
        self.connection.listener.metrics.bad_requests.count(refusal.reason());
        // One that has sent nothing would take an answer for that to its first request.
        if self.inbox.is_empty() && refusal == Refusal::HeaderTimeout {
            return self.close_writing().await;
        }
        self.outbox.push(refusal.to_http1(&self.connection.request_id_header));
        if let Ok(Ok(())) = timeout(LINGER, poll_fn(|cx| self.poll_flush(cx))).await {
            self.close_writing().await;
            let _ = timeout(LINGER, self.discard()).await;
        }
    }

    /// Reads what still comes, up to a bound: a socket that is closed over unread bytes resets the connection, and the
    /// answer with it.
    async fn discard(&mut self) {
        let mut read = 0;
        while read < LINGER_BYTES {
            self.inbox.clear();
            match poll_fn(|cx| self.poll_more(cx)).await {
                Ok(1..) => read += self.inbox.len(),
                _ => return,
            }
        }
    }

    /// Ends an idle connection.
    pub(super) async fn close(mut self) {
        self.close_writing().await;
    }

    /// Says in order that nothing more comes from us.
    async fn close_writing(&mut self) {
        // Whatever the socket does not take at once is not worth waiting for.
        let shut = poll_fn(|cx| Pin::new(&mut self.transport).poll_shutdown(cx));
        let _ = timeout(LINGER, shut).await;
    }
}

/// A request that came on no connection.
pub(crate) fn rehearsed(bytes: &[u8], connection: Arc<Connection>) -> Option<Exchange> {
    let mut wire = Wire::new(Transport::Detached, connection);
    wire.inbox.extend_from_slice(bytes);
    match wire.parse(&mut HeadReader::default())? {
        Next::Request(opening) => Some(Exchange::new(wire, *opening)),
        Next::Nothing | Next::Refused(_) => None,
    }
}

fn refusal(bad: &BadHead) -> Refusal {
    match bad {
        BadHead::Connect => Refusal::Connect,
        BadHead::TooManyFields => Refusal::HeaderTooLarge,
        _ => Refusal::Malformed,
    }
}
