//! Small writes on their way out, gathered so that a header and a short body leave in one packet and one TLS record.
//!
//! Holds memory only between a write and its flush: an idle connection has none.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

/// What is gathered at most; larger writes go out at once, together with what waits.
const MOST: usize = 4096;

/// Room for the header of an answer and a little more.
const USUAL: usize = 1024;

/// Bytes that were written and not sent.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.bytes.len() + bytes <= MOST
    }

    fn add(&mut self, bytes: &[u8]) {
        if self.bytes.is_empty() {
            self.bytes.reserve_exact(bytes.len().max(USUAL));
        }
        self.bytes.extend_from_slice(bytes);
    }

    fn advance(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent == self.bytes.len() {
            *self = Self::default();
        }
    }

    /// Takes bytes, or sends them after what waits.
    pub(super) fn poll_write<T: AsyncWrite + Unpin>(
        &mut self,
        to: &mut T,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.has_room(buf.len()) {
            self.add(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        while !self.is_empty() {
            let both = [IoSlice::new(self.rest()), IoSlice::new(buf)];
            let sent = some(ready!(Pin::new(&mut *to).poll_write_vectored(cx, &both))?)?;
            let ours = sent.min(self.rest().len());
            self.advance(ours);
            if sent > ours {
                return Poll::Ready(Ok(sent - ours));
            }
        }
        Pin::new(to).poll_write(cx, buf)
    }

    /// The same for bytes in several places.
    pub(super) fn poll_write_vectored<T: AsyncWrite + Unpin>(
        &mut self,
        to: &mut T,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = bufs.iter().map(|buf| buf.len()).sum();
        if self.has_room(bytes) {
            bufs.iter().for_each(|buf| self.add(buf));
            return Poll::Ready(Ok(bytes));
        }
        ready!(self.poll_empty(to, cx))?;
        Pin::new(to).poll_write_vectored(cx, bufs)
    }

    /// Sends all that waits.
    pub(super) fn poll_empty<T: AsyncWrite + Unpin>(
        &mut self,
        to: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let sent = some(ready!(Pin::new(&mut *to).poll_write(cx, self.rest()))?)?;
            self.advance(sent);
        }
        Poll::Ready(Ok(()))
    }
}

/// A transport that takes nothing more will never take anything.
fn some(sent: usize) -> io::Result<usize> {
    if sent == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(sent) }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes a few bytes at a time, every second time it is asked, and remembers each write.
    #[derive(Default)]
    struct Slow {
        taken: Vec<u8>,
        writes: usize,
        asked: usize,
    }

    const AT_A_TIME: usize = 1000;

    impl AsyncWrite for Slow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.asked += 1;
            if self.asked.is_multiple_of(2) {
                return Poll::Pending;
            }
            let taken = buf.len().min(AT_A_TIME);
            self.taken.extend_from_slice(&buf[..taken]);
            self.writes += 1;
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
            self.poll_write(cx, &all)
        }

        fn is_write_vectored(&self) -> bool {
            true
        }
    }

    fn write_all(outbox: &mut Outbox, to: &mut Slow, mut bytes: &[u8]) {
        let mut cx = Context::from_waker(Waker::noop());
        while !bytes.is_empty() {
            if let Poll::Ready(taken) = outbox.poll_write(to, &mut cx, bytes) {
                bytes = &bytes[taken.unwrap()..];
            }
        }
    }

    fn empty(outbox: &mut Outbox, to: &mut Slow) {
        while outbox.poll_empty(to, &mut Context::from_waker(Waker::noop())).is_pending() {}
    }

    #[test]
    fn small_writes_leave_together_and_hold_no_memory_afterwards() {
        let (mut outbox, mut to) = (Outbox::default(), Slow::default());
        write_all(&mut outbox, &mut to, b"header, ");
        write_all(&mut outbox, &mut to, b"body");
        assert_eq!(to.writes, 0);
        empty(&mut outbox, &mut to);
        assert_eq!((to.taken.as_slice(), to.writes), (&b"header, body"[..], 1));
        assert_eq!(outbox.bytes.capacity(), 0);
    }

    #[test]
    fn bytes_of_every_size_arrive_once_and_in_order_through_a_slow_transport() {
        let (mut outbox, mut to) = (Outbox::default(), Slow::default());
        let mut sent = Vec::new();
        for (round, size) in [1, 300, 4000, 5000, 10, MOST, MOST + 1, 20_000, 7].into_iter().enumerate() {
            let piece: Vec<u8> = (0..size).map(|byte| (byte + round) as u8).collect();
            write_all(&mut outbox, &mut to, &piece);
            sent.extend(piece);
            if round % 3 == 0 {
                empty(&mut outbox, &mut to);
            }
        }
        let mut cx = Context::from_waker(Waker::noop());
        let parts = [IoSlice::new(b"and "), IoSlice::new(b"parts")];
        assert!(matches!(outbox.poll_write_vectored(&mut to, &mut cx, &parts), Poll::Ready(Ok(9))));
        sent.extend(b"and parts");
        empty(&mut outbox, &mut to);
        assert!(to.taken == sent);
    }
}
