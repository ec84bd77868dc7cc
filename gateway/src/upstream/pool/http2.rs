//! Connections that carry many streams at once.
//!
//! A connection lives for as long as somebody holds a handle to send on it: the pool, or a stream. So to close it, the
//! pool lets go of its own; h2 says goodbye (GOAWAY) when the last stream has ended.

mod upkeep;

use std::future::poll_fn;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::Ping;
use h2::client::{Connection, SendRequest};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use self::upkeep::{Step, Upkeep};
use super::Pool;
use super::dial::{ConnectError, ConnectFailure, Dialer};
use super::stream::Stream;
use crate::upstream::peer::H2_STREAMS;

/// What an origin may send of one answer before we have read it: 25 MB/s over 10 ms of distance, and the memory that one
/// client which does not read can tie up.
const STREAM_WINDOW: u32 = 256 << 10;

/// The same over all streams of a connection: as much for each, so that no number of such clients holds up another.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * H2_STREAMS as u32;

/// What small frames that nobody has read yet may take beside their bytes, before h2 ends the connection. By itself it is
/// half of the window above, which few clients that do not read streams of small events would soon use up.
const FRAMES: usize = 4 * CONNECTION_WINDOW as usize;

/// The longest header of an answer, in bytes.
const HEADER_LIST: u32 = 64 << 10;

/// A place on a connection.
#[derive(Debug)]
pub(crate) struct Http2 {
    pub(crate) sender: SendRequest<Bytes>,
    /// Whether the connection was there before, so that the origin may have closed it unseen.
    pub(crate) reused: bool,
    /// To be held until the stream has ended.
    pub(crate) place: Place,
    /// The number of the connection's file.
    pub(crate) socket: RawFd,
}

/// One of the streams that a connection has room for.
#[derive(Debug)]
pub(crate) struct Place(Arc<Load>);

/// What a connection carries.
#[derive(Debug)]
struct Load {
    streams: AtomicUsize,
    begun: Instant,
    /// When the last stream ended, in milliseconds since it began.
    ended: AtomicU64,
}

/// The connections of a pool.
#[derive(Default)]
pub(super) struct Multiplexed {
    lines: Vec<Line>,
    dials: Vec<Dial>,
    /// For how many streams the origin had room on the last new connection; nothing is known before the first.
    room: Option<usize>,
}

/// A connection to send on.
#[derive(Clone)]
struct Line {
    sender: SendRequest<Bytes>,
    load: Arc<Load>,
    socket: RawFd,
}

/// A connection to be, and who waits for it.
struct Dial {
    line: watch::Receiver<Option<Result<Line, ConnectError>>>,
    /// How many more may wait.
    room: usize,
}

impl Load {
    fn new() -> Arc<Self> {
        Arc::new(Self { streams: AtomicUsize::new(0), begun: Instant::now(), ended: AtomicU64::new(0) })
    }

    fn begin(self: &Arc<Self>, most: usize) -> Option<Place> {
        let more = |streams| (streams < most).then_some(streams + 1);
        self.streams.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).ok()?;
        Some(Place(self.clone()))
    }

    /// Since when nothing has been under way; `None` while something is.
    fn idle_since(&self) -> Option<Instant> {
        let idle = self.streams.load(Ordering::Acquire) == 0;
        idle.then(|| self.begun + Duration::from_millis(self.ended.load(Ordering::Relaxed)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let ended = u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.ended.fetch_max(ended, Ordering::Relaxed);
        self.0.streams.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Line {
    /// A place, if there is room.
    ///
    /// # Errors
    /// When no stream can begin any more: the connection broke, or the origin said goodbye.
    fn place(&mut self, reused: bool) -> Result<Option<Http2>, h2::Error> {
        if let Poll::Ready(Err(error)) = self.sender.poll_ready(&mut Context::from_waker(Waker::noop())) {
            return Err(error);
        }
        let most = H2_STREAMS.min(self.sender.current_max_send_streams());
        let Some(place) = self.load.begin(most) else { return Ok(None) };
        Ok(Some(Http2 { sender: self.sender.clone(), reused, place, socket: self.socket }))
    }
}

impl Pool {
    /// A place on a connection with room, else on a new one; who comes while one is dialled waits for that if it will
    /// have room, so that a burst opens no more than it needs. `left` is the time there is beside `timeouts.connect`.
    ///
    /// # Errors
    /// [`ConnectError`] says whose fault it is.
    pub(crate) async fn stream(&self, left: Option<Duration>) -> Result<Http2, ConnectError> {
        let end = left.and_then(|left| Some((left, Instant::now().checked_add(left)?)));
        loop {
            if let Some(place) = self.place() {
                return Ok(place);
            }
            let dialled = self.dial();
            let mut line = match end {
                Some((left, end)) => timeout_at(end, dialled)
                    .await
                    .unwrap_or_else(|_| Err(ConnectError::late(ConnectFailure::Connect, left))),
                None => dialled.await,
            }?;
            if let Some(place) = line.place(false).map_err(broken)? {
                return Ok(place);
            }
        }
    }

    fn place(&self) -> Option<Http2> {
        let mut found = None;
        self.multiplexed.lock().lines.retain_mut(|line| {
            if found.is_some() {
                return true;
            }
            line.place(true).map(|place| found = place).is_ok()
        });
        found
    }

    /// Joins a dial that will have room, or begins one. It goes on when nobody waits any more.
    fn dial(&self) -> impl Future<Output = Result<Line, ConnectError>> + use<> {
        let mut multiplexed = self.multiplexed.lock();
        let open = multiplexed.dials.iter_mut().find(|dial| dial.room > 0 && dial.line.borrow().is_none());
        let mut line = match open {
            Some(dial) => {
                dial.room -= 1;
                dial.line.clone()
            }
            None => {
                let (done, line) = watch::channel(None);
                let room = multiplexed.room.unwrap_or(H2_STREAMS) - 1;
                multiplexed.dials.push(Dial { line: line.clone(), room });
                let generation = self.generation.load(Ordering::Relaxed);
                tokio::spawn(serve(self.dialer.clone(), self.me.clone(), self.keepalive, generation, done));
                line
            }
        };
        drop(multiplexed);
        async move {
            let dialled = line.wait_for(Option::is_some).await.ok().and_then(|line| line.clone());
            dialled.unwrap_or_else(|| Err(ConnectError::new(ConnectFailure::Local, "the gateway stops")))
        }
    }

    /// Takes up a new connection, unless the pool was cleared since it was dialled.
    fn welcome(&self, line: &Line, generation: u64) {
        let mut multiplexed = self.multiplexed.lock();
        multiplexed.room = Some(line.sender.current_max_send_streams().clamp(1, H2_STREAMS));
        if generation == self.generation.load(Ordering::Relaxed) {
            multiplexed.lines.push(line.clone());
        }
    }

    /// Forgets dials that have ended: what they hold would keep their connections open.
    fn forget_dials(&self) {
        self.multiplexed.lock().dials.retain(|dial| dial.line.borrow().is_none());
    }

    /// Lets go of a connection.
    fn forget(&self, load: &Arc<Load>) {
        self.multiplexed.lock().lines.retain(|line| !Arc::ptr_eq(&line.load, load));
    }

    pub(super) fn clear_multiplexed(&self) {
        let gone = std::mem::take(&mut self.multiplexed.lock().lines);
        drop(gone);
    }
}

/// The life of one connection.
async fn serve(
    dialer: Arc<Dialer>,
    pool: Weak<Pool>,
    keepalive: Duration,
    generation: u64,
    done: watch::Sender<Option<Result<Line, ConnectError>>>,
) {
    let tell = |dialled| {
        done.send_replace(Some(dialled));
        if let Some(pool) = pool.upgrade() {
            pool.forget_dials();
        }
    };
    let (line, connection) = match open(&dialer).await {
        Ok(opened) => opened,
        Err(error) => return tell(Err(error)),
    };
    let load = line.load.clone();
    if let Some(pool) = pool.upgrade() {
        pool.welcome(&line, generation);
    }
    tell(Ok(line));
    // It holds a handle, too.
    drop(done);
    drive(connection, load, pool, keepalive).await;
}

/// Connects, and waits for the origin's SETTINGS: then it is known to speak HTTP/2, and for how many streams it has room.
async fn open(dialer: &Dialer) -> Result<(Line, Connection<Stream, Bytes>), ConnectError> {
    let limit = dialer.limit(None);
    let socket = dialer.reach(limit).await?;
    let greet = async {
        let stream = dialer.secure(socket).await?;
        let socket = stream.socket();
        let (sender, mut connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_LIST)
            .data_frame_budget(FRAMES)
            .initial_max_send_streams(0)
            .enable_push(false)
            .handshake(stream)
            .await
            .map_err(broken)?;
        settled(&mut connection).await.map_err(broken)?;
        Ok((Line { sender, load: Load::new(), socket }, connection))
    };
    limit.wait(dialer.second(), greet).await
}

fn broken(error: h2::Error) -> ConnectError {
    ConnectError::new(ConnectFailure::Connect, &error.to_string())
}

/// Waits until streams may begin, which they may not before SETTINGS.
async fn settled(connection: &mut Connection<Stream, Bytes>) -> Result<(), h2::Error> {
    poll_fn(|context| match Pin::new(&mut *connection).poll(context) {
        Poll::Ready(ended) => Poll::Ready(ended.and(Err(h2::Reason::NO_ERROR.into()))),
        Poll::Pending if connection.max_concurrent_send_streams() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Moves what streams send and receive, until the connection ends; lets go of it when it is idle for too long, and ends it
/// when the origin does not answer a PING.
async fn drive(
    mut connection: Connection<Stream, Bytes>,
    load: Arc<Load>,
    pool: Weak<Pool>,
    keepalive: Duration,
) {
    let mut pings = connection.ping_pong().expect("nobody has taken it before");
    let mut upkeep = Upkeep::new(Instant::now(), keepalive);
    let forget = || {
        if let Some(pool) = pool.upgrade() {
            pool.forget(&load);
        }
    };
    loop {
        tokio::select! {
            _ = &mut connection => break,
            _ = poll_fn(|context| pings.poll_pong(context)), if upkeep.is_waiting() => upkeep.answered(),
            () = sleep_until(upkeep.next()) => match upkeep.look(Instant::now(), load.idle_since()) {
                Step::Wait => {}
                // It fails when the connection is about to end.
                Step::Ping => drop(pings.send_ping(Ping::opaque())),
                Step::LetGo => forget(),
                Step::Close => break,
            },
        }
    }
    forget();
}
