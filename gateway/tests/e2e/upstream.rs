//! Origins that are slow, dead, or lie.

use std::time::Duration;

use loadtest::origin::Steps;

use crate::support::{
    BOTH_LISTENERS, Behaviour, Config, Fault, Gateway, ONE_ORIGIN, Origin, RawOrigin, one_origin, own_answer,
};

/// A service at `{origin}` with short times.
const IMPATIENT: &str = r#"
services:
  api:
    endpoints: ["{origin}"]
    timeouts: { connect: 300ms, first_byte: 300ms, idle: 300ms }
routes:
  all: { match: { host: shop.example }, service: api }
"#;

async fn behind(behaviour: Behaviour) -> (Gateway, Origin) {
    let origin = Origin::script(behaviour).named("api").start().await;
    (Gateway::run(one_origin(&origin)).await, origin)
}

async fn behind_raw(steps: Steps) -> (Gateway, RawOrigin) {
    let origin = steps.start().await;
    let config = Config::new(format!("{BOTH_LISTENERS}{ONE_ORIGIN}")).raw_origin("origin", &origin);
    (Gateway::run(config).await, origin)
}

/// An address at which nobody listens.
async fn dead() -> String {
    let origin = Origin::always(200).start().await;
    let address = origin.address().to_owned();
    origin.stop().await;
    address
}

fn answering(bytes: &'static str) -> Steps {
    RawOrigin::steps().read_head().send(bytes)
}

#[tokio::test]
async fn an_answer_that_breaks_off_never_looks_complete() {
    let long = Behaviour::status(200).body_of(100_000);
    for (what, behaviour) in [
        ("with a length", long.clone().fault(Fault::BreakOffAfter(50_000))),
        ("in chunks", long.clone().chunked().fault(Fault::BreakOffAfter(50_000))),
        ("by a reset", long.fault(Fault::ResetAfter(50_000))),
    ] {
        let (gateway, _origin) = behind(behaviour).await;
        for http2 in [false, true] {
            let request = gateway.get("/broken");
            let answer = if http2 { request.http2() } else { request }.await;
            assert_eq!(answer.status, 200);
            assert!(
                answer.broken.is_some(),
                "{what}, http2 {http2}: looks complete with {}",
                answer.body.len()
            );
        }
        assert_ne!(gateway.logged("/broken").await["termination"], "ok", "{what}");
    }
}

#[tokio::test]
async fn an_answer_in_chunks_that_breaks_off_has_no_last_chunk() {
    let steps = answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    let (gateway, _origin) = behind_raw(steps).await;
    let mut raw = gateway.raw_tcp().await;
    raw.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    let (bytes, _) = raw.read_to_end().await;
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("hello"), "{text}");
    assert!(!text.contains("\r\n0\r\n"), "{text}");
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_502() {
    for bytes in [
        "nonsense\r\n\r\n",
        "HTTP/1.1 999999 No\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad field: x\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        "",
    ] {
        let (gateway, _origin) = behind_raw(answering(bytes)).await;
        for http2 in [false, true] {
            let request = gateway.get("/");
            let answer = if http2 { request.http2() } else { request }.await;
            assert_eq!(answer.status, 502, "{bytes:?}, http2 {http2}");
            own_answer(&answer);
        }
    }
}

#[tokio::test]
async fn an_unasked_switch_of_protocols_is_502() {
    let steps = answering(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: evil\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
    );
    let (gateway, _origin) = behind_raw(steps.hold()).await;
    for http2 in [false, true] {
        let request = gateway.get("/");
        let answer = if http2 { request.http2() } else { request }.await;
        assert_eq!(answer.status, 502, "http2 {http2}");
    }
}

#[tokio::test]
async fn interim_answers_are_relayed_but_not_to_http_1_0() {
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    let (gateway, _origin) = behind_raw(answering(early)).await;
    let answer = gateway.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "ok".to_owned()));
    let interim: Vec<_> =
        answer.interim.iter().map(|(status, headers)| (status.as_u16(), headers.get("link"))).collect();
    assert_eq!(interim.len(), 1);
    assert_eq!(
        (interim[0].0, interim[0].1.unwrap()),
        (103, &"</a.css>; rel=preload".parse::<http::HeaderValue>().unwrap())
    );

    let mut raw = gateway.raw_tcp().await;
    raw.send("GET / HTTP/1.0\r\nHost: shop.example\r\n\r\n").await;
    assert_eq!(raw.head().await.status, 200);
    assert_eq!(gateway.get("/").http2().await.status, 200);
}

#[tokio::test]
async fn an_origin_that_says_nothing_in_time_is_504() {
    let origin = Origin::script(Behaviour::status(200).delay(Duration::from_secs(600))).start().await;
    let gateway = Gateway::run(one_origin(&origin).with_yaml(IMPATIENT)).await;
    for http2 in [false, true] {
        let request = gateway.get("/slow");
        let answer = if http2 { request.http2() } else { request }.await;
        assert_eq!(answer.status, 504);
        own_answer(&answer);
    }
    assert_eq!(gateway.logged("/slow").await["termination"], "upstream_timeout");
    let labels = [("service", "api"), ("outcome", "timeout")];
    gateway.counted("upstream_attempts_total", &labels, 2.0).await;
}

#[tokio::test]
async fn an_answer_that_stalls_is_broken_off() {
    let stalling = Behaviour::status(200).drip("piece", 2, Duration::from_secs(600));
    let origin = Origin::script(stalling).start().await;
    let gateway = Gateway::run(one_origin(&origin).with_yaml(IMPATIENT)).await;
    for http2 in [false, true] {
        let request = gateway.get("/");
        let answer = if http2 { request.http2() } else { request }.await;
        assert_eq!((answer.text().as_str(), answer.broken.is_some()), ("piece", true), "http2 {http2}");
    }
}

#[tokio::test]
async fn a_route_may_bound_the_whole_exchange() {
    let slow = Behaviour::status(200).drip("piece", 100, Duration::from_millis(100));
    let origin = Origin::script(slow)
        .on("/late", Behaviour::status(200).delay(Duration::from_secs(600)))
        .start()
        .await;
    let config = one_origin(&origin).replace("service: api }\n", "service: api, timeout: 500ms }\n");
    let gateway = Gateway::run(config).await;
    assert_eq!(gateway.get("/late").await.status, 504);
    assert!(gateway.get("/drip").await.broken.is_some());
}

#[tokio::test]
async fn a_dead_endpoint_is_502_and_counted_as_a_connect_failure() {
    let gateway = Gateway::run(Config::new(ONE_ORIGIN).value("origin", &dead().await)).await;
    let answer = gateway.get("/").await;
    assert_eq!(answer.status, 502);
    assert_eq!(own_answer(&answer)["error"], "upstream_failed");
    assert_eq!(gateway.logged("/").await["termination"], "upstream_connect");
    gateway.counted("upstream_attempts_total", &[("service", "api"), ("outcome", "connect")], 1.0).await;
}

#[tokio::test]
async fn a_connect_failure_is_tried_at_another_endpoint() {
    let origin = Origin::script(Behaviour::echo()).named("live").start().await;
    let yaml = ONE_ORIGIN
        .replace("[\"{origin}\"]", "[\"{dead}\", \"{live}\"], balance: round_robin, retry: { budget: 100% }");
    let gateway = Gateway::run(Config::new(yaml).origin(&origin).value("dead", &dead().await)).await;
    let safe = gateway.get("/").repeat(20).await;
    let unsafe_ = gateway.post("/", "nothing was sent before").repeat(20).await;
    assert_eq!((safe.with_status(200), unsafe_.with_status(200)), (20, 20), "{safe:?} {unsafe_:?}");
    gateway.counted("upstream_retries_total", &[("service", "api"), ("reason", "connect")], 1.0).await;
}

#[tokio::test]
async fn a_reset_is_tried_again_for_safe_methods_only() {
    let bad =
        Origin::script(Behaviour::status(200).fault(Fault::ResetBeforeHeader)).named("bad").start().await;
    let good = Origin::always(200).named("good").start().await;
    let yaml = ONE_ORIGIN
        .replace("[\"{origin}\"]", "[\"{bad}\", \"{good}\"], balance: round_robin, retry: { budget: 100% }");
    let gateway = Gateway::run(Config::new(yaml).origin(&bad).origin(&good)).await;
    let answers = gateway.get("/").repeat(10).await;
    assert_eq!(answers.with_status(200), 10, "{answers:?}");
    let hits = good.hits();
    let answers = gateway.post("/", "once").repeat(10).await;
    assert!(answers.with_status(502) >= 4, "a POST that was sent is not sent again: {answers:?}");
    assert_eq!(good.hits() - hits, answers.with_status(200));
}

#[tokio::test]
async fn further_tries_end_with_their_budget() {
    let bad =
        Origin::script(Behaviour::status(200).fault(Fault::ResetBeforeHeader)).named("bad").start().await;
    let good = Origin::always(200).named("good").start().await;
    let yaml = ONE_ORIGIN
        .replace("[\"{origin}\"]", "[\"{bad}\", \"{good}\"], balance: round_robin, retry: { budget: 0% }");
    let gateway = Gateway::run(Config::new(yaml).origin(&bad).origin(&good)).await;
    let answers = gateway.get("/").repeat(200).await;
    let (answered, failed) = (answers.with_status(200), answers.with_status(502));
    assert_eq!(answered + failed, 200, "{answers:?}");
    assert!(failed > 0 && bad.hits() > failed, "the floor is spent, and no more: {answers:?}");
    let retried = (bad.hits() - failed) as f64;
    gateway.counted("upstream_retries_total", &[("service", "api"), ("reason", "reset")], retried).await;
    assert_eq!(gateway.metrics().await.sum("upstream_retries_total", &[("service", "api")]), retried);
}

#[tokio::test]
async fn own_answers_are_html_for_browsers_and_json_for_programs() {
    let gateway = Gateway::run(Config::new(ONE_ORIGIN).value("origin", &dead().await)).await;
    for (accept, kind) in [
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html"),
        ("application/json", "application/json"),
        ("*/*", "application/json"),
    ] {
        let answer = gateway.get("/").header("accept", accept).await;
        assert!(answer.header("content-type").unwrap().starts_with(kind), "{answer:?}");
        let id = answer.header("x-request-id").unwrap();
        assert!(answer.text().contains(id), "{answer:?}");
        assert!(!answer.text().contains("127.0.0.1"), "addresses are not revealed: {answer:?}");
    }
    let json = gateway.get("/").await.json();
    assert_eq!(json["status"], 502);
}

#[tokio::test]
async fn an_answer_may_come_before_the_request_was_read() {
    let origin = Origin::script(Behaviour::status(403).body("too much").unread()).start().await;
    let gateway = Gateway::run(one_origin(&origin)).await;
    for http2 in [false, true] {
        let request = gateway.request(http::Method::POST, "/");
        let mut upload = if http2 { request.http2() } else { request }.upload().await;
        assert!(upload.send("begin").await);
        let answer = upload.started().await.unwrap();
        assert_eq!(answer.status, 403, "http2 {http2}");
    }
}
