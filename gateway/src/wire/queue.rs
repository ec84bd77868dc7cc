//! Bytes on their way out: small ones are gathered, so that a header and a short body leave in one packet and one TLS
//! record; large ones go as they are.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use gateway_core::http1::{BadBody, Encoder};
use tokio::io::AsyncWrite;

/// Up to this size a piece is copied behind what waits already, which is cheaper than a place of its own.
const SMALL: usize = 4096;

/// Pieces that one call of the system takes.
const AT_ONCE: usize = 16;

/// What waits to be written. Holds no memory while nothing does.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// In order, before `tail`.
    parts: VecDeque<Bytes>,
    tail: Vec<u8>,
    /// Bytes of `tail` that are written.
    written: usize,
    /// Bytes in all.
    bytes: usize,
    /// Whether something was written that TLS may hold back.
    unflushed: bool,
}

impl Queue {
    /// How many bytes wait; all that TLS holds back counts as one.
    pub(crate) fn len(&self) -> usize {
        self.bytes + usize::from(self.unflushed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets `write` append to what waits.
    pub(crate) fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.tail.len();
        write(&mut self.tail);
        self.bytes += self.tail.len() - before;
    }

    /// Appends bytes, of which it keeps a copy.
    pub(crate) fn copy(&mut self, bytes: &[u8]) {
        self.write(|tail| tail.extend_from_slice(bytes));
    }

    /// Appends a piece.
    pub(crate) fn push(&mut self, piece: Bytes) {
        if piece.len() <= SMALL {
            return self.copy(&piece);
        }
        self.close_tail();
        self.bytes += piece.len();
        self.parts.push_back(piece);
    }

    /// Appends a piece of a body, which may be empty, as its framing has it; `end` says that it is the last one.
    ///
    /// # Errors
    /// When the body is longer or shorter than was announced.
    pub(crate) fn push_framed(
        &mut self,
        encoder: &mut Encoder,
        piece: Bytes,
        end: bool,
    ) -> Result<(), BadBody> {
        if !piece.is_empty() {
            let (before, after) = encoder.piece(piece.len())?;
            self.copy(&before);
            self.push(piece);
            self.copy(after);
        }
        if end {
            self.copy(encoder.end()?);
        }
        Ok(())
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            let mut tail = Bytes::from(std::mem::take(&mut self.tail));
            tail.advance(std::mem::take(&mut self.written));
            self.parts.push_back(tail);
        }
    }

    /// Writes as much as is taken; ready when nothing is left, here or below.
    pub(crate) fn poll_empty<T: AsyncWrite + Unpin>(
        &mut self,
        to: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.bytes > 0 {
            let written = ready!(self.poll_write(to, cx))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write<T: AsyncWrite + Unpin>(
        &mut self,
        to: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let tail = &self.tail[self.written..];
        if self.parts.is_empty() {
            return Pin::new(to).poll_write(cx, tail);
        }
        let mut slices = [IoSlice::new(&[]); AT_ONCE];
        let pieces = self.parts.iter().map(|part| &part[..]).chain([tail]);
        let count = slices.iter_mut().zip(pieces).map(|(slice, piece)| *slice = IoSlice::new(piece)).count();
        Pin::new(to).poll_write_vectored(cx, &slices[..count])
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(first) = self.parts.front_mut() {
            if written < first.len() {
                return first.advance(written);
            }
            written -= first.len();
            self.parts.pop_front();
        }
        self.written += written;
        if self.written == self.tail.len() {
            (self.tail, self.written) = (Vec::new(), 0);
        } else if self.written > self.tail.len() / 2 {
            // Else it would grow for as long as something waits: with a slow reader, to all that was ever sent.
            self.tail.drain(..std::mem::take(&mut self.written));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::wire::slow::Slow;

    const AT_A_TIME: usize = 1000;

    fn empty(queue: &mut Queue, to: &mut Slow) {
        while queue.poll_empty(to, &mut Context::from_waker(Waker::noop())).is_pending() {}
    }

    #[test]
    fn a_header_and_a_short_body_leave_together_and_hold_no_memory_afterwards() {
        let (mut queue, mut to) = (Queue::default(), Slow::taking(AT_A_TIME));
        queue.copy(b"header, ");
        queue.push(Bytes::from_static(b"body"));
        assert_eq!((queue.len(), to.writes.len()), (12, 0));
        empty(&mut queue, &mut to);
        assert_eq!((to.taken(), to.writes.len(), queue.len()), (b"header, body".to_vec(), 1, 0));
        assert_eq!(queue.tail.capacity(), 0);
    }

    /// What TLS held back stayed there while nothing else was to be sent.
    #[test]
    fn what_the_transport_holds_back_still_waits() {
        let (mut queue, mut to) = (Queue::default(), Slow::taking(AT_A_TIME));
        to.holds = true;
        let mut cx = Context::from_waker(Waker::noop());
        queue.copy(b"answer");
        assert!(queue.poll_empty(&mut to, &mut cx).is_pending());
        assert_eq!((to.taken(), queue.len(), queue.is_empty()), (b"answer".to_vec(), 1, false));
        to.holds = false;
        assert!(queue.poll_empty(&mut to, &mut cx).is_ready());
        assert!(queue.is_empty());
    }

    /// Small pieces were kept for as long as the queue was never empty.
    #[test]
    fn a_reader_that_is_always_behind_costs_no_more_than_what_waits() {
        let (mut queue, mut to) = (Queue::default(), Slow::taking(AT_A_TIME));
        let mut cx = Context::from_waker(Waker::noop());
        let (mut sent, mut round) = (Vec::new(), 0);
        while sent.len() < 1 << 20 {
            while queue.len() < 32 << 10 {
                let piece = vec![round as u8; 777];
                sent.extend_from_slice(&piece);
                queue.push(piece.into());
                round += 1;
            }
            assert!(queue.poll_empty(&mut to, &mut cx).is_pending());
            assert!(queue.tail.capacity() <= 128 << 10, "{} bytes are held", queue.tail.capacity());
        }
        empty(&mut queue, &mut to);
        assert!(to.taken() == sent);
    }

    #[test]
    fn bytes_of_every_size_arrive_once_and_in_order_through_a_slow_transport() {
        let (mut queue, mut to) = (Queue::default(), Slow::taking(AT_A_TIME));
        let mut sent = Vec::new();
        for (round, size) in [1, 300, 4000, 5000, 10, SMALL, SMALL + 1, 20_000, 7].into_iter().enumerate() {
            let piece: Vec<u8> = (0..size).map(|byte| (byte + round) as u8).collect();
            queue.push(piece.clone().into());
            sent.extend(piece);
            if round % 3 == 0 {
                let _ = queue.poll_empty(&mut to, &mut Context::from_waker(Waker::noop()));
            }
        }
        empty(&mut queue, &mut to);
        assert!(to.taken() == sent);
    }
}
