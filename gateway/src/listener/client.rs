//! A client's request and the answer it gets, whatever protocol they are told in.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use gateway_core::http1::ResponseHead;
use http::{HeaderMap, StatusCode};
use pingora::{Error, Result};

use super::connection::Connection;
use super::{http1, http2};
use crate::message::Request;
use crate::wire::Timer;

/// One request and its answer.
///
/// Everything that is sent is queued and leaves with [`Self::poll_flush`]; who sends looks at [`Self::queued`] before there
/// is more.
pub(crate) enum Client {
    /// Alone on its connection for the time being.
    Http1(http1::Exchange),
    /// A stream of many.
    Http2(http2::Exchange),
}

macro_rules! either {
    ($client:expr, $exchange:ident => $does:expr) => {
        match $client {
            Client::Http1($exchange) => $does,
            Client::Http2($exchange) => $does,
        }
    };
}

impl Client {
    pub(crate) fn request(&self) -> &Request {
        either!(self, exchange => exchange.request())
    }

    pub(crate) fn request_mut(&mut self) -> &mut Request {
        either!(self, exchange => exchange.request_mut())
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        either!(self, exchange => exchange.connection())
    }

    /// For all that is waited for while the request is served.
    pub(crate) fn timer(&mut self) -> &mut Timer {
        either!(self, exchange => exchange.timer())
    }

    /// Whether nothing of the request is still to be read.
    pub(crate) fn is_body_done(&self) -> bool {
        either!(self, exchange => exchange.is_body_done())
    }

    /// The next piece of the request's body; none at its end.
    ///
    /// # Errors
    /// The client has left, or what it sends is no body.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        either!(self, exchange => exchange.poll_body(cx))
    }

    /// Ready when the client has left; over HTTP/1 that is not seen before all of its request is read.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Box<Error>> {
        either!(self, exchange => exchange.poll_gone(cx))
    }

    /// The status of the answer, once its header is queued.
    pub(crate) fn answered(&self) -> Option<StatusCode> {
        either!(self, exchange => exchange.answered())
    }

    /// Bytes of the answer's body that were queued so far.
    pub(crate) fn body_sent(&self) -> u64 {
        either!(self, exchange => exchange.body_sent())
    }

    /// Bytes that wait for the client to take them.
    pub(crate) fn queued(&self) -> usize {
        either!(self, exchange => exchange.queued())
    }

    /// Ends an HTTP/1 connection after this answer.
    pub(crate) fn close(&mut self) {
        if let Self::Http1(exchange) = self {
            exchange.close();
        }
    }

    /// The client is waited for no more: what it has not taken is not sent.
    pub(crate) fn give_up(&mut self) {
        if let Self::Http1(exchange) = self {
            exchange.give_up();
        }
    }

    /// The answer was a switch to another protocol: from here on bytes go both ways until one side ends.
    pub(crate) fn tunnel(&mut self) {
        if let Self::Http1(exchange) = self {
            exchange.tunnel();
        }
    }

    /// An interim answer (1xx); there may be any number before the final one.
    ///
    /// # Errors
    /// The client has left.
    pub(crate) fn send_interim(&mut self, head: ResponseHead) -> Result<()> {
        match self {
            Self::Http1(exchange) => {
                exchange.send_interim(&head);
                Ok(())
            }
            Self::Http2(exchange) => exchange.send_interim(head),
        }
    }

    /// The header of the answer; with `end` there is no body.
    ///
    /// # Errors
    /// The client has left.
    pub(crate) fn send_head(&mut self, head: ResponseHead, end: bool) -> Result<()> {
        match self {
            Self::Http1(exchange) => {
                exchange.send_head(head, end);
                Ok(())
            }
            Self::Http2(exchange) => exchange.send_head(head, end),
        }
    }

    /// A piece of the answer's body, which may be empty; `end` says that it is the last one.
    ///
    /// # Errors
    /// The client has left, or the body is not as long as was announced.
    pub(crate) fn send_body(&mut self, piece: Bytes, end: bool) -> Result<()> {
        either!(self, exchange => exchange.send_body(piece, end))
    }

    /// Ends the answer with trailers, where the protocol has them; over HTTP/1 they are left out.
    ///
    /// # Errors
    /// As [`Self::send_body`].
    pub(crate) fn send_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        match self {
            Self::Http1(exchange) => exchange.send_body(Bytes::new(), true),
            Self::Http2(exchange) => exchange.send_trailers(trailers),
        }
    }

    /// Ready when everything that was queued has left.
    ///
    /// # Errors
    /// The client has left.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        either!(self, exchange => exchange.poll_flush(cx))
    }
}
