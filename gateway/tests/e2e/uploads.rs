//! Request bodies that take their time: those that go on are let through, those that stop are not, and the blame falls
//! where it belongs.

use std::time::Duration;

use http::Method;

use crate::support::request::Request;
use crate::support::{Behaviour, Config, Gateway, Origin, RawOrigin};

/// Everything to `{origin}`; `{limits}` are the listener's, `{service}` is more of the service.
const UPLOADS: &str = r#"
listeners:
  https:
    address: "{https}"
    tls: { certificates: [ { cert: certs/shop.pem, key: certs/shop.key } ] }
    limits: { {limits} }
services:
  api: { endpoints: ["{origin}"], {service} }
routes:
  all: { match: { host: shop.example }, service: api }
"#;

fn config(origin: &Origin, limits: &str, service: &str) -> Config {
    let values = Config::new(UPLOADS).value("limits", limits).value("service", service);
    values.value("origin", origin.address())
}

fn over(http2: bool, request: Request) -> Request {
    if http2 { request.http2() } else { request }
}

const PIECE: [u8; 8 << 10] = [b'x'; 8 << 10];
const PIECES: usize = 14;

/// Sends a body that takes longer than every time for silence, and takes the status.
async fn upload_steadily(request: Request) -> u16 {
    let request = request.header("content-length", &(PIECES * PIECE.len()).to_string());
    let mut upload = request.upload().await;
    for _ in 0..PIECES {
        tokio::time::sleep(Duration::from_millis(250)).await;
        if !upload.send(&PIECE[..]).await {
            break;
        }
    }
    upload.end();
    upload.started().await.unwrap().status.as_u16()
}

#[tokio::test]
async fn an_upload_that_goes_on_outlasts_the_times_for_silence() {
    for service in [
        "timeouts: { first_byte: 2s, idle: 2s }",
        "timeouts: { first_byte: 2s, idle: 2500ms }",
        "timeouts: { first_byte: 2s, idle: 2s }, protocol: h2c",
    ] {
        let origin = Origin::script(Behaviour::echo()).start().await;
        let gateway = Gateway::run(config(&origin, "body_idle: 2s", service)).await;
        let upload = |http2| upload_steadily(over(http2, gateway.request(Method::POST, "/")));
        let statuses = tokio::join!(upload(false), upload(true));
        assert_eq!(statuses, (200, 200), "{service}");
        let whole = |request: &loadtest::origin::Request| request.body_bytes == (PIECES * PIECE.len()) as u64;
        assert!(origin.requests().iter().all(whole), "{service}");
    }
}

#[tokio::test]
async fn an_origin_that_is_silent_after_the_whole_request_is_504() {
    let origin = Origin::script(Behaviour::status(200).delay(Duration::from_secs(600))).start().await;
    let service = "timeouts: { first_byte: 300ms, idle: 300ms }";
    let gateway = Gateway::run(config(&origin, "", service)).await;
    for http2 in [false, true] {
        let answer = over(http2, gateway.post("/late", "all of it")).await;
        assert_eq!(answer.status, 504, "http2 {http2}");
    }
    let labels = [("service", "api"), ("outcome", "timeout")];
    gateway.counted("upstream_attempts_total", &labels, 2.0).await;
}

/// The origin's time to answer begins with the end of the request, however long the client might have paused.
#[tokio::test]
async fn the_end_of_an_upload_shortens_what_is_waited_for() {
    for http2 in [false, true] {
        let silent = RawOrigin::steps().read_head().hold().start().await;
        let yaml = UPLOADS.replace("{limits}", "body_idle: 1h");
        let yaml = yaml.replace("{service}", "timeouts: { first_byte: 300ms, idle: 300ms }");
        let gateway = Gateway::run(Config::new(yaml).raw_origin("origin", &silent)).await;
        let mut upload = over(http2, gateway.request(Method::POST, "/late")).upload().await;
        assert!(upload.send("half").await);
        let arrived = async || silent.received().contains("half");
        gateway.eventually("half has arrived", arrived).await;
        upload.end();
        assert_eq!(upload.started().await.unwrap().status, 504, "http2 {http2}");
    }
}

#[tokio::test]
async fn a_client_that_stops_is_408_and_the_release_is_not_blamed() {
    for service in ["retry: { attempts: 1 }", "timeouts: { first_byte: 100ms }"] {
        let origin = Origin::always(200).start().await;
        let gateway = Gateway::run(config(&origin, "body_idle: 500ms", service)).await;
        for http2 in [false, true] {
            let mut upload = over(http2, gateway.request(Method::POST, "/stops")).upload().await;
            assert!(upload.send("half").await);
            assert_eq!(upload.started().await.unwrap().status, 408, "{service}, http2 {http2}");
        }
        assert_eq!(gateway.logged("/stops").await["termination"], "timed_out", "{service}");
        let labels = |outcome| [("service", "api"), ("outcome", outcome)];
        gateway.counted("upstream_attempts_total", &labels("client_abort"), 2.0).await;
        assert_eq!(gateway.metrics().await.sum("upstream_attempts_total", &[("service", "api")]), 2.0);
        assert!(origin.requests().iter().all(|request| !request.complete));
    }
}

#[tokio::test]
async fn an_origin_that_takes_nothing_is_504_and_blamed() {
    let unread = Behaviour::status(200).unread().delay(Duration::from_secs(600));
    let origin = Origin::script(unread).start().await;
    let service = "timeouts: { first_byte: 300ms, idle: 500ms }";
    let yaml = UPLOADS.replace("service: api }\n", "service: api, body_limit: 1GiB }\n");
    let gateway = Gateway::run(config(&origin, "body_idle: 1s", service).with_yaml(yaml)).await;
    let upload = gateway.request(Method::POST, "/full").upload().await;
    let piece = vec![0; 1 << 20];
    while upload.send_within(piece.clone(), Duration::from_secs(2)).await {}
    gateway.counted("upstream_attempts_total", &[("service", "api"), ("outcome", "timeout")], 1.0).await;
}

/// A piece that reached an endpoint which then died counted again with the next one: 413 for a body within the limit.
#[tokio::test]
async fn a_body_is_measured_once_however_often_it_is_sent() {
    for http2 in [false, true] {
        let dying = RawOrigin::steps().read_head().hold().start().await;
        let origin = Origin::always(200).start().await;
        let yaml = UPLOADS.replace("[\"{origin}\"]", "[\"{dying}\", \"{origin}\"]");
        let yaml = yaml.replace("service: api }\n", "service: api, body_limit: 10B }\n");
        let config = config(&origin, "", "balance: round_robin").with_yaml(yaml).raw_origin("dying", &dying);
        let gateway = Gateway::run(config).await;
        let upload = over(http2, gateway.request(Method::OPTIONS, "/")).upload().await;
        assert!(upload.send("one ").await);
        let arrived = async || dying.received().contains("one ");
        gateway.eventually("the first endpoint has a piece", arrived).await;
        drop(dying);
        gateway.eventually("the second one is asked", async || origin.hits() == 1).await;
        assert!(upload.send("two").await);
        assert_eq!(upload.finish().await.unwrap().status, 200, "http2 {http2}");
        assert_eq!(origin.last_request().text(), "one two");
    }
}
