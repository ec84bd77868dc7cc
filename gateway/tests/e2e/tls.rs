//! TLS of listeners, and the way to it.

use rustls::{HandshakeKind, NamedGroup, ProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::certificates::certificates;
use crate::support::connection::{End, Raw};
use crate::support::request::Request;
use crate::support::{Config, Gateway, ONE_ORIGIN, Origin};

/// A listener with these keys beside its address, everything to one origin.
async fn listening(tls: &str) -> (Gateway, Origin) {
    let origin = Origin::always(200).named("api").start().await;
    let listeners = format!("listeners:\n  https:\n    address: \"{{https}}\"\n    tls: {{ {tls} }}\n");
    let config = Config::new(format!("{listeners}{ONE_ORIGIN}")).value("origin", origin.address());
    (Gateway::run(config).await, origin)
}

const SHOP: &str = "certificates: [ { cert: certs/shop.pem, key: certs/shop.key } ]";
const TWO: &str = "certificates: [ { cert: certs/shop.pem, key: certs/shop.key }, { cert: certs/other.pem, key: certs/other.key } ]";

fn shown(stream: &TlsStream<TcpStream>) -> &[u8] {
    stream.get_ref().1.peer_certificates().unwrap()[0].as_ref()
}

#[tokio::test]
async fn the_certificate_is_chosen_by_server_name() {
    let (gateway, _origin) = listening(TWO).await;
    let (shop, other) = (&certificates().shop, &certificates().other);
    for (name, leaf) in [
        ("shop.example", shop),
        ("www.shop.example", shop),
        ("other.example", other),
        ("OTHER.example", other),
        ("unknown.example", shop),
        ("127.0.0.1", shop),
    ] {
        let stream = gateway.tls().sni(name).credulous().connect().await.unwrap();
        assert!(shown(&stream) == leaf.certificate.as_ref(), "another certificate for {name}");
    }
}

#[tokio::test]
async fn the_protocol_is_negotiated_and_http2_preferred() {
    let (gateway, _origin) = listening(SHOP).await;
    for (offered, chosen) in [
        (&["h2", "http/1.1"][..], Some(&b"h2"[..])),
        (&["http/1.1"], Some(b"http/1.1")),
        (&["h2"], Some(b"h2")),
        (&[], None),
    ] {
        let stream = gateway.tls().alpn(offered).connect().await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen, "{offered:?}");
    }
    let mut raw = Raw::new(gateway.tls().alpn(&[]).connect().await.unwrap());
    raw.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    assert_eq!(raw.answer().await.status, 200);
}

#[tokio::test]
async fn a_version_below_the_lowest_is_refused_and_counted() {
    let (both, _origin) = listening(SHOP).await;
    let version = async |gateway: &Gateway| {
        gateway.tls().tls12().connect().await.map(|stream| stream.get_ref().1.protocol_version())
    };
    assert_eq!(version(&both).await.unwrap(), Some(ProtocolVersion::TLSv1_2));
    let latest = both.tls().connect().await.unwrap();
    assert_eq!(latest.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_3));

    let (strict, _origin) = listening(&format!("{SHOP}, min_version: \"1.3\"")).await;
    assert!(version(&strict).await.is_err());
    assert!(strict.tls().connect().await.is_ok());
    let metrics = strict.metrics().await;
    let all = metrics.sum("tls_handshakes_total", &[("listener", "https")]);
    let good = metrics.sum("tls_handshakes_total", &[("listener", "https"), ("result", "ok")]);
    assert!(all > good, "a failed handshake is counted apart: {all} in all, {good} good");
}

#[tokio::test]
async fn the_hybrid_key_exchange_is_taken() {
    let (gateway, _origin) = listening(SHOP).await;
    let stream = gateway.tls().connect().await.unwrap();
    let group = stream.get_ref().1.negotiated_key_exchange_group().map(|group| group.name());
    assert_eq!(group, Some(NamedGroup::X25519MLKEM768));
}

#[tokio::test]
async fn a_session_is_resumed() {
    let (gateway, _origin) = listening(SHOP).await;
    for handshake in [gateway.tls().remembering(), gateway.tls().tls12().remembering()] {
        let first = handshake.connect().await.unwrap();
        assert_ne!(first.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
        let mut raw = Raw::new(first);
        raw.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
        assert_eq!(raw.answer().await.status, 200);
        let second = handshake.connect().await.unwrap();
        assert_eq!(second.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    }
}

#[tokio::test]
async fn client_certificates_are_asked_for_as_configured() {
    let client = &certificates().client;
    let stranger = &certificates().other;
    for (mode, without, with, strange) in
        [("off", true, true, true), ("optional", true, true, false), ("required", false, true, false)]
    {
        let tls = format!("{SHOP}, client_auth: {{ ca: certs/clients.pem, mode: {mode} }}");
        let (gateway, _origin) = listening(&tls).await;
        // With TLS 1.3 a refusal is seen when the answer is read.
        let passes =
            async |request: Request| request.try_send().await.is_ok_and(|answer| answer.status == 200);
        assert_eq!(passes(gateway.get("/")).await, without, "{mode}, no certificate");
        assert_eq!(passes(gateway.get("/").identity(client)).await, with, "{mode}, a good certificate");
        assert_eq!(
            passes(gateway.get("/").identity(stranger)).await,
            strange,
            "{mode}, a stranger's certificate"
        );
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_given_up() {
    let origin = Origin::always(200).start().await;
    let yaml = format!(
        "listeners:\n  https:\n    address: \"{{https}}\"\n    tls: {{ {SHOP} }}\n    limits: {{ handshake: 500ms }}\n{ONE_ORIGIN}"
    );
    let gateway = Gateway::run(Config::new(yaml).value("origin", origin.address())).await;
    let mut silent = Raw::tcp(&gateway.place().https()).await;
    assert!(silent.read_to_end().await.0.is_empty());
    let mut half = Raw::tcp(&gateway.place().https()).await;
    half.send([0x16, 0x03, 0x01, 0x02]).await;
    half.read_to_end().await;
    let metrics = gateway.metrics().await;
    let failed =
        metrics.sum("tls_handshakes_total", &[]) - metrics.sum("tls_handshakes_total", &[("result", "ok")]);
    assert!(failed >= 2.0, "{failed} failed handshakes");
}

#[tokio::test]
async fn plain_http_on_the_tls_listener_disturbs_nobody() {
    let (gateway, origin) = listening(SHOP).await;
    let mut raw = Raw::tcp(&gateway.place().https()).await;
    raw.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    raw.read_to_end().await;
    assert_eq!(origin.hits(), 0);
    assert_eq!(gateway.get("/").await.status, 200);
}

#[tokio::test]
async fn plain_requests_are_redirected_with_host_query_and_port() {
    let origin = Origin::always(200).start().await;
    let yaml = format!(
        "listeners:\n  https:\n    address: \"{{https}}\"\n    tls: {{ {SHOP} }}\n  http: {{ address: \"{{http}}\", redirect_https: true }}\n{ONE_ORIGIN}"
    );
    let gateway = Gateway::run(Config::new(yaml).value("origin", origin.address())).await;
    let port = gateway.place().https();
    let port = port.rsplit(':').next().unwrap();
    for host in ["shop.example", "shop.example:8080"] {
        let answer = gateway.post("/a/b?x=1&y=%2F", "body").plain().host(host).await;
        assert_eq!(answer.status, 308);
        assert_eq!(
            answer.header("location"),
            Some(format!("https://shop.example:{port}/a/b?x=1&y=%2F").as_str())
        );
    }
    assert_eq!(origin.hits(), 0);
    let mut raw = gateway.raw_tcp().await;
    raw.send("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(raw.answer().await.status, 400, "a place to go to needs a host");
}

#[tokio::test]
async fn a_closed_connection_inside_tls_is_closed_in_order() {
    let (gateway, _origin) = listening(SHOP).await;
    let mut raw = gateway.raw_tls().await;
    raw.send("GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n").await;
    assert_eq!(raw.answer().await.status, 200);
    assert_eq!(raw.read_to_end().await, (Vec::new(), End::Closed), "close_notify comes first");
}
