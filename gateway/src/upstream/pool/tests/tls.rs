//! TLS towards origins.

use std::time::Instant;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{HandshakeKind, ServerConfig};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::*;
use crate::listener::tls::provider;
use crate::upstream::pool::tls::client_config;

/// An authority that has signed the origin's certificate.
struct Authority(Issuer<'static, KeyPair>, Vec<u8>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let der = params.self_signed(&key).expect("a certificate").der().to_vec();
        Self(Issuer::new(params, key), der)
    }

    /// The origin's side of TLS, under a name.
    fn origin(&self, name: &str, alpn: &[&str]) -> TlsAcceptor {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let leaf = params.signed_by(&key, &self.0).expect("a certificate");
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
            )
            .expect("a configuration");
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    /// The connections to an origin that is expected under a name.
    fn pool(&self, origin: &Origin, name: &str, protocol: Protocol) -> Arc<Pool> {
        let config =
            client_config(protocol, Some(std::slice::from_ref(&self.1)), None).expect("a configuration");
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let key = Key { server_name: Some(name), ..key(origin.target(), LONG) };
        Pool::bounded(key, protocol, Some(config), Box::leak(Box::new(Bound::new(9))))
    }
}

async fn connection(pool: &Pool, origin: &Origin, acceptor: &TlsAcceptor) -> (Http1, TlsStream<TcpStream>) {
    let accept = async { acceptor.accept(origin.accept().await).await };
    let (connection, accepted) = tokio::join!(pool.connect(None), accept);
    (connection.expect("a connection"), accepted.expect("a handshake"))
}

async fn failure(pool: &Pool, origin: &Origin, acceptor: &TlsAcceptor) -> ConnectError {
    let accept = async { acceptor.accept(origin.accept().await).await };
    let (connection, _) = tokio::join!(pool.connect(None), accept);
    connection.expect_err("no connection")
}

#[tokio::test]
async fn a_connection_is_kept_whatever_tickets_come_and_sessions_are_resumed() {
    let (authority, origin) = (Authority::new(), Origin::start().await);
    let acceptor = authority.origin("127.0.0.1", &["h2", "http/1.1"]);
    let pool = authority.pool(&origin, "127.0.0.1", Protocol::Http1);
    let (first, mut accepted) = connection(&pool, &origin, &acceptor).await;
    assert_eq!(accepted.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let socket = first.socket();
    pool.keep(first, Instant::now());
    // The tickets of the handshake are still to be read; what the runtime has not heard of cannot be told from an answer.
    eventually("the tickets are read", || {
        let taken = pool.take(Instant::now(), false).expect("tickets are nothing");
        assert_eq!(taken.socket(), socket);
        let crate::upstream::pool::stream::Stream::Tls(tls) = &taken.stream else { panic!("TLS") };
        let heard = tls.get_ref().1.tls13_tickets_received() > 0;
        pool.keep(taken, Instant::now());
        heard
    })
    .await;

    let (second, _accepted) = connection(&pool, &origin, &acceptor).await;
    let crate::upstream::pool::stream::Stream::Tls(tls) = &second.stream else { panic!("TLS") };
    assert_eq!(tls.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));

    accepted.shutdown().await.expect("goodbye is said");
    eventually("it is not given out", || {
        pool.take(Instant::now(), false).map(|good| pool.keep(good, Instant::now())).is_none()
    })
    .await;
}

#[tokio::test]
async fn a_certificate_must_be_for_the_name_and_from_the_authority() {
    let (authority, origin) = (Authority::new(), Origin::start().await);
    let acceptor = authority.origin("shop.example", &[]);
    let pool = authority.pool(&origin, "shop.example", Protocol::Http1);
    drop(connection(&pool, &origin, &acceptor).await);

    let pool = authority.pool(&origin, "other.example", Protocol::Http1);
    let error = failure(&pool, &origin, &acceptor).await;
    assert_eq!((error.kind, error.timed_out), (ConnectFailure::Tls, false), "{error}");
    assert!(error.to_string().contains("other.example"), "{error}");

    let pool = Authority::new().pool(&origin, "shop.example", Protocol::Http1);
    let error = failure(&pool, &origin, &acceptor).await;
    assert_eq!((error.kind, error.timed_out), (ConnectFailure::Tls, false), "{error}");
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_told_from_one_that_fails() {
    let (authority, origin) = (Authority::new(), Origin::start().await);
    let pool = authority.pool(&origin, "shop.example", Protocol::Http1);
    let (connection, _silent) = tokio::join!(pool.connect(Some(Duration::from_millis(100))), origin.accept());
    let error = connection.expect_err("no handshake");
    assert_eq!((error.kind, error.timed_out), (ConnectFailure::Tls, true), "{error}");
}

#[tokio::test]
async fn http2_over_tls_must_be_agreed_on() {
    let (authority, origin) = (Authority::new(), Origin::start().await);
    let acceptor = authority.origin("shop.example", &[]);
    let pool = authority.pool(&origin, "shop.example", Protocol::H2);
    let accept = async { acceptor.accept(origin.accept().await).await };
    let (place, _) = tokio::join!(pool.stream(None), accept);
    let error = place.expect_err("no HTTP/2");
    assert_eq!(error.kind, ConnectFailure::Tls);
    assert!(error.to_string().contains("ALPN"), "{error}");

    let acceptor = authority.origin("shop.example", &["h2"]);
    let accept = async {
        let tls = acceptor.accept(origin.accept().await).await.expect("a handshake");
        h2::server::handshake(tls).await
    };
    let (place, _connection) = tokio::join!(pool.stream(None), accept);
    assert!(!place.expect("HTTP/2").reused);
}
