//! What services are told of a client's certificate, and that no client can say it for itself.

use aws_lc_rs::digest::{SHA256, digest};
use loadtest::origin::Request;
use rustls::HandshakeKind;

use crate::support::certificates::{Leaf, certificates};
use crate::support::connection::Raw;
use crate::support::websocket::WebSocket;
use crate::support::{Behaviour, Config, Gateway, ONE_ORIGIN, Origin};

const ALICE: &str = "CN=alice,O=Shop";

/// A TLS listener that asks for certificates, with these keys beside, and a plain one that cannot.
fn asking(more: &str) -> Config {
    Config::new(format!(
        r#"
client_ip: {{ trusted_proxies: [127.0.0.9] }}
listeners:
  https:
    address: "{{https}}"
    tls:
      certificates: [ {{ cert: certs/shop.pem, key: certs/shop.key }} ]
      client_auth: {{ ca: certs/clients.pem, mode: optional, headers: {{ subject: x-client-subject, fingerprint: x-client-fingerprint }} }}
    {more}
  http: {{ address: "{{http}}" }}
{ONE_ORIGIN}"#
    ))
}

async fn behind(behaviour: Behaviour, more: &str) -> (Gateway, Origin) {
    let origin = Origin::script(behaviour).named("api").start().await;
    (Gateway::run(asking(more).value("origin", origin.address())).await, origin)
}

fn fingerprint(leaf: &Leaf) -> String {
    digest(&SHA256, &leaf.certificate).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The values of subject and fingerprint an origin has seen.
fn told(seen: &Request) -> (Vec<String>, Vec<String>) {
    let values = |name| seen.header_values(name).iter().map(ToString::to_string).collect();
    (values("x-client-subject"), values("x-client-fingerprint"))
}

fn as_told(subject: &str, leaf: &Leaf) -> (Vec<String>, Vec<String>) {
    (vec![subject.to_owned()], vec![fingerprint(leaf)])
}

const NOTHING: (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());

#[tokio::test]
async fn a_service_learns_who_the_client_is_over_every_protocol() {
    let (gateway, origin) = behind(Behaviour::status(200), "").await;
    let alice = &certificates().alice;
    for request in [gateway.get("/"), gateway.get("/").http2()] {
        assert_eq!(request.clone().identity(alice).await.status, 200);
        assert_eq!(told(&origin.last_request()), as_told(ALICE, alice));
        assert_eq!(request.await.status, 200);
        assert_eq!(told(&origin.last_request()), NOTHING, "a client without a certificate");
    }
    origin.set_behaviour(Behaviour::websocket());
    let mut socket = WebSocket::connect(gateway.tls().identity(alice), "/ws", &[]).await.unwrap();
    assert_eq!(socket.echo("hello").await, "hello");
    assert_eq!(told(&origin.last_request()), as_told(ALICE, alice));
}

#[tokio::test]
async fn no_client_can_say_who_it_is_on_any_listener() {
    let (gateway, origin) = behind(Behaviour::status(200), "").await;
    let alice = &certificates().alice;
    let spellings = ["x-client-subject", "X-Client-Fingerprint", "x_client_subject", "x-client_fingerprint"];
    let spoofing = |mut request: crate::support::request::Request| {
        for name in spellings {
            request = request.header(name, "CN=root").header(name, "CN=admin");
        }
        request
    };
    let ask = [gateway.get("/"), gateway.get("/").http2(), gateway.get("/").plain()];
    for request in ask.into_iter().flat_map(|request| [request.clone(), request.source("127.0.0.9")]) {
        assert_eq!(spoofing(request).await.status, 200);
        let seen = origin.last_request();
        assert_eq!(told(&seen), NOTHING);
        for name in spellings {
            assert_eq!(seen.header(name), None, "{name}");
        }
    }
    for request in [gateway.get("/"), gateway.get("/").http2()] {
        assert_eq!(spoofing(request).identity(alice).await.status, 200);
        let seen = origin.last_request();
        assert_eq!(told(&seen), as_told(ALICE, alice));
        assert_eq!(seen.header("x_client_subject"), None);
    }
}

#[tokio::test]
async fn naming_the_fields_in_connection_does_not_take_them_away() {
    let (gateway, origin) = behind(Behaviour::status(200), "").await;
    let alice = &certificates().alice;
    let request = gateway.get("/").header("connection", "x-client-subject, x-client-fingerprint");
    assert_eq!(request.identity(alice).await.status, 200);
    assert_eq!(told(&origin.last_request()), as_told(ALICE, alice));
}

#[tokio::test]
async fn a_name_cannot_pass_for_another_one_or_begin_a_field() {
    let (gateway, origin) = behind(Behaviour::status(200), "").await;
    let mallory = &certificates().mallory;
    assert_eq!(gateway.get("/").identity(mallory).await.status, 200);
    let seen = origin.last_request();
    let written = "CN=alice\\,O=Shop\\0d\\0ax-admin: zo\\c3\\ab,O=Shop";
    assert_eq!((told(&seen), seen.header("x-admin")), (as_told(written, mallory), None));
}

#[tokio::test]
async fn a_resumed_session_is_still_the_same_client() {
    let (gateway, origin) = behind(Behaviour::status(200), "").await;
    let (alice, client) = (&certificates().alice, &certificates().client);
    for handshake in [gateway.tls(), gateway.tls().tls12()] {
        let handshake = handshake.identity(alice).remembering();
        for resumed in [false, true] {
            let stream = handshake.connect().await.unwrap();
            let kind = stream.get_ref().1.handshake_kind();
            assert_eq!(kind == Some(HandshakeKind::Resumed), resumed);
            let mut raw = Raw::new(stream);
            raw.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
            assert_eq!(raw.answer().await.status, 200);
            assert_eq!(told(&origin.last_request()), as_told(ALICE, alice), "resumed: {resumed}");
        }
    }
    assert_eq!(gateway.get("/").identity(client).await.status, 200);
    assert_eq!(told(&origin.last_request()).1, [fingerprint(client)], "and another is another");
}

#[tokio::test]
async fn a_certificate_behind_a_load_balancer_is_the_clients_and_so_is_the_address() {
    let (gateway, origin) = behind(Behaviour::status(200), "proxy_protocol: true").await;
    let alice = &certificates().alice;
    let header = "PROXY TCP4 203.0.113.9 192.0.2.1 8080 443\r\n";
    for request in [gateway.get("/"), gateway.get("/").http2()] {
        let request = request.identity(alice).preface(header);
        assert_eq!(request.clone().source("127.0.0.9").await.status, 200);
        let seen = origin.last_request();
        assert_eq!(seen.header("x-forwarded-for"), Some("203.0.113.9"));
        assert_eq!(told(&seen), as_told(ALICE, alice));
        let stranger = request.source("127.0.0.2").try_send().await;
        assert!(stranger.is_err(), "a certificate makes no trusted proxy: {stranger:?}");
    }
    assert_eq!(origin.hits(), 2);
}

#[tokio::test]
async fn routes_and_limits_see_the_client_the_gateway_knows() {
    let origin = Origin::always(200).named("api").start().await;
    let policies = format!(
        "rate_limits: {{ each: {{ key: 'header:x-client-subject', rate: 1/h }} }}\n\
         services: {{ api: {{ endpoints: [\"{}\"] }} }}\n\
         routes:\n\
         \x20 staff: {{ match: {{ headers: {{ x-client-subject: '{ALICE}' }} }}, service: api, limits: [each] }}\n\
         \x20 all: {{ respond: {{ status: 403 }} }}\n",
        origin.address()
    );
    let gateway = Gateway::run(asking("").replace(ONE_ORIGIN, &policies)).await;
    let says = gateway.get("/").header("x-client-subject", ALICE);
    assert_eq!(says.clone().await.status, 403, "only says so");
    assert_eq!(says.clone().identity(&certificates().client).await.status, 403, "is somebody else");
    let alice = gateway.get("/").identity(&certificates().alice);
    assert_eq!((alice.clone().await.status.as_u16(), alice.await.status.as_u16()), (200, 429));
}

#[tokio::test]
async fn nothing_is_told_unless_it_is_configured_and_reserved_fields_stay_so_while_nobody_is_asked() {
    let (gateway, origin) = behind(Behaviour::status(200), "").await;
    let config = asking("").value("origin", origin.address());
    let alice = &certificates().alice;
    gateway.change_config(config.replace("mode: optional", "mode: off")).await;
    let says = gateway.get("/").header("x-client-subject", "CN=root").identity(alice);
    assert_eq!(says.await.status, 200);
    assert_eq!(told(&origin.last_request()), NOTHING);
    gateway.change_config(config.replace("subject: x-client-subject, ", "")).await;
    assert_eq!(gateway.get("/").identity(alice).await.status, 200);
    assert_eq!(told(&origin.last_request()), (vec![], vec![fingerprint(alice)]));
    let without = ", headers: { subject: x-client-subject, fingerprint: x-client-fingerprint }";
    gateway.change_config(config.replace(without, "")).await;
    assert_eq!(gateway.get("/").identity(alice).await.status, 200);
    assert_eq!(told(&origin.last_request()), NOTHING);
}
