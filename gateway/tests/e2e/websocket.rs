//! WebSockets through the gateway.

use std::time::Duration;

use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::websocket::WebSocket;
use crate::support::{Behaviour, Gateway, Origin, one_origin};

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
