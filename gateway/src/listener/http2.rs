//! HTTP/2 with a client, on the library that speaks it: one value per request, which is read, answered and watched by
//! polling, so that a body passes in both directions at once and without a task of its own.
//!
//! A stream is polled by one task: the library remembers one waker for each direction of it.

mod gather;
mod judge;
mod serve;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use gateway_core::http1::ResponseHead;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, Response, StatusCode, header};
use pingora::{Error, ErrorType, Result};

pub(crate) use self::serve::serve;
use super::connection::Connection;
use crate::message::Request;
use crate::wire::Timer;

/// What of one answer is with the connection at most, sent or not. The rest waits in its queue, so this times the streams
/// of a connection bounds what a client can make us hold by not reading.
const SEND_BUFFER: usize = 64 << 10;

/// One request and its answer.
///
/// An answer that is let go before its end is broken off, so that it never looks complete.
pub(crate) struct Exchange {
    request: Request,
    connection: Arc<Connection>,
    body: RecvStream,
    /// Whether the last piece of the body was given out, and nothing follows it.
    body_done: bool,
    respond: SendResponse<Bytes>,
    /// The head of the answer until there is something to go with it: the connection may be under way at any moment, and
    /// one alone would be a packet of its own.
    head: Option<ResponseHead>,
    /// Once the head is with the connection.
    out: Option<SendStream<Bytes>>,
    /// What waits for the client's window.
    queue: VecDeque<Bytes>,
    queued: usize,
    end: End,
    sent: u64,
    status: Option<StatusCode>,
    timer: Timer,
    /// One of the connection's open requests.
    _open: Arc<()>,
}

/// How an answer ends.
enum End {
    /// Not known yet.
    Open,
    /// With what is queued.
    Queue,
    /// With trailers, after what is queued.
    Trailers(HeaderMap),
    /// It did: its end is with the connection, or it was broken off.
    Past,
}

impl Exchange {
    fn new(
        (request, body): (http::request::Parts, RecvStream),
        respond: SendResponse<Bytes>,
        connection: Arc<Connection>,
        open: Arc<()>,
    ) -> Self {
        let body_done = body.is_end_stream();
        Self {
            request: request.into(),
            connection,
            body,
            body_done,
            respond,
            head: None,
            out: None,
            queue: VecDeque::new(),
            queued: 0,
            end: End::Open,
            sent: 0,
            status: None,
            timer: Timer::default(),
            _open: open,
        }
    }

    pub(crate) fn request(&self) -> &Request {
        &self.request
    }

    pub(crate) fn request_mut(&mut self) -> &mut Request {
        &mut self.request
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// For all that is waited for while the request is served.
    pub(crate) fn timer(&mut self) -> &mut Timer {
        &mut self.timer
    }

    /// Whether all of the request is here.
    pub(crate) fn is_body_done(&self) -> bool {
        self.body_done
    }

    /// The next piece of the body, never an empty one; `None` at its end, and ever after. The client may send as much
    /// again at once, so a body comes as fast as it is asked for.
    ///
    /// # Errors
    /// `ConnectionClosed` when the client is gone, `H2Error` when its body is malformed (not as long as announced).
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        while !self.body_done {
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(piece)) if piece.is_empty() => {}
                Some(Ok(piece)) => {
                    // Fails only for more than has come in.
                    let _ = self.body.flow_control().release_capacity(piece.len());
                    self.body_done = self.body.is_end_stream();
                    return Poll::Ready(Ok(Some(piece)));
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(error, "reading a request body"))),
                None => self.body_done = true,
            }
        }
        Poll::Ready(Ok(None))
    }

    /// Takes the head of the answer; with `end`, nothing follows it. It leaves with the first piece of the body or when
    /// flushed. Fields that HTTP/2 does not have are left out.
    ///
    /// # Errors
    /// `ConnectionClosed` when the client is gone, `InternalError` for a second head.
    pub(crate) fn send_head(&mut self, mut head: ResponseHead, end: bool) -> Result<()> {
        if self.status.is_some() {
            return misuse("a second head");
        }
        remove_connection_fields(&mut head.headers);
        self.status = Some(head.status);
        self.head = Some(head);
        if end { self.push_head(true) } else { Ok(()) }
    }

    /// Sends an interim answer (1xx) ahead of the head.
    ///
    /// # Errors
    /// `ConnectionClosed` when the client is gone, `InternalError` for one that is not interim, comes after the head or
    /// would switch protocols, which HTTP/2 cannot (RFC 9113 §8.6).
    pub(crate) fn send_interim(&mut self, mut head: ResponseHead) -> Result<()> {
        let interim = head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS;
        if !interim || self.status.is_some() {
            return misuse("an interim answer out of place");
        }
        remove_connection_fields(&mut head.headers);
        let sent = self.respond.send_informational(answer(head));
        sent.map_err(|error| gone(error, "sending an interim answer"))
    }

    /// Takes the next piece of the body, which may be empty; with `end`, it is the last. What the client's window has
    /// room for is with the connection at once, the rest is queued.
    ///
    /// # Errors
    /// `ConnectionClosed` when the client is gone, `InternalError` before the head or after the end.
    pub(crate) fn send_body(&mut self, piece: Bytes, end: bool) -> Result<()> {
        if self.status.is_none() || !matches!(self.end, End::Open) {
            return misuse("a body out of place");
        }
        if end && piece.is_empty() && self.head.is_some() {
            return self.push_head(true);
        }
        if end {
            self.end = End::Queue;
        }
        let rest = if self.queue.is_empty() { self.hand_over(piece)? } else { piece };
        if !rest.is_empty() {
            self.queued += rest.len();
            self.queue.push_back(rest);
        }
        Ok(())
    }

    /// Takes what follows the body, and ends the answer.
    ///
    /// # Errors
    /// Like [`send_body`](Self::send_body).
    pub(crate) fn send_trailers(&mut self, mut trailers: HeaderMap) -> Result<()> {
        if self.status.is_none() || !matches!(self.end, End::Open) {
            return misuse("trailers out of place");
        }
        remove_connection_fields(&mut trailers);
        self.end = End::Trailers(trailers);
        self.push()
    }

    /// Bytes of the body that wait for the client's window.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Bytes of the body that are with the connection.
    pub(crate) fn body_sent(&self) -> u64 {
        self.sent
    }

    /// The status of the answer, once there is one.
    pub(crate) fn answered(&self) -> Option<StatusCode> {
        self.status
    }

    /// Ready when everything so far is with the connection, which sends it by itself.
    ///
    /// # Errors
    /// `ConnectionClosed` when the client is gone.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            self.push()?;
            let Some(out) = self.out.as_mut().filter(|_| !self.queue.is_empty()) else {
                return Poll::Ready(Ok(()));
            };
            // How much room there is, the next round asks.
            match ready!(out.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(gone(error, "waiting for a client to read"))),
                None => return Poll::Ready(Err(Error::new_down(ErrorType::ConnectionClosed))),
            }
        }
    }

    /// Ready when the client has reset the stream, or the connection is gone.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Box<Error>> {
        let reset = match &mut self.out {
            Some(out) => ready!(out.poll_reset(cx)),
            None => ready!(self.respond.poll_reset(cx)),
        };
        let why = reset.map_or_else(|error| error, h2::Error::from);
        Poll::Ready(gone(why, "the client gave the request up"))
    }

    /// Hands over as much as there is room for.
    fn push(&mut self) -> Result<()> {
        self.push_head(false)?;
        while let Some(piece) = self.queue.pop_front() {
            self.queued -= piece.len();
            let rest = self.hand_over(piece)?;
            if !rest.is_empty() {
                self.queued += rest.len();
                self.queue.push_front(rest);
                return Ok(());
            }
        }
        if let End::Trailers(trailers) = &mut self.end
            && let Some(out) = &mut self.out
        {
            let sent = out.send_trailers(std::mem::take(trailers));
            // Without an end, the answer is broken off.
            self.end = if sent.is_ok() { End::Past } else { End::Open };
            sent.map_err(|error| gone(error, "sending trailers"))?;
        }
        Ok(())
    }

    /// Hands over the head if that is still due; with `end`, it is all there is.
    fn push_head(&mut self, end: bool) -> Result<()> {
        let Some(head) = self.head.take() else { return Ok(()) };
        let out = self.respond.send_response(answer(head), end);
        self.out = Some(out.map_err(|error| gone(error, "sending the head of an answer"))?);
        if end {
            self.end = End::Past;
        }
        Ok(())
    }

    /// Hands over the part of a piece that there is room for, and gives back the rest. Nothing is queued before it.
    fn hand_over(&mut self, mut piece: Bytes) -> Result<Bytes> {
        self.push_head(false)?;
        let Some(out) = &mut self.out else { return misuse("a body without a head") };
        let ours = piece.split_to(room(out, piece.len(), self.queued));
        let last = piece.is_empty() && self.queue.is_empty() && matches!(self.end, End::Queue);
        if ours.is_empty() && !last {
            return Ok(piece);
        }
        self.sent += ours.len() as u64;
        out.send_data(ours, last).map_err(|error| gone(error, "sending a body"))?;
        if last {
            self.end = End::Past;
        }
        Ok(piece)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !matches!(self.end, End::Past) {
            self.respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }
}

fn answer(head: ResponseHead) -> Response<()> {
    let mut answer = Response::new(());
    *answer.status_mut() = head.status;
    *answer.headers_mut() = head.headers;
    answer
}

/// How many of `wanted` bytes the client's window and the connection have room for now. What `follows` is asked for too:
/// it need not wait for another round.
fn room(out: &mut SendStream<Bytes>, wanted: usize, follows: usize) -> usize {
    if wanted == 0 {
        return 0;
    }
    out.reserve_capacity((wanted + follows).min(SEND_BUFFER));
    out.capacity().min(wanted)
}

/// Leaves out what belongs to one connection over HTTP/1 (RFC 9113 §8.2.2).
fn remove_connection_fields(headers: &mut HeaderMap) {
    const FIELDS: [HeaderName; 5] = [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    // Most answers have none, and one look at each name is less than five look-ups.
    if headers.keys().any(|name| FIELDS.contains(name)) {
        FIELDS.iter().for_each(|name| drop(headers.remove(name)));
    }
}

/// What is wrong while a client sends: it left, or what it sends is malformed.
fn broken(error: h2::Error, doing: &'static str) -> Box<Error> {
    let kind = if error.is_library() { ErrorType::H2Error } else { ErrorType::ConnectionClosed };
    Error::because(kind, doing, error).into_down()
}

/// A stream takes nothing more when its client has reset it or left.
fn gone(error: h2::Error, doing: &'static str) -> Box<Error> {
    Error::because(ErrorType::ConnectionClosed, doing, error).into_down()
}

fn misuse<T>(what: &'static str) -> Result<T> {
    Error::e_explain(ErrorType::InternalError, what)
}

#[cfg(test)]
mod tests;
