//! One request on an HTTP/1 connection.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use gateway_core::http1::{
    Decoded, Decoder, Encoder, Framing, HeadReader, ResponseHead, is_persistent, response_framing,
    write_request,
};
use http::{HeaderValue, Method, StatusCode, header};
use pingora::{Error, ErrorType, OrErr, Result};

use super::Event;
use crate::message::{Request, content_length};
use crate::upstream::pool::Http1;
use crate::wire::{Queue, poll_fill};

/// The largest header of an answer.
const HEADER_BYTES: usize = 256 << 10;

/// The most fields it may have.
const FIELDS: usize = 256;

/// How much is read at a time: a short answer with its header, or a piece of a long one.
const AT_A_TIME: usize = 32 << 10;

/// A request that waits for its answer, or gets it.
#[derive(Debug)]
pub(crate) struct Exchange {
    connection: Http1,
    outbox: Queue,
    reader: HeadReader,
    encoder: Encoder,
    /// There is none before the header of the answer.
    decoder: Option<Decoder>,
    for_head: bool,
    /// Whether all of the request is queued.
    asked: bool,
    persistent: bool,
}

impl Exchange {
    /// Begins a request; `end` says that it has no body.
    pub(crate) fn new(connection: Http1, mut request: Request, end: bool) -> Self {
        let framing = match content_length(&request.headers) {
            Some(length) => Framing::Length(length),
            None if end => Framing::Empty,
            None => {
                request.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
                Framing::Chunked
            }
        };
        let mut outbox = Queue::default();
        outbox.write(|out| write_request(out, &request.method, request.target(), &request.headers));
        Self {
            connection,
            outbox,
            reader: HeadReader::default(),
            encoder: Encoder::new(framing),
            decoder: None,
            for_head: request.method == Method::HEAD,
            asked: end,
            persistent: false,
        }
    }

    pub(super) fn send_body(&mut self, piece: Bytes, end: bool) -> Result<()> {
        self.asked |= end;
        let framed = self.outbox.push_framed(&mut self.encoder, piece, end);
        framed.or_err(ErrorType::InternalError, "a body is not as long as was announced")
    }

    pub(super) fn queued(&self) -> usize {
        self.outbox.len()
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.outbox.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(self.outbox.poll_empty(&mut self.connection.stream, cx));
        Poll::Ready(flushed.or_err(ErrorType::WriteError, "asking an origin").map_err(Error::into_up))
    }

    pub(super) fn has_answered(&self) -> bool {
        self.decoder.is_some() || !self.connection.inbox.is_empty()
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event>> {
        loop {
            if let Some(event) = self.take()? {
                return Poll::Ready(Ok(event));
            }
            let Http1 { stream, inbox, .. } = &mut self.connection;
            let read = ready!(poll_fill(stream, inbox, AT_A_TIME, cx));
            if read.or_err(ErrorType::ReadError, "reading an answer").map_err(Error::into_up)? == 0 {
                return Poll::Ready(self.ended());
            }
        }
    }

    /// What the inbox holds.
    fn take(&mut self) -> Result<Option<Event>> {
        let inbox = &mut self.connection.inbox;
        let Some(decoder) = &mut self.decoder else { return self.take_head() };
        match decoder.decode(inbox).map_err(|_| malformed())? {
            Decoded::Piece(piece) => Ok(Some(Event::Piece(piece, decoder.is_done()))),
            Decoded::End => Ok(Some(Event::End)),
            Decoded::More => Ok(None),
        }
    }

    fn take_head(&mut self) -> Result<Option<Event>> {
        let inbox = &mut self.connection.inbox;
        if inbox.is_empty() {
            return Ok(None);
        }
        let Some(mut head) = self.reader.response(inbox, FIELDS).map_err(|_| malformed())? else {
            return if inbox.len() > HEADER_BYTES { Err(malformed()) } else { Ok(None) };
        };
        if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
            self.reader = HeadReader::default();
            return Ok(Some(Event::Interim(head)));
        }
        let decoder = Decoder::new(self.framing_of(&mut head)?);
        let bare = decoder.is_done();
        self.decoder = Some(decoder);
        Ok(Some(Event::Head(head, bare)))
    }

    fn framing_of(&mut self, head: &mut ResponseHead) -> Result<Framing> {
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            self.encoder = Encoder::new(Framing::UntilClose);
            return Ok(Framing::UntilClose);
        }
        self.persistent = is_persistent(head.version, &head.headers);
        let framed = response_framing(self.for_head, head).map_err(|_| malformed())?;
        self.persistent &= !framed.close;
        Ok(framed.framing)
    }

    /// The origin has closed the connection.
    fn ended(&mut self) -> Result<Event> {
        let ended = self.decoder.as_mut().is_some_and(|decoder| decoder.end_of_stream().is_ok());
        if ended { Ok(Event::End) } else { Err(Error::new_up(ErrorType::ConnectionClosed)) }
    }

    /// The connection, if another request may follow on it.
    pub(crate) fn into_connection(self) -> Option<Http1> {
        let done = self.asked && self.decoder.as_ref().is_some_and(Decoder::is_done);
        let clean = self.outbox.is_empty() && self.connection.inbox.is_empty();
        (self.persistent && done && clean).then_some(self.connection)
    }
}

fn malformed() -> Box<Error> {
    Error::new_up(ErrorType::InvalidHTTPHeader)
}
