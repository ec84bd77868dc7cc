//! Routes that are switched off: by the file and by hand, and what clients see meanwhile.

mod switching;

use std::fs;

use http::Method;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Error;

use crate::support::request::{Answer, Request};
use crate::support::websocket::WebSocket;
use crate::support::{Behaviour, Config, Gateway, Origin, Place, own_answer, refused_start};

/// What browsers ask for.
const BROWSER: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

/// A shop behind a proxy at 127.0.0.1, and its only origin.
struct Shop {
    gateway: Gateway,
    origin: Origin,
    config: Config,
}

impl Shop {
    /// With `rest` in the route `web`; the route `other` goes to the same origin.
    async fn start(rest: &str) -> Self {
        Self::start_with(Behaviour::status(200), rest).await
    }

    async fn start_with(behaviour: Behaviour, rest: &str) -> Self {
        let origin = Origin::script(behaviour).start().await;
        let yaml = format!(
            "client_ip: {{ trusted_proxies: [127.0.0.1] }}\n\
             services: {{ api: {{ endpoints: [\"{{origin}}\"] }} }}\n\
             routes:\n  web: {{ match: {{ host: shop.example }}, service: api, {rest} }}\n\
             \x20 other: {{ match: {{ host: shop.example, prefix: /other }}, service: api }}\n"
        );
        let config = Config::new(yaml).value("origin", origin.address());
        let place = Place::new(&config);
        fs::write(place.file("page.html"), "<h1>Back soon</h1>").unwrap();
        Self { gateway: Gateway::run_in(place).await, origin, config }
    }

    fn get(&self) -> Request {
        self.gateway.get("/")
    }

    async fn status(&self) -> u16 {
        self.get().await.status.as_u16()
    }

    /// As the admin API tells it.
    async fn standing(&self) -> Value {
        self.gateway.admin("GET", "/v1/routes/web/maintenance").await.json()
    }

    async fn gauge(&self) -> f64 {
        self.gateway.metrics().await.sum("maintenance", &[("route", "web")])
    }
}

/// Content type and body.
fn said(answer: &Answer) -> (&str, String) {
    (answer.header("content-type").unwrap_or_default(), answer.text())
}

#[tokio::test]
async fn every_protocol_is_answered_and_the_service_is_not_asked() {
    let shop = Shop::start("maintenance: { on: true, retry_after: 90s }").await;
    for request in [shop.gateway.get("/off"), shop.gateway.get("/off").http2()] {
        let answer = request.await;
        assert_eq!(answer.status, 503);
        assert_eq!(own_answer(&answer)["error"], "maintenance");
        assert_eq!(answer.json()["request_id"], answer.header("x-request-id").unwrap());
        assert_eq!(answer.header("retry-after"), Some("90"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    match WebSocket::connect(shop.gateway.tls(), "/ws", &[]).await {
        Err(Error::Http(answer)) => assert_eq!(answer.status(), 503),
        other => panic!("not refused: {:?}", other.map(|_| "open")),
    }
    let page = shop.get().header("accept", BROWSER).await;
    let (kind, text) = said(&page);
    assert!(kind.starts_with("text/html") && text.contains("maintenance"), "{page:?}");
    let head = shop.gateway.request(Method::HEAD, "/").await;
    assert_eq!((head.status.as_u16(), head.body.len()), (503, 0));
    assert_eq!(shop.gateway.post("/", vec![b'x'; 100_000]).await.status, 503);
    assert_eq!(shop.origin.hits(), 0);
    assert_eq!(shop.gateway.logged("/off").await["termination"], "maintenance");
    let counted = [("route", "web"), ("http_status", "503")];
    shop.gateway.counted("http_requests_total", &counted, 6.0).await;
    assert_eq!(shop.gauge().await, 1.0);
    assert_eq!(shop.gateway.get("/other").await.status, 200, "the other route serves on");
}

#[tokio::test]
async fn the_file_says_status_and_body() {
    let shop = Shop::start("maintenance: { on: true, status: 404, body: { error: web_unavailable } }").await;
    for accept in ["*/*", BROWSER] {
        let answer = shop.get().header("accept", accept).await;
        assert_eq!(answer.status, 404);
        assert_eq!(
            said(&answer),
            ("application/json", r#"{"error":"web_unavailable"}"#.to_owned()),
            "{accept}"
        );
        assert_eq!(answer.header("retry-after"), None);
    }
    let text = shop.config.replace("body: { error: web_unavailable }", "body: gone fishing");
    shop.gateway.change_config(text).await;
    assert_eq!(said(&shop.get().await), ("text/plain; charset=utf-8", "gone fishing".to_owned()));
}

#[tokio::test]
async fn who_prefers_html_gets_the_page_and_programs_the_body() {
    let shop = Shop::start("maintenance: { on: true, page: page.html, body: { error: closed } }").await;
    let page = shop.get().header("accept", BROWSER).await;
    assert_eq!(said(&page), ("text/html; charset=utf-8", "<h1>Back soon</h1>".to_owned()));
    assert_eq!(said(&shop.get().await), ("application/json", r#"{"error":"closed"}"#.to_owned()));

    shop.gateway.change_config(shop.config.replace(", body: { error: closed }", "")).await;
    assert_eq!(own_answer(&shop.get().await)["error"], "maintenance", "without a body, programs get ours");
    fs::write(shop.gateway.place().file("page.html"), "<h1>Nearly there</h1>").unwrap();
    let changed = async || shop.get().header("accept", BROWSER).await.text() == "<h1>Nearly there</h1>";
    shop.gateway.eventually("a changed page is taken up by itself", changed).await;
}

#[tokio::test]
async fn a_page_that_cannot_be_sent_is_named_at_start_and_keeps_the_old_one_later() {
    let maintenance = "maintenance: { on: true, page: nowhere.html }";
    let place = Place::new(format!(
        "services: {{ api: {{ endpoints: [\"127.0.0.1:9\"] }} }}\nroutes: {{ web: {{ service: api, {maintenance} }} }}\n"
    ));
    for reported in [place.command(&["check"]).await, refused_start(&place).await] {
        assert_eq!(reported.code(), 1, "{reported:?}");
        assert!(reported.text().contains("cannot read") && reported.text().contains("nowhere.html"));
        assert!(reported.text().contains("named here"), "{reported:?}");
    }

    let shop = Shop::start("maintenance: { on: true, page: page.html }").await;
    let file = shop.gateway.place().file("page.html");
    for (bad, word) in [(vec![b'x'; (1 << 20) + 1], "larger than 1 MiB"), (vec![0xff], "not UTF-8")] {
        fs::write(&file, bad).unwrap();
        let reload = shop.gateway.reload().await;
        assert_eq!(reload.code(), 1, "{reload:?}");
        assert!(reload.text().contains(word), "`{word}` in {reload:?}");
        assert_eq!(shop.get().header("accept", BROWSER).await.text(), "<h1>Back soon</h1>");
    }
}

#[tokio::test]
async fn allowed_clients_pass_by_the_one_client_address() {
    let shop = Shop::start("maintenance: { on: true, allow: [192.0.2.0/24] }, deny: [192.0.2.66]").await;
    let from = async |client: &str| shop.get().header("x-forwarded-for", client).await.status.as_u16();
    assert_eq!(from("192.0.2.1").await, 200);
    assert_eq!(from("198.51.100.1").await, 503);
    assert_eq!(from("192.0.2.66").await, 403, "who passes meets the policies that follow");
    let spoofed = shop.get().header("x-forwarded-for", "192.0.2.1").source("127.0.0.2").await;
    assert_eq!(spoofed.status, 503);
    assert_eq!(shop.origin.hits(), 1);
}

#[tokio::test]
async fn pages_of_other_origins_can_read_that_it_is_closed() {
    let cors = "cors: { origins: [\"https://app.shop.example\"], methods: [PUT] }";
    let shop = Shop::start(&format!("maintenance: {{ on: true }}, security_headers: true, {cors}")).await;
    let preflight = shop.gateway.request(Method::OPTIONS, "/").header("origin", "https://app.shop.example");
    let preflight = preflight.header("access-control-request-method", "PUT").await;
    assert_eq!(preflight.status, 204, "leave to ask, so that the answer can be read");
    let leave = Some("https://app.shop.example");
    assert_eq!(preflight.header("access-control-allow-origin"), leave);
    let answer = shop.gateway.request(Method::PUT, "/").header("origin", "https://app.shop.example").await;
    assert_eq!((answer.status.as_u16(), answer.header("access-control-allow-origin")), (503, leave));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert!(answer.header("strict-transport-security").is_some(), "{answer:?}");
    assert_eq!(shop.origin.hits(), 0);
}

#[tokio::test]
async fn what_is_under_way_goes_on() {
    let shop = Shop::start_with(Behaviour::websocket(), "maintenance: {}").await;
    let mut socket = shop.gateway.websocket("/ws").await;
    assert_eq!(socket.echo("before").await, "before");
    assert_eq!(shop.gateway.command(&["maintenance", "web", "on"]).await.code(), 0);
    assert_eq!(shop.status().await, 503);
    assert_eq!(socket.echo("still here").await, "still here");
}

#[tokio::test]
async fn explain_tells_who_is_turned_away_and_why() {
    let shop = Shop::start("maintenance: { status: 500, allow: [192.0.2.0/24] }").await;
    let explain = async |extra: &[&str]| {
        let explained = shop.gateway.command(&[&["explain", "https://shop.example/"], extra].concat()).await;
        assert_eq!(explained.code(), 0, "{explained:?}");
        explained.stdout
    };
    assert!(explain(&[]).await.contains("off, as the file says"));
    shop.gateway.command(&["maintenance", "web", "on", "--for", "1h"]).await;
    let text = explain(&[]).await;
    assert!(text.contains("500: the route is in maintenance"), "{text}");
    assert!(text.contains("on, switched by hand until 2"), "{text}");
    assert!(text.contains("everybody but clients in 192.0.2.0/24 gets 500"), "{text}");
    let json: Value = serde_json::from_str(&explain(&["--json"]).await).unwrap();
    assert_eq!((&json["outcome"], &json["release"]), (&"maintenance".into(), &Value::Null));
    assert!(explain(&["--from", "192.0.2.7"]).await.contains("service"), "an allowed client passes");
    assert!(explain(&["-c", "gateway.yaml"]).await.contains("off, as the file says"), "a file alone");
}
