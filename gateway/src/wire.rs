//! What both ends of a request have in common: bytes that wait to be written, bytes that were read, and one timer.

mod queue;
mod timer;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};

pub(crate) use self::queue::Queue;
pub(crate) use self::timer::Timer;

/// More is not taken in from one side while this much waits for the other.
pub(crate) const ROOM: usize = 64 << 10;

/// Reads what there is, at most what `inbox` has room for once `at_least` bytes of it are free; 0 at the end.
pub(crate) fn poll_fill<T: AsyncRead + Unpin>(
    from: &mut T,
    inbox: &mut BytesMut,
    at_least: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    inbox.reserve(at_least);
    // SAFETY: `ReadBuf` never takes initialised bytes back, and nothing is read from the others.
    let free = unsafe { inbox.chunk_mut().as_uninit_slice_mut() };
    let mut buf = ReadBuf::uninit(free);
    ready!(Pin::new(from).poll_read(cx, &mut buf))?;
    let read = buf.filled().len();
    // SAFETY: so many bytes were just initialised behind the filled part.
    unsafe { inbox.advance_mut(read) };
    Poll::Ready(Ok(read))
}
