//! The seam between Pingora's listeners and its proxy: every connection passes here once.
//!
//! Pingora's own TLS listener has a fixed handshake time-out, one session cache of 256 entries and no hook for what goes
//! wrong. So the listeners are our own ([`super::accept`]), and what belongs to the edge of a connection happens here:
//! PROXY header, places per address, TLS, each within the listener's own deadline.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gateway_core::name::ListenerName;
use gateway_core::proxy_protocol;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::GetSocketDigest;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::Listener;
use super::client_certificate::{self, Fields};
use super::connection::Connection;
use super::refusal::Refusal;
use super::slots::{Place, Slot, Slots};
use super::stream::{EdgeStream, Transport};
use crate::proxy::Proxy;
use crate::runtime::Runtime;
use crate::telemetry::labels::Handshake;

/// One listener's connections, handed to the proxy they share.
pub(crate) struct Edge {
    pub(crate) name: ListenerName,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) slots: Arc<Slots>,
    pub(crate) proxy: Arc<HttpProxy<Proxy>>,
}

/// Why a connection ends before its first request.
enum Closed {
    /// Counted by reason.
    Refused(Refusal),
    /// The TLS handshake did not come off.
    Handshake(Handshake),
    /// The client is gone, or what happened is no one's fault.
    Gone,
}

impl Edge {
    /// Prepares a connection; everything a client may dawdle with is inside the listener's handshake deadline.
    async fn open(&self, mut socket: L4Stream, place: Place) -> Option<(EdgeStream, Arc<Listener>)> {
        let snapshot = self.runtime.snapshot();
        let listener = snapshot.listeners.get(&self.name)?.clone();
        // Open from here on, so that a stop waits for a handshake too.
        let open = listener.metrics.connect();
        let prepared = self.prepare(&listener, &snapshot.trusted, place, &mut socket).await;
        let (peer, slot) = self.settle(&listener, prepared)?;
        let deadline = listener.limits.handshake;
        let secured = match &listener.tls {
            None => Ok(Transport::Plain(socket)),
            Some(config) => handshake(config.clone(), socket, deadline).await,
        };
        let transport = self.settle(&listener, secured)?;
        let tls = listener.tls.is_some();
        if tls {
            listener.metrics.handshakes.count(Handshake::Ok);
        }
        let connection = Arc::new(Connection::new(
            listener.clone(),
            peer,
            tls,
            client_fields(&transport, &listener),
            snapshot.model.request_id.clone(),
            (slot, open),
        ));
        EdgeStream::new(transport, connection).ok().map(|stream| (stream, listener))
    }

    /// Carries a connection to its end.
    pub(super) async fn serve(&self, socket: L4Stream, place: Place, shutdown: &ShutdownWatch) {
        if let Some((stream, listener)) = self.open(socket, place).await {
            let app = Arc::new(OnListener::new(self.proxy.clone(), &listener));
            ServerApp::process_new(&app, Box::new(stream), shutdown).await;
        }
    }

    async fn prepare(
        &self,
        listener: &Listener,
        trusted: &gateway_core::client_ip::TrustedProxies,
        place: Place,
        socket: &mut L4Stream,
    ) -> Result<(SocketAddr, Slot), Closed> {
        let direct = peer_of(socket).ok_or(Closed::Gone)?;
        let peer = if listener.proxy_protocol {
            if !trusted.contains(direct.ip().to_canonical()) {
                return Err(Closed::Refused(Refusal::ProxyHeader));
            }
            let header = timeout(listener.limits.handshake, read_proxy_header(socket)).await;
            match header {
                Ok(Ok(source)) => source.unwrap_or(direct),
                Ok(Err(_)) | Err(_) => return Err(Closed::Refused(Refusal::ProxyHeader)),
            }
        } else {
            direct
        };
        let most = listener.limits.connections_per_ip;
        let slot = place.of(peer.ip().to_canonical(), most);
        slot.map(|slot| (peer, slot)).ok_or(Closed::Refused(Refusal::TooManyConnections))
    }

    /// Counts what went wrong.
    fn settle<T>(&self, listener: &Listener, result: Result<T, Closed>) -> Option<T> {
        match result {
            Ok(value) => return Some(value),
            Err(Closed::Refused(refusal)) => listener.metrics.bad_requests.count(refusal.reason()),
            Err(Closed::Handshake(result)) => listener.metrics.handshakes.count(result),
            Err(Closed::Gone) => {}
        }
        None
    }
}

fn peer_of(socket: &L4Stream) -> Option<SocketAddr> {
    socket.get_socket_digest()?.peer_addr()?.as_inet().copied()
}

async fn handshake(
    config: Arc<rustls::ServerConfig>,
    socket: L4Stream,
    deadline: Duration,
) -> Result<Transport, Closed> {
    match timeout(deadline, TlsAcceptor::from(config).accept(socket)).await {
        Err(_) => Err(Closed::Handshake(Handshake::Timeout)),
        Ok(Err(_)) => Err(Closed::Handshake(Handshake::Failed)),
        Ok(Ok(stream)) => Ok(Transport::Tls(Box::new(stream))),
    }
}

/// What the certificate says that the client has shown, in this handshake or the one it resumes.
fn client_fields(transport: &Transport, listener: &Listener) -> Fields {
    let Transport::Tls(stream) = transport else { return Fields::new() };
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    shown.map_or_else(Fields::new, |leaf| client_certificate::fields(leaf, &listener.client_headers))
}

/// Reads exactly the PROXY header, so that what follows it stays in the socket.
async fn read_proxy_header(socket: &mut L4Stream) -> io::Result<Option<SocketAddr>> {
    let malformed = |error: proxy_protocol::Malformed| io::Error::other(error);
    let mut header = Vec::with_capacity(128);
    loop {
        match proxy_protocol::parse(&header).map_err(malformed)? {
            proxy_protocol::Parsed::Incomplete => header.push(socket.read_u8().await?),
            proxy_protocol::Parsed::Header(parsed) => return Ok(parsed.source),
        }
    }
}

/// The shared proxy with the settings of one connection's listener, which Pingora keeps for a proxy as a whole.
struct OnListener {
    proxy: Arc<HttpProxy<Proxy>>,
    options: HttpServerOptions,
}

impl OnListener {
    fn new(proxy: Arc<HttpProxy<Proxy>>, listener: &Listener) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(listener.limits.keepalive);
        Self { proxy, options }
    }
}

#[async_trait]
impl HttpServerApp for OnListener {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        self.proxy.process_new_http(session, shutdown).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.proxy.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}
