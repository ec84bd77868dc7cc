//! Both directions of one attempt at once, in one place: the request on its way to the origin, the answer on its way to
//! the client.
//!
//! Each side is read only while the other one has room, and never waited for: whatever can move moves, and when nothing
//! can it is known who is waited for, and for how long. Nothing is spawned and nothing is handed over.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context as Task, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use gateway_core::http1::ResponseHead;
use http::{HeaderMap, Method, StatusCode};
use pingora::{Error, Result};

use super::attempt;
use super::context::Context;
use super::patience::{Patience, Wait};
use super::{forward, mirror, shape};
use crate::listener::client::Client;
use crate::upstream::TUNNEL_IDLE;
use crate::upstream::origin::{Event, Origin};
use crate::wire::ROOM;

/// One attempt under way.
pub(super) struct Relay<'a> {
    client: &'a mut Client,
    origin: &'a mut Origin,
    ctx: &'a mut Context,
    patience: Patience,
    /// When something moved last, but for the request's header, which leaves at once.
    moved: Instant,
    begun: bool,
    /// Whether the origin was given all of the request.
    uploaded: bool,
    /// Why the origin takes no more of it; it may have answered all the same.
    refused: Option<Box<Error>>,
    /// Whether the answer has begun.
    answering: bool,
    /// Whether the answer is whole.
    ended: bool,
    tunnel: Option<Tunnel>,
}

/// A WebSocket that both sides have agreed on.
struct Tunnel {
    /// The release was rolled back, and had its time.
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<'a> Relay<'a> {
    /// The request's header is queued at `origin` already, as of `now`.
    pub(super) fn new(
        client: &'a mut Client,
        origin: &'a mut Origin,
        ctx: &'a mut Context,
        now: Instant,
    ) -> Self {
        let attempt = ctx.attempt.as_ref();
        Self {
            patience: attempt.map(|attempt| attempt.patience).unwrap_or_default(),
            moved: now,
            begun: false,
            uploaded: ctx.body.is_given(),
            refused: None,
            answering: false,
            ended: false,
            tunnel: None,
            client,
            origin,
            ctx,
        }
    }

    /// Ends when the answer is with the client.
    ///
    /// # Errors
    /// Whoever broke it off, or was silent for too long; or an answer that is not passed on.
    pub(super) async fn run(mut self) -> Result<()> {
        if !self.uploaded && matches!(self.origin, Origin::Http2(_)) {
            forward::leave_to_send(self.client)?;
        }
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Task<'_>) -> Poll<Result<()>> {
        loop {
            let uploaded = self.uploaded;
            let up = self.upload(cx)?;
            let down = self.download(cx)?;
            if self.is_over() {
                return Poll::Ready(Ok(()));
            }
            if std::mem::replace(&mut self.begun, true) && (up || down) {
                self.moved = Instant::now();
            }
            if uploaded && !self.uploaded {
                // A tunnel is open, and nobody has asked the client yet what it has for it.
                continue;
            }
            ready!(self.watch(cx))?;
        }
    }

    /// Whether the client has all of the answer; and the origin, of a tunnel that the client has ended, what came before.
    fn is_over(&self) -> bool {
        let owes = self.tunnel.is_some() && self.uploaded && self.refused.is_none();
        self.ended && self.client.queued() == 0 && !(owes && self.origin.queued() > 0)
    }

    /// Moves what can be moved of the request; says whether anything did.
    fn upload(&mut self, cx: &mut Task<'_>) -> Result<bool> {
        let mut moved = false;
        while self.refused.is_none() {
            let mut starved = self.uploaded;
            while !starved && self.origin.queued() < ROOM {
                let next = self.poll_piece(cx)?;
                starved = next.is_pending();
                if let Poll::Ready((piece, end)) = next {
                    self.send(piece, end)?;
                    (moved, starved) = (true, end);
                }
            }
            let before = self.origin.queued();
            let flushed = self.origin.poll_flush(cx);
            moved |= self.origin.queued() < before;
            match flushed {
                Poll::Ready(Err(error)) => self.refused = Some(error),
                Poll::Ready(Ok(())) if !starved => {}
                _ => break,
            }
        }
        Ok(moved)
    }

    /// The next piece of the request's body, and whether it is the last one.
    fn poll_piece(&mut self, cx: &mut Task<'_>) -> Result<Poll<(Bytes, bool)>> {
        let body = &mut self.ctx.body;
        if let Some(kept) = body.next_kept() {
            return Ok(Poll::Ready((kept, body.is_given())));
        }
        let Poll::Ready(piece) = self.client.poll_body(cx)? else { return Ok(Poll::Pending) };
        let end = piece.is_none() || self.client.is_body_done();
        let piece = piece.unwrap_or_default();
        if self.tunnel.is_none() {
            body.keep(&piece);
        }
        body.done = end;
        Ok(Poll::Ready((piece, end)))
    }

    fn send(&mut self, piece: Bytes, end: bool) -> Result<()> {
        self.uploaded = end;
        if self.tunnel.is_some() {
            self.ended |= end;
            return self.origin.send_body(piece, false);
        }
        forward::request_body(&piece, self.ctx)?;
        mirror::body(&piece, end, self.ctx);
        self.origin.send_body(piece, end)
    }

    /// The same for the answer.
    fn download(&mut self, cx: &mut Task<'_>) -> Result<bool> {
        let mut moved = false;
        loop {
            let mut starved = self.ended;
            while !starved && self.client.queued() < ROOM {
                let next = self.origin.poll_next(cx);
                starved = next.is_pending();
                if let Poll::Ready(event) = next {
                    let event = event.map_err(|error| self.refused.take().unwrap_or(error))?;
                    self.answer(event)?;
                    (moved, starved) = (true, self.ended);
                }
            }
            let before = self.client.queued();
            let flushed = self.client.poll_flush(cx)?;
            moved |= self.client.queued() < before;
            if starved || flushed.is_pending() {
                return Ok(moved);
            }
        }
    }

    fn answer(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Interim(mut head) => {
                forward::interim(&mut head.headers);
                self.client.send_interim(head)
            }
            Event::Head(head, end) => self.begin_answer(head, end),
            Event::Piece(piece, end) => self.pass(Some(piece), end),
            Event::End => self.pass(None, true),
            Event::Trailers(trailers) => self.end_with(trailers),
        }
    }

    fn begin_answer(&mut self, mut head: ResponseHead, end: bool) -> Result<()> {
        attempt::answered(self.client, &head, self.ctx)?;
        self.answering = true;
        forward::response(&mut head, self.ctx);
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return self.open_tunnel(head);
        }
        shape::compress::response(self.client.request(), &mut head, self.ctx);
        // A coding has an end even where there was nothing to code.
        let bare = end && (self.ctx.compression.is_none() || self.client.request().method == Method::HEAD);
        self.client.send_head(head, bare)?;
        self.ended = bare;
        if end && !bare { self.pass(None, true) } else { Ok(()) }
    }

    fn open_tunnel(&mut self, head: ResponseHead) -> Result<()> {
        self.client.send_head(head, false)?;
        self.client.tunnel();
        let retirement = self.ctx.chosen.as_ref().map(|chosen| chosen.release.retirement.clone());
        let over: Pin<Box<dyn Future<Output = ()> + Send>> = match retirement {
            Some(retirement) => Box::pin(retirement.over()),
            None => Box::pin(std::future::pending()),
        };
        self.tunnel = Some(Tunnel { over });
        self.uploaded = false;
        Ok(())
    }

    /// A piece of the answer's body, and whether it is the last one.
    fn pass(&mut self, mut piece: Option<Bytes>, end: bool) -> Result<()> {
        if self.tunnel.is_some() {
            self.ctx.frames.feed(piece.as_deref().unwrap_or_default());
        } else {
            attempt::progressed(end, self.ctx)?;
            shape::compress::body(&mut piece, end, self.ctx)?;
        }
        self.ended = end;
        self.client.send_body(piece.unwrap_or_default(), end)
    }

    fn end_with(&mut self, trailers: HeaderMap) -> Result<()> {
        let mut rest = None;
        shape::compress::body(&mut rest, true, self.ctx)?;
        if let Some(rest) = rest {
            self.client.send_body(rest, false)?;
        }
        self.ended = true;
        self.client.send_trailers(trailers)
    }

    /// Nothing can move: looks whether anything ever will. Ready when there is something to do again.
    fn watch(&mut self, cx: &mut Task<'_>) -> Poll<Result<()>> {
        if let Some(tunnel) = &mut self.tunnel {
            if self.ended {
                // One side is gone; the other one takes what is left.
            } else if tunnel.over.as_mut().poll(cx).is_ready() {
                self.ended = true;
                let goodbye = attempt::goodbye(&self.ctx.frames);
                return Poll::Ready(self.client.send_body(goodbye, true));
            }
        } else if let Poll::Ready(left) = self.client.poll_gone(cx) {
            return Poll::Ready(Err(left));
        }
        let wait = self.wait();
        let due = match &self.tunnel {
            Some(_) if self.ended => self.moved + self.patience.of(wait),
            Some(_) => self.moved + TUNNEL_IDLE,
            None => self.due(wait),
        };
        ready!(self.client.timer().poll(due, cx));
        if self.tunnel.is_some() && !self.ended {
            // Nobody's fault: the two have nothing to say to one another.
            self.ended = true;
            return Poll::Ready(self.client.send_body(Bytes::new(), true));
        }
        Poll::Ready(Err(wait.error()))
    }

    fn due(&self, wait: Wait) -> Instant {
        let due = self.moved + self.patience.of(wait);
        self.ctx.deadline.map_or(due, |end| due.min(end))
    }

    /// Who is waited for.
    fn wait(&self) -> Wait {
        if self.client.queued() > 0 {
            Wait::ClientTakes
        } else if self.origin.queued() > 0 && self.refused.is_none() {
            Wait::OriginTakes
        } else if self.answering {
            Wait::Answer { uploading: !self.uploaded }
        } else if self.uploaded || self.refused.is_some() {
            Wait::FirstByte
        } else {
            Wait::ClientSends
        }
    }
}
