//! What both ends of a request have in common: bytes that wait to be written, bytes that were read, and one timer.

mod queue;
#[cfg(test)]
pub(crate) mod slow;
mod timer;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, ReadBuf};

pub(crate) use self::queue::Queue;
pub(crate) use self::timer::Timer;

/// More is not taken in from one side while this much waits for the other.
pub(crate) const ROOM: usize = 64 << 10;

/// How long a connection may be silent before its other end is asked for a sign of life.
pub(crate) const SILENCE: Duration = Duration::from_secs(60);

/// Lets small packets leave at once, and notices within about a minute and a half that the host at the other end is gone.
pub(crate) fn prepare(socket: SockRef<'_>) -> io::Result<()> {
    let signs = TcpKeepalive::new().with_time(SILENCE).with_interval(Duration::from_secs(10)).with_retries(3);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&signs)
}

/// Reads what there is, at most what `inbox` has room for; 0 at the end. It gets room for `at_a_time` bytes when little is
/// left of it, not before: a piece of any size keeps all in memory that it was read into, and somebody may hold many.
pub(crate) fn poll_fill<T: AsyncRead + Unpin>(
    from: &mut T,
    inbox: &mut BytesMut,
    at_a_time: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    if inbox.capacity() - inbox.len() < at_a_time / 4 {
        inbox.reserve(at_a_time);
    }
    // SAFETY: `ReadBuf` never takes initialised bytes back, and nothing is read from the others.
    let free = unsafe { inbox.chunk_mut().as_uninit_slice_mut() };
    let mut buf = ReadBuf::uninit(free);
    ready!(Pin::new(from).poll_read(cx, &mut buf))?;
    let read = buf.filled().len();
    // SAFETY: so many bytes were just initialised behind the filled part.
    unsafe { inbox.advance_mut(read) };
    Poll::Ready(Ok(read))
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::AsyncReadExt;

    use super::*;

    /// Each read had a buffer of its own, and a byte of it that was held kept 32 KiB.
    #[test]
    fn small_pieces_that_are_held_share_the_memory_they_were_read_into() {
        const AT_A_TIME: usize = 32 << 10;
        let (mut inbox, mut pieces) = (BytesMut::new(), Vec::new());
        for _ in 0..10_000 {
            let mut cx = Context::from_waker(Waker::noop());
            let read = poll_fill(&mut tokio::io::repeat(7).take(1), &mut inbox, AT_A_TIME, &mut cx);
            assert!(matches!(read, Poll::Ready(Ok(1))));
            pieces.push(inbox.split().freeze());
        }
        let apart = pieces.windows(2).filter(|two| two[0].as_ptr().addr() + 1 != two[1].as_ptr().addr());
        assert_eq!(apart.count(), 0, "10 KiB fit into one buffer");
    }
}
