//! What becomes of a request and its answer on the way: bodies, versions, interim answers, connections.

use std::time::Duration;

use http::{Method, Version};

use crate::support::{
    BOTH_LISTENERS, Behaviour, Events, Fault, Gateway, ONE_ORIGIN, Origin, eventually, one_origin,
};

const MIB: usize = 1 << 20;

/// More than every buffer between client and origin can hold together.
const FLOOD: usize = 64 * MIB;

async fn behind(behaviour: Behaviour) -> (Gateway, Origin) {
    let origin = Origin::script(behaviour).named("api").start().await;
    (Gateway::run(one_origin(&origin)).await, origin)
}

/// The same with a plain listener beside TLS.
async fn behind_both(behaviour: Behaviour) -> (Gateway, Origin) {
    let origin = Origin::script(behaviour).named("api").start().await;
    let config = one_origin(&origin).with_yaml(format!("{BOTH_LISTENERS}{ONE_ORIGIN}"));
    (Gateway::run(config).await, origin)
}

#[tokio::test]
async fn a_request_and_its_answer_pass_unchanged() {
    let (gateway, origin) =
        behind(Behaviour::echo().header("x-custom", "a, b").header("etag", "\"1\"")).await;
    for http2 in [false, true] {
        let request =
            gateway.post("/orders?x=1&y=%2F", "ten pizzas").header("x-one", "1").header("x-one", "2");
        let answer = if http2 { request.http2() } else { request }.await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.version, if http2 { Version::HTTP_2 } else { Version::HTTP_11 });
        assert_eq!((answer.header("x-custom"), answer.header("etag")), (Some("a, b"), Some("\"1\"")));
        let seen = origin.last_request();
        assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/orders?x=1&y=%2F"));
        assert_eq!(seen.header("host"), Some("shop.example"));
        assert_eq!(seen.header_values("x-one"), ["1", "2"]);
        assert_eq!((seen.text().as_str(), seen.complete), ("ten pizzas", true));
        assert_eq!(seen.version, Version::HTTP_11);
    }
}

#[tokio::test]
async fn large_bodies_arrive_whole_both_ways() {
    let (gateway, origin) = behind(Behaviour::echo_body()).await;
    let body: Vec<u8> = (0..9 * MIB).map(|at| (at % 251) as u8).collect();
    for http2 in [false, true] {
        let request = gateway.post("/", body.clone());
        let answer = if http2 { request.http2() } else { request }.await;
        assert_eq!(answer.broken, None);
        assert!(answer.body == body, "{} bytes came back, http2 {http2}", answer.body.len());
        assert_eq!(origin.last_request().body_bytes, body.len() as u64);
    }
}

#[tokio::test]
async fn a_body_streams_both_ways_at_once() {
    let (gateway, _origin) = behind(Behaviour::echo_body()).await;
    for http2 in [false, true] {
        let request = gateway.request(Method::POST, "/");
        let mut upload = if http2 { request.http2() } else { request }.upload().await;
        assert!(upload.send("first").await);
        let mut answer = upload.started().await.unwrap();
        assert_eq!(answer.chunk().await.unwrap().unwrap(), "first");
        assert!(upload.send("second").await);
        assert_eq!(answer.chunk().await.unwrap().unwrap(), "second");
        upload.end();
        assert_eq!(answer.chunk().await.unwrap(), None);
    }
}

#[tokio::test]
async fn an_origin_that_does_not_read_holds_the_client_back() {
    let unread = Behaviour::status(200).unread().delay(Duration::from_secs(600));
    let origin = Origin::script(unread).start().await;
    let config = one_origin(&origin).replace("service: api }\n", "service: api, body_limit: 1GiB }\n");
    let gateway = Gateway::run(config).await;
    for http2 in [false, true] {
        let request = gateway.request(Method::POST, "/");
        let upload = if http2 { request.http2() } else { request }.upload().await;
        let mut sent = 0;
        while sent < FLOOD && upload.send_within(vec![0; 64 << 10], Duration::from_millis(500)).await {
            sent += 64 << 10;
        }
        assert!(sent < FLOOD, "{sent} bytes went nowhere, http2 {http2}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_origin_back() {
    let (gateway, origin) = behind(Behaviour::status(200).body_of(4 * FLOOD as u64)).await;
    let before = gateway.rss_bytes();
    for http2 in [false, true] {
        let request = gateway.get("/");
        let sent_before = origin.sent_bytes();
        let mut answer = if http2 { request.http2() } else { request }.start().await.unwrap();
        assert!(answer.chunk().await.unwrap().is_some());
        let sent = settled(&origin).await - sent_before;
        assert!(sent < FLOOD as u64, "the origin could send {sent} bytes that nobody read, http2 {http2}");
    }
    let grown = gateway.rss_bytes().saturating_sub(before);
    assert!(grown < 32 * MIB as u64, "{grown} bytes of memory for two idle readers");
}

/// What the origin has sent once it sends no more.
async fn settled(origin: &Origin) -> u64 {
    let mut last = 0;
    let mut same = 0;
    eventually("the origin is held back", async || {
        let sent = origin.sent_bytes();
        same = if sent == last { same + 1 } else { 0 };
        last = sent;
        same >= 10
    })
    .await;
    last
}

#[tokio::test]
async fn server_sent_events_arrive_one_by_one() {
    let events = Events::new();
    let (gateway, _origin) = behind(Behaviour::events(&events)).await;
    for http2 in [false, true] {
        let request = gateway.get("/events").header("accept", "text/event-stream");
        let mut stream = if http2 { request.http2() } else { request }.start().await.unwrap();
        assert_eq!(stream.headers["content-type"], "text/event-stream");
        for text in ["one", "two", "three"] {
            eventually("the stream is subscribed", async || events.event(text) > 0).await;
            assert_eq!(stream.chunk().await.unwrap().unwrap(), format!("data: {text}\n\n"));
        }
    }
}

#[tokio::test]
async fn what_has_arrived_of_an_announced_body_does_not_wait_for_the_rest() {
    // The proxy library flushes such a body only at its end or when its buffer is full.
    let slow = Behaviour::status(200).drip("piece", 2, Duration::from_secs(600));
    let origin = Origin::script(slow).start().await;
    let yaml = ONE_ORIGIN.replace("[\"{origin}\"] }", "[\"{origin}\"], timeouts: { idle: 1h } }");
    let gateway = Gateway::run(one_origin(&origin).with_yaml(yaml)).await;
    for request in [gateway.get("/").http2(), gateway.get("/")] {
        let mut answer = request.start().await.unwrap();
        assert_eq!(answer.headers["content-length"], "10");
        assert_eq!(answer.chunk().await.unwrap().unwrap(), "piece");
    }
}

#[tokio::test]
async fn answers_without_a_body_have_none_and_keep_the_connection() {
    let (gateway, _origin) = behind_both(Behaviour::status(200).body("twelve bytes")).await;
    let mut raw = gateway.raw_tls().await;
    raw.send("HEAD / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    let head = raw.head().await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("12")));
    raw.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    assert_eq!(raw.answer().await.text(), "twelve bytes");

    for status in [204, 304] {
        _origin.set_behaviour(Behaviour::status(status).body(""));
        raw.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
        let answer = raw.answer().await;
        assert_eq!((answer.status, answer.header("transfer-encoding")), (status, None));
    }
    let answer = gateway.request(Method::HEAD, "/").http2().await;
    assert_eq!((answer.status.as_u16(), answer.body.len(), answer.broken), (304, 0, None));
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_no_chunks_and_a_closed_connection() {
    let (gateway, _origin) = behind_both(Behaviour::status(200).body("streamed").chunked()).await;
    let mut raw = gateway.raw_tcp().await;
    raw.send("GET / HTTP/1.0\r\nHost: shop.example\r\n\r\n").await;
    let (bytes, _) = raw.read_to_end().await;
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
    assert_eq!(body, "streamed");
}

#[tokio::test]
async fn expect_100_continue_is_answered_by_the_origin_before_the_body_is_sent() {
    let (gateway, origin) = behind_both(Behaviour::echo()).await;
    let mut raw = gateway.raw_tcp().await;
    raw.send(
        "POST /echo HTTP/1.1\r\nHost: shop.example\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
    )
    .await;
    assert_eq!(raw.head().await.status, 100);
    assert_eq!(origin.last_request().body_bytes, 0);
    raw.send("body").await;
    let answer = raw.answer().await;
    assert_eq!((answer.status, answer.text()), (200, "body".to_owned()));
}

#[tokio::test]
async fn cookies_of_an_http2_client_reach_http1_as_one_field() {
    let (gateway, origin) = behind(Behaviour::status(200)).await;
    gateway.get("/").http2().header("cookie", "a=1").header("cookie", "b=2").header("cookie", "c=3").await;
    assert_eq!(origin.last_request().header_values("cookie"), ["a=1; b=2; c=3"]);
}

#[tokio::test]
async fn an_http2_upload_ended_by_an_empty_frame_leaves_its_upstream_connection_in_order() {
    // The proxy library wrote the last chunk twice, and the rest was taken for the next request on the connection.
    let (gateway, origin) = behind(Behaviour::echo_body()).await;
    let request = gateway.request(Method::POST, "/").http2();
    let mut client = request.connect().await.unwrap();
    for turn in 0..5 {
        let upload = client.upload(&request).await;
        assert!(upload.send(format!("body {turn}")).await);
        eventually("the body is with the origin", async || origin.requests().len() > turn).await;
        let answer = upload.finish().await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.text()), (200, format!("body {turn}")));
    }
    assert_eq!(origin.connections(), 1, "each request found its upstream connection in order");
}

#[tokio::test]
async fn connections_to_an_origin_are_used_again() {
    let (gateway, origin) = behind(Behaviour::status(200)).await;
    gateway.get("/").repeat(20).await;
    gateway.post("/", "body").repeat(5).await;
    assert_eq!((origin.hits(), origin.connections()), (25, 1));
}

#[tokio::test]
async fn a_safe_request_that_meets_a_closing_connection_succeeds_on_another() {
    let (gateway, origin) = behind(Behaviour::status(200).fault(Fault::CloseOnReuse)).await;
    let answers = gateway.get("/").repeat(20).await;
    assert_eq!(answers.with_status(200), 20, "{answers:?}");
    assert!(origin.connections() >= 20, "each kept connection was found closed");
}

#[tokio::test]
async fn an_origin_that_closes_after_each_answer_without_a_word_fails_no_request() {
    let (gateway, _origin) = behind(Behaviour::status(200).fault(Fault::CloseAfterResponse)).await;
    let answers = gateway.get("/").repeat(100).await;
    assert_eq!(answers.with_status(200), 100, "{answers:?}");
}

#[tokio::test]
async fn an_unused_upstream_connection_is_closed_before_the_origin_would() {
    let origin = Origin::always(200).start().await;
    let yaml = ONE_ORIGIN.replace("[\"{origin}\"] }", "[\"{origin}\"], timeouts: { keepalive: 300ms } }");
    let gateway = Gateway::run(one_origin(&origin).with_yaml(yaml)).await;
    gateway.get("/").await;
    assert_eq!(origin.open_connections(), 1);
    gateway.eventually("the connection is closed", async || origin.open_connections() == 0).await;
    assert_eq!(gateway.get("/").await.status, 200);
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_request_at_the_origin() {
    let events = Events::new();
    let (gateway, origin) = behind(Behaviour::events(&events)).await;
    let stream = gateway.get("/").start().await.unwrap();
    eventually("the stream is open", async || events.event("x") > 0).await;
    drop(stream);
    eventually("the origin has noticed", async || {
        events.event("x");
        origin.open_connections() == 0
    })
    .await;
}

#[tokio::test]
async fn an_upload_that_breaks_off_never_looks_complete_to_the_origin() {
    let (gateway, origin) = behind(Behaviour::status(200)).await;
    for http2 in [false, true] {
        let hits = origin.hits();
        let request = gateway.request(Method::POST, "/");
        let mut upload = if http2 { request.http2() } else { request }.upload().await;
        assert!(upload.send("half").await);
        eventually("half has arrived", async || {
            origin.requests().get(hits).is_some_and(|request| request.body_bytes == 4)
        })
        .await;
        upload.abort().await;
        eventually("the origin has noticed", async || origin.open_connections() == 0).await;
        assert!(!origin.last_request().complete, "http2 {http2}");
    }
    assert_eq!(gateway.get("/").await.status, 200);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (gateway, _origin) = behind_both(Behaviour::echo()).await;
    let mut raw = gateway.raw_tcp().await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    raw.send(format!("{}{}{}", get("/one"), get("/two"), get("/three"))).await;
    for path in ["/one", "/two", "/three"] {
        let answer = raw.answer().await;
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, &body["path"]), (200, &path.into()));
    }
}

#[tokio::test]
async fn many_http2_requests_share_a_connection() {
    let (gateway, _origin) = behind(Behaviour::echo().delay(Duration::from_millis(20))).await;
    let request = gateway.get("/").http2();
    let mut client = request.connect().await.unwrap();
    let mut answers = Vec::new();
    for number in 0..50 {
        answers.push((number, client.upload(&gateway.post(&format!("/{number}"), "").http2()).await));
    }
    for (number, answer) in answers {
        let answer = answer.finish().await.unwrap();
        assert_eq!(answer.json()["path"], format!("/{number}"));
    }
}
