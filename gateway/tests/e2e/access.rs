//! Allow- and deny-lists, by the one client address.

use tokio_tungstenite::tungstenite::Error;

use crate::support::websocket::WebSocket;
use crate::support::{Config, Gateway, Origin, own_answer};

/// One route with these lists, behind a proxy at 127.0.0.1.
async fn behind(lists: &str) -> (Gateway, Origin) {
    let origin = Origin::always(200).start().await;
    let yaml = format!(
        "client_ip: {{ trusted_proxies: [127.0.0.1] }}\n\
         services: {{ api: {{ endpoints: [\"{{origin}}\"] }} }}\n\
         routes: {{ all: {{ service: api, {lists} }} }}\n"
    );
    (Gateway::run(Config::new(yaml).value("origin", origin.address())).await, origin)
}

async fn status_for(gateway: &Gateway, client: &str) -> u16 {
    gateway.get("/").header("x-forwarded-for", client).await.status.as_u16()
}

#[tokio::test]
async fn networks_may_overlap_and_deny_wins() {
    let lists = "allow: [192.0.0.0/8, 192.0.2.66, \"2001:db8::/32\"], deny: [192.0.2.0/24, 192.0.2.64/26]";
    let (gateway, origin) = behind(lists).await;
    for (client, status) in [
        ("192.0.3.1", 200),
        ("192.0.2.1", 403),
        ("192.0.2.66", 403),
        ("198.51.100.1", 403),
        ("2001:db8::1", 200),
        ("2001:db9::1", 403),
        ("::ffff:192.0.3.1", 200),
    ] {
        assert_eq!(status_for(&gateway, client).await, status, "{client}");
    }
    assert_eq!(origin.hits(), 3);
}

#[tokio::test]
async fn a_deny_list_alone_lets_all_others_in() {
    let (gateway, _origin) = behind("deny: [192.0.2.0/24]").await;
    assert_eq!(
        (status_for(&gateway, "192.0.2.1").await, status_for(&gateway, "192.0.3.1").await),
        (403, 200)
    );
}

#[tokio::test]
async fn a_strangers_word_for_its_address_is_not_taken() {
    let (gateway, origin) = behind("allow: [192.0.2.0/24]").await;
    let allowed = |source: &str| gateway.get("/").header("x-forwarded-for", "192.0.2.1").source(source);
    assert_eq!(allowed("127.0.0.1").await.status, 200, "a trusted proxy says so");
    assert_eq!(allowed("127.0.0.2").await.status, 403, "anybody could");
    let spoofed = gateway.get("/").header("x-forwarded-for", "192.0.2.1, 198.51.100.1").await;
    assert_eq!(spoofed.status, 403, "only the nearest hop that is not trusted counts");
    assert_eq!(origin.hits(), 1);
}

#[tokio::test]
async fn each_protocol_is_refused_alike_and_told_so() {
    let (gateway, origin) = behind("deny: [127.0.0.0/8]").await;
    for request in [gateway.get("/refused"), gateway.get("/refused").http2()] {
        let answer = request.await;
        assert_eq!(answer.status, 403);
        assert_eq!(own_answer(&answer)["error"], "denied");
    }
    match WebSocket::connect(gateway.tls(), "/ws", &[]).await {
        Err(Error::Http(answer)) => assert_eq!(answer.status(), 403),
        other => panic!("not refused: {:?}", other.map(|_| "open")),
    }
    assert_eq!(gateway.logged("/refused").await["termination"], "denied");
    let explained = gateway.command(&["explain", "https://shop.example/"]).await;
    assert!(explained.stdout.contains("not clients in 127.0.0.0/8, else 403"), "{explained:?}");
    assert_eq!(origin.hits(), 0);
}
