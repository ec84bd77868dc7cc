//! The gateway's own connections to origins: dialled, kept while they are good, and dropped when a release is.
//!
//! An HTTP/1 connection is taken, carries one exchange, and is given back; an HTTP/2 connection has places for many
//! streams at once. Neither costs a task or a system call for each request.

mod bound;
mod dial;
mod http1;
mod http2;
mod stream;
pub(crate) mod tls;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::Duration;

use gateway_core::config::model::Protocol;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use self::bound::{Bound, IDLE};
use self::dial::Dialer;
pub(crate) use self::dial::{ConnectError, ConnectFailure};
pub(crate) use self::http1::Http1;
use self::http1::Shelf;
use self::http2::Multiplexed;
pub(crate) use self::http2::{Http2, Place};
use super::peer::Target;

/// Longer than anything is kept; what the file says beyond it could not be added to the time of day.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// What makes two pools interchangeable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) target: Target,
    /// Of the protocol, the authorities and the client certificate.
    pub(crate) policy: u64,
    /// Whose certificate is asked for, with TLS.
    pub(crate) server_name: Option<ServerName<'static>>,
    pub(crate) connect: Duration,
    pub(crate) keepalive: Duration,
}

/// The connections of one place under one policy. Shared across reloads while somebody holds it.
pub(crate) struct Pool {
    dialer: Arc<Dialer>,
    keepalive: Duration,
    /// Goes up when the pool is cleared; what is older is not kept. Changed only under the lock of `shelf`.
    generation: AtomicU64,
    shelf: Mutex<Shelf>,
    multiplexed: Mutex<Multiplexed>,
    bound: &'static Bound,
    me: Weak<Self>,
}

impl Pool {
    /// An empty pool; `tls` is that of the key's policy.
    pub(crate) fn new(key: Key, protocol: Protocol, tls: Option<Arc<ClientConfig>>) -> Arc<Self> {
        Self::bounded(key, protocol, tls, &IDLE)
    }

    fn bounded(
        key: Key,
        protocol: Protocol,
        tls: Option<Arc<ClientConfig>>,
        bound: &'static Bound,
    ) -> Arc<Self> {
        let tls = tls.zip(key.server_name);
        let dialer = Dialer { target: key.target, protocol, tls, timeout: key.connect };
        Arc::new_cyclic(|me| Self {
            dialer: Arc::new(dialer),
            keepalive: key.keepalive.min(LONGEST),
            generation: AtomicU64::new(0),
            shelf: Mutex::default(),
            multiplexed: Mutex::default(),
            bound,
            me: me.clone(),
        })
    }

    /// Whether a connection carries one request at a time.
    pub(crate) fn is_http1(&self) -> bool {
        self.dialer.protocol == Protocol::Http1
    }

    /// Closes all connections that carry nothing, and keeps none that is out: those end with what they carry.
    pub(crate) fn clear(&self) {
        self.clear_shelf();
        self.clear_multiplexed();
    }
}

#[cfg(test)]
mod tests;
