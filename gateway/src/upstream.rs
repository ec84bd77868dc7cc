//! Services as one configuration has them, and the endpoints behind them.

pub(crate) mod budget;
pub(crate) mod peer;
pub(crate) mod resolve;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use gateway_core::config::model::{Balance, FailureSet, Override, Retry, Sticky};
use gateway_core::endpoint::{EndpointState, InFlight, Picker, Tried};
use gateway_core::name::{ReleaseName, ServiceName};
use gateway_core::outcome::Failure;
use gateway_core::split::{Split, Standing, Wish};
use http::HeaderMap;
use ipnet::IpNet;
use pingora::upstreams::peer::HttpPeer;

use self::budget::Budget;
use self::peer::PeerTemplate;
use crate::telemetry::instruments::{CounterBy, Gauge};
use crate::telemetry::metrics::ReleaseMetrics;

/// How long a tunnel (WebSocket) may be silent.
pub(crate) const TUNNEL_IDLE: Duration = Duration::from_secs(3600);

/// One application, with its releases.
pub(crate) struct Service {
    pub(crate) name: ServiceName,
    pub(crate) releases: Vec<Arc<Release>>,
    pub(crate) split: Split,
    pub(crate) sticky: Sticky,
    pub(crate) overrides: Option<Override>,
    pub(crate) retry: Retry,
    pub(crate) template: PeerTemplate,
    pub(crate) budget: Arc<Budget>,
    pub(crate) retries: Arc<CounterBy<Failure>>,
}
