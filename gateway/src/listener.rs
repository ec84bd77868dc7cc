//! Where connections come in, and everything that is decided about one before its first request.

mod accept;
pub(crate) mod client;
pub(crate) mod client_certificate;
pub(crate) mod connection;
pub(crate) mod edge;
pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod refusal;
pub(crate) mod slots;
pub(crate) mod stream;
pub(crate) mod tls;
mod transport;

use std::net::SocketAddr;
use std::sync::Arc;

use gateway_core::config::model::{ClientHeaders, ListenerLimits};

use crate::telemetry::metrics::ListenerMetrics;

/// A listener as one configuration has it. The address is for the process; the rest may change with every reload.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    /// `None` is plain HTTP.
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    /// Where a client's certificate is told.
    pub(crate) client_headers: ClientHeaders,
    /// The port named in redirects, where every request is sent to https.
    pub(crate) redirect_port: Option<u16>,
    pub(crate) proxy_protocol: bool,
    pub(crate) limits: ListenerLimits,
    pub(crate) metrics: ListenerMetrics,
}
