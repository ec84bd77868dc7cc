//! What is not copied, and what a mirror can never cost.

use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use super::{FOR_EVER, MIRRORED, Mirrored, over};
use crate::support::websocket::WebSocket;
use crate::support::{Behaviour, Config, Fault, Gateway, Origin, RawOrigin};

#[tokio::test]
async fn nobody_waits_for_a_mirror_that_never_answers() {
    let mirrored = Mirrored::with("share: 100%", Behaviour::status(200).delay(FOR_EVER)).await;
    for (number, http2) in [(1, false), (2, true)] {
        assert_eq!(over(http2, mirrored.gateway.get("/")).await.status, 200);
        assert_eq!(over(http2, mirrored.gateway.post("/", "an order")).await.status, 200);
        let held = async || mirrored.shadow.hits() == 2 * number;
        mirrored.gateway.eventually("the mirror holds the copies", held).await;
        assert_eq!(mirrored.in_flight().await, 2.0 * number as f64, "still on their way");
    }
    assert_eq!(mirrored.gateway.metrics().await.sum("mirror_requests_total", &[]), 0.0);
}

#[tokio::test]
async fn whatever_a_mirror_does_the_request_is_answered() {
    let good = Behaviour::status(200);
    for (behaviour, result) in [
        (Behaviour::status(503), "answered"),
        (good.clone().fault(Fault::ResetBeforeHeader), "failed"),
        (good.clone().fault(Fault::CloseBeforeHeader), "failed"),
        (good.clone().body_of(100_000).fault(Fault::BreakOffAfter(50_000)), "answered"),
        (good.clone().body_of(1 << 30), "answered"),
        (good.clone().drip("x", 1000, Duration::from_millis(50)), "answered"),
        (good.clone().unread(), "answered"),
        (good.delay(FOR_EVER), "timeout"),
    ] {
        let yaml = MIRRORED.replace("SERVICE", "timeouts: { connect: 1s, first_byte: 2s }");
        let shadow = Origin::script(behaviour.clone()).named("shadow").start().await;
        let mirrored = Mirrored::before(&yaml, shadow).await;
        for http2 in [false, true] {
            assert_eq!(over(http2, mirrored.gateway.get("/")).await.status, 200);
            assert_eq!(over(http2, mirrored.gateway.post("/", "an order")).await.status, 200);
        }
        mirrored.becomes(result, 4).await;
        assert_eq!(mirrored.copies().await, 4.0, "{behaviour:?}");
    }
}

#[tokio::test]
async fn a_mirror_that_refuses_or_speaks_no_http_fails_alone() {
    let nonsense = RawOrigin::answering("nonsense\r\n\r\n").await;
    let gone = Origin::always(200).start().await;
    let refusing = gone.address().to_owned();
    gone.stop().await;
    for address in [nonsense.address(), &refusing] {
        let api = Origin::always(200).named("api").start().await;
        let yaml = MIRRORED.replace(", SERVICE", "").replace(", ROUTE", "").replace(", MIRROR", "");
        let gateway = Gateway::run(Config::new(yaml).origin(&api).value("shadow", address)).await;
        assert_eq!(gateway.get("/").repeat(10).await.with_status(200), 10);
        gateway.counted("mirror_requests_total", &[("result", "failed")], 10.0).await;
    }
}

#[tokio::test]
async fn more_copies_than_there_are_places_for_are_dropped_also_after_a_reload() {
    let mirrored = Mirrored::with("share: 100%", Behaviour::status(200).delay(FOR_EVER)).await;
    assert_eq!(mirrored.gateway.get("/").repeat(300).await.with_status(200), 300);
    let held = async || mirrored.shadow.hits() == 256;
    mirrored.gateway.eventually("the mirror holds as many as there are places", held).await;
    assert_eq!((mirrored.count("dropped").await, mirrored.in_flight().await), (44.0, 256.0));
    mirrored.gateway.change_config(mirrored.config.replace("share: 100%", "body_limit: 1KiB")).await;
    assert_eq!(mirrored.gateway.post("/", "an order").await.status, 200);
    assert_eq!((mirrored.count("dropped").await, mirrored.shadow.hits()), (45.0, 256));
}

#[tokio::test]
async fn a_larger_body_than_is_kept_is_not_copied() {
    for (mirror, limit) in [("share: 100%", 64 << 10), ("body_limit: 1KiB", 1 << 10)] {
        let mirrored = Mirrored::with(mirror, Behaviour::status(200)).await;
        for (round, http2) in [(1, false), (2, true)] {
            let post = |bytes: usize| over(http2, mirrored.gateway.post("/", vec![b'x'; bytes]));
            assert_eq!(post(limit).await.status, 200);
            mirrored.becomes("answered", round).await;
            assert_eq!(mirrored.shadow.last_request().body_bytes, limit as u64);
            assert_eq!(post(limit + 1).await.status, 200);

            let upload = over(http2, mirrored.gateway.request(Method::POST, "/")).upload().await;
            assert!(upload.send(vec![b'x'; limit]).await && upload.send("x").await);
            assert_eq!(upload.finish().await.unwrap().status, 200, "its length was not announced");
            assert_eq!(mirrored.api.last_request().body_bytes, limit as u64 + 1);
            mirrored.becomes("skipped", 2 * round).await;
            assert_eq!(mirrored.copies().await, 3.0 * round as f64);
            assert_eq!(mirrored.shadow.hits(), round);
        }
    }
}

#[tokio::test]
async fn a_request_that_never_comes_to_its_end_is_not_copied() {
    let mirrored = Mirrored::start().await;
    for (round, http2) in [(1, false), (2, true)] {
        let mut upload = over(http2, mirrored.gateway.request(Method::POST, "/")).upload().await;
        assert!(upload.send("half an or").await);
        let arrived = async || mirrored.api.hits() == round;
        mirrored.gateway.eventually("the origin has the half", arrived).await;
        assert_eq!(mirrored.in_flight().await, 1.0);
        upload.abort().await;
        mirrored.becomes("skipped", round).await;
        assert_eq!((mirrored.copies().await, mirrored.shadow.hits()), (round as f64, 0));
    }
}

#[tokio::test]
async fn what_the_gateway_refuses_is_not_copied() {
    for (route, status, skipped) in [
        ("deny: [127.0.0.1]", 403, 0.0),
        ("limits: [none]", 429, 0.0),
        ("body_limit: 4B", 413, 0.0),
        ("body_limit: 4B, timeout: 10s", 413, 1.0),
    ] {
        let limits = "rate_limits: { none: { key: global, rate: 1/h, burst: 1 } }\nroutes:\n  first: { match: { host: shop.example, path: /first }, service: api, limits: [none] }";
        let yaml = MIRRORED.replace("routes:", limits).replace("ROUTE", route);
        let mirrored = Mirrored::before(&yaml, Origin::always(200).named("shadow").start().await).await;
        mirrored.gateway.get("/first").await;
        for http2 in [false, true] {
            let answer = if skipped > 0.0 {
                // The length is not announced: the request is refused when it has begun.
                let request = mirrored.gateway.request(Method::POST, "/");
                let upload = over(http2, request).upload().await;
                upload.send("an order").await;
                upload.finish().await.unwrap()
            } else {
                over(http2, mirrored.gateway.post("/", "an order")).await
            };
            assert_eq!(answer.status, status, "{route}");
        }
        assert_eq!((mirrored.copies().await, mirrored.shadow.hits()), (2.0 * skipped, 0), "{route}");
    }
}

#[tokio::test]
async fn a_websocket_is_not_copied() {
    let mirrored = Mirrored::start().await;
    mirrored.api.set_behaviour(Behaviour::websocket());
    let mut socket = WebSocket::connect(mirrored.gateway.tls(), "/ws", &[]).await.unwrap();
    assert_eq!(socket.echo("hello").await, "hello");
    assert_eq!((mirrored.count("skipped").await, mirrored.shadow.hits()), (1.0, 0));
}

#[tokio::test]
async fn copies_on_their_way_do_not_hold_up_the_end() {
    let mut mirrored = Mirrored::with("share: 100%", Behaviour::status(200).delay(FOR_EVER)).await;
    mirrored.gateway.get("/").repeat(10).await;
    let held = async || mirrored.shadow.hits() == 10;
    mirrored.gateway.eventually("the mirror holds the copies", held).await;
    let begin = Instant::now();
    mirrored.gateway.signal(libc::SIGTERM);
    assert_eq!(mirrored.gateway.wait_exit().await.code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}
