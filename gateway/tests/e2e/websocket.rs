//! WebSockets through the gateway.

use std::time::Duration;

use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::connection::Raw;
use crate::support::websocket::WebSocket;
use crate::support::{Behaviour, Config, Gateway, Origin, one_origin};

async fn behind(behaviour: Behaviour) -> (Gateway, Origin) {
    let origin = Origin::script(behaviour).named("api").start().await;
    (Gateway::run(one_origin(&origin)).await, origin)
}

#[tokio::test]
async fn messages_pass_both_ways_and_closing_does_too() {
    let (gateway, origin) = behind(Behaviour::websocket()).await;
    let mut socket = gateway.websocket("/ws?room=1").await;
    assert_eq!(socket.echo("hello").await, "hello");
    let large = vec![7; 300_000];
    socket.send(Message::binary(large.clone())).await;
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::binary(large));
    let seen = origin.last_request();
    assert_eq!(seen.path, "/ws?room=1");
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    socket.close().await;
    gateway.eventually("the origin's side is closed", async || origin.open_connections() == 0).await;
}

#[tokio::test]
async fn a_refused_handshake_is_an_ordinary_answer() {
    let (gateway, _origin) = behind(Behaviour::status(403)).await;
    match WebSocket::connect(gateway.tls(), "/ws", &[]).await {
        Err(Error::Http(answer)) => assert_eq!(answer.status(), 403),
        other => panic!("not refused: {:?}", other.map(|_| "open")),
    }
}

#[tokio::test]
async fn policies_hold_for_a_handshake_as_well() {
    let (gateway, origin) = behind(Behaviour::websocket()).await;
    match WebSocket::connect(gateway.tls(), "/a%2Fb", &[]).await {
        Err(Error::Http(answer)) => assert_eq!(answer.status(), 400),
        other => panic!("not refused: {:?}", other.map(|_| "open")),
    }
    assert_eq!(origin.hits(), 0);
}

#[tokio::test]
async fn silence_on_an_open_websocket_outlasts_the_times_for_requests() {
    let origin = Origin::script(Behaviour::websocket()).start().await;
    let yaml = r#"
listeners:
  https:
    address: "{https}"
    tls: { certificates: [ { cert: certs/shop.pem, key: certs/shop.key } ] }
    limits: { header: 300ms, body_idle: 300ms, keepalive: 300ms }
services:
  api: { endpoints: ["{origin}"], timeouts: { first_byte: 300ms, idle: 300ms, keepalive: 300ms } }
routes:
  all: { match: { host: shop.example }, service: api }
"#;
    let gateway = Gateway::run(one_origin(&origin).with_yaml(yaml)).await;
    let mut socket = gateway.websocket("/").await;
    // The only way to show that silence is borne is to be silent for longer than every limit that is set.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(socket.echo("still here").await, "still here");
}

#[tokio::test]
async fn an_origin_that_ends_ends_the_websocket() {
    let (gateway, origin) = behind(Behaviour::websocket()).await;
    let mut socket = gateway.websocket("/").await;
    socket.echo("hello").await;
    origin.stop().await;
    assert!(!matches!(socket.next().await, Some(Ok(Message::Text(_) | Message::Binary(_)))));
}

#[tokio::test]
async fn another_upgrade_than_websocket_is_not_passed_on() {
    let (gateway, origin) = behind(Behaviour::status(200)).await;
    let answer = gateway.get("/").header("connection", "upgrade").header("upgrade", "h2c").await;
    assert_ne!(answer.status, 101);
    if origin.hits() > 0 {
        assert_eq!(origin.last_request().header("upgrade"), None);
    }
}

/// A handshake on a connection of bytes, with these fields beside.
async fn shake_hands(gateway: &Gateway, method: &str, fields: &str) -> Raw {
    let mut raw = gateway.raw_tls().await;
    raw.send(format!(
        "{method} /ws HTTP/1.1\r\nHost: shop.example\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n\r\n"
    ))
    .await;
    raw
}

#[tokio::test]
async fn only_a_handshake_is_one_and_upgrade_lifts_no_limit() {
    let origin = Origin::script(Behaviour::websocket()).start().await;
    let config = one_origin(&origin).replace("service: api }\n", "service: api, body_limit: 4B }\n");
    let gateway = Gateway::run(config).await;
    let websocket = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket";
    for (method, fields) in [
        ("GET", "Upgrade: websocket"),
        ("GET", "Connection: upgrade\r\nUpgrade: h2c"),
        ("GET", "Connection: upgrade\r\nUpgrade: websocket, h2c"),
        ("POST", "Connection: upgrade\r\nUpgrade: websocket"),
    ] {
        let answer = shake_hands(&gateway, method, fields).await.answer().await;
        assert_eq!(
            (answer.status, origin.last_request().header("upgrade")),
            (426, None),
            "{method} {fields:?}"
        );
    }
    for method in ["GET", "POST"] {
        let body = format!("{websocket}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0");
        let answer = shake_hands(&gateway, method, &body).await.answer().await;
        assert_eq!(answer.status, 413, "{method}: {}", answer.head);
    }
    let mut raw = shake_hands(&gateway, "GET", websocket).await;
    assert_eq!(raw.head().await.status, 101);
}

#[tokio::test]
async fn a_handshake_has_the_times_of_a_request() {
    let late = Behaviour::websocket().delay(Duration::from_secs(3600));
    let origin =
        Origin::script(late).on("/stalls", Behaviour::status(403).drip("no", 2, Duration::from_secs(3600)));
    let origin = origin.start().await;
    let yaml = r#"
services:
  api: { endpoints: ["{origin}"], timeouts: { first_byte: 300ms, idle: 300ms } }
  patient: { endpoints: ["{origin}"] }
routes:
  all: { match: { host: shop.example }, service: api }
  timed: { match: { host: shop.example, prefix: /timed }, service: patient, timeout: 300ms }
"#;
    let gateway = Gateway::run(one_origin(&origin).with_yaml(yaml)).await;
    for path in ["/ws", "/timed"] {
        match WebSocket::connect(gateway.tls(), path, &[]).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status(), 504, "{path}"),
            other => panic!("{path} is not given up: {:?}", other.map(|_| "open")),
        }
        assert_eq!(gateway.logged(path).await["termination"], "upstream_timeout");
    }
    let refused = gateway.get("/stalls").header("connection", "upgrade").header("upgrade", "websocket");
    let refused = refused.await;
    assert_eq!((refused.status.as_u16(), refused.broken.is_some()), (403, true), "{refused:?}");
}

#[tokio::test]
async fn an_open_websocket_outlasts_the_time_of_its_route_and_its_users_are_known() {
    let origin = Origin::script(Behaviour::websocket()).named("api").start().await;
    let yaml = r#"
services:
  api: { releases: { api: { endpoints: ["{api}"] } }, rollout: { sticky: { cookie: gw_id } } }
routes:
  all: { match: { host: shop.example }, service: api, timeout: 300ms }
"#;
    let gateway = Gateway::run(Config::new(yaml).origin(&origin)).await;
    let mut raw = shake_hands(&gateway, "GET", "Connection: Upgrade\r\nUpgrade: websocket").await;
    let head = raw.head().await;
    assert_eq!(head.status, 101);
    assert_eq!(head.header("x-request-id"), origin.last_request().header("x-request-id"));
    assert!(head.header("set-cookie").is_some_and(|cookie| cookie.starts_with("gw_id=")), "{}", head.head);
    let hello = async |raw: &mut Raw| {
        raw.send(b"\x81\x85\0\0\0\0hello").await;
        assert_eq!(raw.read_exact(7).await, b"\x81\x05hello");
    };
    hello(&mut raw).await;
    assert!(raw.silent_for(Duration::from_millis(600)).await, "nothing ends it");
    hello(&mut raw).await;
}
