//! A request to an origin and the answer it gives, whatever protocol they are told in.

pub(crate) mod http1;
pub(crate) mod http2;

use std::task::{Context, Poll};

use bytes::Bytes;
use gateway_core::http1::ResponseHead;
use http::HeaderMap;
use pingora::Result;

/// What an origin says next.
#[derive(Debug)]
pub(crate) enum Event {
    /// An interim answer (1xx).
    Interim(ResponseHead),
    /// The header of the answer, and whether that is all of it.
    Head(ResponseHead, bool),
    /// A piece of the body, and whether it is known to be the last one.
    Piece(Bytes, bool),
    /// The end, with trailers.
    Trailers(HeaderMap),
    /// The end.
    End,
}

/// One request on a connection to an origin. All errors are the origin's.
///
/// As with [`crate::listener::client::Client`], what is sent is queued and leaves with [`Self::poll_flush`].
pub(crate) enum Origin {
    /// Alone on its connection for the time being.
    Http1(Box<http1::Exchange>),
    /// A stream of many.
    Http2(Box<http2::Exchange>),
}

macro_rules! either {
    ($origin:expr, $exchange:ident => $does:expr) => {
        match $origin {
            Origin::Http1($exchange) => $does,
            Origin::Http2($exchange) => $does,
        }
    };
}

impl Origin {
    /// A piece of the request's body, which may be empty; `end` says that it is the last one.
    ///
    /// # Errors
    /// When it is not as long as the request's header says.
    pub(crate) fn send_body(&mut self, piece: Bytes, end: bool) -> Result<()> {
        either!(self, exchange => exchange.send_body(piece, end))
    }

    /// Bytes that wait for the origin to take them.
    pub(crate) fn queued(&self) -> usize {
        either!(self, exchange => exchange.queued())
    }

    /// Ready when everything that was queued has left.
    ///
    /// # Errors
    /// The connection is broken.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        either!(self, exchange => exchange.poll_flush(cx))
    }

    /// What the origin says next. Not to be asked after the end.
    ///
    /// # Errors
    /// The connection is broken, or what comes is no answer.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event>> {
        either!(self, exchange => exchange.poll_next(cx))
    }

    /// Whether anything of an answer has come.
    pub(crate) fn has_answered(&self) -> bool {
        either!(self, exchange => exchange.has_answered())
    }
}
