//! A client's byte stream over HTTP/2, with the deadline the protocol has no place for: that of a header.
//!
//! Frames are walked as they come in, so that it is known when the header of a request is under way; it is late like one
//! over HTTP/1 is, however many frames it is cut into.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use gateway_core::h2_watch::{H2Watch, State};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::Connection;
use super::refusal::Refusal;
use super::transport::Transport;
use crate::wire::Timer;

/// A client's byte stream.
#[derive(Debug)]
pub(crate) struct EdgeStream {
    transport: Transport,
    connection: Arc<Connection>,
    watch: H2Watch,
    /// The header that is awaited, and until when.
    due: Option<(u64, Instant)>,
    timer: Timer,
}

impl EdgeStream {
    /// Takes a transport whose handshake is done.
    pub(crate) fn new(transport: Transport, connection: Arc<Connection>) -> Self {
        Self { transport, connection, watch: H2Watch::new(), due: None, timer: Timer::default() }
    }

    /// The header that is under way, by a number that tells it from others of this connection.
    fn header(&self) -> Option<u64> {
        match self.watch.state() {
            State::Preface => Some(0),
            State::InHeaderBlock { block } => Some(block),
            State::Idle | State::InFrame => None,
        }
    }

    /// Ready when a header is late; there is no clock and no timer where none is under way.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(header) = self.header() else {
            self.due = None;
            return Poll::Pending;
        };
        let end = match self.due {
            Some((awaited, end)) if awaited == header => end,
            _ => Instant::now() + self.connection.listener.limits.header,
        };
        self.due = Some((header, end));
        self.timer.poll(end, cx)
    }
}

impl AsyncRead for EdgeStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut this.transport).poll_read(cx, buf) {
            this.watch.feed(&buf.filled()[before..]);
            return Poll::Ready(result);
        }
        if this.poll_late(cx).is_pending() {
            return Poll::Pending;
        }
        this.connection.listener.metrics.bad_requests.count(Refusal::HeaderTimeout.reason());
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for EdgeStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }
}

impl Drop for EdgeStream {
    /// Ends TLS in order: the library lets go of a connection without a word below its own.
    fn drop(&mut self) {
        // Whatever the socket does not take at once is not worth waiting for.
        let _ = Pin::new(&mut self.transport).poll_shutdown(&mut Context::from_waker(Waker::noop()));
    }
}
