//! PROXY headers, versions 1 and 2, before HTTP and before TLS.

use crate::support::{Config, Gateway, ONE_ORIGIN, Origin};

const LISTENERS: &str = r#"
listeners:
  https:
    address: "{https}"
    proxy_protocol: true
    tls: { certificates: [ { cert: certs/shop.pem, key: certs/shop.key } ] }
  http: { address: "{http}", proxy_protocol: true }
"#;

async fn trusting(proxies: &str) -> (Gateway, Origin) {
    let origin = Origin::always(200).start().await;
    let yaml = format!("client_ip: {{ trusted_proxies: [{proxies}] }}\n{LISTENERS}{ONE_ORIGIN}");
    (Gateway::run(Config::new(yaml).value("origin", origin.address())).await, origin)
}

/// A version 2 header: PROXY over TCP from this IPv4 address.
fn version_2(source: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x21, 0x11, 0, 12]);
    header.extend(source);
    header.extend([192, 0, 2, 1, 0x1f, 0x90, 0x01, 0xbb]);
    header
}

#[tokio::test]
async fn the_client_is_whom_the_header_names() {
    let (gateway, origin) = trusting("127.0.0.0/8").await;
    for (preface, client) in [
        (b"PROXY TCP4 203.0.113.9 192.0.2.1 8080 443\r\n".to_vec(), "203.0.113.9"),
        (b"PROXY TCP6 2001:db8::9 2001:db8::1 8080 443\r\n".to_vec(), "2001:db8::9"),
        (version_2([203, 0, 113, 10]), "203.0.113.10"),
    ] {
        for request in [gateway.get("/"), gateway.get("/").http2(), gateway.get("/").plain()] {
            assert_eq!(request.preface(preface.clone()).await.status, 200);
            let seen = origin.last_request();
            assert_eq!(seen.header("x-forwarded-for"), Some(client));
        }
    }
}

#[tokio::test]
async fn a_header_about_nobody_leaves_the_peer() {
    let (gateway, origin) = trusting("127.0.0.0/8").await;
    let mut local = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    local.extend([0x20, 0x00, 0, 0]);
    for preface in [b"PROXY UNKNOWN\r\n".to_vec(), local] {
        assert_eq!(gateway.get("/").preface(preface).await.status, 200);
        assert_eq!(origin.last_request().header("x-forwarded-for"), Some("127.0.0.1"));
    }
}

#[tokio::test]
async fn a_missing_malformed_or_strangers_header_is_refused_and_counted() {
    let (gateway, origin) = trusting("127.0.0.1/32").await;
    let good = "PROXY TCP4 203.0.113.9 192.0.2.1 8080 443\r\n";
    for (preface, source) in [
        ("", "127.0.0.1"),
        ("PROXY TCP4 nonsense\r\n", "127.0.0.1"),
        ("PROXY TCP4 203.0.113.9 192.0.2.1 8080\r\n", "127.0.0.1"),
        (good, "127.0.0.2"),
    ] {
        for request in [gateway.get("/"), gateway.get("/").plain()] {
            let outcome = request.preface(preface).source(source).try_send().await;
            let refused = outcome.as_ref().map_or(true, |answer| answer.status == 400);
            assert!(refused, "{preface:?} from {source}: {outcome:?}");
        }
    }
    assert_eq!(origin.hits(), 0);
    gateway.counted("bad_requests_total", &[("reason", "proxy_header")], 8.0).await;
    assert_eq!(gateway.get("/").preface(good).await.status, 200);
}
