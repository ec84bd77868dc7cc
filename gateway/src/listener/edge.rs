//! The seam between Pingora's listeners and its proxy: every connection passes here once.
//!
//! Pingora's own TLS listener has a fixed handshake time-out, one session cache of 256 entries and no hook for what goes
//! wrong. So the listeners are our own ([`super::accept`]), and what belongs to the edge of a connection happens here:
//! PROXY header, places per address, TLS, each within the listener's own deadline.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gateway_core::name::ListenerName;
use gateway_core::proxy_protocol;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::Listener;
use super::client_certificate::{self, Fields};
use super::connection::Connection;
use super::refusal::Refusal;
use super::slots::{Place, Slot, Slots};
use super::stream::EdgeStream;
use super::transport::Transport;
use crate::proxy::Proxy;
use crate::runtime::Runtime;
use crate::telemetry::labels::Handshake;

/// One listener's connections, handed to the proxy they share.
pub(crate) struct Edge {
    pub(crate) name: ListenerName,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) slots: Arc<Slots>,
    pub(crate) proxy: Arc<HttpProxy<Proxy>>,
    /// Whether idle connections are to go.
    pub(super) closed: watch::Sender<bool>,
}

/// Why a connection ends before its first request.
enum Closed {
    /// Counted by reason.
    Refused(Refusal),
    /// The TLS handshake did not come off.
    Handshake(Handshake),
}

impl Edge {
    pub(crate) fn new(
        name: ListenerName,
        runtime: Arc<Runtime>,
        slots: Arc<Slots>,
        proxy: Arc<HttpProxy<Proxy>>,
    ) -> Self {
        Self { name, runtime, slots, proxy, closed: watch::Sender::new(false) }
    }

    /// Prepares a connection; everything a client may dawdle with is inside the listener's handshake deadline.
    async fn open(
        &self,
        mut socket: TcpStream,
        direct: SocketAddr,
        place: Place,
    ) -> Option<(EdgeStream, Arc<Listener>)> {
        let snapshot = self.runtime.snapshot();
        let listener = snapshot.listeners.get(&self.name)?.clone();
        // Open from here on, so that a stop waits for a handshake too.
        let open = listener.metrics.connect();
        let prepared = self.prepare(&listener, &snapshot.trusted, place, (&mut socket, direct)).await;
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
        EdgeStream::new(transport, connection, direct).ok().map(|stream| (stream, listener))
    }

    /// Carries a connection to its end.
    pub(super) async fn serve(
        &self,
        socket: TcpStream,
        direct: SocketAddr,
        place: Place,
        shutdown: &ShutdownWatch,
    ) {
        let Some((stream, listener)) = self.open(socket, direct, place).await else { return };
        if stream.is_http2() {
            let app = Arc::new(OnListener::new(self.proxy.clone(), &listener));
            ServerApp::process_new(&app, Box::new(stream), shutdown).await;
        } else {
            self.serve_http1(Box::new(stream), shutdown).await;
        }
    }

    /// One request after the other. Between them nothing of Pingora's is held.
    async fn serve_http1(&self, stream: Box<EdgeStream>, shutdown: &ShutdownWatch) {
        let mut closed = self.closed.subscribe();
        // An error says that there is no listener any more.
        let mut closed = pin!(async move { drop(closed.wait_for(|closed| *closed).await) });
        let mut next = Some((stream, None::<HttpPersistentSettings>));
        while let Some((mut stream, settings)) = next {
            if !stream.begins_request(closed.as_mut()).await {
                return;
            }
            let mut session = ServerSession::new_http1(stream);
            match settings {
                Some(settings) => settings.apply_to_session(&mut session),
                // For how long is decided with the first request.
                None => session.set_keepalive((!*shutdown.borrow()).then_some(1)),
            }
            let reused = self.proxy.process_new_http(session, shutdown).await;
            next = reused.and_then(|reused| {
                let (stream, settings) = reused.consume();
                Some((stream.into_any().downcast().ok()?, settings))
            });
        }
    }

    async fn prepare(
        &self,
        listener: &Listener,
        trusted: &gateway_core::client_ip::TrustedProxies,
        place: Place,
        (socket, direct): (&mut TcpStream, SocketAddr),
    ) -> Result<(SocketAddr, Slot), Closed> {
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
        }
        None
    }
}

async fn handshake(
    config: Arc<rustls::ServerConfig>,
    socket: TcpStream,
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
async fn read_proxy_header(socket: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let (mut header, mut space) = (Vec::new(), [0; 256]);
    loop {
        let seen = socket.peek(&mut space).await?;
        let before = header.len();
        header.extend_from_slice(&space[..seen]);
        let (ours, source) = match proxy_protocol::parse(&header).map_err(io::Error::other)? {
            _ if seen == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            proxy_protocol::Parsed::Incomplete => (seen, None),
            proxy_protocol::Parsed::Header(parsed) => (parsed.length - before, Some(parsed.source)),
        };
        socket.read_exact(&mut space[..ours]).await?;
        if let Some(source) = source {
            return Ok(source);
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
