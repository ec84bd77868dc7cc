use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;

use super::*;
use crate::cli::cert;
use crate::load;

pub(super) const CONFIG: &str = r#"
version: 1
admin: { listen: 127.0.0.1:9901, token: hunter2 }
listeners: { web: { address: "127.0.0.1:8443", tls: { certificates: [{ cert: cert.pem, key: key.pem }] } } }
services:
  api:
    releases: { api-41: { endpoints: ["127.0.0.1:8041"] }, api-42: { endpoints: ["127.0.0.1:8042"] } }
    stable: api-41
    canary: api-42
    rollout: { weight: 10% }
routes:
  web: { match: { host: localhost }, service: api }
  api: { match: { host: localhost, prefix: /api, methods: [GET], headers: { x-key: secret } }, service: api }
"#;

/// An admin API on a free port, and the file behind it.
pub(super) struct Admin {
    pub(super) address: SocketAddr,
    pub(super) runtime: Arc<Runtime>,
    directory: tempfile::TempDir,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Admin {
    pub(super) async fn start() -> Self {
        Self::start_with(CONFIG).await
    }

    pub(super) async fn start_with(config: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        cert::ensure(directory.path(), &["localhost".to_owned()], std::time::SystemTime::now())
            .expect("made");
        let path = directory.path().join("gateway.yaml");
        std::fs::write(&path, config).expect("written");
        let runtime = Runtime::new(path.clone(), load::load(&path).expect("good")).await.expect("started");
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        socket.set_nonblocking(true).expect("set");
        let address = socket.local_addr().expect("an address");
        tokio::spawn(serve(AdminListener::tcp(socket), runtime.clone()));
        runtime.announce_ready();
        Self { address, runtime, directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("gateway.yaml")
    }

    pub(super) async fn send(&self, head: &str) -> Answer {
        self.send_with(head, "").await
    }

    pub(super) async fn send_with(&self, head: &str, body: &str) -> Answer {
        let (address, text) = (self.address, format!("{head}\r\nConnection: close\r\n\r\n{body}"));
        let exchange = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).expect("connected");
            stream.write_all(text.as_bytes()).expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("read");
            answer
        });
        let answer = exchange.await.expect("no panic");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a header");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        Answer { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    pub(super) async fn ask(&self, line: &str) -> Answer {
        self.send(&format!("{line} HTTP/1.1\r\nHost: localhost")).await
    }

    pub(super) async fn read(&self, path: &str) -> Value {
        let answer = self.ask(&format!("GET {path}")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    async fn reload(&self) -> Answer {
        self.send("POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer hunter2").await
    }
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

#[tokio::test]
async fn readiness_ends_with_draining_and_survives_a_bad_reload() {
    let admin = Admin::start().await;
    std::fs::write(admin.file(), "routes: 7").expect("written");
    assert_eq!(admin.reload().await.status, 422);
    for path in ["/healthz", "/health", "/readyz", "/ready"] {
        assert_eq!(admin.ask(&format!("GET {path}")).await.status, 200, "{path}");
    }
    admin.runtime.begin_draining();
    let answer = admin.ask("GET /readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json(), json!({"ready": false, "checks": {"started": true, "accepting": false}}));
    assert_eq!(admin.ask("GET /healthz").await.status, 200);
}

#[tokio::test]
async fn a_reload_says_what_changed_or_what_is_wrong() {
    let admin = Admin::start().await;
    std::fs::write(admin.file(), CONFIG.replace("10%", "20%")).expect("written");
    let answer = admin.reload().await;
    assert_eq!((answer.status, &answer.json()["revision"]), (200, &json!(2)), "{}", answer.body);
    assert_eq!(answer.json()["changed"], json!(["service api changed"]));

    std::fs::write(admin.file(), CONFIG.replace("service: api }", "service: ap }")).expect("written");
    let answer = admin.reload().await;
    assert_eq!(answer.status, 422);
    assert!(answer.head.contains("content-type: application/problem+json"), "{}", answer.head);
    assert_eq!(answer.json()["diagnostics"].as_array().map(Vec::len), Some(2));
    assert!(answer.json()["rendered"].as_str().is_some_and(|text| text.contains("`ap`")));
    let status = admin.read("/v1/status").await;
    assert_eq!((&status["revision"], &status["last_reload"]["result"]), (&json!(2), &json!("failure")));
    assert_eq!(status["last_reload"]["errors"], 2);
}

#[tokio::test]
async fn what_changes_something_needs_the_token_and_no_foreign_page() {
    let admin = Admin::start().await;
    let post = |more: &str| format!("POST /v1/reload HTTP/1.1\r\nHost: localhost:9901\r\n{more}");
    for wrong in ["Authorization: Bearer hunter", "Authorization: Basic hunter2", "Accept: */*"] {
        let answer = admin.send(&post(wrong)).await;
        assert_eq!(answer.status, 401, "{wrong}");
        assert!(answer.head.contains("www-authenticate: bearer"), "{}", answer.head);
    }
    let with_token = |origin: &str| post(&format!("Authorization: bearer hunter2\r\nOrigin: {origin}"));
    for (origin, status) in [("https://evil.example", 403), ("null", 403), ("http://localhost:9901", 200)] {
        assert_eq!(admin.send(&with_token(origin)).await.status, status, "{origin}");
    }
}

#[tokio::test]
async fn a_name_that_could_be_rebound_is_turned_away() {
    let admin = Admin::start().await;
    let get = |host: &str| format!("GET /v1/status HTTP/1.1\r\n{host}");
    for host in [
        "Host: evil.example",
        "Host: localhost.evil.example",
        "Host: gateway.:9901.evil.example",
        "Host: localhost\r\nHost: localhost",
        "Host:",
    ] {
        assert_eq!(admin.send(&get(host)).await.status, 421, "{host}");
    }
    for host in [
        "Host: 127.0.0.1:9901",
        "Host: [::1]:9901",
        "Host: LOCALHOST",
        "Host: 192.0.2.1",
        "Host: gateway:9901",
        "Host: edge_gateway",
    ] {
        assert_eq!(admin.send(&get(host)).await.status, 200, "{host}");
    }
    let absolute = "GET http://evil.example/v1/status HTTP/1.1\r\nHost: localhost";
    assert_eq!(admin.send(absolute).await.status, 421);
}

#[tokio::test]
async fn errors_are_problems_and_say_which_methods_there_are() {
    let admin = Admin::start().await;
    let missing = admin.ask("GET /v1/nothing").await;
    assert_eq!((missing.status, &missing.json()["status"]), (404, &json!(404)));
    let wrong = admin.ask("GET /v1/reload").await;
    assert_eq!(wrong.status, 405);
    assert!(wrong.head.contains("allow: post"), "{}", wrong.head);
    for answer in [&missing, &wrong] {
        assert!(answer.head.contains("content-type: application/problem+json"), "{}", answer.head);
        assert!(answer.head.contains("cache-control: no-store"), "{}", answer.head);
    }
    assert_eq!(admin.runtime.snapshot().revision, 1);
}

#[tokio::test]
async fn the_state_is_told_and_secrets_are_not() {
    let admin = Admin::start().await;
    let routes = admin.read("/v1/routes").await;
    assert_eq!((&routes["routes"][0]["name"], &routes["routes"][1]["name"]), (&json!("api"), &json!("web")));
    assert_eq!(routes["routes"][0]["match"]["paths"], json!([{"prefix": "/api"}]));
    assert_eq!(routes["routes"][0]["match"]["headers"], json!([{"name": "x-key", "rule": "exact"}]));
    assert_eq!(routes["routes"][0]["policies"][0]["name"], "body_limit");

    let services = admin.read("/v1/services").await;
    let canary = &services["services"][0]["releases"][1];
    assert_eq!((&canary["role"], &canary["weight"]), (&json!("canary"), &json!(10.0)));
    let endpoint = json!({"address": "127.0.0.1:8042", "available": true, "healthy": true, "ejected": false, "in_flight": 0, "why": null});
    assert_eq!(canary["endpoints"], json!([endpoint]));

    let certificates = admin.read("/v1/certificates").await;
    assert_eq!(certificates["certificates"][0]["names"], json!(["localhost"]));
    assert!(certificates["certificates"][0]["days_left"].as_i64().is_some_and(|days| days > 300));

    let status = admin.read("/v1/status").await;
    assert_eq!(status["releases"][0]["weight"], 90.0);
    let config = admin.ask("GET /v1/config").await;
    assert!(config.head.contains("content-type: application/json") && !config.body.contains("hunter2"));
    assert_eq!(config.json()["services"]["api"]["stable"], "api-41");
}

#[tokio::test]
async fn a_request_can_be_explained() {
    let admin = Admin::start().await;
    let answer = admin.read("/v1/explain?url=https%3A%2F%2Flocalhost%2Fapi&header=x-key%3A%20secret").await;
    assert_eq!((&answer["route"], &answer["outcome"]), (&json!("api"), &json!("forward")));
    for bad in ["", "?url=nowhere", "?url=http://a/&method=%20", "?url=http://a/&header=x", "?what=1"] {
        assert_eq!(admin.ask(&format!("GET /v1/explain{bad}")).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn metrics_are_in_the_text_format() {
    let admin = Admin::start().await;
    let answer = admin.ask("GET /metrics").await;
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    assert!(answer.body.contains("config_last_reload_successful 1"));
}
