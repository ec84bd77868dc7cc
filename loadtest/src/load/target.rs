//! A load, prepared: what every request needs is made once.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{COOKIE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::client::Failure;
use super::shape::{Choice, Shape};
use super::{Load, Refused, Trust};
use crate::trust::Credulous;

/// Everything a load's workers share about what they send, and where to.
pub(super) struct Target {
    pub(super) load: Load,
    peers: Vec<Peer>,
    asks: Vec<Ask>,
    choice: Choice,
    keys: Vec<HeaderValue>,
    /// Why a connection could not be made, the first time.
    pub(super) trouble: OnceLock<String>,
}

/// A server that requests go to.
struct Peer {
    secure: bool,
    authority: String,
    address: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// One kind of request.
pub(super) struct Ask {
    /// Its server, by place.
    pub(super) peer: usize,
    pub(super) method: Method,
    uri: Uri,
    host: HeaderValue,
    body: Bytes,
}

/// The connection's near end.
pub(super) enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Sender {
    pub(super) fn usable(&self) -> bool {
        match self {
            Self::Http1(sender) => !sender.is_closed(),
            Self::Http2(sender) => !sender.is_closed(),
        }
    }
}

impl Target {
    pub(super) fn new(load: &Load) -> Result<Self, Refused> {
        let only =
            Shape { weight: 1, method: load.method.clone(), url: load.url.clone(), body: load.body.clone() };
        let shapes = if load.mix.is_empty() { std::slice::from_ref(&only) } else { &load.mix[..] };
        let mut peers = Vec::new();
        let asks = shapes
            .iter()
            .map(|shape| Ask::new(shape, load, &mut peers))
            .collect::<Result<Vec<_>, Refused>>()?;
        Ok(Self {
            choice: Choice::new(shapes.iter().map(|shape| shape.weight)).ok_or(Refused::Weights)?,
            peers,
            asks,
            keys: load.keys.as_ref().map_or_else(Vec::new, |keys| keys.values()),
            load: load.clone(),
            trouble: OnceLock::new(),
        })
    }

    /// How many servers there are.
    pub(super) fn peers(&self) -> usize {
        self.peers.len()
    }

    /// What request `number` asks for.
    pub(super) fn ask(&self, number: u64) -> &Ask {
        &self.asks[self.choice.of(number)]
    }

    pub(super) fn request(
        &self,
        ask: &Ask,
        number: u64,
        cookies: Option<HeaderValue>,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(ask.body.clone()));
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() = ask.uri.clone();
        if self.load.http2 {
            *request.version_mut() = Version::HTTP_2;
        } else {
            request.headers_mut().insert(HOST, ask.host.clone());
        }
        let headers = request.headers_mut();
        for (name, value) in &self.load.headers {
            headers.append(name, value.clone());
        }
        if let (Some(keys), Some(key)) = (&self.load.keys, in_turn(&self.keys, number)) {
            headers.append(&keys.header, key.clone());
        }
        if let Some(cookies) = cookies {
            headers.append(COOKIE, cookies);
        }
        request
    }

    /// The release an answer names.
    pub(super) fn release(&self, headers: &HeaderMap) -> Option<String> {
        headers.get(&self.load.release_header).and_then(|value| value.to_str().ok()).map(str::to_owned)
    }

    pub(super) async fn connect(&self, peer: usize) -> Result<Sender, Failure> {
        let peer = &self.peers[peer];
        let tcp = TcpStream::connect(&peer.address)
            .await
            .and_then(|tcp| tcp.set_nodelay(true).map(|()| tcp))
            .map_err(|error| self.failed(peer, Failure::Connect, &error))?;
        match &peer.tls {
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), tcp).await;
                self.handshake(stream.map_err(|error| self.failed(peer, Failure::Tls, &error))?).await
            }
            None => self.handshake(tcp).await,
        }
    }

    fn failed(&self, peer: &Peer, failure: Failure, error: &std::io::Error) -> Failure {
        self.trouble.get_or_init(|| format!("{}: {failure}: {error}", peer.address));
        failure
    }

    async fn handshake<S>(&self, stream: S) -> Result<Sender, Failure>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let io = TokioIo::new(stream);
        if self.load.http2 {
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), io).await.map_err(|_| Failure::Closed)?;
            tokio::spawn(connection);
            Ok(Sender::Http2(sender))
        } else {
            let (sender, connection) = http1::handshake(io).await.map_err(|_| Failure::Closed)?;
            tokio::spawn(connection);
            Ok(Sender::Http1(sender))
        }
    }
}

impl Ask {
    /// Takes a place among the `peers`, a new one if its server has none yet.
    fn new(shape: &Shape, load: &Load, peers: &mut Vec<Peer>) -> Result<Self, Refused> {
        let Shape { method, url, body, .. } = shape;
        let refused = || Refused::Url(url.clone());
        let authority = url.authority().ok_or_else(refused)?;
        let secure = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(refused()),
        };
        let known =
            peers.iter().position(|peer| peer.secure == secure && peer.authority == authority.as_str());
        let peer = match known {
            Some(peer) => peer,
            None => {
                peers.push(Peer::new(url, authority, secure, load)?);
                peers.len() - 1
            }
        };
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            peer,
            method: method.clone(),
            uri: if load.http2 { url.clone() } else { path.parse().map_err(|_| refused())? },
            host: HeaderValue::from_str(authority.as_str()).map_err(|_| refused())?,
            body: body.clone(),
        })
    }
}

impl Peer {
    fn new(url: &Uri, authority: &http::uri::Authority, secure: bool, load: &Load) -> Result<Self, Refused> {
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tls = match secure {
            true => {
                let name = ServerName::try_from(host).map_err(|_| Refused::Url(url.clone()))?;
                Some((TlsConnector::from(Arc::new(tls_config(load)?)), name))
            }
            false => None,
        };
        let address = load.connect_to.clone().unwrap_or_else(|| format!("{}:{port}", authority.host()));
        Ok(Self { secure, authority: authority.as_str().to_owned(), address, tls })
    }
}

/// A field whose value differs from request to request, as an API key's does from client to client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// The field.
    pub header: HeaderName,
    /// How many values take turns: `key-1`, `key-2` and so on.
    pub count: usize,
}

impl Keys {
    fn values(&self) -> Vec<HeaderValue> {
        let value = |number| HeaderValue::from_str(&format!("key-{number}"));
        (1..=self.count).filter_map(|number| value(number).ok()).collect()
    }
}

/// The item whose turn it is; `None` if there are none.
pub(super) fn in_turn<T>(items: &[T], number: u64) -> Option<&T> {
    let turn = number.checked_rem(items.len() as u64)?;
    items.get(usize::try_from(turn).ok()?)
}

fn tls_config(load: &Load) -> Result<ClientConfig, Refused> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for every version");
    let mut config = match &load.trust {
        Trust::Authority(path) => builder.with_root_certificates(roots(path)?).with_no_client_auth(),
        Trust::Anything => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous::new()))
            .with_no_client_auth(),
    };
    config.alpn_protocols = vec![if load.http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(config)
}

fn roots(path: &Path) -> Result<RootCertStore, Refused> {
    let refused = |reason: String| Refused::Authority { path: path.to_owned(), reason };
    let file = File::open(path).map_err(|error| refused(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_reader_iter(BufReader::new(file)) {
        let certificate = certificate.map_err(|error| refused(error.to_string()))?;
        roots.add(certificate).map_err(|error| refused(error.to_string()))?;
    }
    if roots.is_empty() { Err(refused("it holds none".to_owned())) } else { Ok(roots) }
}
