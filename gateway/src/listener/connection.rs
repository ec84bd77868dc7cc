//! What is known of one client connection, shared by its stream and by every request that arrives on it.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use http::{HeaderName, HeaderValue};
use pingora::protocols::raw_connect::ProxyDigest;

use super::Listener;
use super::client_certificate::Fields;
use super::slots::Slot;
use crate::telemetry::instruments::Occupied;

/// Where a connection stands between requests. Only HTTP/1 moves through it; HTTP/2 multiplexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// The header of a request is due: its deadline runs.
    Header = 0,
    /// A request is being served.
    Request = 1,
    /// The last answer is out and nothing of the next request is in.
    Idle = 2,
}

/// One client connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The listener as configured when the connection came in.
    pub(crate) listener: Arc<Listener>,
    /// The client, or what the PROXY header says of it.
    pub(crate) peer: SocketAddr,
    peer_field: OnceLock<HeaderValue>,
    /// Whether it is secured by TLS.
    pub(crate) tls: bool,
    /// What its client's certificate says.
    pub(crate) client_fields: Fields,
    /// The header that carries request ids.
    pub(crate) request_id_header: HeaderName,
    phase: AtomicU8,
    requests: AtomicU32,
    /// Bytes that came in.
    received: AtomicU64,
    /// Bytes of the requests so far, as far as their lengths are known.
    accounted: AtomicU64,
    _slot: Slot,
    _open: Occupied,
}

impl Connection {
    pub(crate) fn new(
        listener: Arc<Listener>,
        peer: SocketAddr,
        tls: bool,
        client_fields: Fields,
        request_id_header: HeaderName,
        (slot, open): (Slot, Occupied),
    ) -> Self {
        Self {
            listener,
            peer,
            peer_field: OnceLock::new(),
            tls,
            client_fields,
            request_id_header,
            phase: AtomicU8::new(Phase::Header as u8),
            requests: AtomicU32::new(0),
            received: AtomicU64::new(0),
            accounted: AtomicU64::new(0),
            _slot: slot,
            _open: open,
        }
    }

    /// The connection a session runs on.
    ///
    /// `None` only for sessions that did not come through [`super::edge::Edge`].
    pub(crate) fn of(digest: Option<&ProxyDigest>) -> Option<&Arc<Self>> {
        digest?.user_data.as_ref()?.downcast_ref::<Arc<Self>>()
    }

    /// The peer's address, an IPv4-mapped one as IPv4.
    pub(crate) fn peer_ip(&self) -> IpAddr {
        self.peer.ip().to_canonical()
    }

    /// The peer's address as origins are told it; written once for all requests.
    pub(crate) fn peer_field(&self) -> HeaderValue {
        let written = || HeaderValue::try_from(self.peer_ip().to_string()).expect("an address");
        self.peer_field.get_or_init(written).clone()
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Header,
            1 => Phase::Request,
            _ => Phase::Idle,
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Counts a request; gives its number, beginning with 1.
    pub(crate) fn begin_request(&self) -> u32 {
        self.enter(Phase::Request);
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Counts bytes that came in.
    pub(super) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts the bytes of an HTTP/1 request, header and body.
    pub(crate) fn account(&self, bytes: u64) {
        self.accounted.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether bytes may have come in that no request so far accounts for: the next one, or a body of unknown length.
    pub(super) fn may_have_more(&self) -> bool {
        self.received.load(Ordering::Relaxed) != self.accounted.load(Ordering::Relaxed)
    }
}
