//! The process: sockets, runtimes, signals, and a graceful end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gateway_core::config::model::{Gateway, Socket as AdminSocket};
use gateway_core::name::ListenerName;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener as AsyncListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin;
use crate::health;
use crate::listener::edge::Edge;
use crate::listener::slots::Slots;
use crate::load::{self, Loaded};
use crate::proxy::Proxy;
use crate::reload;
use crate::runtime::Runtime;
use crate::terminal;
use crate::upstream::resolve;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// How long after SIGTERM the listeners still accept, so that clients with open connections hear `Connection: close`
/// and a balancer in front sees `/readyz` turn before anything is refused.
const LINGER: Duration = Duration::from_millis(500);

/// How long the end of the process waits for the access log's disk.
const LOG_PATIENCE: Duration = Duration::from_secs(2);

/// How long it waits for the disk that rollouts are remembered on.
const STATE_PATIENCE: Duration = Duration::from_secs(2);

/// Why the process cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is bad; the report says why.
    #[error("{0}")]
    Configuration(#[from] gateway_core::config::report::Report),
    /// A socket cannot be had.
    #[error("{who} cannot listen on {address}: {reason}")]
    Bind {
        /// The listener's name, or `admin`.
        who: String,
        /// As configured.
        address: String,
        /// What the system said, and what to do.
        reason: String,
    },
    /// Something else the system refused.
    #[error("{what}: {error}")]
    System {
        /// What was asked.
        what: &'static str,
        /// What it said.
        error: io::Error,
    },
}

/// How a process came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// After one signal: every request was finished, or the drain time was over.
    Drained,
    /// By a second signal, at once.
    Cut,
}

/// The sockets of a process, all bound before anything else starts.
struct Sockets {
    listeners: Vec<(ListenerName, TcpListener)>,
    admin: admin::AdminListener,
}

/// Serves the configuration at `path` until a signal ends it.
///
/// # Errors
/// [`StartError`] when it cannot begin; nothing was served then.
pub fn run(path: &Path) -> Result<Ended, StartError> {
    let loaded = load::load(path)?;
    if !loaded.warnings.is_empty() {
        eprint!("{}", terminal::rendered(&loaded.warnings));
    }
    let sockets = Sockets::bind(&loaded.gateway)?;
    let edge = runtime("edge", threads(&loaded.gateway), || {})?;
    let control = runtime("control", 1, step_back)?;
    let code = control.block_on(serve(path.to_owned(), loaded, sockets, edge.handle().clone()));
    edge.shutdown_timeout(Duration::from_millis(100));
    control.shutdown_timeout(Duration::from_millis(100));
    code
}

fn threads(gateway: &Gateway) -> usize {
    let available = || std::thread::available_parallelism().map_or(1, usize::from);
    gateway.runtime.threads.unwrap_or_else(available)
}

/// Lets traffic go first where both want the processor: a reload of many routes computes for a tenth of a second. What is
/// left to the calling thread is a quarter of a processor, and all that is idle.
fn step_back() {
    const NICE: i32 = 5;
    // SAFETY: no memory is involved. On Linux 0 is the calling thread; a refusal leaves it as it is.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

fn runtime(name: &'static str, threads: usize, begin: fn()) -> Result<tokio::runtime::Runtime, StartError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .on_thread_start(begin)
        .enable_all()
        .build()
        .map_err(|error| StartError::System { what: "cannot start threads", error })
}

impl Sockets {
    fn bind(gateway: &Gateway) -> Result<Self, StartError> {
        let mut listeners = Vec::new();
        for (name, listener) in &gateway.listeners {
            let address = listener.address.value;
            let socket =
                bind(address).map_err(|error| refused(format!("listener `{name}`"), &address, &error))?;
            listeners.push((name.clone(), socket));
        }
        let admin = match &gateway.admin.listen {
            AdminSocket::Tcp(address) => bind(*address)
                .map(admin::AdminListener::tcp)
                .map_err(|error| refused("admin".into(), address, &error))?,
            AdminSocket::Unix(path) => admin::AdminListener::bind_unix(path)
                .map_err(|error| refused("admin".into(), &path.display(), &error))?,
        };
        Ok(Self { listeners, admin })
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn refused(who: String, address: &dyn std::fmt::Display, error: &io::Error) -> StartError {
    let reason = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the address is in use; stop what holds it, or change it in the file".into()
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied; ports below 1024 need CAP_NET_BIND_SERVICE".to_owned()
        }
        _ => error.to_string(),
    };
    StartError::Bind { who, address: address.to_string(), reason }
}

async fn serve(
    path: PathBuf,
    loaded: Loaded,
    sockets: Sockets,
    edge: tokio::runtime::Handle,
) -> Result<Ended, StartError> {
    let system = |error| StartError::System { what: "cannot install signal handlers", error };
    let mut terminate = signal(SignalKind::terminate()).map_err(system)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system)?;
    let runtime = Runtime::new(path, loaded).await?;
    // Connections wait in the backlog until then.
    health::start(&runtime).await;
    let (stop, stopped) = watch::channel(false);
    let proxy = Arc::new(Proxy::new(runtime.clone()));
    let slots = Arc::new(Slots::default());
    let mut listening = JoinSet::new();
    for (name, socket) in sockets.listeners {
        let listener = Edge::new(name, runtime.clone(), slots.clone(), proxy.clone());
        let socket = on_runtime(&edge, socket)?;
        listening.spawn_on(Arc::new(listener).listen(socket, stopped.clone()), &edge);
    }
    tokio::spawn(admin::serve(sockets.admin, runtime.clone()));
    tokio::spawn(resolve::keep_resolving(runtime.clone()));
    reload::watch(runtime.clone());
    runtime.announce_ready();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tokio::select! {
        () = drain(&runtime, &slots, &stop, &mut listening) => Ok(Ended::Drained),
        _ = terminate.recv() => Ok(Ended::Cut),
        _ = interrupt.recv() => Ok(Ended::Cut),
    }
}

/// Gives a listening socket to the runtime that will accept on it.
fn on_runtime(edge: &tokio::runtime::Handle, socket: TcpListener) -> Result<AsyncListener, StartError> {
    let _entered = edge.enter();
    AsyncListener::from_std(socket).map_err(|error| StartError::System { what: "cannot listen", error })
}

/// Closes listeners, lets requests finish, and returns when the last connection is gone or the drain time is over.
async fn drain(runtime: &Runtime, slots: &Slots, stop: &watch::Sender<bool>, listening: &mut JoinSet<()>) {
    let limit = runtime.snapshot().model.runtime.drain;
    tracing::info!(connections = slots.taken(), drain = ?limit, "stopping");
    runtime.begin_draining();
    tokio::time::sleep(LINGER.min(limit)).await;
    stop.send_replace(true);
    let emptied = tokio::time::timeout(limit, async {
        // Only then is nobody accepted any more.
        while listening.join_next().await.is_some() {}
        while slots.taken() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    if emptied.await.is_err() {
        tracing::warn!(connections = slots.taken(), "drain time is over: the rest is cut");
    }
    if !runtime.flush(STATE_PATIENCE).await {
        tracing::error!(
            "the last changes of rollouts are not on disk: the next process will not know of them"
        );
    }
    if !runtime.access_log.flush(LOG_PATIENCE) {
        tracing::warn!("the access log could not be written to its end");
    }
    tracing::info!("stopped");
}
