//! What one client may take, and what is refused for its form.

use std::time::Duration;

use http::{Method, Request};

use crate::support::connection::{End, Raw};
use crate::support::{Behaviour, Config, Gateway, ONE_ORIGIN, Origin, one_origin, own_answer};

/// Both listeners with these limits, everything to `{origin}`.
fn limited(limits: &str, origin: &Origin) -> Config {
    let yaml = format!(
        r#"
listeners:
  https:
    address: "{{https}}"
    tls: {{ certificates: [ {{ cert: certs/shop.pem, key: certs/shop.key }} ] }}
    limits: {{ {limits} }}
  http:
    address: "{{http}}"
    limits: {{ {limits} }}
{ONE_ORIGIN}"#
    );
    Config::new(yaml).value("origin", origin.address())
}

async fn behind(limits: &str) -> (Gateway, Origin) {
    let origin = Origin::always(200).named("api").start().await;
    (Gateway::run(limited(limits, &origin)).await, origin)
}

/// What the plain listener answers to these bytes.
async fn status_of(gateway: &Gateway, bytes: &str) -> u16 {
    let mut raw = gateway.raw_tcp().await;
    raw.send(bytes).await;
    raw.answer().await.status
}

#[tokio::test]
async fn a_body_over_the_limit_is_413() {
    let origin = Origin::always(200).start().await;
    let yaml = ONE_ORIGIN.replace("service: api }", "service: api, body_limit: 64KiB }");
    let gateway = Gateway::run(Config::new(yaml).value("origin", origin.address())).await;
    for http2 in [false, true] {
        let request = gateway.post("/", vec![0; 64 << 10]);
        assert_eq!(if http2 { request.http2() } else { request }.await.status, 200);
        let hits = origin.hits();
        let request = gateway.post("/", vec![0; (64 << 10) + 1]);
        let answer = if http2 { request.http2() } else { request }.await;
        assert_eq!(answer.status, 413, "announced, http2 {http2}");
        own_answer(&answer);
        assert_eq!(origin.hits(), hits, "an announced length needs no asking");

        let request = gateway.request(Method::POST, "/");
        let mut upload = if http2 { request.http2() } else { request }.upload().await;
        for _ in 0..65 {
            upload.send_within(vec![0; 1 << 10], Duration::from_secs(5)).await;
        }
        upload.end();
        assert_eq!(upload.started().await.unwrap().status, 413, "unannounced, http2 {http2}");
        assert!(!origin.last_request().complete || origin.hits() == hits);
    }
}

#[tokio::test]
async fn a_target_over_the_limit_is_414() {
    let (gateway, origin) = behind("uri: 1KiB").await;
    let path = |bytes: usize| format!("/{}", "a".repeat(bytes - 1));
    for http2 in [false, true] {
        let ask = async |path: &str| {
            let request = gateway.get(path);
            if http2 { request.http2() } else { request }.await.status.as_u16()
        };
        assert_eq!((ask(&path(1024)).await, ask(&path(1025)).await), (200, 414), "http2 {http2}");
    }
    assert_eq!(origin.hits(), 2);
}

#[tokio::test]
async fn headers_over_the_limits_are_431() {
    let (gateway, origin) = behind("header_size: 4KiB, header_fields: 20").await;
    for http2 in [false, true] {
        let request = || if http2 { gateway.get("/").http2() } else { gateway.get("/") };
        assert_eq!(request().header("x-large", &"a".repeat(3000)).await.status, 200, "http2 {http2}");
        let large = request().header("x-large", &"a".repeat(5000)).await;
        assert_eq!(large.status, 431, "http2 {http2}");
        let many =
            |count: usize| (0..count).fold(request(), |request, at| request.header(&format!("x-{at}"), "1"));
        assert_eq!(many(15).await.status, 200, "http2 {http2}");
        assert_eq!(many(25).await.status, 431, "http2 {http2}");
    }
    assert_eq!(origin.hits(), 4);
}

#[tokio::test]
async fn a_cookie_that_is_too_large_is_431_and_counted() {
    let origin = Origin::always(200).start().await;
    let gateway = Gateway::run(one_origin(&origin)).await;
    for http2 in [false, true] {
        let request = || if http2 { gateway.get("/").http2() } else { gateway.get("/") };
        let cookie = |bytes: usize| request().header("cookie", &format!("session={}", "a".repeat(bytes)));
        assert_eq!(cookie(24 << 10).await.status, 200, "http2 {http2}");
        assert_eq!(cookie(40 << 10).await.status, 431, "http2 {http2}");
        // Several cookies are as large as one.
        let many = (0..40).fold(request(), |request, at| {
            request.header("cookie", &format!("c{at}={}", "a".repeat(1 << 10)))
        });
        assert_eq!(many.await.status, 431, "http2 {http2}");
    }
    assert_eq!(origin.hits(), 2);
    gateway.counted("bad_requests_total", &[("reason", "header_too_large")], 4.0).await;
}

#[tokio::test]
async fn a_header_without_end_is_431_and_the_connection_closes() {
    let (gateway, _origin) = behind("header_size: 8KiB").await;
    let mut raw = gateway.raw_tcp().await;
    raw.send("GET / HTTP/1.1\r\nHost: shop.example\r\nX: ").await;
    for _ in 0..64 {
        if raw.try_send("a".repeat(1024)).await.is_err() {
            break;
        }
    }
    assert_eq!(raw.head().await.status, 431);
    gateway.counted("bad_requests_total", &[("reason", "header_too_large")], 1.0).await;
}

#[tokio::test]
async fn a_header_that_comes_too_slowly_is_408_however_steadily() {
    let (gateway, _origin) = behind("header: 500ms").await;
    let mut raw = gateway.raw_tcp().await;
    raw.send("GET / HTTP/1.1\r\nHost: shop.example\r\n").await;
    for _ in 0..40 {
        if !raw.silent_for(Duration::from_millis(50)).await || raw.try_send("X: y\r\n").await.is_err() {
            break;
        }
    }
    gateway.counted("bad_requests_total", &[("reason", "header_timeout")], 1.0).await;

    let mut silent = gateway.raw_tcp().await;
    silent.send("GET / HT").await;
    let answer = silent.answer().await;
    assert_eq!(answer.status, 408);
    assert!(answer.header("connection").is_some_and(|value| value == "close"), "{}", answer.head);
}

#[tokio::test]
async fn the_second_header_on_a_connection_has_a_deadline_too() {
    // The proxy library lifts every time-out once a connection is kept.
    let (gateway, _origin) = behind("header: 500ms, keepalive: 60s").await;
    let mut raw = gateway.raw_tls().await;
    raw.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    assert_eq!(raw.answer().await.status, 200);
    raw.send("GET / HTTP/1.1\r\nHo").await;
    let (bytes, _) = raw.read_to_end().await;
    assert!(bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&bytes));
}

#[tokio::test]
async fn an_http2_client_that_does_not_finish_its_headers_is_cut_off() {
    let (gateway, origin) = behind("header: 500ms").await;
    let connect = async || Raw::new(gateway.tls().alpn(&["h2"]).connect().await.unwrap());

    let mut without_preface = connect().await;
    without_preface.read_to_end().await;

    let mut half = connect().await;
    half.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    half.send([0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
    // HEADERS of stream 1 without END_HEADERS; its CONTINUATION never comes.
    half.send([0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82]).await;
    half.read_to_end().await;
    assert_eq!(origin.hits(), 0);
    gateway.counted("bad_requests_total", &[("reason", "header_timeout")], 1.0).await;
}

#[tokio::test]
async fn a_missing_repeated_or_malformed_host_is_400() {
    let (gateway, origin) = behind("").await;
    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: shop.example\r\nHost: shop.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: shop.example\r\nHost: other.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: shop example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@shop.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: shop.example:port\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
    ] {
        assert_eq!(status_of(&gateway, head).await, 400, "{head:?}");
    }
    assert_eq!(origin.hits(), 0);
    assert_eq!(status_of(&gateway, "GET / HTTP/1.1\r\nHost: shop.example:8443\r\n\r\n").await, 200);
    assert_eq!(
        status_of(&gateway, "GET http://shop.example/x HTTP/1.1\r\nHost: shop.example\r\n\r\n").await,
        200
    );
}

#[tokio::test]
async fn a_message_with_two_lengths_is_refused_or_ends_the_connection() {
    let (gateway, origin) = behind("").await;
    let mut raw = gateway.raw_tcp().await;
    raw.send(
        "POST /first HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: shop.example\r\n\r\n",
    )
    .await;
    let (bytes, _) = raw.read_to_end().await;
    let text = String::from_utf8_lossy(&bytes);
    assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text}");
    assert!(origin.requests().iter().all(|request| request.path != "/smuggled"));

    for head in [
        "POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 1, 2\r\n\r\nab",
        "GET / HTTP/1.1\r\nHost : shop.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: shop.example\r\nbad\x01name: 1\r\n\r\n",
        "nonsense\r\n\r\n",
        "GET /\r\n\r\n",
    ] {
        let status = status_of(&gateway, head).await;
        assert_eq!(status, 400, "{head:?}");
    }
    gateway.counted("bad_requests_total", &[("reason", "malformed")], 1.0).await;
}

#[tokio::test]
async fn connect_is_not_for_us() {
    let (gateway, origin) = behind("").await;
    let status =
        status_of(&gateway, "CONNECT other.example:443 HTTP/1.1\r\nHost: other.example:443\r\n\r\n").await;
    assert!(matches!(status, 400 | 405), "{status}");
    assert_eq!(origin.hits(), 0);
}

#[tokio::test]
async fn http2_fields_that_http2_forbids_are_refused() {
    let (gateway, origin) = behind("").await;
    for (name, value) in
        [("connection", "close"), ("transfer-encoding", "chunked"), ("upgrade", "h2c"), ("te", "gzip")]
    {
        let outcome = http2_with(&gateway, name, value).await;
        assert!(matches!(outcome, Err(_) | Ok(400)), "{name}: {outcome:?}");
    }
    assert_eq!(http2_with(&gateway, "te", "trailers").await.unwrap(), 200);
    assert_eq!(origin.hits(), 1);
}

/// The status of a GET over HTTP/2 with one field, which no client library would send.
async fn http2_with(gateway: &Gateway, name: &'static str, value: &'static str) -> Result<u16, String> {
    let stream = gateway.tls().alpn(&["h2"]).connect().await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut client = client.ready().await.map_err(|error| error.to_string())?;
    let request = Request::get("https://shop.example/").header(name, value).body(()).unwrap();
    let (answer, _) = client.send_request(request, true).map_err(|error| error.to_string())?;
    let status = answer.await.map(|answer| answer.status().as_u16()).map_err(|error| error.to_string());
    driver.abort();
    status
}

#[tokio::test]
async fn connections_from_one_address_are_bounded() {
    let (gateway, _origin) = behind("connections_per_ip: 3").await;
    let get = "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n";
    let mut kept = Vec::new();
    for _ in 0..3 {
        let mut raw = gateway.raw_tcp().await;
        raw.send(get).await;
        assert_eq!(raw.answer().await.status, 200);
        kept.push(raw);
    }
    let mut fourth = gateway.raw_tcp().await;
    // It may be closed before the request is written.
    let _ = fourth.try_send(get).await;
    let (bytes, _) = fourth.read_to_end().await;
    assert!(bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 429"), "{}", String::from_utf8_lossy(&bytes));
    assert_eq!(gateway.get("/").plain().source("127.0.0.9").await.status, 200, "others are not concerned");

    kept.pop();
    gateway
        .eventually("the slot is free again", async || {
            gateway.get("/").plain().try_send().await.is_ok_and(|answer| answer.status == 200)
        })
        .await;
}

#[tokio::test]
async fn a_connection_serves_so_many_requests() {
    let (gateway, _origin) = behind("keepalive_requests: 3").await;
    let mut raw = gateway.raw_tls().await;
    for number in 1..=3 {
        raw.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
        let answer = raw.answer().await;
        assert_eq!(answer.status, 200);
        let announced = answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        assert_eq!(announced, number == 3, "request {number}: {}", answer.head);
    }
    assert!(raw.read_to_end().await.0.is_empty());
}

#[tokio::test]
async fn an_unused_client_connection_is_closed() {
    let (gateway, _origin) = behind("keepalive: 500ms").await;
    let mut raw = gateway.raw_tls().await;
    raw.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    assert_eq!(raw.answer().await.status, 200);
    assert_eq!(raw.read_to_end().await, (Vec::new(), End::Closed));

    let request = gateway.get("/").http2();
    let mut client = request.connect().await.unwrap();
    client.send(&request).await.unwrap();
    gateway.eventually("the HTTP/2 connection is closed", async || client.is_closed().await).await;
}

#[tokio::test]
async fn a_slow_reader_keeps_only_its_own_connection_busy() {
    let origin = Origin::script(Behaviour::status(200).body_of(64 << 20))
        .on("/small", Behaviour::status(200))
        .start()
        .await;
    let gateway = Gateway::run(limited("", &origin)).await;
    let request = gateway.get("/").http2();
    let mut client = request.connect().await.unwrap();
    let _unread = client.start(&request).await.unwrap();
    assert_eq!(gateway.get("/small").await.status, 200);
    assert_eq!(gateway.get("/small").http2().await.status, 200);
}
