//! What active checks ask and where, how long they bear with what is sent to them, and what readiness makes of them.

use std::net::TcpListener;
use std::time::Duration;

use crate::support::certificates::origin_tls;
use crate::support::{Behaviour, Config, Gateway, ONE_ORIGIN, Origin, Place, RawOrigin, one_origin};

const HANGING: Duration = Duration::from_secs(600);

/// The service `api` at `{origin}` with these keys.
fn with(keys: &str) -> String {
    ONE_ORIGIN.replace("] }", &format!("], {keys} }}"))
}

async fn is_up(gateway: &Gateway, address: &str) -> bool {
    gateway.metrics().await.sum("upstream_endpoint_up", &[("endpoint", address)]) == 1.0
}

async fn becomes(gateway: &Gateway, address: &str, up: bool) {
    gateway.eventually(&format!("{address} is up: {up}"), async || is_up(gateway, address).await == up).await;
}

/// Why an endpoint is not available, as the status has it.
async fn why(gateway: &Gateway, address: &str) -> String {
    let status = gateway.admin("GET", "/v1/status").await.json();
    let lines = status["unavailable"].as_array().cloned().unwrap_or_default();
    let line = lines.into_iter().find(|line| line["endpoint"] == address);
    line.map(|line| line["why"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn a_tcp_check_asks_for_a_connection_and_nothing_more() {
    let origin = Origin::always(500).start().await;
    let yaml = with("health: { tcp: {}, interval: 100ms, unhealthy_after: 2 }");
    let gateway = Gateway::run(one_origin(&origin).with_yaml(yaml)).await;
    let address = origin.address().to_owned();
    becomes(&gateway, &address, true).await;
    gateway.eventually("it is checked again", async || origin.connections() >= 3).await;
    assert_eq!(origin.hits(), 0);
    origin.stop().await;
    becomes(&gateway, &address, false).await;
    assert!(why(&gateway, &address).await.starts_with("unhealthy: Connect"));
}

#[tokio::test]
async fn a_tcp_check_of_a_service_with_tls_shakes_hands() {
    let tls =
        "tls: { ca: certs/ca.pem, sni: shop.example }, health: { tcp: {}, interval: 200ms, timeout: 200ms }";
    let good = Origin::always(200).tls(origin_tls(&["http/1.1"])).start().await;
    let gateway = Gateway::run(one_origin(&good).with_yaml(with(tls))).await;
    becomes(&gateway, good.address(), true).await;

    let silent = RawOrigin::steps().hold().start().await;
    let config = Config::new(with(tls)).raw_origin("origin", &silent);
    let gateway = Gateway::run(config).await;
    becomes(&gateway, silent.address(), false).await;
    assert_eq!(why(&gateway, silent.address()).await, "unhealthy: no answer in 200ms");
}

/// An answer of the health service: this message, and this status after it.
fn grpc(message: &[u8], status: &str) -> Behaviour {
    let framed = [&[0, 0, 0, 0, message.len() as u8], message].concat();
    let answer = Behaviour::status(200).body(framed).header("content-type", "application/grpc");
    answer.trailer("grpc-status", status)
}

const SERVING: &[u8] = &[8, 1];

#[tokio::test]
async fn a_grpc_check_asks_the_health_service_over_http2() {
    let health = "health: { grpc: { service: shop.Orders }, interval: 100ms }";
    let cases = [
        (Origin::script(grpc(SERVING, "0")), format!("protocol: h2c, {health}"), "127.0.0.1"),
        (
            Origin::script(grpc(SERVING, "0")).tls(origin_tls(&["h2"])),
            format!("protocol: h2, tls: {{ ca: certs/ca.pem, sni: shop.example }}, {health}"),
            "shop.example",
        ),
    ];
    for (origin, keys, host) in cases {
        let origin = origin.start().await;
        let gateway = Gateway::run(one_origin(&origin).with_yaml(with(&keys))).await;
        becomes(&gateway, origin.address(), true).await;
        let asked = origin.last_request();
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/grpc.health.v1.Health/Check"));
        assert_eq!(
            (asked.header("content-type"), asked.header("te")),
            (Some("application/grpc"), Some("trailers"))
        );
        let expected = format!("{host}:{}", origin.port());
        assert_eq!(asked.header(":authority").or(asked.header("host")), Some(expected.as_str()));
        let message = [&[0, 0, 0, 0, 13, 0x0a, 11][..], b"shop.Orders"].concat();
        gateway
            .eventually("the question has arrived", async || {
                origin.requests().iter().any(|request| request.body[..] == message[..])
            })
            .await;
    }
}

#[tokio::test]
async fn a_grpc_answer_is_good_only_when_it_is_serving_and_whole() {
    let origin = Origin::script(grpc(SERVING, "0")).start().await;
    let keys = "protocol: h2c, health: { grpc: {}, interval: 100ms, unhealthy_after: 1, healthy_after: 1 }";
    let gateway = Gateway::run(one_origin(&origin).with_yaml(with(keys))).await;
    let plain = |body: &[u8]| Behaviour::status(200).body(body.to_vec());
    let bad = [
        (grpc(&[8, 2], "0"), "NOT_SERVING"),
        (grpc(&[], "0"), "UNKNOWN"),
        (grpc(&[8], "0"), "the answer is malformed"),
        (grpc(SERVING, "13"), "grpc-status 13"),
        (Behaviour::status(200).header("grpc-status", "5").body(""), "grpc-status 5"),
        (plain(&[0, 0, 0, 0, 2, 8, 1]), "the answer has no grpc-status"),
        (plain(&[7; 4000]), "the answer is too long"),
        (Behaviour::status(200).body_of(u64::MAX / 2), "the answer is too long"),
        (Behaviour::status(503), "status 503"),
    ];
    for (behaviour, reason) in bad {
        origin.set_behaviour(behaviour);
        let told = format!("unhealthy: {reason}");
        gateway.eventually(reason, async || why(&gateway, origin.address()).await == told).await;
        assert!(!is_up(&gateway, origin.address()).await, "{reason}");
        origin.set_behaviour(grpc(SERVING, "0"));
        becomes(&gateway, origin.address(), true).await;
    }
}

#[tokio::test]
async fn checks_go_to_another_port_and_name_another_host() {
    let serving = Origin::always(200).named("origin").start().await;
    let asked = Origin::always(200).start().await;
    let keys = format!(
        "health: {{ path: '/ready?full=1', host: app.internal, port: {}, interval: 100ms, unhealthy_after: 1 }}",
        asked.port()
    );
    let gateway = Gateway::run(one_origin(&serving).with_yaml(with(&keys))).await;
    becomes(&gateway, serving.address(), true).await;
    let check = asked.last_request();
    assert_eq!((check.path.as_str(), check.header("host")), ("/ready?full=1", Some("app.internal")));
    assert_eq!(serving.hits(), 0);
    assert_eq!(gateway.get("/").await.status, 200);
    asked.set_behaviour(Behaviour::status(500));
    becomes(&gateway, serving.address(), false).await;

    let keys = keys.replace("host: app.internal, ", "");
    gateway.change_config(one_origin(&serving).with_yaml(with(&keys))).await;
    let own = format!("127.0.0.1:{}", asked.port());
    gateway
        .eventually("the host is that of the place", async || {
            asked.last_request().header("host") == Some(&own)
        })
        .await;
}

#[tokio::test]
async fn whatever_an_endpoint_sends_a_check_ends_in_time() {
    let line = b"HTTP/1.1 200 OK\r\n".as_slice();
    let mut drip = RawOrigin::steps().read_head().send(line);
    for _ in 0..1000 {
        drip = drip.send("x").pause(Duration::from_millis(50));
    }
    let endless = |bytes: &[u8], count: usize| bytes.repeat(count);
    let head = |bytes: Vec<u8>| RawOrigin::steps().read_head().send(line).send(bytes).hold();
    let cases = [
        ("silent", RawOrigin::steps().hold(), "no answer in 500ms"),
        ("drip", drip, "no answer in 500ms"),
        ("fields", head(endless(b"a: b\r\n", 1 << 20)), ""),
        ("field", head(endless(b"a", 8 << 20)), ""),
        (
            "informational",
            RawOrigin::steps().read_head().send(endless(b"HTTP/1.1 100 Continue\r\n\r\n", 1 << 18)).hold(),
            "",
        ),
        ("garbage", RawOrigin::steps().send(endless(b"\0", 8 << 20)).hold(), ""),
        ("closed", RawOrigin::steps().read_head(), ""),
    ];
    let body =
        head([b"content-length: 100000000\r\n\r\n".to_vec(), endless(b"b", 8 << 20)].concat()).start().await;
    let mut origins = Vec::new();
    for (name, steps, reason) in cases {
        origins.push((name, steps.start().await, reason));
    }
    let endpoints: Vec<String> =
        origins.iter().map(|(_, origin, _)| format!("\"{}\"", origin.address())).collect();
    let keys = "health: { path: /ready, interval: 500ms, timeout: 500ms, unhealthy_after: 1 }";
    let yaml = with(keys).replace("\"{origin}\"", &format!("{}, \"{{origin}}\"", endpoints.join(", ")));
    let gateway = Gateway::run(Config::new(yaml).raw_origin("origin", &body)).await;
    for (name, origin, reason) in &origins {
        becomes(&gateway, origin.address(), false).await;
        let told = why(&gateway, origin.address()).await;
        assert!(told.starts_with("unhealthy: ") && told.ends_with(reason), "{name}: {told}");
        gateway.eventually("it is checked again", async || origin.connections() >= 3).await;
    }
    // A body that never ends is not read.
    becomes(&gateway, body.address(), true).await;
    assert!(gateway.rss_bytes() < 200 << 20);
}

#[tokio::test]
async fn checks_that_hang_over_http2_do_not_pile_up() {
    for keys in ["health: { grpc: {}, TIMES }", "health: { path: /ready, TIMES }"] {
        let origin = Origin::script(Behaviour::status(200).delay(HANGING)).start().await;
        let keys = keys.replace("TIMES", "interval: 100ms, timeout: 100ms, unhealthy_after: 1");
        let yaml = with(&format!("protocol: h2c, {keys}"));
        let gateway = Gateway::run(one_origin(&origin).with_yaml(yaml)).await;
        becomes(&gateway, origin.address(), false).await;
        gateway.eventually("it is checked on", async || origin.connections() >= 5).await;
        assert!(origin.open_connections() <= 2, "{}", origin.open_connections());
    }
}

/// Sockets to which connections can be opened, and that never say a word.
fn hanging(count: usize) -> (Vec<TcpListener>, String) {
    let sockets: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let quoted = |socket: &TcpListener| format!("\"{}\"", socket.local_addr().unwrap());
    let addresses = sockets.iter().map(quoted).collect::<Vec<_>>().join(", ");
    (sockets, addresses)
}

#[tokio::test]
async fn a_service_whose_endpoints_all_hang_does_not_starve_another() {
    // More than there are places for checks, and each holds its own for longer than this test waits.
    let (_sockets, addresses) = hanging(300);
    let yaml = format!(
        r#"
services:
  lost: {{ endpoints: [{addresses}], health: {{ path: /ready, interval: 120s, timeout: 120s }} }}
  api: {{ endpoints: ["{{origin}}"], health: {{ path: /ready, interval: 100ms, unhealthy_after: 2 }} }}
routes:
  all: {{ match: {{ host: shop.example }}, service: api }}
  lost: {{ match: {{ host: lost.example }}, service: lost }}
"#
    );
    let origin = Origin::always(200).start().await;
    let gateway = Gateway::run(one_origin(&origin).with_yaml(yaml)).await;
    becomes(&gateway, origin.address(), true).await;
    gateway.eventually("it is checked on", async || origin.hits() >= 10).await;
    origin.set_behaviour(Behaviour::status(503));
    becomes(&gateway, origin.address(), false).await;
}

#[tokio::test]
async fn among_many_endpoints_that_hang_the_good_one_is_found_and_kept() {
    let (_sockets, addresses) = hanging(200);
    let origin = Origin::always(200).start().await;
    let yaml = with("health: { path: /ready, interval: 300ms, timeout: 300ms, unhealthy_after: 1 }");
    let yaml = yaml.replace("\"{origin}\"", &format!("{addresses}, \"{{origin}}\""));
    let gateway = Gateway::run(one_origin(&origin).with_yaml(yaml)).await;
    gateway
        .eventually("one is up", async || {
            let metrics = gateway.metrics().await;
            metrics.sum("upstream_endpoint_up", &[]) == 1.0 && origin.hits() >= 5
        })
        .await;
    let answers = gateway.get("/").repeat(20).await;
    assert_eq!(answers.with_status(200), 20, "{answers:?}");
}

#[tokio::test]
async fn readiness_follows_only_services_that_are_required() {
    let origin = Origin::always(200).start().await;
    let ignored = with("health: { path: /ready, interval: 500ms, unhealthy_after: 1, healthy_after: 1 }");
    let required = ignored.replace("path: /ready", "path: /ready, readiness: required");
    let config = one_origin(&origin);
    let gateway = Gateway::run(config.with_yaml(&ignored)).await;
    origin.set_behaviour(Behaviour::status(503));
    becomes(&gateway, origin.address(), false).await;
    let ready = gateway.admin("GET", "/readyz").await;
    assert_eq!((ready.status.as_u16(), ready.json()["checks"].get("service/api")), (200, None));

    gateway.change_config(config.with_yaml(&required)).await;
    let ready = gateway.admin("GET", "/readyz").await;
    let checks = &ready.json()["checks"];
    assert_eq!((ready.status.as_u16(), &checks["service/api"]), (503, &false.into()));
    assert_eq!((&checks["started"], &checks["accepting"]), (&true.into(), &true.into()));
    assert_eq!(gateway.admin("GET", "/healthz").await.status, 200);
    assert_eq!(gateway.admin("GET", "/v1/status").await.json()["ready"], false);
    assert_eq!(gateway.get("/").await.status, 503, "requests still reach the origin");

    origin.set_behaviour(Behaviour::status(200));
    let ready = async || {
        let answer = gateway.admin("GET", "/readyz").await;
        answer.status == 200 && answer.json()["checks"]["service/api"] == true
    };
    gateway.eventually("ready again", ready).await;
}

#[tokio::test]
async fn a_gateway_that_starts_beside_a_required_service_that_is_down_serves_and_is_not_ready() {
    let origin = Origin::always(503).start().await;
    let yaml = with("health: { path: /ready, interval: 500ms, healthy_after: 1, readiness: required }");
    let gateway = Gateway::run_unready(Place::new(one_origin(&origin).with_yaml(yaml)));
    let started = async || {
        let answer = gateway.admin("GET", "/readyz").try_send().await;
        answer.is_ok_and(|answer| answer.status == 503 && answer.json()["checks"]["started"] == true)
    };
    gateway.eventually("it has started", started).await;
    origin.set_behaviour(Behaviour::status(200));
    gateway.eventually("ready", async || gateway.admin("GET", "/readyz").await.status == 200).await;
}

#[tokio::test]
async fn explain_and_status_tell_how_endpoints_are_judged_and_found() {
    let (good, bad) = (Origin::always(200).start().await, Origin::always(503).start().await);
    let keys =
        "health: { path: /ready, interval: 500ms }, eject: { consecutive_failures: 4, for: 1h, max: 50% }";
    let yaml = with(keys).replace("\"{origin}\"", "\"{origin}\", \"{bad}\"");
    let gateway = Gateway::run(one_origin(&good).with_yaml(yaml).value("bad", bad.address())).await;
    becomes(&gateway, bad.address(), false).await;

    let explained = gateway.command(&["explain", "https://shop.example/"]).await.text();
    for line in [
        "health  GET /ready is 2xx within 500ms, every 500ms; out after 3, back after 2",
        "eject   out for 3600s and longer after 4 failures in a row, at most 50% of a release",
        &format!("{} (unhealthy: status 503)", bad.address()),
    ] {
        assert!(explained.contains(line), "{line} is not in\n{explained}");
    }
    let status = gateway.command(&["status"]).await.text();
    let line = status.lines().find(|line| line.contains(bad.address())).unwrap_or_default();
    assert!(line.contains("api") && line.ends_with("unhealthy: status 503"), "{status}");
    assert!(!status.contains(good.address()), "{status}");
}

#[tokio::test]
async fn status_tells_how_long_an_endpoint_is_ejected() {
    let (good, bad) = (Origin::always(200).start().await, Origin::always(500).start().await);
    let yaml = with("balance: round_robin, eject: { consecutive_failures: 2, for: 1h, max: 50% }");
    let yaml = yaml.replace("\"{origin}\"", "\"{origin}\", \"{bad}\"");
    let gateway = Gateway::run(one_origin(&good).with_yaml(yaml).value("bad", bad.address())).await;
    gateway.get("/").repeat(10).await;
    let told = why(&gateway, bad.address()).await;
    assert!(told.starts_with("ejected for another 3") && told.ends_with('s'), "{told}");
}
