//! Connections that carry one request at a time, and the shelf on which they wait for the next.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::bound::Room;
use super::dial::ConnectError;
use super::stream::Stream;
use super::{ConnectFailure, Pool};

/// How long a connection that the origin has closed stays open here at most.
const SWEEP: Duration = Duration::from_secs(1);

/// A connection that is out with a request.
#[derive(Debug)]
pub(crate) struct Http1 {
    pub(crate) stream: Stream,
    /// What was read and is not used yet; empty when the connection is given back.
    pub(crate) inbox: BytesMut,
    reused: bool,
    /// Of the pool, when it was dialled.
    generation: u64,
}

impl Http1 {
    /// Whether it has carried a request before, so that the origin may have closed it unseen.
    pub(crate) fn is_reused(&self) -> bool {
        self.reused
    }

    /// The number of its file.
    pub(crate) fn socket(&self) -> RawFd {
        self.stream.socket()
    }
}

/// Connections that wait, the oldest first.
#[derive(Default)]
pub(super) struct Shelf {
    idle: VecDeque<Idle>,
    /// Whether a task looks after them.
    swept: bool,
}

struct Idle {
    connection: Http1,
    since: Instant,
    _room: Room,
}

impl Idle {
    /// Whether it may be kept on. What waits for longer gives its buffer back.
    fn lasts(&mut self, now: Instant, keepalive: Duration) -> bool {
        let age = now.saturating_duration_since(self.since);
        if age >= SWEEP {
            self.connection.inbox = BytesMut::new();
        }
        age < keepalive && self.connection.stream.is_quiet(false)
    }
}

impl Pool {
    /// A kept connection on which nothing has happened since it was given back, the most recent first.
    ///
    /// Costs one short lock and no system call; what the origin did within the last moments may not be known yet. For a
    /// request that cannot be sent twice, `certain` asks the system.
    pub(crate) fn take(&self, now: Instant, certain: bool) -> Option<Http1> {
        loop {
            let Idle { mut connection, since, .. } = self.shelf.lock().idle.pop_back()?;
            let fresh = now.saturating_duration_since(since) < self.keepalive;
            if fresh && connection.stream.is_quiet(certain) {
                connection.reused = true;
                return Some(connection);
            }
        }
    }

    /// A new connection, within `timeouts.connect` for TCP, the same again for TLS, and `left` for both.
    ///
    /// # Errors
    /// [`ConnectError`] says whose fault it is.
    pub(crate) async fn connect(&self, left: Option<Duration>) -> Result<Http1, ConnectError> {
        let generation = self.generation.load(Ordering::Relaxed);
        let limit = self.dialer.limit(left);
        let socket = self.dialer.reach(limit).await?;
        let stream = limit.wait(ConnectFailure::Tls, self.dialer.secure(socket)).await?;
        Ok(Http1 { stream, inbox: BytesMut::new(), reused: false, generation })
    }

    /// Takes back a connection whose exchange has ended in order. One with bytes left over, from before [`Self::clear`],
    /// or beyond what the process keeps is closed. To be called on the runtime: the first that waits is given a task, which
    /// ends when none does.
    pub(crate) fn keep(&self, connection: Http1, now: Instant) {
        if !connection.inbox.is_empty() {
            return;
        }
        let Some(room) = self.bound.room() else { return };
        let idle = Idle { connection, since: now, _room: room };
        let mut shelf = self.shelf.lock();
        if idle.connection.generation != self.generation.load(Ordering::Relaxed) {
            return;
        }
        shelf.idle.push_back(idle);
        let swept = std::mem::replace(&mut shelf.swept, true);
        drop(shelf);
        if !swept {
            tokio::spawn(keep_sweeping(self.me.clone()));
        }
    }

    /// Closes what waits, and lets nothing that is out come back.
    pub(super) fn clear_shelf(&self) {
        let mut shelf = self.shelf.lock();
        self.generation.fetch_add(1, Ordering::Relaxed);
        let gone = std::mem::take(&mut shelf.idle);
        drop(shelf);
        drop(gone);
    }

    /// Closes what has waited too long or was closed by the origin; says when to look again, unless nothing waits.
    fn sweep(&self) -> Option<Duration> {
        let now = Instant::now();
        let mut gone = Vec::new();
        let mut shelf = self.shelf.lock();
        let mut kept = VecDeque::with_capacity(shelf.idle.len());
        for mut idle in std::mem::take(&mut shelf.idle) {
            if idle.lasts(now, self.keepalive) {
                kept.push_back(idle);
            } else {
                gone.push(idle);
            }
        }
        shelf.idle = kept;
        let oldest = shelf.idle.front().map(|idle| idle.since);
        shelf.swept = oldest.is_some();
        drop(shelf);
        drop(gone);
        Some(self.keepalive.saturating_sub(now.saturating_duration_since(oldest?)).min(SWEEP))
    }

    /// How many connections wait.
    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.shelf.lock().idle.len()
    }
}

/// Looks after the connections of a pool until none waits.
async fn keep_sweeping(pool: Weak<Pool>) {
    while let Some(pause) = pool.upgrade().and_then(|pool| pool.sweep()) {
        tokio::time::sleep(pause).await;
    }
}
