//! A transport for tests that is in no hurry.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

/// Takes so many bytes at a time, every second time it is asked, and remembers each write.
#[derive(Debug)]
pub(crate) struct Slow {
    at_a_time: usize,
    asked: usize,
    pub(crate) writes: Vec<Vec<u8>>,
    /// Whether it holds back what it took.
    pub(crate) holds: bool,
}

impl Slow {
    pub(crate) fn taking(at_a_time: usize) -> Self {
        Self { at_a_time, asked: 0, writes: Vec::new(), holds: false }
    }

    /// All that was written.
    pub(crate) fn taken(&self) -> Vec<u8> {
        self.writes.concat()
    }
}

impl AsyncWrite for Slow {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.asked += 1;
        if self.asked.is_multiple_of(2) {
            return Poll::Pending;
        }
        let taken = buf.len().min(self.at_a_time);
        self.writes.push(buf[..taken].to_vec());
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.holds { Poll::Pending } else { Poll::Ready(Ok(())) }
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
