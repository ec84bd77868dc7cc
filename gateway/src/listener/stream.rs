//! A client's byte stream as Pingora sees it, with the deadlines and answers Pingora has no place for.
//!
//! Pingora limits each read of a request header but not their sum, and answers what it cannot parse before any of its
//! hooks runs. Both are settled here: a header has a total deadline and a total size, and the answer to a malformed
//! request is ours.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use async_trait::async_trait;
use bytes::Bytes;
use gateway_core::h2_watch::{H2Watch, State};
use pingora::http::ResponseHeader;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::connection::{Connection, Phase};
use super::outbox::Outbox;
use super::refusal::Refusal;
use super::transport::Transport;

/// What is read of a request before anybody is there to read it.
const EARLY: usize = 4096;

/// A client's byte stream.
#[derive(Debug)]
pub(crate) struct EdgeStream {
    transport: Transport,
    connection: Arc<Connection>,
    digest: Arc<ProxyDigest>,
    socket: Arc<SocketDigest>,
    header: HeaderWatch,
    deadline: Option<Deadline>,
    refusal: Option<Outgoing>,
    /// The beginning of a request, read while nobody served the connection.
    early: Bytes,
    /// When an idle connection is closed. Set anew for each pause only once it has run out.
    idle: Option<Pin<Box<Sleep>>>,
    outbox: Outbox,
    /// Whether something was written and not flushed.
    unflushed: bool,
}

/// How the header of a request is recognised among the bytes.
#[derive(Debug)]
enum HeaderWatch {
    /// HTTP/1: bytes of the header that have come in so far; the request path says when it is complete.
    Http1 { bytes: u64 },
    /// HTTP/2: the frames are walked.
    Http2(H2Watch),
}

/// The end of the time a header may take.
#[derive(Debug)]
struct Deadline {
    header: u64,
    end: Pin<Box<Sleep>>,
}

/// An answer of ours that takes the place of what Pingora writes.
#[derive(Debug)]
struct Outgoing {
    bytes: Bytes,
    sent: usize,
}

impl EdgeStream {
    /// Takes a transport whose handshake is done, and the address at its other end.
    pub(crate) fn new(
        transport: Transport,
        connection: Arc<Connection>,
        direct: SocketAddr,
    ) -> io::Result<Self> {
        let header = match transport.alpn() {
            Some(ALPN::H2) => HeaderWatch::Http2(H2Watch::new()),
            _ => HeaderWatch::Http1 { bytes: 0 },
        };
        // Pingora hands this one field of a stream through to every session, whatever the protocol.
        let carrier = ResponseHeader::build(200, Some(0)).map_err(io::Error::other)?;
        let digest = ProxyDigest::new(Box::new(carrier), Some(Box::new(connection.clone())));
        let socket = SocketDigest::from_raw_fd(transport.socket());
        // A digest that has just been made knows no peer yet.
        let _ = socket.peer_addr.set(Some(direct.into()));
        Ok(Self {
            transport,
            connection,
            digest: Arc::new(digest),
            socket: Arc::new(socket),
            header,
            deadline: None,
            refusal: None,
            early: Bytes::new(),
            idle: None,
            outbox: Outbox::default(),
            unflushed: false,
        })
    }

    /// Whether both sides speak HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.header, HeaderWatch::Http2(_))
    }

    /// Waits until the client begins its next request over HTTP/1, and says whether it does. A client that is silent for too
    /// long, leaves, or is still idle when the listener has `closed`, does not.
    ///
    /// Pingora could wait as well, and would hold 20 KiB for each connection to do so.
    pub(crate) async fn begins_request(&mut self, mut closed: Pin<&mut impl Future<Output = ()>>) -> bool {
        if self.connection.may_have_more() {
            return true;
        }
        let pause = self.connection.listener.limits.keepalive;
        let end = Instant::now() + pause;
        poll_fn(|cx| {
            if let Poll::Ready(begun) = self.poll_early(cx) {
                return Poll::Ready(begun);
            }
            if closed.as_mut().poll(cx).is_ready() || self.poll_idle(end, cx).is_ready() {
                return Poll::Ready(false);
            }
            Poll::Pending
        })
        .await
    }

    /// Reads the first bytes of a request; false when there are none, and never will be.
    fn poll_early(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut space = [std::mem::MaybeUninit::uninit(); EARLY];
        let mut buf = ReadBuf::uninit(&mut space);
        let read = ready!(Pin::new(&mut *self).poll_read(cx, &mut buf));
        self.early = Bytes::copy_from_slice(buf.filled());
        Poll::Ready(read.is_ok() && !self.early.is_empty())
    }

    /// Ready once an idle connection has been so until `end`. One whose first request is due has a deadline for that.
    fn poll_idle(&mut self, end: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if self.connection.phase() == Phase::Header {
            return Poll::Pending;
        }
        let idle = self.idle.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        ready!(idle.as_mut().poll(cx));
        if idle.deadline() < end {
            idle.as_mut().reset(end);
            return idle.as_mut().poll(cx);
        }
        Poll::Ready(())
    }

    /// The header that is due, by a number that tells it from others of this connection; nothing while none is.
    fn header_due(&self) -> Option<u64> {
        match &self.header {
            HeaderWatch::Http1 { .. } => (self.connection.phase() == Phase::Header).then_some(0),
            HeaderWatch::Http2(watch) => match watch.state() {
                State::Preface => Some(0),
                State::InHeaderBlock { block } => Some(block),
                State::Idle | State::InFrame => None,
            },
        }
    }

    /// Accounts for bytes that came in.
    fn observe(&mut self, bytes: &[u8]) {
        self.connection.received(bytes.len());
        match &mut self.header {
            HeaderWatch::Http1 { bytes: count } => match self.connection.phase() {
                Phase::Request => *count = 0,
                Phase::Idle if !bytes.is_empty() => {
                    self.connection.enter(Phase::Header);
                    *count = bytes.len() as u64;
                }
                Phase::Idle => {}
                Phase::Header => *count += bytes.len() as u64,
            },
            HeaderWatch::Http2(watch) => watch.feed(bytes),
        }
    }

    /// Ends a connection whose header is late or too large; an HTTP/1 client that sent something is told why.
    fn refuse(&mut self, cx: &mut Context<'_>, refusal: Refusal) -> io::Error {
        self.connection.listener.metrics.bad_requests.count(refusal.reason());
        if let HeaderWatch::Http1 { bytes: 1.. } = self.header {
            let answer = self
                .refusal
                .get_or_insert_with(|| Outgoing::new(refusal.to_http1(&self.connection.request_id_header)));
            // Best effort: a client that does not read either is simply closed.
            let _ = answer.poll_send(&mut self.transport, cx);
        }
        io::ErrorKind::TimedOut.into()
    }

    /// The timer of `header`; it is only made once there is something to wait for.
    fn poll_deadline(&mut self, header: u64, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.connection.listener.limits.header;
        let deadline = match &mut self.deadline {
            Some(deadline) if deadline.header == header => deadline,
            other => other.insert(Deadline { header, end: Box::pin(tokio::time::sleep(limit)) }),
        };
        deadline.end.as_mut().poll(cx)
    }

    /// Sends what is buffered when there is nothing to read: Pingora does not flush a body of known length before its
    /// end, so a slow origin's first bytes would wait for the last ones.
    fn flush_while_idle(&mut self, cx: &mut Context<'_>) {
        if self.unflushed {
            // An error shows at the next write.
            let _ = Pin::new(self).poll_flush(cx);
        }
    }

    /// Whether Pingora is answering a request that none of its hooks saw.
    fn answers_unseen_request(&self) -> bool {
        matches!(self.header, HeaderWatch::Http1 { .. }) && self.connection.phase() != Phase::Request
    }

    /// Sends our answer in place of Pingora's and lets it believe that its own went out.
    fn poll_replace(&mut self, cx: &mut Context<'_>, theirs: &[u8]) -> Poll<io::Result<usize>> {
        if self.refusal.is_none() {
            let refusal = Refusal::in_place_of(theirs);
            self.connection.listener.metrics.bad_requests.count(refusal.reason());
            self.refusal = Some(Outgoing::new(refusal.to_http1(&self.connection.request_id_header)));
        }
        ready!(self.outbox.poll_empty(&mut self.transport, cx))?;
        if let Some(answer) = &mut self.refusal {
            ready!(answer.poll_send(&mut self.transport, cx))?;
        }
        Poll::Ready(Ok(theirs.len()))
    }
}

impl AsyncRead for EdgeStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.early.is_empty() {
            let length = this.early.len().min(buf.remaining());
            buf.put_slice(&this.early.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let due = this.header_due();
        if due.is_none() {
            this.deadline = None;
        }
        if let HeaderWatch::Http1 { bytes } = this.header
            && due.is_some()
            && bytes > this.connection.listener.limits.header_size.0
        {
            return Poll::Ready(Err(this.refuse(cx, Refusal::HeaderTooLarge)));
        }
        let before = buf.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut this.transport).poll_read(cx, buf) {
            this.observe(&buf.filled()[before..]);
            return Poll::Ready(result);
        }
        this.flush_while_idle(cx);
        match due {
            Some(header) if this.poll_deadline(header, cx).is_ready() => {
                Poll::Ready(Err(this.refuse(cx, Refusal::HeaderTimeout)))
            }
            _ => Poll::Pending,
        }
    }
}

impl AsyncWrite for EdgeStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.answers_unseen_request() {
            return self.poll_replace(cx, buf);
        }
        let this = &mut *self;
        this.unflushed = true;
        this.outbox.poll_write(&mut this.transport, cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.outbox.poll_empty(&mut this.transport, cx))?;
        let flushed = ready!(Pin::new(&mut this.transport).poll_flush(cx));
        this.unflushed = false;
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.outbox.poll_empty(&mut this.transport, cx))?;
        Pin::new(&mut this.transport).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.answers_unseen_request() {
            let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
            return self.poll_replace(cx, first);
        }
        let this = &mut *self;
        this.unflushed = true;
        this.outbox.poll_write_vectored(&mut this.transport, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }
}

impl Outgoing {
    fn new(bytes: Bytes) -> Self {
        Self { bytes, sent: 0 }
    }

    fn poll_send(&mut self, transport: &mut Transport, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.bytes.len() {
            match ready!(Pin::new(&mut *transport).poll_write(cx, &self.bytes[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.sent += n,
            }
        }
        Pin::new(transport).poll_flush(cx)
    }
}

impl Drop for EdgeStream {
    /// Ends TLS in order where Pingora just lets go of an idle connection. Never in the middle of a request: a body
    /// that broke off must not look as if the end of the connection were its end.
    fn drop(&mut self) {
        if self.transport.is_tls() && self.connection.phase() != Phase::Request {
            // Whatever the socket does not take at once is not worth waiting for.
            let _ = Pin::new(&mut self.transport).poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
    }
}

#[async_trait]
impl Shutdown for EdgeStream {
    async fn shutdown(&mut self) {
        // The peer may be gone already; there is nothing left to save then.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for EdgeStream {
    fn id(&self) -> i32 {
        self.transport.socket()
    }
}

impl Ssl for EdgeStream {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.transport.alpn()
    }
}

impl GetTimingDigest for EdgeStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for EdgeStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(self.digest.clone())
    }
}

impl GetSocketDigest for EdgeStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(self.socket.clone())
    }
}

impl Peek for EdgeStream {}
