//! Origins that do what a test tells them to: answer, fail, stall, break off, stream, and remember what they were asked.

mod behaviour;
mod control;
mod delay;
mod ending;
mod exchange;
mod plan;
mod raw;
mod record;
mod server;
mod socket;

pub use behaviour::{Behaviour, Events, Fault};
pub use control::Controlled;
pub use delay::Delay;
pub use ending::{Ending, Mix};
pub use plan::Plan;
pub use raw::{RawOrigin, Steps};
pub use record::{KEPT_BODY_BYTES, KEPT_REQUESTS, Request};

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;
use tokio::task::JoinHandle;

use server::State;
use socket::Listener;

/// How an origin will be started.
#[derive(Debug)]
pub struct Builder {
    name: String,
    behaviour: Behaviour,
    paths: Vec<(String, Behaviour)>,
    place: Place,
    tls: Option<Arc<ServerConfig>>,
}

/// Where an origin listens.
#[derive(Debug)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Builder {
    /// The release it calls itself in `x-release`; `origin` unless said.
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// Another behaviour for paths that begin with `prefix`; the longest prefix wins.
    pub fn on(mut self, prefix: &str, behaviour: Behaviour) -> Self {
        self.paths.push((prefix.to_owned(), behaviour));
        self
    }

    /// Listens on this address; port 0 takes a free one.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.place = Place::Tcp(address);
        self
    }

    /// Listens on the IPv6 loopback.
    pub fn ipv6(self) -> Self {
        self.listen((Ipv6Addr::LOCALHOST, 0).into())
    }

    /// Listens on a unix socket; a file left there is replaced.
    pub fn unix(mut self, path: impl Into<PathBuf>) -> Self {
        self.place = Place::Unix(path.into());
        self
    }

    /// Speaks TLS; the configuration's ALPN decides whether HTTP/2 is offered.
    pub fn tls(mut self, config: ServerConfig) -> Self {
        self.tls = Some(Arc::new(config));
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn try_start(self) -> io::Result<Origin> {
        let listener = match self.place {
            Place::Tcp(address) => Listener::tcp(address).await?,
            Place::Unix(path) => Listener::unix(path)?,
        };
        let address = listener.address();
        let state = Arc::new(State::new(self.name, self.behaviour, self.paths));
        let server = tokio::spawn(server::serve(listener, self.tls, Arc::clone(&state)));
        Ok(Origin { address, state, server: Some(server) })
    }

    /// Starts it.
    ///
    /// # Panics
    /// When the address cannot be bound; [`Builder::try_start`] tells instead.
    pub async fn start(self) -> Origin {
        self.try_start().await.unwrap_or_else(|error| panic!("the origin cannot listen: {error}"))
    }
}

/// A running origin; ends with its value.
///
/// It speaks HTTP/1.1 and HTTP/2 on the same port, and calls itself by name in `x-release`.
#[derive(Debug)]
pub struct Origin {
    address: String,
    state: Arc<State>,
    server: Option<JoinHandle<()>>,
}

impl Origin {
    /// One that answers every request with `status`.
    pub fn always(status: u16) -> Builder {
        Self::script(Behaviour::status(status))
    }

    /// One that follows a script.
    pub fn script(behaviour: Behaviour) -> Builder {
        Builder {
            name: "origin".to_owned(),
            behaviour,
            paths: Vec::new(),
            place: Place::Tcp(([127, 0, 0, 1], 0).into()),
            tls: None,
        }
    }

    /// Where it listens, as a configuration says it: `127.0.0.1:8000`, `[::1]:8000` or `unix:/path`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The port it listens on; 0 for a unix socket.
    pub fn port(&self) -> u16 {
        self.address.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0)
    }

    /// What it calls itself.
    pub fn name(&self) -> &str {
        self.state.name()
    }

    /// Requests whose header has arrived.
    pub fn hits(&self) -> usize {
        self.state.hits()
    }

    /// Requests by how they were made to end: a status, `close`, `reset` or `truncate`.
    pub fn endings(&self) -> BTreeMap<String, u64> {
        self.state.endings().into_iter().map(|(ending, count)| (ending.to_string(), count)).collect()
    }

    /// When the first request was made to end like this; its answer follows after the delay there is.
    pub fn first(&self, ending: Ending) -> Option<SystemTime> {
        self.state.first(ending)
    }

    /// The first [`KEPT_REQUESTS`] requests, oldest first, as far as they have arrived.
    pub fn requests(&self) -> Vec<Request> {
        self.state.requests()
    }

    /// The latest request that was kept.
    ///
    /// # Panics
    /// When there was none.
    pub fn last_request(&self) -> Request {
        self.requests().pop().unwrap_or_else(|| panic!("origin {} was never asked", self.name()))
    }

    /// The most requests there ever were at a time, each from its arrival to the beginning of its answer.
    pub fn most_at_once(&self) -> usize {
        self.state.most_at_once()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.state.connections()
    }

    /// Connections open now, upgraded ones included.
    pub fn open_connections(&self) -> usize {
        self.state.open_connections()
    }

    /// Body bytes handed to the transport so far.
    pub fn sent_bytes(&self) -> u64 {
        self.state.sent_bytes()
    }

    /// Does something else from the next request on, on every path.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.state.set_behaviour(behaviour);
    }

    /// Closes the listener and every connection.
    pub async fn stop(mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            // It was aborted, so it has nothing to tell.
            let _ = server.await;
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
        }
    }
}
