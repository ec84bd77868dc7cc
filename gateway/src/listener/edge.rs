//! The edge of a connection: PROXY header, places per address and TLS, each within the listener's own deadline; then the
//! requests, in the protocol that was agreed on.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::name::ListenerName;
use gateway_core::proxy_protocol;
use pingora::server::ShutdownWatch;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::client::Client;
use super::client_certificate::{self, Fields};
use super::connection::Connection;
use super::http1::{Exchange, Next, Wire};
use super::refusal::Refusal;
use super::slots::{Place, Slot, Slots};
use super::stream::EdgeStream;
use super::transport::Transport;
use super::{Listener, http2};
use crate::proxy::Proxy;
use crate::runtime::Runtime;
use crate::telemetry::labels::Handshake;

/// One listener's connections, handed to the proxy they share.
pub(crate) struct Edge {
    pub(crate) name: ListenerName,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) slots: Arc<Slots>,
    pub(crate) proxy: Arc<Proxy>,
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
        proxy: Arc<Proxy>,
    ) -> Self {
        Self { name, runtime, slots, proxy, closed: watch::Sender::new(false) }
    }

    /// Prepares a connection; everything a client may dawdle with is inside the listener's handshake deadline.
    async fn open(
        &self,
        mut socket: TcpStream,
        direct: SocketAddr,
        place: Place,
    ) -> Option<(Transport, Arc<Connection>)> {
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
            self.runtime.draining(),
        ));
        Some((transport, connection))
    }

    /// Carries a connection to its end.
    pub(super) async fn serve(
        &self,
        socket: TcpStream,
        direct: SocketAddr,
        place: Place,
        shutdown: &ShutdownWatch,
    ) {
        let Some((transport, connection)) = self.open(socket, direct, place).await else { return };
        if transport.is_http2() {
            let stream = EdgeStream::new(transport, connection.clone());
            let proxy = self.proxy.clone();
            let answer = move |exchange| {
                let proxy = proxy.clone();
                async move { proxy.serve(&mut Client::Http2(exchange)).await }
            };
            http2::serve(stream, connection, shutdown.clone(), answer).await;
        } else {
            self.serve_http1(Wire::new(transport, connection)).await;
        }
    }

    /// One request after the other.
    async fn serve_http1(&self, mut wire: Wire) {
        let mut closed = self.closed.subscribe();
        // An error says that there is no listener any more.
        let mut closed = pin!(async move { drop(closed.wait_for(|closed| *closed).await) });
        loop {
            let opening = match wire.next(closed.as_mut()).await {
                Next::Request(opening) => opening,
                Next::Nothing => return wire.close().await,
                Next::Refused(refusal) => return wire.refuse(refusal).await,
            };
            // On its own, so that an idle connection does not hold the room a request takes.
            match Box::pin(self.answer(Exchange::new(wire, *opening))).await {
                Some(next) => wire = next,
                None => return,
            }
        }
    }

    async fn answer(&self, exchange: Exchange) -> Option<Wire> {
        let mut client = Client::Http1(exchange);
        self.proxy.serve(&mut client).await;
        match client {
            Client::Http1(exchange) => exchange.finish().await,
            Client::Http2(_) => None,
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
