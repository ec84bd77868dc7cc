//! From an endpoint's address and its service's settings to what is connected to.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::config::model::{self, Protocol};
use pingora::protocols::{ALPN, TcpKeepalive};
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use pingora::{ErrorType, OrErr};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::pool::{self, Pool};
use super::registry::Registry;

/// Streams multiplexed on one HTTP/2 connection before another is opened.
pub(super) const H2_STREAMS: usize = 100;

/// What all endpoints of a service have in common.
#[derive(Clone)]
pub(crate) struct PeerTemplate {
    pub(crate) timeouts: model::Timeouts,
    pub(crate) protocol: Protocol,
    pub(crate) tls: Option<UpstreamTls>,
}

/// TLS towards origins, files read.
#[derive(Clone)]
pub(crate) struct UpstreamTls {
    pub(crate) sni: Option<String>,
    /// Authorities; `None` takes the system's.
    pub(crate) ca: Option<Arc<[WrappedX509]>>,
    pub(crate) client_cert: Option<Arc<CertKey>>,
    /// All of that as rustls wants it.
    config: Arc<ClientConfig>,
}

impl UpstreamTls {
    /// Takes what [`crate::load`] has read and parsed; all certificates are DER.
    ///
    /// # Errors
    /// A sentence on what rustls refuses.
    pub(crate) fn new(
        protocol: Protocol,
        sni: Option<String>,
        ca: Option<&[Vec<u8>]>,
        client: Option<(Vec<Vec<u8>>, Vec<u8>)>,
    ) -> Result<Self, String> {
        let wrap = |der: &Vec<u8>| WrappedX509::new(der.clone(), parse_x509);
        let config = pool::tls::client_config(protocol, ca, client.as_ref())?;
        Ok(Self {
            sni,
            ca: ca.map(|ca| ca.iter().map(wrap).collect()),
            client_cert: client.map(|(chain, key)| Arc::new(CertKey::new(chain, key))),
            config,
        })
    }
}

/// One place to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    Ip(SocketAddr),
    Unix(Arc<Path>),
}

impl Target {
    /// The same place at another port; a unix socket has none.
    pub(crate) fn at_port(&self, port: Option<u16>) -> Self {
        match (self, port) {
            (Self::Ip(address), Some(port)) => Self::Ip(SocketAddr::new(address.ip(), port)),
            _ => self.clone(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl PeerTemplate {
    /// The peer for one place; `host` is the name it was found under, if any.
    pub(crate) fn peer(&self, target: &Target, host: Option<&str>) -> pingora::Result<HttpPeer> {
        let sni = self.server_name(target, host);
        let mut peer = match target {
            Target::Ip(address) => HttpPeer::new(*address, self.tls.is_some(), sni),
            Target::Unix(path) => HttpPeer::new_uds(&path.to_string_lossy(), self.tls.is_some(), sni)?,
        };
        self.apply_timeouts(&mut peer);
        match self.protocol {
            Protocol::Http1 => peer.options.alpn = ALPN::H1,
            Protocol::H2 | Protocol::H2c => {
                peer.options.set_http_version(2, 2);
                peer.options.max_h2_streams = H2_STREAMS;
                peer.options.h2_ping_interval = Some(Duration::from_secs(30));
            }
        }
        if let Some(tls) = &self.tls {
            peer.client_cert_key = tls.client_cert.clone();
            peer.options.ca = tls.ca.clone();
        }
        // Pingora's pool does not know under which authorities a connection was verified; this does.
        peer.group_key = self.policy_hash();
        Ok(peer)
    }

    /// The connections to one place; `host` as for [`Self::peer`].
    ///
    /// # Errors
    /// When no certificate can be for the server name.
    pub(crate) fn pool(
        &self,
        target: &Target,
        host: Option<&str>,
        registry: &Registry,
    ) -> pingora::Result<Arc<Pool>> {
        let named = self.tls.as_ref().map(|_| self.server_name(target, host));
        let server_name = named
            .map(ServerName::try_from)
            .transpose()
            .or_err(ErrorType::InvalidCert, "the server name cannot stand in a certificate")?;
        let key = pool::Key {
            target: target.clone(),
            policy: self.policy_hash(),
            server_name,
            connect: self.timeouts.connect,
            keepalive: self.timeouts.keepalive,
        };
        let config = self.tls.as_ref().map(|tls| tls.config.clone());
        Ok(registry.pool(key, self.protocol, config))
    }

    /// Whether a connection carries one request at a time.
    pub(crate) fn is_http1(&self) -> bool {
        self.protocol == Protocol::Http1
    }

    fn apply_timeouts(&self, peer: &mut HttpPeer) {
        let options = &mut peer.options;
        options.connection_timeout = Some(self.timeouts.connect);
        options.total_connection_timeout =
            Some(if self.tls.is_some() { self.timeouts.connect * 2 } else { self.timeouts.connect });
        options.write_timeout = Some(self.timeouts.idle);
        options.idle_timeout = Some(self.timeouts.keepalive);
        options.tcp_keepalive = Some(TcpKeepalive {
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(10),
            count: 3,
            #[cfg(target_os = "linux")]
            user_timeout: Duration::ZERO,
        });
    }

    fn server_name(&self, target: &Target, host: Option<&str>) -> String {
        let configured = self.tls.as_ref().and_then(|tls| tls.sni.as_deref());
        match (configured.or(host), target) {
            (Some(name), _) => name.to_owned(),
            (None, Target::Ip(address)) => address.ip().to_string(),
            (None, Target::Unix(_)) => "localhost".to_owned(),
        }
    }

    /// The name and port of a place, as `Host` has them.
    pub(crate) fn authority(&self, target: &Target, host: Option<&str>) -> String {
        let configured = self.tls.as_ref().and_then(|tls| tls.sni.as_deref());
        match (configured.or(host), target) {
            (Some(name), Target::Ip(address)) => format!("{name}:{}", address.port()),
            (Some(name), Target::Unix(_)) => name.to_owned(),
            (None, Target::Ip(address)) => address.to_string(),
            (None, Target::Unix(_)) => "localhost".to_owned(),
        }
    }

    fn policy_hash(&self) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        (self.protocol as u8).hash(&mut hasher);
        if let Some(tls) = &self.tls {
            (tls.ca.is_some(), tls.client_cert.is_some()).hash(&mut hasher);
            for authority in tls.ca.iter().flat_map(|ca| ca.iter()) {
                authority.borrow_raw_cert().hash(&mut hasher);
            }
            for certificate in
                tls.client_cert.iter().flat_map(|cert| [vec![cert.leaf()], cert.intermediates()])
            {
                certificate.iter().for_each(|der| der.borrow_raw_cert().hash(&mut hasher));
            }
        }
        hasher.finish()
    }
}
