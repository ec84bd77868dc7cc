//! An origin's accept loop and connections, and what they share.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::behaviour::{Behaviour, Script};
use super::ending::Ending;
use super::exchange;
use super::record::{Entry, KEPT_REQUESTS, Request};
use super::socket::{Control, Listener, Stream, Transport};

/// What an origin's connections share.
#[derive(Debug)]
pub(super) struct State {
    name: String,
    scripts: Mutex<Scripts>,
    entries: Mutex<Vec<Entry>>,
    hits: AtomicUsize,
    endings: Mutex<BTreeMap<Ending, (u64, SystemTime)>>,
    unanswered: AtomicUsize,
    most_unanswered: AtomicUsize,
    connections: AtomicUsize,
    open: AtomicUsize,
    sent: AtomicU64,
    /// Closes with the origin; what runs apart from its connection watches it.
    running: watch::Sender<()>,
}

#[derive(Debug)]
struct Scripts {
    usual: Arc<Script>,
    /// Longest prefix first.
    paths: Vec<(String, Arc<Script>)>,
}

impl State {
    pub(super) fn new(name: String, behaviour: Behaviour, paths: Vec<(String, Behaviour)>) -> Self {
        let mut paths: Vec<_> =
            paths.into_iter().map(|(prefix, behaviour)| (prefix, Script::new(behaviour))).collect();
        paths.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Self {
            name,
            scripts: Mutex::new(Scripts { usual: Script::new(behaviour), paths }),
            entries: Mutex::new(Vec::new()),
            hits: AtomicUsize::new(0),
            endings: Mutex::default(),
            unanswered: AtomicUsize::new(0),
            most_unanswered: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
            running: watch::Sender::new(()),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn hits(&self) -> usize {
        self.hits.load(Ordering::Relaxed)
    }

    pub(super) fn endings(&self) -> BTreeMap<Ending, u64> {
        self.endings.lock().iter().map(|(ending, (count, _))| (*ending, *count)).collect()
    }

    /// When the first request was made to end like this.
    pub(super) fn first(&self, ending: Ending) -> Option<SystemTime> {
        self.endings.lock().get(&ending).map(|(_, first)| *first)
    }

    /// Counts how a request will end.
    pub(super) fn ends(&self, ending: Ending) {
        self.endings.lock().entry(ending).or_insert_with(|| (0, SystemTime::now())).0 += 1;
    }

    pub(super) fn most_at_once(&self) -> usize {
        self.most_unanswered.load(Ordering::Relaxed)
    }

    /// Counts a request as unanswered until the guard goes.
    pub(super) fn unanswered(self: &Arc<Self>) -> Unanswered {
        let now = self.unanswered.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_unanswered.fetch_max(now, Ordering::Relaxed);
        Unanswered(Arc::clone(self))
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn open_connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(super) fn add_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.entries.lock().iter().map(Entry::snapshot).collect()
    }

    pub(super) fn record(&self, entry: &Entry) {
        self.hits.fetch_add(1, Ordering::Relaxed);
        let mut entries = self.entries.lock();
        if entries.len() < KEPT_REQUESTS {
            entries.push(entry.clone());
        }
    }

    pub(super) fn set_behaviour(&self, behaviour: Behaviour) {
        *self.scripts.lock() = Scripts { usual: Script::new(behaviour), paths: Vec::new() };
    }

    pub(super) fn script(&self, path: &str) -> Arc<Script> {
        let scripts = self.scripts.lock();
        let special = scripts.paths.iter().find(|(prefix, _)| path.starts_with(prefix));
        Arc::clone(special.map_or(&scripts.usual, |(_, script)| script))
    }

    /// Ends when the origin does.
    pub(super) fn running(&self) -> watch::Receiver<()> {
        self.running.subscribe()
    }
}

/// A request whose answer has not begun.
pub(super) struct Unanswered(Arc<State>);

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.0.unanswered.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Says that the origin has ended, and to whom.
struct Running(Arc<State>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.send_replace(());
    }
}

/// One connection, while it is open.
pub(super) struct Connection {
    pub(super) state: Arc<State>,
    pub(super) number: usize,
    pub(super) control: Arc<Control>,
    /// Requests begun on it.
    pub(super) begun: AtomicUsize,
    /// Requests not yet answered to the end.
    pub(super) active: AtomicUsize,
    /// When it was last in use, and for how long it may be unused.
    idle: Mutex<(Instant, Option<Duration>)>,
}

impl Connection {
    fn new(state: Arc<State>) -> Self {
        let number = state.connections.fetch_add(1, Ordering::Relaxed) + 1;
        state.open.fetch_add(1, Ordering::Relaxed);
        Self {
            state,
            number,
            control: Arc::default(),
            begun: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            idle: Mutex::new((Instant::now(), None)),
        }
    }

    /// Marks the connection as used now, and to be closed when unused for `idle` from now.
    pub(super) fn touch(&self, idle: Option<Duration>) {
        *self.idle.lock() = (Instant::now(), idle);
    }

    fn in_use(&self) -> bool {
        self.active.load(Ordering::Relaxed) > 0
    }

    /// Ends when the connection was unused for as long as it may be.
    async fn unused(&self) {
        loop {
            let (since, idle) = *self.idle.lock();
            match idle {
                Some(idle) if !self.in_use() && since.elapsed() >= idle => return,
                Some(idle) if !self.in_use() => tokio::time::sleep_until(since + idle).await,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.state.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts until it is aborted; its connections end with it.
pub(super) async fn serve(listener: Listener, tls: Option<Arc<ServerConfig>>, state: Arc<State>) {
    let _running = Running(Arc::clone(&state));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok(transport) => {
                connections.spawn(connection(transport, tls.clone(), Arc::clone(&state)));
            }
            // Out of descriptors, most likely: the next one may do better.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Serves one connection to its end; how it ended is the client's concern.
async fn connection(transport: Transport, tls: Option<Arc<ServerConfig>>, state: Arc<State>) {
    let Ok(transport) = transport.secured(tls).await else { return };
    let connection = Arc::new(Connection::new(state));
    let stream = Stream::new(transport, Arc::clone(&connection.control));
    let service = {
        let connection = Arc::clone(&connection);
        service_fn(move |request| exchange::answer(Arc::clone(&connection), request))
    };
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().max_buf_size(1 << 20).max_headers(1000);
    server.http2().max_header_list_size(1 << 20);
    let mut serving = pin!(server.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let mut unused = pin!(connection.unused());
    poll_fn(|cx| {
        if serving.as_mut().poll(cx).is_ready() || unused.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let done = connection.control.should_close() && !connection.in_use();
        if done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
