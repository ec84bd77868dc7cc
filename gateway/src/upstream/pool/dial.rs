//! New connections to one place.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::config::model::Protocol;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::stream::{Socket, Stream};
use crate::upstream::peer::Target;
use crate::wire;

/// Why there is no new connection.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct ConnectError {
    pub(crate) kind: ConnectFailure,
    /// Whether the origin took too long.
    pub(crate) timed_out: bool,
    reason: Arc<str>,
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectFailure {
    /// Refused, unreachable, or no answer.
    Connect,
    /// The handshake, or a certificate.
    Tls,
    /// The gateway's own: out of files, ports or memory, or not allowed to.
    Local,
}

impl ConnectError {
    pub(super) fn new(kind: ConnectFailure, reason: &str) -> Self {
        Self { kind, timed_out: false, reason: reason.into() }
    }

    pub(super) fn late(kind: ConnectFailure, limit: Duration) -> Self {
        let what = if kind == ConnectFailure::Tls { "TLS handshake" } else { "connection" };
        Self { kind, timed_out: true, reason: format!("no {what} within {limit:?}").into() }
    }
}

impl From<&io::Error> for ConnectError {
    fn from(error: &io::Error) -> Self {
        let local = matches!(
            error.raw_os_error(),
            Some(
                libc::EMFILE
                    | libc::ENFILE
                    | libc::EADDRNOTAVAIL
                    | libc::ENOBUFS
                    | libc::ENOMEM
                    | libc::EACCES
                    | libc::EPERM
            )
        );
        let kind = if local { ConnectFailure::Local } else { ConnectFailure::Connect };
        let timed_out = error.kind() == io::ErrorKind::TimedOut;
        Self { kind, timed_out, reason: error.to_string().into() }
    }
}

/// When dialling must have ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    each: Duration,
    end: Option<Instant>,
}

impl Limit {
    /// Waits for one step. A failure to end in time counts as `kind`.
    pub(super) async fn wait<T>(
        self,
        kind: ConnectFailure,
        step: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        let left = self.end.map(|end| end.saturating_duration_since(Instant::now()));
        let limit = left.map_or(self.each, |left| left.min(self.each));
        timeout(limit, step).await.unwrap_or_else(|_| Err(ConnectError::late(kind, limit)))
    }
}

/// How one place is connected to.
pub(super) struct Dialer {
    pub(super) target: Target,
    pub(super) protocol: Protocol,
    pub(super) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// For TCP, and again for what follows it.
    pub(super) timeout: Duration,
}

impl Dialer {
    /// Each step has its own time, and all together no more than `left`.
    pub(super) fn limit(&self, left: Option<Duration>) -> Limit {
        Limit { each: self.timeout, end: left.and_then(|left| Instant::now().checked_add(left)) }
    }

    /// As what a failure after TCP counts.
    pub(super) fn second(&self) -> ConnectFailure {
        if self.tls.is_some() { ConnectFailure::Tls } else { ConnectFailure::Connect }
    }

    /// Connects, without TLS.
    pub(super) async fn reach(&self, limit: Limit) -> Result<Socket, ConnectError> {
        limit.wait(ConnectFailure::Connect, self.open()).await
    }

    async fn open(&self) -> Result<Socket, ConnectError> {
        let opened = match &self.target {
            Target::Ip(address) => TcpStream::connect(address).await.and_then(|tcp| {
                wire::prepare(SockRef::from(&tcp))?;
                Ok(Socket::Tcp(tcp))
            }),
            Target::Unix(path) => UnixStream::connect(path).await.map(Socket::Unix),
        };
        opened.map_err(|error| ConnectError::from(&error))
    }

    /// Adds TLS where it belongs; takes as long as the origin does.
    pub(super) async fn secure(&self, socket: Socket) -> Result<Stream, ConnectError> {
        let Some((config, name)) = &self.tls else { return Ok(Stream::Plain(socket)) };
        let broken = |reason: &str| ConnectError::new(ConnectFailure::Tls, reason);
        let tls = TlsConnector::from(config.clone())
            .connect(name.clone(), socket)
            .await
            .map_err(|error| broken(&error.to_string()))?;
        if self.protocol == Protocol::H2 && tls.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(broken("the origin does not offer HTTP/2 (ALPN `h2`)"));
        }
        Ok(Stream::Tls(Box::new(tls)))
    }
}
