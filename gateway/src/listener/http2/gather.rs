//! One write for everything that a connection has to say in one turn.
//!
//! The library flushes after nearly every DATA frame, and each flush would be a TLS record and a call to the system of its
//! own. So its flushes are not heard: what it writes waits here, and leaves when the connection has nothing more to add, in
//! records as large as TLS has them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is gathered at most: the largest plaintext of a TLS record (RFC 8446 §5.1).
const RECORD: usize = 16 << 10;

/// Room for a few answers; what is larger grows once.
const USUAL: usize = 1024;

/// A transport that two handles share: the library's, which reads and writes, and that of whoever sends.
///
/// Only one task has both, so that the lock is never waited for.
pub(super) struct Gather<S>(Arc<Mutex<Io<S>>>);

struct Io<S> {
    stream: S,
    /// Written and not sent; without memory while there is nothing.
    bytes: Vec<u8>,
    sent: usize,
    /// Whether the stream below was written to and not flushed.
    unflushed: bool,
}

impl<S> Gather<S> {
    pub(super) fn new(stream: S) -> Self {
        Self(Arc::new(Mutex::new(Io { stream, bytes: Vec::new(), sent: 0, unflushed: false })))
    }

    /// Another handle on the same transport.
    pub(super) fn share(&self) -> Self {
        Self(self.0.clone())
    }

    /// Whether anything waits to be sent.
    pub(super) fn has_more(&self) -> bool {
        let io = self.0.lock();
        io.waiting() > 0 || io.unflushed
    }
}

impl<S: AsyncWrite + Unpin> Gather<S> {
    /// Sends all that waits.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().poll_send(cx)
    }
}

impl<S> Io<S> {
    fn waiting(&self) -> usize {
        self.bytes.len() - self.sent
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
            (self.bytes, self.sent) = (Vec::new(), 0);
        } else if self.sent > self.bytes.len() / 2 {
            // Else it would grow for as long as something waits.
            self.bytes.drain(..std::mem::take(&mut self.sent));
        }
    }
}

impl<S: AsyncWrite + Unpin> Io<S> {
    /// Takes bytes; a whole record's worth is sent.
    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let waiting = self.waiting();
            if waiting + buf.len() < RECORD {
                self.add(buf);
                return Poll::Ready(Ok(buf.len()));
            }
            self.unflushed = true;
            let ours = &buf[..RECORD.saturating_sub(waiting).min(buf.len())];
            if waiting == 0 {
                return Pin::new(&mut self.stream).poll_write(cx, ours);
            }
            let both = [IoSlice::new(&self.bytes[self.sent..]), IoSlice::new(ours)];
            let sent = some(ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &both))?)?;
            self.advance(sent.min(waiting));
            if sent > waiting {
                return Poll::Ready(Ok(sent - waiting));
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.waiting() > 0 {
            self.unflushed = true;
            let rest = &self.bytes[self.sent..];
            let sent = some(ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?)?;
            self.advance(sent);
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

/// A transport that takes nothing more will never take anything.
fn some(sent: usize) -> io::Result<usize> {
    if sent == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(sent) }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gather<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().poll_write(cx, buf)
    }

    /// Nothing leaves yet.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = self.0.lock();
        ready!(io.poll_send(cx))?;
        Pin::new(&mut io.stream).poll_shutdown(cx)
    }

    /// Slices are no use where small ones are copied: without them, the library puts bodies below 1 KiB beside their
    /// header at once.
    fn is_write_vectored(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::wire::slow::Slow;

    fn slow(at_a_time: usize) -> Gather<Slow> {
        Gather::new(Slow::taking(at_a_time))
    }

    fn write_all(to: &mut Gather<Slow>, mut bytes: &[u8]) {
        let mut cx = Context::from_waker(Waker::noop());
        while !bytes.is_empty() {
            if let Poll::Ready(taken) = Pin::new(&mut *to).poll_write(&mut cx, bytes) {
                bytes = &bytes[taken.unwrap()..];
            }
        }
    }

    fn send(to: &Gather<Slow>) {
        while to.poll_send(&mut Context::from_waker(Waker::noop())).is_pending() {}
    }

    #[test]
    fn what_is_written_in_a_turn_leaves_in_one_write() {
        let mut to = slow(usize::MAX);
        for piece in ["head, ", "body, ", "head, ", "body"] {
            write_all(&mut to, piece.as_bytes());
            let flushed = Pin::new(&mut to).poll_flush(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(flushed, Poll::Ready(Ok(()))));
        }
        assert!(to.has_more() && to.0.lock().stream.writes.is_empty());
        send(&to);
        assert_eq!(to.0.lock().stream.writes, [b"head, body, head, body"]);
        assert!(!to.has_more() && to.0.lock().bytes.capacity() == 0);
    }

    #[test]
    fn bulk_leaves_in_whole_records() {
        let mut to = slow(usize::MAX);
        for _ in 0..4 {
            write_all(&mut to, &[1; 1033]);
            write_all(&mut to, &[2; 15_360]);
        }
        send(&to);
        let lengths: Vec<usize> = to.0.lock().stream.writes.iter().map(Vec::len).collect();
        assert_eq!(lengths, [RECORD, RECORD, RECORD, RECORD, 4 * 9]);
    }

    #[test]
    fn a_client_that_is_always_behind_costs_no_more_than_what_waits() {
        let mut to = slow(1000);
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..2000 {
            if to.0.lock().waiting() < RECORD / 2 {
                write_all(&mut to, &[1; 1500]);
            }
            assert!(to.poll_send(&mut cx).is_pending());
            let held = to.0.lock().bytes.capacity();
            assert!(held <= 4 * RECORD, "{held} bytes are held");
        }
    }

    #[test]
    fn bytes_of_every_size_arrive_once_and_in_order_through_a_slow_transport() {
        let mut to = slow(1000);
        let mut written = Vec::new();
        for (round, size) in [1, 300, 5000, RECORD - 1, RECORD, RECORD + 1, 70_000, 7].into_iter().enumerate()
        {
            let piece: Vec<u8> = (0..size).map(|byte| (byte + round) as u8).collect();
            write_all(&mut to, &piece);
            written.extend(piece);
            if round % 3 == 0 {
                send(&to);
            }
        }
        send(&to);
        assert!(to.0.lock().stream.writes.concat() == written);
    }
}
