//! Connections to the gateway: TLS handshakes to be varied, and raw bytes for what no client library would send.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use loadtest::trust::Credulous;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificates::{Leaf, certificates};
use super::gateway::PATIENCE;

/// Any byte stream.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A TCP connection, from one of the loopback's addresses if that matters.
pub(crate) async fn tcp(address: &str, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind((source, 0).into())?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A TLS handshake: for shop.example, trusting the test's authority, offering http/1.1, unless said otherwise.
#[derive(Clone)]
pub(crate) struct Handshake {
    address: String,
    name: ServerName<'static>,
    alpn: Vec<String>,
    versions: Vec<&'static SupportedProtocolVersion>,
    roots: Option<RootCertStore>,
    identity: Option<&'static Leaf>,
    source: Option<IpAddr>,
    preface: Vec<u8>,
    config: Option<Arc<ClientConfig>>,
}

impl Handshake {
    pub(crate) fn new(address: String) -> Self {
        Self {
            address,
            name: ServerName::try_from("shop.example").unwrap(),
            alpn: vec!["http/1.1".to_owned()],
            versions: vec![&TLS13, &TLS12],
            roots: Some(certificates().authority.roots()),
            identity: None,
            source: None,
            preface: Vec::new(),
            config: None,
        }
    }

    /// Another server name; an IP address is sent as none.
    pub(crate) fn sni(mut self, name: &str) -> Self {
        self.name = ServerName::try_from(name.to_owned()).unwrap();
        self
    }

    pub(crate) fn alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    pub(crate) fn tls12(mut self) -> Self {
        self.versions = vec![&TLS12];
        self
    }

    /// Believes every certificate: for looking at one that does not fit.
    pub(crate) fn credulous(mut self) -> Self {
        self.roots = None;
        self
    }

    /// Shows a certificate.
    pub(crate) fn identity(mut self, leaf: &'static Leaf) -> Self {
        self.identity = Some(leaf);
        self
    }

    /// Comes from this address of the loopback.
    pub(crate) fn source(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// Sends these bytes before the handshake.
    pub(crate) fn preface(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.preface = bytes.into();
        self
    }

    /// Uses the same sessions again and again, so that a later handshake may resume an earlier one.
    pub(crate) fn remembering(mut self) -> Self {
        let mut config = self.client_config();
        config.resumption = Resumption::in_memory_sessions(16);
        self.config = Some(Arc::new(config));
        self
    }

    fn client_config(&self) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_protocol_versions(&self.versions).unwrap();
        let builder = match &self.roots {
            Some(roots) => builder.with_root_certificates(roots.clone()),
            None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Credulous::new())),
        };
        let mut config = match self.identity {
            Some(leaf) => builder.with_client_auth_cert(vec![leaf.certificate.clone()], leaf.key()).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    /// Connects and shakes hands.
    pub(crate) async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        let config = self.config.clone().unwrap_or_else(|| Arc::new(self.client_config()));
        let mut stream = tcp(&self.address, self.source).await?;
        stream.write_all(&self.preface).await?;
        let handshake = TlsConnector::from(config).connect(self.name.clone(), stream);
        timeout(PATIENCE, handshake).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Orderly.
    Closed,
    /// With a reset, or inside TLS without a close_notify.
    Broken,
}

/// A connection of bytes.
pub(crate) struct Raw {
    stream: Box<dyn Duplex>,
    /// Received and not asked for yet.
    buffer: Vec<u8>,
}

/// One HTTP/1.1 answer as it was on the wire.
#[derive(Debug)]
pub(crate) struct RawAnswer {
    pub(crate) status: u16,
    /// Status line and fields, without the empty line.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl RawAnswer {
    /// The first value of a field, whatever its case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Raw {
    pub(crate) fn new(stream: impl Duplex + 'static) -> Self {
        Self { stream: Box::new(stream), buffer: Vec::new() }
    }

    pub(crate) async fn tcp(address: &str) -> Self {
        Self::new(tcp(address, None).await.unwrap())
    }

    /// Sends these bytes.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("the gateway takes what is sent");
    }

    /// Sends these bytes, if the gateway still takes any.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        self.stream.flush().await
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn end(&mut self) {
        self.stream.shutdown().await.expect("the gateway has not left");
    }

    /// Receives once more; 0 at the end.
    async fn receive(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 16 << 10];
        let read = timeout(PATIENCE, self.stream.read(&mut bytes)).await;
        let count = read.unwrap_or_else(|_| panic!("the gateway is silent after {:?}", self.received()))?;
        self.buffer.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn received(&self) -> String {
        String::from_utf8_lossy(&self.buffer).into_owned()
    }

    /// Whether nothing arrives for this long.
    pub(crate) async fn silent_for(&mut self, time: Duration) -> bool {
        let mut bytes = [0; 1];
        timeout(time, self.stream.read(&mut bytes)).await.is_err()
    }

    /// Takes bytes up to and with `end`.
    pub(crate) async fn read_until(&mut self, end: &str) -> String {
        loop {
            let found = self.buffer.windows(end.len()).position(|bytes| bytes == end.as_bytes());
            if let Some(at) = found {
                let bytes: Vec<u8> = self.buffer.drain(..at + end.len()).collect();
                return String::from_utf8_lossy(&bytes).into_owned();
            }
            let count = self.receive().await;
            assert!(
                matches!(count, Ok(1..)),
                "ended ({count:?}) before {end:?}, after {:?}",
                self.received()
            );
        }
    }

    /// Takes so many bytes.
    pub(crate) async fn read_exact(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            let more = self.receive().await;
            assert!(matches!(more, Ok(1..)), "ended ({more:?}) after {:?}", self.received());
        }
        self.buffer.drain(..count).collect()
    }

    /// Takes the next answer to a request other than HEAD; its body ends by length, by chunks, or with the connection.
    pub(crate) async fn answer(&mut self) -> RawAnswer {
        let mut answer = self.head().await;
        let bodiless = answer.status < 200 || matches!(answer.status, 204 | 304);
        if bodiless {
            return answer;
        }
        let length =
            answer.header("content-length").map(|length| length.parse().expect("a length is a number"));
        let chunked = answer.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked"));
        answer.body = match (length, chunked) {
            (Some(length), _) => self.read_exact(length).await,
            (None, true) => self.chunks().await,
            (None, false) => self.read_to_end().await.0,
        };
        answer
    }

    /// Takes the header of the next answer.
    pub(crate) async fn head(&mut self) -> RawAnswer {
        let head = self.read_until("\r\n\r\n").await;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not an answer: {head:?}"));
        RawAnswer { status, head: head.trim_end().to_owned(), body: Vec::new() }
    }

    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let size = self.read_until("\r\n").await;
            let size = usize::from_str_radix(size.trim(), 16).expect("a chunk has a size");
            body.extend(self.read_exact(size).await);
            if size == 0 {
                // Trailers are of no concern, the empty line is.
                while self.read_until("\r\n").await != "\r\n" {}
                return body;
            }
            self.read_until("\r\n").await;
        }
    }

    /// Takes everything up to the connection's end.
    pub(crate) async fn read_to_end(&mut self) -> (Vec<u8>, End) {
        let end = loop {
            match self.receive().await {
                Ok(0) => break End::Closed,
                Ok(_) => {}
                Err(_) => break End::Broken,
            }
        };
        (std::mem::take(&mut self.buffer), end)
    }
}
