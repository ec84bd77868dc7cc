//! One client connection, replaced when it fails.

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{COOKIE, HOST, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, MutexGuard};
use tokio_rustls::TlsConnector;

use super::{Load, Refused, Trust};
use crate::trust::Credulous;

/// Why a request has no full answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// No TCP connection.
    Connect,
    /// No TLS connection.
    Tls,
    /// The connection ended before the answer's header.
    Closed,
    /// The answer ended before its body did.
    Truncated,
    /// Nothing, or not everything, in time.
    Timeout,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "no connection",
            Self::Tls => "TLS failed",
            Self::Closed => "closed without an answer",
            Self::Truncated => "answer broken off",
            Self::Timeout => "timed out",
        })
    }
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) release: Option<String>,
    pub(super) body_bytes: u64,
    pub(super) retried: bool,
}

/// A load, prepared: what every request needs is made once.
pub(super) struct Target {
    load: Load,
    address: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    uri: Uri,
    host: HeaderValue,
}

impl Target {
    pub(super) fn new(load: &Load) -> Result<Self, Refused> {
        let refused = || Refused::Url(load.url.clone());
        let authority = load.url.authority().ok_or_else(refused)?;
        let secure = match load.url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(refused()),
        };
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tls = match secure {
            true => {
                let name = ServerName::try_from(host).map_err(|_| refused())?;
                Some((TlsConnector::from(Arc::new(tls_config(load)?)), name))
            }
            false => None,
        };
        let path = load.url.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            address: load.connect_to.clone().unwrap_or_else(|| format!("{}:{port}", authority.host())),
            tls,
            uri: if load.http2 { load.url.clone() } else { path.parse().map_err(|_| refused())? },
            host: HeaderValue::from_str(authority.as_str()).map_err(|_| refused())?,
            load: load.clone(),
        })
    }

    fn request(&self, jar: Option<&Jar>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.load.body.clone()));
        *request.method_mut() = self.load.method.clone();
        *request.uri_mut() = self.uri.clone();
        if self.load.http2 {
            *request.version_mut() = Version::HTTP_2;
        } else {
            request.headers_mut().insert(HOST, self.host.clone());
        }
        for (name, value) in &self.load.headers {
            request.headers_mut().append(name, value.clone());
        }
        if let Some(cookies) = jar.and_then(cookies) {
            request.headers_mut().append(COOKIE, cookies);
        }
        request
    }

    async fn connect(&self) -> Result<Sender, Failure> {
        let tcp = TcpStream::connect(&self.address).await.map_err(|_| Failure::Connect)?;
        tcp.set_nodelay(true).map_err(|_| Failure::Connect)?;
        match &self.tls {
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), tcp).await.map_err(|_| Failure::Tls)?;
                self.handshake(stream).await
            }
            None => self.handshake(tcp).await,
        }
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

/// The connection's near end.
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// One connection, made when first needed and again when it has ended.
pub(super) struct Client {
    target: Arc<Target>,
    sender: Mutex<Option<Sender>>,
}

/// One user's cookies.
type Jar = parking_lot::Mutex<Vec<(String, String)>>;

impl Client {
    pub(super) fn new(target: Arc<Target>) -> Self {
        Self { target, sender: Mutex::new(None) }
    }

    /// Sends one request and reads the answer to its end.
    pub(super) async fn send(&self, jar: Option<&Jar>) -> Result<Answer, Failure> {
        let exchange = self.exchange(jar);
        tokio::time::timeout(self.target.load.timeout, exchange).await.unwrap_or(Err(Failure::Timeout))
    }

    /// A safe request that finds a kept connection closed is sent once more on a new one (RFC 9110 §9.2.2), as
    /// every browser does.
    async fn exchange(&self, jar: Option<&Jar>) -> Result<Answer, Failure> {
        match self.attempt(jar).await {
            Err((Failure::Closed, true)) if self.target.load.method.is_safe() => {
                let answer = self.attempt(jar).await.map_err(|(failure, _)| failure)?;
                Ok(Answer { retried: true, ..answer })
            }
            outcome => outcome.map_err(|(failure, _)| failure),
        }
    }

    /// One try; a failure tells whether the connection had been used before.
    async fn attempt(&self, jar: Option<&Jar>) -> Result<Answer, (Failure, bool)> {
        let mut slot = self.sender.lock().await;
        let (sender, reused) = match slot.take() {
            Some(sender) if sender.usable() => (sender, true),
            _ => (self.target.connect().await.map_err(|failure| (failure, false))?, false),
        };
        self.send_on(sender, slot, jar).await.map_err(|failure| (failure, reused))
    }

    async fn send_on(
        &self,
        mut sender: Sender,
        mut slot: MutexGuard<'_, Option<Sender>>,
        jar: Option<&Jar>,
    ) -> Result<Answer, Failure> {
        let request = self.target.request(jar);
        let response = match &mut sender {
            Sender::Http2(shared) => {
                let mut sender = shared.clone();
                *slot = Some(Sender::Http2(shared.clone()));
                drop(slot);
                sender.ready().await.map_err(|_| Failure::Closed)?;
                return read(sender.send_request(request).await, jar).await;
            }
            Sender::Http1(sender) => {
                sender.ready().await.map_err(|_| Failure::Closed)?;
                sender.send_request(request).await
            }
        };
        let answer = read(response, jar).await;
        if answer.is_ok() {
            *slot = Some(sender);
        }
        answer
    }
}

impl Sender {
    fn usable(&self) -> bool {
        match self {
            Self::Http1(sender) => !sender.is_closed(),
            Self::Http2(sender) => !sender.is_closed(),
        }
    }
}

async fn read(
    response: hyper::Result<http::Response<hyper::body::Incoming>>,
    jar: Option<&Jar>,
) -> Result<Answer, Failure> {
    let (head, mut body) = response.map_err(|_| Failure::Closed)?.into_parts();
    let mut body_bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Failure::Truncated)?;
        body_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    if let Some(jar) = jar {
        remember(jar, &head.headers);
    }
    let release = head.headers.get("x-release").and_then(|value| value.to_str().ok()).map(str::to_owned);
    Ok(Answer { status: head.status, release, body_bytes, retried: false })
}

/// Keeps the cookies of an answer; attributes are of no concern here.
fn remember(jar: &Jar, headers: &HeaderMap) {
    for value in headers.get_all(SET_COOKIE) {
        let pair = value.to_str().ok().and_then(|value| value.split(';').next()?.split_once('='));
        if let Some((name, value)) = pair {
            let mut jar = jar.lock();
            jar.retain(|(known, _)| known != name.trim());
            jar.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
}

fn cookies(jar: &Jar) -> Option<HeaderValue> {
    let pairs: Vec<String> = jar.lock().iter().map(|(name, value)| format!("{name}={value}")).collect();
    if pairs.is_empty() { None } else { HeaderValue::from_str(&pairs.join("; ")).ok() }
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
