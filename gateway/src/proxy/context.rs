//! What is known of one request, gathered as it goes through the phases.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_core::endpoint::{InFlight, Tried};
use gateway_core::outcome::{Outcome, Termination};
use gateway_core::trace_context::TraceParent;
use gateway_core::websocket::FrameWatch;
use http::{HeaderName, HeaderValue};

use super::body::Body;
use super::mirror::Draft;
use super::patience::Patience;
use super::policy::max_in_flight::Held;
use super::rejection::Rejection;
use super::shape::compress::Compression;
use crate::listener::connection::Connection;
use crate::snapshot::{Route, Snapshot};
use crate::telemetry::instruments::Occupied;
use crate::telemetry::metrics::RequestMetrics;
use crate::upstream::{Endpoint, Release, Service};

/// One request.
pub(crate) struct Context {
    /// The configuration this request lives by, whatever is published meanwhile.
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) started: Instant,
    pub(crate) connection: Arc<Connection>,
    pub(crate) client: Asker,
    pub(crate) request_id: HeaderValue,
    pub(crate) trace_parent: TraceParent,
    /// Whether the client brought the trace along; its header is left alone then.
    pub(crate) trace_inbound: bool,
    /// Lower case, without port.
    pub(crate) host: String,
    /// Normalised and rewritten; `None` when it is what the client sent.
    pub(crate) path: Option<String>,
    /// Whether the route's `strip_prefix` was taken away from it.
    pub(crate) stripped: bool,
    pub(crate) route: Option<Arc<Route>>,
    /// Who logged in, on a route with `basic_auth`.
    pub(crate) user: Option<Arc<str>>,
    /// The page's origin, on a route with `cors`.
    pub(crate) origin: Option<HeaderValue>,
    pub(crate) chosen: Option<Chosen>,
    pub(crate) metrics: Option<Arc<RequestMetrics>>,
    /// The try that is under way.
    pub(crate) attempt: Option<Attempt>,
    /// The endpoint of the last try that ended.
    pub(crate) last_endpoint: Option<Arc<Endpoint>>,
    pub(crate) tried: Tried,
    /// Tries so far, the one under way included.
    pub(crate) attempts: u32,
    pub(crate) body: Body,
    /// Whether the client asks for a WebSocket.
    pub(crate) upgrade: bool,
    /// When the whole exchange must be over, if the route says so.
    pub(crate) deadline: Option<Instant>,
    /// When the answer was with the client.
    pub(crate) ended: Option<Instant>,
    pub(crate) connected: Option<Duration>,
    pub(crate) first_byte: Option<Duration>,
    /// Counts the request as being served.
    pub(crate) in_flight: Option<Occupied>,
    /// Its places among those the route and the service serve at a time.
    pub(crate) held: Held,
    /// Fields for whatever answers this request, the gateway or an origin.
    pub(crate) answer_fields: Vec<(HeaderName, HeaderValue)>,
    /// The coding the answer's body is given.
    pub(crate) compression: Option<Box<Compression>>,
    /// The origin's side of a WebSocket.
    pub(crate) frames: FrameWatch,
    /// A copy for another service, while its body is still coming.
    pub(crate) mirror: Option<Box<Draft>>,
    /// A kept connection has turned out to be closed: the next try takes a new one.
    pub(crate) fresh: bool,
    /// The answer that has come is not passed on; another endpoint of the release is asked next.
    pub(crate) trying_again: bool,
    /// The canary has failed this request; stable is asked next.
    pub(crate) failing_over: bool,
    pub(crate) rejection: Option<Rejection>,
    pub(crate) termination: Termination,
}

/// Who asks, as far as it can be believed.
pub(crate) struct Asker {
    pub(crate) ip: IpAddr,
    pub(crate) https: bool,
    /// The host the client asked a trusted proxy for.
    pub(crate) forwarded_host: Option<HeaderValue>,
}

/// Where a request goes. Chosen once; every retry stays with the release.
pub(crate) struct Chosen {
    pub(crate) service: Arc<Service>,
    pub(crate) release: Arc<Release>,
    /// Whether chance gave the request to the release, so that its attempts are evidence.
    pub(crate) randomised: bool,
    /// What names the user: decides the release, and the endpoint when the balance is `hash`.
    pub(crate) key: Option<String>,
    /// The cookie to set, when the user has just been given a name.
    pub(crate) set_cookie: Option<HeaderValue>,
}

/// One try at one endpoint.
pub(crate) struct Attempt {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) started: Instant,
    /// What the answer's header said, and when; the body may still break off.
    pub(crate) answered: Option<(Outcome, Duration)>,
    pub(crate) patience: Patience,
    _in_flight: InFlight,
}

impl Attempt {
    pub(crate) fn new(endpoint: Arc<Endpoint>, in_flight: InFlight, patience: Patience) -> Self {
        let started = Instant::now();
        Self { endpoint, started, answered: None, patience, _in_flight: in_flight }
    }
}

impl Context {
    /// Whether the release that serves the request was rolled back meanwhile.
    pub(crate) fn is_retired(&self) -> bool {
        self.chosen.as_ref().is_some_and(|chosen| chosen.release.retirement.is_retired())
    }

    pub(crate) fn new(snapshot: Arc<Snapshot>, connection: Arc<Connection>) -> Self {
        Self {
            snapshot,
            started: Instant::now(),
            connection,
            client: Asker { ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED), https: false, forwarded_host: None },
            request_id: HeaderValue::from_static(""),
            trace_parent: TraceParent::new(1, 1),
            trace_inbound: false,
            host: String::new(),
            path: None,
            stripped: false,
            route: None,
            user: None,
            origin: None,
            chosen: None,
            metrics: None,
            attempt: None,
            last_endpoint: None,
            tried: Tried::default(),
            attempts: 0,
            body: Body::default(),
            upgrade: false,
            deadline: None,
            ended: None,
            connected: None,
            first_byte: None,
            in_flight: None,
            held: Held::default(),
            answer_fields: Vec::new(),
            compression: None,
            frames: FrameWatch::default(),
            mirror: None,
            fresh: false,
            trying_again: false,
            failing_over: false,
            rejection: None,
            termination: Termination::Ok,
        }
    }
}
