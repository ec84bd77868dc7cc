//! What is known of one request, gathered as it goes through the phases.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_core::client_ip::Resolved;
use gateway_core::endpoint::InFlight;
use gateway_core::outcome::{Outcome, Termination};
use http::HeaderValue;

use super::rejection::Rejection;
use super::watchdog::Watchdog;
use crate::listener::connection::Connection;
use crate::snapshot::{Route, Snapshot};
use crate::telemetry::metrics::RequestMetrics;
use crate::upstream::{Endpoint, Release, Service};

/// One request.
pub(crate) struct Context {
    /// The configuration this request lives by, whatever is published meanwhile.
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) started: Instant,
    pub(crate) connection: Option<Arc<Connection>>,
    pub(crate) client: Resolved,
    pub(crate) request_id: HeaderValue,
    pub(crate) trace_parent: Option<HeaderValue>,
    /// Lower case, without port.
    pub(crate) host: String,
    /// Normalised; `None` when it is what the client sent.
    pub(crate) path: Option<String>,
    pub(crate) route: Option<Arc<Route>>,
    pub(crate) chosen: Option<Chosen>,
    pub(crate) metrics: Option<Arc<RequestMetrics>>,
    /// The try that is under way.
    pub(crate) attempt: Option<Attempt>,
    /// Tries so far, the one under way included.
    pub(crate) attempts: u32,
    /// Bytes of request body that were let through.
    pub(crate) body_bytes: u64,
    /// Whether the client has sent all of its request.
    pub(crate) body_done: bool,
    /// Whether the client asks to switch protocols (WebSocket).
    pub(crate) upgrade: bool,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) rejection: Option<Rejection>,
    pub(crate) termination: Termination,
}

/// Where a request goes. Chosen once; every retry stays with the release.
pub(crate) struct Chosen {
    pub(crate) service: Arc<Service>,
    pub(crate) release: Arc<Release>,
    /// What names the user: decides the release, and the endpoint when the balance is `hash`.
    pub(crate) key: Option<String>,
    /// The cookie to set, when the user has just been given a name.
    pub(crate) set_cookie: Option<HeaderValue>,
}

/// One try at one endpoint.
pub(crate) struct Attempt {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) started: Instant,
    /// Bit set of the endpoints this request has tried.
    pub(crate) outcome: Option<Outcome>,
    pub(crate) watchdog: Option<Watchdog>,
    _in_flight: InFlight,
}

impl Attempt {
    pub(crate) fn new(endpoint: Arc<Endpoint>, in_flight: InFlight) -> Self {
        Self { endpoint, started: Instant::now(), outcome: None, watchdog: None, _in_flight: in_flight }
    }
}

impl Context {
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Self {
        Self {
            snapshot,
            started: Instant::now(),
            connection: None,
            client: Resolved::unknown(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            request_id: HeaderValue::from_static(""),
            trace_parent: None,
            host: String::new(),
            path: None,
            route: None,
            chosen: None,
            metrics: None,
            attempt: None,
            attempts: 0,
            body_bytes: 0,
            body_done: false,
            upgrade: false,
            first_byte: None,
            rejection: None,
            termination: Termination::Ok,
        }
    }

    /// Whether the client's side is TLS, by what the nearest trusted hop says.
    pub(crate) fn is_https(&self) -> bool {
        self.client.proto.as_deref().map_or_else(
            || self.connection.as_ref().is_some_and(|connection| connection.tls.is_some()),
            |proto| proto.eq_ignore_ascii_case("https"),
        )
    }
}
