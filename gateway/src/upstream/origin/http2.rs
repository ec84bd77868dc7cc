//! One request on a stream of an HTTP/2 connection.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use gateway_core::http1::ResponseHead;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, Version, header};
use pingora::{Error, ErrorType, Result};

use super::Event;
use crate::message::Request;
use crate::upstream::pool::{Http2, Place};

/// A request that waits for its answer, or gets it.
pub(crate) struct Exchange {
    /// Held until both directions have ended.
    _place: Place,
    response: ResponseFuture,
    /// There is none before the header of the answer.
    body: Option<RecvStream>,
    upload: SendStream<Bytes>,
    /// The piece that waits for the origin's window.
    waiting: Bytes,
    /// Whether the body ends with it.
    last: bool,
}

impl Exchange {
    /// Begins a request; `end` says that it has no body.
    ///
    /// # Errors
    /// When it cannot be told in HTTP/2, or the connection is broken.
    pub(crate) fn new(mut connection: Http2, request: Request, https: bool, end: bool) -> Result<Self> {
        let request = translated(request, https)?;
        let (response, upload) =
            connection.sender.send_request(request, end).map_err(|error| broken(&error))?;
        Ok(Self {
            _place: connection.place,
            response,
            body: None,
            upload,
            waiting: Bytes::new(),
            last: false,
        })
    }

    /// Takes a piece when none waits any more.
    pub(super) fn send_body(&mut self, piece: Bytes, end: bool) -> Result<()> {
        debug_assert!(self.waiting.is_empty(), "whoever sends waits for room");
        self.waiting = piece;
        self.last = end;
        if self.waiting.is_empty() && end {
            return self.upload.send_data(Bytes::new(), true).map_err(|error| broken(&error));
        }
        self.upload.reserve_capacity(self.waiting.len());
        Ok(())
    }

    /// One piece at a time waits here: as good as no room.
    pub(super) fn queued(&self) -> usize {
        if self.waiting.is_empty() { 0 } else { self.waiting.len().max(crate::wire::ROOM) }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        while !self.waiting.is_empty() {
            let room = match self.upload.capacity() {
                0 => match ready!(self.upload.poll_capacity(cx)) {
                    Some(room) => room.map_err(|error| broken(&error))?,
                    None => return Poll::Ready(Err(Error::new_up(ErrorType::ConnectionClosed))),
                },
                room => room,
            };
            let piece = self.waiting.split_to(room.min(self.waiting.len()));
            let last = self.last && self.waiting.is_empty();
            self.upload.send_data(piece, last).map_err(|error| broken(&error))?;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn has_answered(&self) -> bool {
        self.body.is_some()
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event>> {
        let Some(body) = &mut self.body else { return self.poll_head(cx) };
        match ready!(body.poll_data(cx)) {
            Some(Ok(piece)) => {
                // The window is the stream's own: it is given back as soon as the piece is ours.
                let _ = body.flow_control().release_capacity(piece.len());
                Poll::Ready(Ok(Event::Piece(piece, body.is_end_stream())))
            }
            Some(Err(error)) => Poll::Ready(Err(broken(&error))),
            None => {
                let trailers = ready!(body.poll_trailers(cx)).map_err(|error| broken(&error))?;
                Poll::Ready(Ok(trailers.map_or(Event::End, Event::Trailers)))
            }
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event>> {
        if let Poll::Ready(Some(Ok(interim))) = self.response.poll_informational(cx) {
            // RFC 9113 §8.6: a client over HTTP/1 would take it for its own switch.
            let is_switch = interim.status() == StatusCode::SWITCHING_PROTOCOLS;
            return Poll::Ready(if is_switch { Err(malformed()) } else { Ok(Event::Interim(head(interim))) });
        }
        let answer = ready!(Pin::new(&mut self.response).poll(cx)).map_err(|error| broken(&error))?;
        let (parts, body) = answer.into_parts();
        let end = body.is_end_stream();
        self.body = Some(body);
        Poll::Ready(Ok(Event::Head(head(Response::from_parts(parts, ())), end)))
    }
}

fn head(answer: Response<()>) -> ResponseHead {
    let (parts, ()) = answer.into_parts();
    ResponseHead { status: parts.status, reason: None, version: Version::HTTP_2, headers: parts.headers }
}

fn malformed() -> Box<Error> {
    Error::new_up(ErrorType::InvalidH2)
}

/// The request as HTTP/2 tells it (RFC 9113 §8.3.1): the host is in the target.
fn translated(request: Request, https: bool) -> Result<http::Request<()>> {
    let unfit = || Error::new_in(ErrorType::InvalidHTTPHeader);
    let Request { method, uri, mut headers, .. } = request;
    let host = host(&uri, &mut headers).ok_or_else(unfit)?;
    let scheme = if https { Scheme::HTTPS } else { Scheme::HTTP };
    let target = uri.into_parts().path_and_query.ok_or_else(unfit)?;
    let uri = Uri::builder().scheme(scheme).authority(host.as_bytes()).path_and_query(target);
    let mut request = http::Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri.build().map_err(|_| unfit())?;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers;
    Ok(request)
}

fn host(uri: &Uri, headers: &mut HeaderMap) -> Option<HeaderValue> {
    let named = headers.remove(header::HOST);
    let told = uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    named.or(told)
}

/// What became of a stream, in the words of the rest.
fn broken(error: &h2::Error) -> Box<Error> {
    let refused = error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM);
    let leaving = error.is_remote() && error.is_go_away();
    let kind = match error.reason() {
        _ if refused || leaving => ErrorType::ConnectionClosed,
        _ if error.is_io() => ErrorType::ReadError,
        Some(Reason::PROTOCOL_ERROR | Reason::COMPRESSION_ERROR | Reason::FRAME_SIZE_ERROR)
            if error.is_library() =>
        {
            ErrorType::InvalidH2
        }
        _ => ErrorType::H2Error,
    };
    // RFC 9113 §8.7: the origin has not begun with it, unless it leaves for an error.
    let untouched = refused || leaving && error.reason() == Some(Reason::NO_ERROR);
    let mut error = Error::explain(kind, error.to_string());
    error.as_up();
    error.set_retry(untouched);
    error
}
