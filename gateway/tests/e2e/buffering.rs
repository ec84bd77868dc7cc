//! Request bodies that are read whole before the service is asked.

use http::Method;

use crate::support::request::Request;
use crate::support::websocket::WebSocket;
use crate::support::{Behaviour, Config, Gateway, Origin};

const KIB: usize = 1 << 10;

/// Everything to `{api}` with bodies kept, but `/other`. `{limits}` are the listener's, `{service}` is more of the service,
/// `{route}` more of the route.
const ROUTES: &str = r#"
listeners:
  https:
    address: "{https}"
    tls: { certificates: [ { cert: certs/shop.pem, key: certs/shop.key } ] }
    limits: { {limits} }
  http: { address: "{http}" }
services:
  api: { endpoints: ["{api}"], {service} }
  other: { endpoints: ["{other}"] }
routes:
  all: { match: { host: shop.example }, service: api, {route} }
  other: { match: { host: shop.example, prefix: /other }, service: other }
"#;

struct Shop {
    gateway: Gateway,
    origin: Origin,
    _other: Origin,
}

impl Shop {
    async fn start(route: &str) -> Self {
        Self::start_with(Behaviour::echo_body(), "", "", route).await
    }

    async fn start_with(behaviour: Behaviour, limits: &str, service: &str, route: &str) -> Self {
        let origin = Origin::script(behaviour).named("api").start().await;
        let other = Origin::always(200).named("other").start().await;
        let config =
            Config::new(ROUTES).value("limits", limits).value("service", service).value("route", route);
        let gateway = Gateway::run(config.origin(&origin).origin(&other)).await;
        Self { gateway, origin, _other: other }
    }

    fn post(&self, http2: bool) -> Request {
        over(http2, self.gateway.request(Method::POST, "/hook"))
    }

    /// The gateway has the request, has done other work since, and has not told the origin.
    async fn keeps_it_to_itself(&self) {
        let labels = [("route", "all")];
        self.gateway
            .eventually("the request has arrived", async || {
                self.gateway.metrics().await.sum("http_requests_in_flight", &labels) == 1.0
            })
            .await;
        self.gateway.get("/other").repeat(30).await;
        assert_eq!(self.origin.connections(), 0, "nobody was asked yet");
    }
}

fn over(http2: bool, request: Request) -> Request {
    if http2 { request.http2() } else { request }
}

/// Bytes that differ from place to place.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at * 31 + at / 251) as u8).collect()
}

#[tokio::test]
async fn a_slow_client_reaches_nobody_until_its_body_is_whole() {
    for service in ["", "protocol: h2c"] {
        for (http2, announced) in [(false, false), (false, true), (true, false), (true, true)] {
            let shop = Shop::start_with(Behaviour::echo(), "", service, "buffer_request: 64KiB").await;
            let mut request = shop.post(http2);
            if announced {
                request = request.header("content-length", "12");
            }
            let mut upload = request.upload().await;
            for piece in ["four", "more"] {
                assert!(upload.send(piece).await);
                shop.keeps_it_to_itself().await;
            }
            assert!(upload.send("last").await);
            upload.end();
            assert_eq!(upload.started().await.unwrap().status, 200);
            let seen = shop.origin.last_request();
            assert_eq!((seen.text().as_str(), seen.complete), ("fourmorelast", true));
            assert_eq!(seen.header_values("content-length"), ["12"], "http2 {http2}, announced {announced}");
            assert_eq!(seen.header("transfer-encoding"), None);
        }
    }
}

#[tokio::test]
async fn bodies_of_every_length_arrive_to_the_byte() {
    for service in ["", "protocol: h2c"] {
        for kept in ["1KiB", "40KiB", "64KiB"] {
            let route = format!("buffer_request: {kept}");
            let shop = Shop::start_with(Behaviour::echo_body(), "", service, &route).await;
            for count in [
                0,
                1,
                KIB,
                KIB + 1,
                40 * KIB,
                48 * KIB,
                49 * KIB,
                64 * KIB,
                64 * KIB + 1,
                70 * KIB,
                300 * KIB,
            ] {
                for http2 in [false, true] {
                    let what = format!("{kept} kept of {count}, http2 {http2}, {service}");
                    let answer = shop.post(http2).body(bytes(count)).await;
                    assert_eq!((answer.status.as_u16(), answer.broken), (200, None), "{what}");
                    assert!(answer.body == bytes(count), "announced: {what}");
                    let upload = shop.post(http2).upload().await;
                    let sending = async {
                        for piece in bytes(count).chunks(23 * KIB) {
                            assert!(upload.send(piece.to_vec()).await, "{what}");
                        }
                        upload.finish().await.unwrap()
                    };
                    let answer = sending.await;
                    assert_eq!((answer.status.as_u16(), answer.broken), (200, None), "{what}");
                    assert!(answer.body == bytes(count), "unannounced: {what}");
                }
            }
        }
    }
}

#[tokio::test]
async fn longer_bodies_stream() {
    let shop = Shop::start("buffer_request: 1KiB").await;
    for http2 in [false, true] {
        let asked = shop.origin.hits();
        let announced = shop.post(http2).header("content-length", "2048").upload().await;
        assert!(announced.send(bytes(10)).await);
        shop.gateway.eventually("asked at once", async || shop.origin.hits() == asked + 1).await;
        assert!(announced.send(bytes(2038)).await);
        assert_eq!(announced.finish().await.unwrap().body.len(), 2048);

        let mut grown = shop.post(http2).upload().await;
        assert!(grown.send(bytes(1025)).await);
        shop.gateway.eventually("asked when it is too long", async || shop.origin.hits() == asked + 2).await;
        let mut answer = grown.started().await.unwrap();
        let first = answer.chunk().await.unwrap().unwrap();
        assert!(bytes(1025).starts_with(&first), "what was kept goes on without the rest");
        assert!(grown.send(bytes(7)).await);
        grown.end();
        let rest = answer.finish().await.unwrap();
        assert!([&first[..], &rest.body].concat() == [bytes(1025), bytes(7)].concat());
    }
}

#[tokio::test]
async fn many_small_chunks_are_one_body() {
    let shop = Shop::start("buffer_request: 64KiB").await;
    let mut raw = shop.gateway.raw_tcp().await;
    raw.send("POST /hook HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let body = bytes(3000);
    for byte in &body {
        raw.send([b"1\r\n", &[*byte][..], b"\r\n"].concat()).await;
    }
    raw.send("0\r\n\r\nPOST /hook HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4\r\n\r\nnext").await;
    assert!(raw.answer().await.body == body);
    assert_eq!(shop.origin.requests()[0].header("content-length"), Some("3000"));
    assert_eq!(raw.answer().await.text(), "next", "the connection goes on");
}

#[tokio::test]
async fn leave_to_send_the_body_is_given_here() {
    let shop = Shop::start_with(Behaviour::echo(), "", "", "buffer_request: 64KiB").await;
    let mut raw = shop.gateway.raw_tcp().await;
    let head =
        "POST /hook/echo HTTP/1.1\r\nHost: shop.example\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    raw.send(head).await;
    assert_eq!(raw.answer().await.status, 100);
    shop.keeps_it_to_itself().await;
    raw.send("body").await;
    let answer = raw.answer().await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "body"), "once is enough");
    assert_eq!(shop.origin.last_request().header("expect"), None);
    let mut old = shop.gateway.raw_tcp().await;
    old.send(head.replace("1.1", "1.0")).await;
    old.send("body").await;
    assert_eq!(old.answer().await.status, 200, "HTTP/1.0 knows no 1xx");
}

#[tokio::test]
async fn a_body_that_stays_away_is_408_and_one_that_is_too_large_413_and_nobody_is_asked() {
    for (limits, route) in [("body_idle: 300ms", ""), ("", "timeout: 300ms,")] {
        let route = format!("{route} buffer_request: 64KiB, body_limit: 1KiB");
        let shop = Shop::start_with(Behaviour::echo_body(), limits, "", &route).await;
        for http2 in [false, true] {
            let mut upload = shop.post(http2).upload().await;
            assert!(upload.send("half").await);
            assert_eq!(upload.started().await.unwrap().status, 408, "{limits}{route}, http2 {http2}");
        }
        assert_eq!(shop.gateway.logged("/hook").await["termination"], "timed_out");
        for http2 in [false, true] {
            let mut upload = over(http2, shop.gateway.request(Method::POST, "/large")).upload().await;
            assert!(upload.send(bytes(1025)).await);
            assert_eq!(upload.started().await.unwrap().status, 413, "http2 {http2}");
        }
        assert_eq!(shop.gateway.logged("/large").await["termination"], "body_too_large");
        assert_eq!(shop.origin.connections(), 0);
        assert_eq!(shop.gateway.metrics().await.sum("upstream_attempts_total", &[("service", "api")]), 0.0);
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_was_never_there_for_the_origin() {
    let shop = Shop::start("buffer_request: 64KiB").await;
    for http2 in [false, true] {
        let path = if http2 { "/left2" } else { "/left1" };
        let mut upload = over(http2, shop.gateway.request(Method::POST, path)).upload().await;
        assert!(upload.send("half").await);
        shop.keeps_it_to_itself().await;
        upload.abort().await;
        assert_eq!(shop.gateway.logged(path).await["termination"], "client_closed");
    }
    assert_eq!(shop.origin.connections(), 0);
}

#[tokio::test]
async fn what_was_read_survives_a_dead_endpoint() {
    let service = "balance: round_robin, endpoints: [\"127.0.0.1:9\", \"{api}\"]";
    let origin = Origin::script(Behaviour::echo_body()).named("api").start().await;
    let other = Origin::always(200).named("other").start().await;
    let yaml = ROUTES.replace("endpoints: [\"{api}\"], {service}", service);
    let config = Config::new(yaml).value("limits", "").value("route", "buffer_request: 64KiB");
    let gateway = Gateway::run(config.origin(&origin).origin(&other)).await;
    for (turn, count) in [3 * KIB, 100 * KIB].repeat(6).into_iter().enumerate() {
        let upload = over(turn % 4 > 1, gateway.request(Method::POST, "/hook")).upload().await;
        for piece in bytes(count).chunks(50 * KIB) {
            assert!(upload.send(piece.to_vec()).await);
        }
        let answer = upload.finish().await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.broken), (200, None), "{count}, turn {turn}");
        assert!(answer.body == bytes(count), "{count}, turn {turn}");
    }
    let retries = gateway.metrics().await.sum("upstream_retries_total", &[("service", "api")]);
    assert!(retries >= 1.0, "the dead endpoint was tried");
}

#[tokio::test]
async fn a_get_with_a_body_fails_over_whole_and_within_its_limit() {
    let stable = Origin::script(Behaviour::echo_body()).named("stable").start().await;
    let canary = Origin::script(Behaviour::status(503)).named("canary").start().await;
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
  all: { match: { host: shop.example }, service: api, buffer_request: 64KiB, body_limit: 4KiB }
"#,
    );
    let gateway = Gateway::run(config.origin(&stable).origin(&canary)).await;
    gateway
        .eventually("the canary was asked", async || {
            for http2 in [false, true] {
                let answer = over(http2, gateway.get("/")).body(bytes(3 * KIB)).await;
                assert_eq!((answer.status.as_u16(), answer.release()), (200, "stable"));
                assert!(answer.body == bytes(3 * KIB), "sent a second time, counted once");
            }
            canary.hits() >= 6
        })
        .await;
    assert!(canary.requests().iter().all(|request| request.body_bytes == 3 * KIB as u64));
}

#[tokio::test]
async fn conversations_are_not_kept() {
    let grpc = Behaviour::grpc(0);
    let shop = Shop::start_with(grpc, "", "protocol: h2c", "buffer_request: 64KiB").await;
    let request = shop.post(true).header("content-type", "application/grpc").header("te", "trailers");
    let mut upload = request.upload().await;
    assert!(upload.send("first").await);
    let mut answer = upload.started().await.unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "first", "answered while it is sent");
    upload.end();
    assert_eq!(answer.finish().await.unwrap().trailers["grpc-status"], "0");

    let shop = Shop::start_with(Behaviour::websocket(), "", "", "buffer_request: 64KiB").await;
    let mut socket = WebSocket::connect(shop.gateway.tls(), "/ws", &[]).await.unwrap();
    assert_eq!(socket.echo("hello").await, "hello");
    socket.close().await;
}

#[tokio::test]
async fn explain_tells_of_it() {
    let shop = Shop::start("buffer_request: 64KiB").await;
    let explained = shop.gateway.command(&["explain", "https://shop.example/hook"]).await;
    assert!(explained.stdout.contains("a body of up to 64KiB is read whole"), "{explained:?}");
    let explained = shop.gateway.command(&["explain", "https://shop.example/other"]).await;
    assert!(!explained.stdout.contains("read whole"), "{explained:?}");
}
