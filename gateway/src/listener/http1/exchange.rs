//! One request of an HTTP/1 client, and its answer.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use gateway_core::http1::{Decoded, Decoder, Encoder, Framing, ResponseHead, write_response};
use http::{HeaderValue, Method, StatusCode, Version, header};
use pingora::{Error, ErrorType, OrErr, Result};
use tokio::time::timeout;

use super::{LINGER, Opening, Wire};
use crate::listener::connection::Connection;
use crate::message::{Request, content_length};
use crate::wire::Timer;

/// How long the rest of a request that was answered early may keep its connection.
const DRAIN: Duration = Duration::from_secs(2);

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct Exchange {
    wire: Wire,
    request: Request,
    decoder: Decoder,
    encoder: Encoder,
    /// Whether the connection outlives the answer.
    persistent: bool,
    /// Whether the client was told to send its body.
    has_leave: bool,
    answered: Option<StatusCode>,
    /// Whether only the end of the connection ends the answer.
    until_close: bool,
    /// Whether the answer is whole, so that what follows on the connection is another one.
    whole: bool,
    body_sent: u64,
}

impl Exchange {
    pub(in crate::listener) fn new(wire: Wire, opening: Opening) -> Self {
        let Opening { request, framing, persistent } = opening;
        let more = wire.requests < wire.connection.listener.limits.keepalive_requests;
        Self {
            wire,
            request,
            decoder: Decoder::new(framing),
            encoder: Encoder::new(Framing::Empty),
            persistent: persistent && more,
            has_leave: false,
            answered: None,
            until_close: false,
            whole: false,
            body_sent: 0,
        }
    }

    pub(crate) fn request(&self) -> &Request {
        &self.request
    }

    pub(crate) fn request_mut(&mut self) -> &mut Request {
        &mut self.request
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.wire.connection
    }

    pub(crate) fn timer(&mut self) -> &mut Timer {
        &mut self.wire.timer
    }

    /// Whether all of the request is here.
    pub(crate) fn is_body_done(&self) -> bool {
        self.decoder.is_done()
    }

    /// The status of the answer, once its header is on its way.
    pub(crate) fn answered(&self) -> Option<StatusCode> {
        self.answered
    }

    /// Bytes of the answer's body so far.
    pub(crate) fn body_sent(&self) -> u64 {
        self.body_sent
    }

    /// Bytes that the client has not taken.
    pub(crate) fn queued(&self) -> usize {
        self.wire.outbox.len()
    }

    /// Ends the connection after this answer.
    pub(crate) fn close(&mut self) {
        self.persistent = false;
    }

    /// The client is waited for no more: what it has not taken is not sent.
    pub(crate) fn give_up(&mut self) {
        self.whole = false;
    }

    /// From here on bytes go both ways until one side ends.
    pub(crate) fn tunnel(&mut self) {
        self.decoder = Decoder::new(Framing::UntilClose);
        self.encoder = Encoder::new(Framing::UntilClose);
        self.persistent = false;
    }

    /// The next piece of the body; none at its end.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        loop {
            match self.decoder.decode(&mut self.wire.inbox) {
                Ok(Decoded::Piece(piece)) => return Poll::Ready(Ok(Some(piece))),
                Ok(Decoded::End) => return Poll::Ready(Ok(None)),
                Ok(Decoded::More) => {}
                Err(_) => return Poll::Ready(Err(Error::new_down(ErrorType::InvalidHTTPHeader))),
            }
            let read = ready!(self.wire.poll_more(cx));
            if read.or_err(ErrorType::ReadError, "reading a request").map_err(Error::into_down)? == 0 {
                let ended = self.decoder.end_of_stream().map(|()| None);
                return Poll::Ready(ended.map_err(|_| Error::new_down(ErrorType::ConnectionClosed)));
            }
        }
    }

    /// Ready when the client has left. What it sends behind its request is the next one, and waits.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Box<Error>> {
        if !self.decoder.is_done() || !self.wire.inbox.is_empty() {
            return Poll::Pending;
        }
        match ready!(self.wire.poll_early(cx)) {
            true => Poll::Pending,
            false => Poll::Ready(Error::new_down(ErrorType::ConnectionClosed)),
        }
    }

    /// An interim answer, which HTTP/1.0 does not know (RFC 9110 §15.2).
    pub(crate) fn send_interim(&mut self, head: &ResponseHead) {
        self.has_leave |= head.status == StatusCode::CONTINUE;
        if self.request.version > Version::HTTP_10 {
            self.write_head(head);
        }
    }

    /// The header of the answer; with `end` there is no body.
    pub(crate) fn send_head(&mut self, mut head: ResponseHead, end: bool) {
        let framing = self.framing(&mut head, end);
        self.answered = Some(head.status);
        if !self.decoder.is_done() && !self.has_leave && self.request.awaits_leave() {
            // It may send no body now, and what it sends next would be taken for that.
            self.persistent = false;
        }
        self.persistent &= !self.wire.connection.is_draining();
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            self.whole = end || framing == Framing::Empty;
            self.say_what_follows(&mut head);
        }
        self.until_close = framing == Framing::UntilClose;
        self.encoder = Encoder::new(framing);
        self.write_head(&head);
    }

    fn say_what_follows(&self, head: &mut ResponseHead) {
        if !self.persistent {
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        } else if self.request.version < Version::HTTP_11 {
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
        }
    }

    fn write_head(&mut self, head: &ResponseHead) {
        let reason = head.reason.as_deref();
        self.wire.outbox.write(|out| write_response(out, head.status, reason, &head.headers));
    }

    /// How the body is told from what follows it (RFC 9112 §6).
    fn framing(&mut self, head: &mut ResponseHead, end: bool) -> Framing {
        let headers = &mut head.headers;
        headers.remove(header::TRANSFER_ENCODING);
        if head.status.is_informational() || head.status == StatusCode::NO_CONTENT {
            headers.remove(header::CONTENT_LENGTH);
            return Framing::Empty;
        }
        if self.request.method == Method::HEAD || head.status == StatusCode::NOT_MODIFIED {
            return Framing::Empty;
        }
        if let Some(length) = content_length(headers) {
            return Framing::Length(length);
        }
        if end {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
            return Framing::Length(0);
        }
        if self.request.version < Version::HTTP_11 {
            self.persistent = false;
            return Framing::UntilClose;
        }
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        Framing::Chunked
    }

    /// A piece of the body, which may be empty; `end` says that it is the last one.
    ///
    /// # Errors
    /// When it is longer or shorter than was announced. The answer is broken off then.
    pub(crate) fn send_body(&mut self, piece: Bytes, end: bool) -> Result<()> {
        if self.whole {
            return Ok(());
        }
        self.body_sent += piece.len() as u64;
        let framed = self.wire.outbox.push_framed(&mut self.encoder, piece, end);
        self.whole = end && framed.is_ok();
        framed.or_err(ErrorType::InternalError, "an answer is not as long as was announced")
    }

    /// Ready when everything has left.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let flushed = ready!(self.wire.poll_flush(cx));
        Poll::Ready(flushed.or_err(ErrorType::WriteError, "answering").map_err(Error::into_down))
    }

    /// Ends the exchange; gives the connection back when another request may follow on it.
    ///
    /// An answer that is not whole is broken off so that it cannot pass for one.
    pub(crate) async fn finish(mut self) -> Option<Wire> {
        // Of an answer that broke off, what came is passed on too, and nobody is waited for long.
        let patience = if self.whole { self.wire.connection.listener.limits.body_idle } else { LINGER };
        let flushed = self.queued() == 0 || self.flush(patience).await;
        if !self.whole || !flushed {
            if self.until_close {
                self.wire.transport.cut();
            }
            return None;
        }
        if !self.persistent {
            self.wire.close_writing().await;
        }
        let drained = self.decoder.is_done() || timeout(DRAIN, self.drain()).await.unwrap_or(false);
        (self.persistent && drained).then_some(self.wire)
    }

    async fn flush(&mut self, patience: Duration) -> bool {
        matches!(timeout(patience, poll_fn(|cx| self.poll_flush(cx))).await, Ok(Ok(())))
    }

    /// Reads the rest of the request; says whether it was one.
    async fn drain(&mut self) -> bool {
        loop {
            match poll_fn(|cx| self.poll_body(cx)).await {
                Ok(Some(_)) => {}
                ended => return ended.is_ok(),
            }
        }
    }
}
