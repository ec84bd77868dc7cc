//! Answers in a coding: who gets one, what it says, and that it is the same answer.

use std::io::Read;

use http::Method;

use crate::support::request::{Answer, Request};
use crate::support::websocket::WebSocket;
use crate::support::{BOTH_LISTENERS, Behaviour, Config, Fault, Gateway, Origin};

const CODINGS: [&str; 3] = ["zstd", "br", "gzip"];

/// `/plain` is as origins send it, everything else is compressed; `{service}` is more of the service.
const ROUTES: &str = r#"
services:
  api: { endpoints: ["{api}"], {service} }
routes:
  all: { match: { host: shop.example }, service: api, compress: true }
  plain: { match: { host: shop.example, prefix: /plain }, service: api }
  own: { match: { host: shop.example, path: /own }, compress: true, respond: { body: "{own}" } }
"#;

async fn behind(behaviour: Behaviour) -> (Gateway, Origin) {
    behind_with(behaviour, "").await
}

async fn behind_with(behaviour: Behaviour, service: &str) -> (Gateway, Origin) {
    let origin = Origin::script(behaviour).named("api").start().await;
    let config = Config::new(format!("{BOTH_LISTENERS}{ROUTES}")).value("service", service);
    let config = config.value("own", &"own ".repeat(100)).origin(&origin);
    (Gateway::run(config).await, origin)
}

/// A text of about this many bytes that is worth compressing.
fn text(bytes: usize) -> String {
    let line = |number: usize| format!("line {number} of many, {:x}\n", number.wrapping_mul(2_654_435_761));
    (0..bytes / 24).map(line).collect()
}

/// What can be decoded, and whether that is all of it.
fn decode(coding: &str, coded: &[u8]) -> (Vec<u8>, bool) {
    let mut reader: Box<dyn Read> = match coding {
        "zstd" => Box::new(zstd::stream::read::Decoder::new(coded).unwrap()),
        "br" => Box::new(brotli::Decompressor::new(coded, 4096)),
        "gzip" => Box::new(flate2::read::GzDecoder::new(coded)),
        other => panic!("no coding of ours: {other}"),
    };
    let mut plain = Vec::new();
    let complete = reader.read_to_end(&mut plain).is_ok();
    (plain, complete)
}

/// The body in the coding the answer says it is in.
fn decoded(answer: &Answer) -> Vec<u8> {
    assert_eq!(answer.broken, None);
    let coding = answer.header("content-encoding").expect("the answer is in a coding");
    let (plain, complete) = decode(coding, &answer.body);
    assert!(complete, "{coding} is complete");
    plain
}

fn vary(answer: &Answer) -> String {
    let fields = answer.headers.get_all("vary").iter().map(|value| value.to_str().unwrap());
    fields.collect::<Vec<_>>().join(", ")
}

fn over(http2: bool, request: Request) -> Request {
    if http2 { request.http2() } else { request }
}

fn accepting(request: Request, codings: &str) -> Request {
    request.header("accept-encoding", codings)
}

#[tokio::test]
async fn every_coding_is_the_same_answer_over_every_protocol() {
    let body = text(300_000);
    for service in ["", "protocol: h2c"] {
        let (gateway, origin) = behind_with(Behaviour::status(200).body(body.clone()), service).await;
        for chunked in [false, true] {
            let behaviour = Behaviour::status(200).body(body.clone());
            origin.set_behaviour(if chunked { behaviour.chunked() } else { behaviour });
            for (coding, http2) in CODINGS.into_iter().flat_map(|coding| [(coding, false), (coding, true)]) {
                let answer = accepting(over(http2, gateway.get("/")), coding).await;
                assert_eq!(answer.header("content-encoding"), Some(coding));
                assert!(decoded(&answer) == body.as_bytes(), "{coding}, http2 {http2}, chunked {chunked}");
                assert!(answer.body.len() < body.len() / 2, "{} bytes of {coding}", answer.body.len());
            }
        }
    }
}

#[tokio::test]
async fn a_large_body_passes_whole() {
    let (gateway, _origin) = behind(Behaviour::status(200).body_of(10 << 20)).await;
    for (coding, http2) in [("zstd", true), ("br", false), ("gzip", true)] {
        let answer = accepting(over(http2, gateway.get("/large")), coding).await;
        let plain = decoded(&answer);
        assert_eq!(plain.len(), 10 << 20, "{coding}");
        assert!(plain.iter().all(|byte| *byte == b'.'), "{coding}");
        assert!(answer.body.len() < 1 << 20, "{} bytes of {coding}", answer.body.len());
    }
    let logged = gateway.logged("/large").await;
    assert!(logged["bytes"].as_u64().unwrap() < 1 << 20, "the log has what was sent: {logged}");
}

#[tokio::test]
async fn the_client_s_weights_choose_the_coding() {
    let (gateway, _origin) = behind(Behaviour::status(200).body(text(2000))).await;
    for (accepted, coding) in [
        ("gzip, deflate, br, zstd", Some("zstd")),
        ("gzip, deflate, br", Some("br")),
        ("br;q=0.5, gzip;q=0.8", Some("gzip")),
        ("zstd;q=0, *", Some("br")),
        ("identity;q=0, gzip;q=0.1", Some("gzip")),
        ("gzip;q=0.1, identity;q=0.2", None),
        ("gzip;q=0, br;q=0, zstd;q=0", None),
        ("*;q=0", None),
        ("deflate", None),
        ("", None),
    ] {
        for http2 in [false, true] {
            let answer = accepting(over(http2, gateway.get("/")), accepted).await;
            assert_eq!(answer.header("content-encoding"), coding, "{accepted:?}");
            assert_eq!(vary(&answer), "accept-encoding", "{accepted:?}");
        }
    }
    let answer = gateway.get("/").await;
    assert_eq!(
        (answer.header("content-encoding"), answer.text()),
        (None, text(2000)),
        "nothing was asked for"
    );
    assert_eq!(answer.header("content-length"), Some(text(2000).len().to_string().as_str()));
    assert_eq!(vary(&answer), "accept-encoding");
}

#[tokio::test]
async fn fields_say_what_is_sent_and_head_says_the_same() {
    let behaviour = Behaviour::status(200).body(text(4000)).header("etag", "\"v1\"");
    let behaviour = behaviour.header("accept-ranges", "bytes").header("vary", "Origin");
    let (gateway, origin) = behind(behaviour.clone()).await;
    for (method, http2) in
        [Method::GET, Method::HEAD].into_iter().flat_map(|m| [(m.clone(), false), (m, true)])
    {
        let request = accepting(over(http2, gateway.request(method.clone(), "/")), "gzip");
        let answer = request.await;
        assert_eq!(answer.broken, None);
        assert_eq!(answer.header("content-encoding"), Some("gzip"), "{method}");
        assert_eq!(answer.header("content-length"), None, "{method}");
        assert_eq!(answer.header("accept-ranges"), None, "{method}");
        assert_eq!(answer.header("etag"), Some("W/\"v1\""), "{method}");
        assert_eq!(vary(&answer), "Origin, accept-encoding", "{method}");
        assert_eq!(answer.body.is_empty(), method == Method::HEAD);
    }
    let plain = gateway.get("/").await;
    assert_eq!((plain.header("etag"), plain.header("accept-ranges")), (Some("\"v1\""), Some("bytes")));
    origin.set_behaviour(behaviour.header("vary", "Accept-Encoding"));
    assert_eq!(vary(&accepting(gateway.get("/"), "br").await), "Origin, Accept-Encoding", "once is enough");
}

#[tokio::test]
async fn a_304_confirms_the_validator_the_client_has() {
    let (gateway, _origin) = behind(Behaviour::status(304).body("").header("etag", "\"v1\"")).await;
    for (has, etag, varies) in [
        ("W/\"v1\"", "W/\"v1\"", "accept-encoding"),
        ("W/\"v0\", W/\"v1\"", "W/\"v1\"", "accept-encoding"),
        ("\"v1\"", "\"v1\"", ""),
    ] {
        let answer = accepting(gateway.get("/"), "gzip").header("if-none-match", has).await;
        assert_eq!(answer.status, 304);
        assert_eq!((answer.header("etag"), vary(&answer).as_str()), (Some(etag), varies), "{has}");
        assert_eq!(answer.header("content-encoding"), None);
    }
}

#[tokio::test]
async fn what_gains_nothing_or_must_not_change_is_left_as_it_is() {
    let (gateway, origin) = behind(Behaviour::status(200)).await;
    let body = text(3000);
    let ok = || Behaviour::status(200).body(body.clone());
    for (what, behaviour) in [
        ("events", ok().header("content-type", "text/event-stream")),
        ("gRPC", ok().header("content-type", "application/grpc+proto")),
        ("gRPC as JSON", ok().header("content-type", "application/grpc+json")),
        ("an image", ok().header("content-type", "image/png")),
        ("encoded", ok().header("content-encoding", "gzip")),
        ("no-transform", ok().header("cache-control", "public, No-Transform")),
        ("a digest", ok().header("content-digest", "sha-256=:AA==:")),
    ] {
        origin.set_behaviour(behaviour.header("etag", "\"v1\""));
        for http2 in [false, true] {
            let answer = accepting(over(http2, gateway.get("/")), "gzip, br, zstd").await;
            assert!(answer.text() == body, "{what}");
            assert_eq!(answer.header("content-length"), Some(body.len().to_string().as_str()), "{what}");
            assert_eq!((answer.header("etag"), vary(&answer).as_str()), (Some("\"v1\""), ""), "{what}");
        }
    }
    origin.set_behaviour(Behaviour::status(200).body("x".repeat(255)));
    assert_eq!(accepting(gateway.get("/"), "gzip").await.header("content-encoding"), None, "too short");
    origin.set_behaviour(Behaviour::status(404).body("x".repeat(256)));
    assert_eq!(
        accepting(gateway.get("/"), "gzip").await.header("content-encoding"),
        Some("gzip"),
        "long enough"
    );
    origin.set_behaviour(Behaviour::status(204).body(""));
    let answer = accepting(gateway.get("/"), "gzip").await;
    assert_eq!((answer.status.as_u16(), answer.header("content-encoding")), (204, None));
    origin.set_behaviour(ok().header("content-range", "bytes 0-2999/9000"));
    let answer = accepting(gateway.get("/"), "gzip").await;
    assert!(answer.text() == body, "a part is told in bytes of the whole");
    assert_eq!(vary(&answer), "accept-encoding");
    origin.set_behaviour(ok());
    let untouched = accepting(gateway.get("/"), "gzip").header("cache-control", "no-transform").await;
    assert!(untouched.text() == body, "the client may forbid it as well");
}

#[tokio::test]
async fn routes_without_it_and_answers_of_the_gateway_are_left_alone() {
    let (gateway, _origin) = behind(Behaviour::status(200).body(text(3000))).await;
    for path in ["/plain", "/own"] {
        let answer = accepting(gateway.get(path), "gzip, br, zstd").await;
        assert_eq!(answer.status, 200);
        assert_eq!((answer.header("content-encoding"), vary(&answer).as_str()), (None, ""), "{path}");
        assert!(answer.header("content-length").is_some(), "{path}");
    }
    let explained = gateway.command(&["explain", "https://shop.example/"]).await;
    assert!(explained.stdout.contains("zstd, br or gzip"), "{explained:?}");
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_the_length_it_can_keep_a_connection_with() {
    let (gateway, _origin) = behind(Behaviour::status(200).body(text(3000))).await;
    let mut raw = gateway.raw_tcp().await;
    raw.send("GET / HTTP/1.0\r\nHost: shop.example\r\nAccept-Encoding: gzip\r\n\r\n").await;
    let answer = raw.answer().await;
    assert_eq!((answer.header("content-encoding"), answer.header("vary")), (None, Some("accept-encoding")));
    assert!(answer.header("content-length").is_some());
    assert!(answer.text() == text(3000));
}

#[tokio::test]
async fn each_piece_of_a_stream_arrives_before_the_next_is_sent() {
    for service in ["", "protocol: h2c"] {
        let stream = Behaviour::echo_body().header("content-type", "application/x-ndjson");
        let (gateway, _origin) = behind_with(stream, service).await;
        for (coding, http2) in CODINGS.into_iter().flat_map(|coding| [(coding, false), (coding, true)]) {
            let request = over(http2, gateway.request(Method::POST, "/stream"));
            let mut upload = accepting(request, coding).upload().await;
            let mut answer = None;
            let (mut sent, mut coded) = (String::new(), Vec::new());
            for number in 0..5 {
                let line = format!("{{\"line\":{number}}}\n");
                sent.push_str(&line);
                assert!(upload.send(line).await);
                if answer.is_none() {
                    answer = Some(upload.started().await.unwrap());
                }
                let answer = answer.as_mut().expect("the answer has begun");
                while decode(coding, &coded).0 != sent.as_bytes() {
                    coded.extend_from_slice(&answer.chunk().await.unwrap().expect("the stream goes on"));
                }
            }
            upload.end();
            let rest = answer.expect("the answer has begun").finish().await.unwrap();
            assert_eq!(rest.broken, None);
            coded.extend_from_slice(&rest.body);
            assert_eq!(decode(coding, &coded), (sent.into_bytes(), true), "{coding}, http2 {http2}");
        }
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_complete_in_no_coding_and_no_framing() {
    let (gateway, origin) = behind(Behaviour::status(200)).await;
    for chunked in [false, true] {
        let broken = Behaviour::status(200).body(text(200_000)).fault(Fault::BreakOffAfter(100_000));
        origin.set_behaviour(if chunked { broken.chunked() } else { broken });
        for (coding, http2) in CODINGS.into_iter().flat_map(|coding| [(coding, false), (coding, true)]) {
            let answer = accepting(over(http2, gateway.get("/broken")), coding).await;
            assert_eq!(answer.status, 200);
            assert!(answer.broken.is_some(), "{coding}, http2 {http2}, chunked {chunked}");
            let (plain, complete) = decode(coding, &answer.body);
            assert!(!complete, "{coding}, http2 {http2}, chunked {chunked}");
            assert!(text(200_000).as_bytes().starts_with(&plain), "what there is of it is right");
        }
    }
    assert_eq!(gateway.logged("/broken").await["termination"], "upstream_reset");
}

#[tokio::test]
async fn trailers_give_way_to_the_end_of_the_coding() {
    let behaviour = Behaviour::status(200).body(text(5000)).trailer("x-checksum", "1");
    let (gateway, _origin) = behind_with(behaviour, "protocol: h2c").await;
    for (coding, http2) in CODINGS.into_iter().flat_map(|coding| [(coding, false), (coding, true)]) {
        let answer = accepting(over(http2, gateway.get("/")), coding).await;
        assert!(decoded(&answer) == text(5000).as_bytes(), "{coding}, http2 {http2}");
    }
    let plain = gateway.get("/").http2().await;
    assert_eq!(plain.trailers["x-checksum"], "1", "others get them");
}

#[tokio::test]
async fn a_failing_canary_is_still_failed_over() {
    let stable = Origin::script(Behaviour::status(200).body(text(3000))).named("stable").start().await;
    let canary = Origin::script(Behaviour::status(500).body(text(9000))).named("canary").start().await;
    let config = Config::new(
        r#"
services:
  api:
    releases: { stable: { endpoints: ["{stable}"] }, canary: { endpoints: ["{canary}"] } }
    stable: stable
    canary: canary
    rollout:
      weight: 50%
      guard: { error_rate: { max: 99% }, worse_than_stable: 1000x, consecutive_failures: 1000000, max_failed_requests: 1000000 }
      failover: { budget: 100% }
routes:
  all: { match: { host: shop.example }, service: api, compress: true }
"#,
    );
    let gateway = Gateway::run(config.origin(&stable).origin(&canary)).await;
    gateway
        .eventually("the canary was asked", async || {
            let answer = accepting(gateway.get("/"), "gzip").await;
            assert_eq!((answer.status.as_u16(), answer.release()), (200, "stable"));
            assert!(decoded(&answer) == text(3000).as_bytes());
            canary.hits() >= 5
        })
        .await;
}

#[tokio::test]
async fn a_websocket_is_left_alone() {
    let (gateway, _origin) = behind(Behaviour::websocket()).await;
    let headers = [("accept-encoding", "gzip, br, zstd")];
    let mut socket = WebSocket::connect(gateway.tls(), "/ws", &headers).await.unwrap();
    let message = text(2000);
    assert_eq!(socket.echo(&message).await, message);
    socket.close().await;
}
