//! What is known of one client connection, shared by its stream and by every request that arrives on it.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use http::{HeaderName, HeaderValue};

use super::Listener;
use super::client_certificate::Fields;
use super::slots::Slot;
use crate::telemetry::instruments::Occupied;

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
    draining: Arc<AtomicBool>,
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
        draining: Arc<AtomicBool>,
    ) -> Self {
        Self {
            listener,
            peer,
            peer_field: OnceLock::new(),
            tls,
            client_fields,
            request_id_header,
            draining,
            _slot: slot,
            _open: open,
        }
    }

    /// Whether the process has begun to stop, so that no request should follow on it.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
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
}
