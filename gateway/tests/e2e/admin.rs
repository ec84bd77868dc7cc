//! The admin listener: health, state, metrics, and what it refuses.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::support::{Behaviour, Config, Gateway, ONE_ORIGIN, Origin, Place, one_origin, refused_start};

const TWO: &str = r#"
services:
  api:
    releases: { api-41: { endpoints: ["{api-41}"] }, api-42: { endpoints: ["{api-42}"] } }
    stable: api-41
    canary: api-42
    rollout: { weight: 10% }
routes:
  api: { match: { host: shop.example, prefix: /api }, service: api }
  web: { match: { host: "*.shop.example" }, service: api }
"#;

async fn two() -> (Gateway, Origin, Origin) {
    let stable = Origin::always(200).named("api-41").start().await;
    let canary = Origin::always(200).named("api-42").start().await;
    let gateway = Gateway::run(Config::new(TWO).origin(&stable).origin(&canary)).await;
    (gateway, stable, canary)
}

/// Whether a text stands anywhere in a value.
fn mentions(value: &Value, text: &str) -> bool {
    value.to_string().contains(text)
}

#[tokio::test]
async fn health_and_readiness_answer_under_both_names() {
    let (gateway, _stable, _canary) = two().await;
    for path in ["/healthz", "/health", "/readyz", "/ready"] {
        assert_eq!(gateway.admin("GET", path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn the_state_can_be_read() {
    let (gateway, stable, _canary) = two().await;
    let read = async |path: &str| {
        let answer = gateway.admin("GET", path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert!(answer.header("content-type").unwrap().starts_with("application/json"), "{path}");
        answer.json()
    };
    let routes = read("/v1/routes").await;
    assert!(
        mentions(&routes, "\"api\"") && mentions(&routes, "\"web\"") && mentions(&routes, "shop.example"),
        "{routes}"
    );
    let services = read("/v1/services").await;
    assert!(mentions(&services, "api-41") && mentions(&services, "api-42"), "{services}");
    assert!(mentions(&services, stable.address()), "{services}");
    let certificates = read("/v1/certificates").await;
    assert!(mentions(&certificates, "*.shop.example") && mentions(&certificates, "https"), "{certificates}");
    let status = read("/v1/status").await;
    assert!(status.is_object(), "{status}");
    let config = read("/v1/config").await;
    assert!(mentions(&config, "api-42"), "{config}");
}

#[tokio::test]
async fn expanded_values_are_never_shown() {
    let origin = Origin::always(200).named("api").start().await;
    let place =
        |yaml: &str| Config::new(yaml).value("origin", origin.address()).env("ADMIN_TOKEN", "s3cret-t0ken");
    let yaml = format!("admin: {{ listen: \"{{admin}}\", token: \"${{env:ADMIN_TOKEN}}\" }}\n{ONE_ORIGIN}");
    let gateway = Gateway::run(place(&yaml)).await;
    for path in ["/v1/config", "/v1/status", "/v1/services", "/v1/routes", "/metrics"] {
        let text = gateway.admin("GET", path).await.text();
        assert!(!text.contains("s3cret"), "{path}: {text}");
    }
    assert!(!gateway.log().contains("s3cret"));
}

#[tokio::test]
async fn unsafe_calls_need_the_token_when_one_is_set() {
    let origin = Origin::always(200).named("api").start().await;
    let yaml = format!("admin: {{ listen: \"{{admin}}\", token: \"${{env:ADMIN_TOKEN}}\" }}\n{ONE_ORIGIN}");
    let config = Config::new(yaml).value("origin", origin.address()).env("ADMIN_TOKEN", "s3cret-t0ken");
    let gateway = Gateway::run(config).await;
    let reload = || gateway.admin("POST", "/v1/reload");
    assert_eq!(reload().await.status, 401);
    assert_eq!(reload().header("authorization", "Bearer wrong").await.status, 401);
    assert_eq!(reload().header("authorization", "Bearer s3cret-t0ken").await.status, 200);
    assert_eq!(gateway.admin("GET", "/v1/status").await.status, 200);
    assert_eq!(gateway.reload().await.code(), 0, "the command finds the token in the file");
}

#[tokio::test]
async fn an_open_admin_address_without_a_token_is_refused() {
    let yaml = format!("admin: {{ listen: \"0.0.0.0:{{admin-port}}\" }}\n{ONE_ORIGIN}");
    let end = refused_start(&Place::new(Config::new(yaml).value("origin", "127.0.0.1:9"))).await;
    assert_eq!(end.code(), 1, "{end:?}");
    assert!(end.stderr.contains("token"), "{end:?}");
}

#[tokio::test]
async fn a_foreign_host_is_turned_away_so_that_no_web_page_can_ask() {
    let (gateway, _stable, _canary) = two().await;
    for (method, path) in [("GET", "/v1/status"), ("POST", "/v1/reload"), ("GET", "/v1/config")] {
        let answer = gateway.admin(method, path).host("evil.example").await;
        assert!((400..500).contains(&answer.status.as_u16()), "{path}: {answer:?}");
    }
    let port = gateway.place().admin().rsplit(':').next().unwrap().to_owned();
    for host in [format!("localhost:{port}"), format!("127.0.0.1:{port}")] {
        assert_eq!(gateway.admin("GET", "/v1/status").host(&host).await.status, 200, "{host}");
    }
}

#[tokio::test]
async fn errors_are_problems_and_reading_changes_nothing() {
    let (gateway, _stable, _canary) = two().await;
    for (method, path, status) in
        [("GET", "/v1/nothing", 404), ("GET", "/v1/reload", 405), ("DELETE", "/v1/status", 405)]
    {
        let answer = gateway.admin(method, path).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{method} {path}: {answer:?}"
        );
        assert_eq!(answer.json()["status"], status);
    }
    assert_eq!(gateway.metrics().await.sum("config_reloads_total", &[]), 0.0);
}

#[tokio::test]
async fn requests_attempts_and_connections_are_counted() {
    let (gateway, _stable, _canary) = two().await;
    gateway.get("/api/x").repeat(20).await;
    gateway.request("BREW".parse().unwrap(), "/api/x").await;
    gateway.get("/nowhere").await;
    gateway.counted("http_requests_total", &[], 22.0).await;
    let metrics = gateway.metrics().await;
    let api = [("route", "api"), ("service", "api")];
    assert_eq!(metrics.sum("http_requests_total", &api), 21.0);
    assert_eq!(
        metrics.sum("http_requests_total", &[("route", "api"), ("method", "GET"), ("http_status", "200")]),
        20.0
    );
    assert_eq!(
        metrics.values("http_requests_total", "method").into_iter().collect::<Vec<_>>(),
        ["GET", "OTHER"]
    );
    assert_eq!(
        metrics.labels("http_requests_total"),
        ["http_status", "method", "release", "route", "service"]
    );
    assert_eq!(metrics.sum("http_request_duration_seconds_count", &api), 21.0);
    assert!(metrics.has("http_request_duration_seconds_bucket", &[("route", "api"), ("le", "0.005")]));
    assert_eq!(metrics.sum("upstream_attempts_total", &[("service", "api")]), 21.0);
    assert_eq!(metrics.sum("upstream_response_seconds_count", &[("service", "api")]), 21.0);
    assert!(metrics.has("upstream_endpoint_up", &[("service", "api"), ("release", "api-41")]));
    assert!(metrics.has("http_requests_in_flight", &[("route", "api")]));
    assert!(metrics.has("connections", &[("listener", "https")]));
    assert!(metrics.sum("tls_handshakes_total", &[("listener", "https")]) >= 3.0);
    assert!(metrics.sum("tls_certificate_expiry_timestamp_seconds", &[("listener", "https")]) > 1e9);
    for name in [
        "build_info",
        "config_last_reload_successful",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_cpu_seconds_total",
    ] {
        assert!(metrics.has(name, &[]), "{name}");
    }
}

#[tokio::test]
async fn no_label_comes_from_a_request() {
    let (gateway, _stable, _canary) = two().await;
    for number in 0..20 {
        gateway.get(&format!("/api/{number}?q={number}")).header("x-any", &number.to_string()).await;
        gateway.get("/").host(&format!("host-{number}.example")).await;
        gateway.request(format!("M{number}").parse().unwrap(), "/api").await;
    }
    gateway.counted("http_requests_total", &[], 60.0).await;
    let metrics = gateway.metrics().await;
    assert_eq!(
        metrics.values("http_requests_total", "route").into_iter().collect::<Vec<_>>(),
        ["api", "unmatched"]
    );
    assert!(metrics.values("http_requests_total", "method").len() <= 2);
}

#[tokio::test]
async fn a_namespace_is_put_before_every_name() {
    let origin = Origin::always(200).start().await;
    let yaml = format!("metrics: {{ namespace: kos_taxi }}\n{ONE_ORIGIN}");
    let gateway = Gateway::run(one_origin(&origin).with_yaml(yaml)).await;
    gateway.get("/").await;
    gateway.counted("kos_taxi_http_requests_total", &[("route", "all")], 1.0).await;
    assert!(!gateway.metrics().await.has("http_requests_total", &[]));
}

#[tokio::test]
async fn the_access_log_tells_a_request_in_one_line() {
    let origin = Origin::script(Behaviour::status(201).body("12345")).named("api").start().await;
    let gateway = Gateway::run(one_origin(&origin)).await;
    let answer = gateway.post("/orders?secret=1", "body").await;
    let line = gateway.logged("/orders").await;
    for (field, value) in [
        ("method", Value::from("POST")),
        ("host", "shop.example".into()),
        ("status", 201.into()),
        ("bytes", 5.into()),
        ("route", "all".into()),
        ("service", "api".into()),
        ("endpoint", origin.address().into()),
        ("attempts", 1.into()),
        ("client_ip", "127.0.0.1".into()),
        ("termination", "ok".into()),
        ("request_id", answer.header("x-request-id").unwrap().into()),
    ] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    for field in ["time", "trace_id", "release"] {
        assert!(line[field].is_string(), "{field} in {line}");
    }
    gateway.get("/nowhere").host("nobody.example").await;
    assert_eq!(gateway.logged("/nowhere").await["status"], 404);
}

#[tokio::test]
async fn hostile_fields_cannot_break_a_line_of_the_access_log() {
    let origin = Origin::always(200).start().await;
    let gateway = Gateway::run(one_origin(&origin)).await;
    for path in ["/%22%0a%7b", "/a%5c%22b", "/%c3%28"] {
        gateway.get(path).header("user-agent", "\" }\\u0000").await;
    }
    gateway.get("/last").await;
    gateway.logged("/last").await;
    assert_eq!(gateway.access_log().len(), 4);
}

#[tokio::test]
async fn the_admin_listener_may_be_a_unix_socket() {
    let origin = Origin::always(200).start().await;
    let yaml = format!("admin: {{ listen: \"unix:{{dir}}/admin.sock\" }}\n{ONE_ORIGIN}");
    let place = Place::new(one_origin(&origin).with_yaml(yaml));
    let socket = place.file("admin.sock");
    let gateway = Gateway::run_unready(place);
    gateway.eventually("it serves", async || gateway.get("/").try_send().await.is_ok()).await;
    let ask = || {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    // It serves a moment before it says that it is ready.
    gateway.eventually("it is ready", async || ask().starts_with("HTTP/1.1 200")).await;
    assert_eq!(gateway.command(&["status"]).await.code(), 0);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&socket).unwrap().permissions());
    assert_eq!(mode & 0o007, 0, "others cannot connect: {mode:o}");
}
