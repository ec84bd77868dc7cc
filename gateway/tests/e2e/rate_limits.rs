//! Rate limits: who is counted together, what a client is told, and what outlives a reload.

use tokio_tungstenite::tungstenite::Error;

use crate::support::websocket::WebSocket;
use crate::support::{Behaviour, Config, Gateway, Origin, own_answer};

/// Routes to `{origin}` under these limits.
fn limited(limits: &str, routes: &str, origin: &Origin) -> Config {
    let yaml = format!(
        "client_ip: {{ trusted_proxies: [127.0.0.1] }}\n\
         rate_limits: {{ {limits} }}\n\
         services: {{ api: {{ endpoints: [\"{{origin}}\"] }} }}\n\
         routes: {{ {routes} }}\n"
    );
    Config::new(yaml).value("origin", origin.address())
}

const ALL: &str = "all: { service: api, limits: [login] }";

async fn behind(limits: &str, routes: &str) -> (Gateway, Origin) {
    let origin = Origin::always(200).start().await;
    (Gateway::run(limited(limits, routes, &origin)).await, origin)
}

/// The statuses of requests for `/` with one field each.
async fn statuses(gateway: &Gateway, fields: &[(&str, &str)]) -> Vec<u16> {
    let mut statuses = Vec::new();
    for (name, value) in fields {
        statuses.push(gateway.get("/").header(name, value).await.status.as_u16());
    }
    statuses
}

#[tokio::test]
async fn every_answer_tells_what_is_left_and_a_refusal_when_to_come_again() {
    let (gateway, origin) = behind("login: { key: client_ip, rate: 2/h, burst: 2 }", ALL).await;
    for left in ["\"login\";r=1;t=1800", "\"login\";r=0;t=3600"] {
        let answer = gateway.get("/").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("ratelimit"), Some(left));
        assert_eq!(answer.header("ratelimit-policy"), Some("\"login\";q=2;w=3600"));
        assert_eq!(answer.header("retry-after"), None);
    }
    let refused = gateway.get("/refused").await;
    assert_eq!((refused.status.as_u16(), origin.hits()), (429, 2));
    assert_eq!(own_answer(&refused)["error"], "rate_limited");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1700..=1800).contains(&wait), "{wait}");
    assert_eq!(refused.header("ratelimit"), Some(&*format!("\"login\";r=0;t={wait}")));
    assert_eq!(refused.header("ratelimit-policy"), Some("\"login\";q=2;w=3600"));
    assert_eq!(gateway.logged("/refused").await["termination"], "limited");
    gateway.counted("rate_limit_decisions_total", &[("limit", "login"), ("decision", "passed")], 2.0).await;
    gateway.counted("rate_limit_decisions_total", &[("limit", "login"), ("decision", "limited")], 1.0).await;
}

#[tokio::test]
async fn each_protocol_passes_the_same_limit() {
    for protocol in ["h1", "h2", "websocket"] {
        let origin = Origin::script(Behaviour::status(200)).on("/ws", Behaviour::websocket()).start().await;
        let limits = "login: { key: client_ip, rate: 1/h, burst: 1 }";
        let gateway = Gateway::run(limited(limits, ALL, &origin)).await;
        let ask = async || match protocol {
            "h1" => gateway.get("/").await.status.as_u16(),
            "h2" => gateway.get("/").http2().await.status.as_u16(),
            _ => match WebSocket::connect(gateway.tls(), "/ws", &[]).await {
                Ok(_) => 101,
                Err(Error::Http(answer)) => answer.status().as_u16(),
                Err(other) => panic!("no answer: {other}"),
            },
        };
        let first = if protocol == "websocket" { 101 } else { 200 };
        assert_eq!((ask().await, ask().await), (first, 429), "{protocol}");
        assert_eq!(origin.hits(), 1, "{protocol}");
    }
}

#[tokio::test]
async fn a_client_is_one_address_or_one_network_of_64_bits() {
    let (gateway, _origin) = behind("login: { key: client_ip, rate: 1/h, burst: 1 }", ALL).await;
    let from = ["192.0.2.1", "192.0.2.2", "192.0.2.1", "2001:db8::1", "2001:db8::2:1", "2001:db8:0:1::1"];
    let fields = from.map(|address| ("x-forwarded-for", address));
    assert_eq!(statuses(&gateway, &fields).await, [200, 200, 429, 200, 429, 200]);
}

#[tokio::test]
async fn a_header_or_cookie_is_a_key_and_leaving_it_out_is_no_way_around() {
    for (key, field, [a, b]) in [
        ("header:x-api-key", "x-api-key", ["a", "b"]),
        ("cookie:session", "cookie", ["session=a", "x=1; session=b"]),
    ] {
        let (gateway, _origin) = behind(&format!("login: {{ key: {key}, rate: 1/h, burst: 1 }}"), ALL).await;
        let fields = [(field, a), (field, b), (field, a), ("x", "1"), ("x", "2"), (field, b)];
        assert_eq!(statuses(&gateway, &fields).await, [200, 200, 429, 200, 429, 429], "{key}");
        let elsewhere = gateway.get("/").header("x-forwarded-for", "192.0.2.9").await;
        assert_eq!(elsewhere.status, 200, "without a {key} it is the address that counts");
    }
}

#[tokio::test]
async fn a_route_has_a_bucket_of_its_own_and_a_global_limit_has_one_for_all() {
    let routes = "a: { match: { prefix: /a }, service: api, limits: [one] }, b: { match: { prefix: /b }, service: api, limits: [one] }";
    for (key, expected) in [("route", [200, 200, 429, 429]), ("global", [200, 429, 429, 429])] {
        let (gateway, _origin) = behind(&format!("one: {{ key: {key}, rate: 1/h, burst: 1 }}"), routes).await;
        let mut seen = Vec::new();
        for path in ["/a", "/b", "/a", "/b"] {
            seen.push(gateway.get(path).await.status.as_u16());
        }
        assert_eq!(seen, expected, "{key}");
    }
}

#[tokio::test]
async fn the_first_limit_that_is_used_up_refuses() {
    let limits = "wide: { key: client_ip, rate: 5/h }, narrow: { key: header:x-user, rate: 1/h }";
    let (gateway, _origin) = behind(limits, "all: { service: api, limits: [wide, narrow] }").await;
    let answer = gateway.get("/").header("x-user", "u").await;
    assert_eq!(answer.header("ratelimit"), Some("\"wide\";r=4;t=720, \"narrow\";r=0;t=3600"));
    assert_eq!(answer.header("ratelimit-policy"), Some("\"wide\";q=5;w=3600, \"narrow\";q=1;w=3600"));
    assert_eq!(statuses(&gateway, &[("x-user", "u"), ("x-user", "v")]).await, [429, 200]);
}

#[tokio::test]
async fn a_dry_run_counts_and_changes_nothing() {
    let limits = "login: { key: client_ip, rate: 1/h, burst: 1, dry_run: true }";
    let (gateway, _origin) = behind(limits, ALL).await;
    for _ in 0..3 {
        let answer = gateway.get("/").await;
        assert_eq!((answer.status.as_u16(), answer.header("ratelimit")), (200, None));
        assert_eq!(answer.header("ratelimit-policy"), None);
    }
    gateway.counted("rate_limit_decisions_total", &[("limit", "login"), ("decision", "dry_run")], 2.0).await;
}

#[tokio::test]
async fn a_reload_keeps_the_buckets_of_a_limit_that_is_the_same() {
    let limits = "login: { key: client_ip, rate: 1/h, burst: 1 }";
    let origin = Origin::always(200).start().await;
    let config = limited(limits, ALL, &origin);
    let gateway = Gateway::run(&config).await;
    assert_eq!(gateway.get("/").await.status, 200);
    gateway.change_config(config.replace("limits: [login] }", "limits: [login], timeout: 9s }")).await;
    assert_eq!(gateway.get("/").await.status, 429, "still empty");
    gateway.change_config(config.replace("burst: 1 }", "burst: 2 }")).await;
    assert_eq!(gateway.get("/").await.status, 200, "another limit");
}

#[tokio::test]
async fn a_limit_of_the_fleet_acts_locally_with_a_warning() {
    let limits = "login: { key: client_ip, rate: 1/h, burst: 1, scope: fleet, when_store_down: deny }";
    let (gateway, _origin) = behind(limits, ALL).await;
    let check = gateway.command(&["check"]).await;
    assert_eq!(check.code(), 0);
    assert!(check.text().contains("there is no fleet to count together with"), "{check:?}");
    assert_eq!(statuses(&gateway, &[("x", "1"), ("x", "2")]).await, [200, 429]);
}

#[tokio::test]
async fn explain_names_the_limits_of_a_route() {
    let (gateway, _origin) = behind("login: { key: client_ip, rate: 1/h }", ALL).await;
    let explained = gateway.command(&["explain", "https://shop.example/"]).await;
    assert!(explained.stdout.contains("rate limits login, else 429"), "{explained:?}");
}
