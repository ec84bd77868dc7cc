//! How the gateway starts and ends.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use loadtest::load::{Failure, Load, Trust};
use tokio::time::Instant;

use crate::support::{
    Behaviour, Config, Events, Gateway, ONE_ORIGIN, Origin, Place, eventually, one_origin, refused_start,
};

async fn behind(behaviour: Behaviour) -> (Gateway, Origin) {
    let origin = Origin::script(behaviour).named("api").start().await;
    (Gateway::run(one_origin(&origin)).await, origin)
}

#[tokio::test]
async fn an_idle_gateway_ends_at_once() {
    let (mut gateway, _origin) = behind(Behaviour::status(200)).await;
    gateway.get("/").await;
    let request = gateway.get("/");
    let mut kept = request.connect().await.unwrap();
    kept.send(&request).await.unwrap();
    // As browsers do, ahead of a request that may never come.
    let _unused = gateway.raw_tls().await;
    let begin = Instant::now();
    gateway.signal(libc::SIGTERM);
    let status = gateway.wait_exit().await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(
        begin.elapsed() < Duration::from_secs(8),
        "idle connections hold nobody up: {:?}",
        begin.elapsed()
    );
    assert!(kept.is_closed().await);
}

/// A client that went on to use the connection would find it closed.
#[tokio::test]
async fn an_answer_that_begins_while_the_process_stops_is_the_last_on_its_connection() {
    let (mut gateway, origin) = behind(Behaviour::status(200).delay(Duration::from_secs(1))).await;
    let request = gateway.get("/");
    let asked = tokio::spawn(async move { request.await });
    eventually("the origin is asked", async || origin.hits() == 1).await;
    gateway.signal(libc::SIGTERM);
    let answer = asked.await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("connection")), (200, Some("close")));
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}

#[tokio::test]
async fn requests_in_flight_finish_while_new_ones_are_turned_away() {
    let events = Events::new();
    let (mut gateway, _origin) = behind(Behaviour::events(&events)).await;
    let mut streams =
        vec![gateway.get("/").start().await.unwrap(), gateway.get("/").http2().start().await.unwrap()];
    eventually("both streams are open", async || events.send("before") == 2).await;

    gateway.signal(libc::SIGTERM);
    gateway
        .eventually("it is not ready", async || {
            gateway.admin("GET", "/readyz").try_send().await.is_ok_and(|answer| answer.status == 503)
        })
        .await;
    let closed = async || gateway.get("/").connect().await.is_err();
    gateway.eventually("new connections are turned away", closed).await;

    events.send("after");
    for stream in &mut streams {
        let mut text = Vec::new();
        while !text.ends_with(b"after") {
            text.extend(stream.chunk().await.unwrap().expect("the stream goes on"));
        }
    }
    drop(streams);
    assert_eq!(gateway.wait_exit().await.code(), Some(0));
}

#[tokio::test]
async fn the_drain_time_bounds_what_is_in_flight() {
    let events = Events::new();
    let origin = Origin::script(Behaviour::events(&events)).start().await;
    let yaml = format!("runtime: {{ drain: 1s }}\n{ONE_ORIGIN}");
    let mut gateway = Gateway::run(one_origin(&origin).with_yaml(yaml)).await;
    let mut stream = gateway.get("/").start().await.unwrap();
    let begin = Instant::now();
    gateway.signal(libc::SIGTERM);
    gateway.wait_exit().await;
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(10), "{took:?}");
    assert!(stream.chunk().await.is_err(), "what was cut off does not look complete");
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let events = Events::new();
        let (mut gateway, _origin) = behind(Behaviour::events(&events)).await;
        let _stream = gateway.get("/").start().await.unwrap();
        gateway.signal(libc::SIGTERM);
        gateway
            .eventually("it is draining", async || {
                gateway.admin("GET", "/readyz").try_send().await.is_ok_and(|answer| answer.status == 503)
            })
            .await;
        let begin = Instant::now();
        gateway.signal(signal);
        gateway.wait_exit().await;
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_under_load_fails_no_request() {
    for http2 in [false, true] {
        let (mut gateway, origin) = behind(Behaviour::status(200).delay(Duration::from_millis(20))).await;
        let done = Arc::new(AtomicBool::new(false));
        let load = Load {
            connections: if http2 { 2 } else { 8 },
            http2,
            trust: Trust::Authority(gateway.place().file("certs/ca.pem")),
            connect_to: Some(gateway.place().https()),
            ..Load::new("https://shop.example/".parse().unwrap(), 200.0, Duration::from_secs(60))
        };
        let running = {
            let done = Arc::clone(&done);
            tokio::spawn(async move { load.run_until(move || done.load(Ordering::Relaxed)).await.unwrap() })
        };
        eventually("the load is under way", async || origin.hits() > 100).await;
        gateway.signal(libc::SIGTERM);
        assert_eq!(gateway.wait_exit().await.code(), Some(0));
        done.store(true, Ordering::Relaxed);
        let summary = running.await.unwrap();
        let turned_away = summary.errors.get(&Failure::Connect).copied().unwrap_or(0);
        assert_eq!(
            summary.failed(),
            turned_away,
            "only connections that were never taken may fail, http2 {http2}: {summary}"
        );
        assert_eq!(summary.statuses.keys().copied().collect::<Vec<_>>(), [200]);
    }
}

#[tokio::test]
async fn an_address_in_use_ends_the_start_with_one_sentence() {
    let place = Place::new(Config::new(ONE_ORIGIN).value("origin", "127.0.0.1:9"));
    for address in [place.https(), place.admin()] {
        let _taken = TcpListener::bind(&address).unwrap();
        let begin = Instant::now();
        let end = refused_start(&place).await;
        assert_eq!(end.code(), 1, "{end:?}");
        assert!(end.stderr.contains(&address), "{address} is named: {end:?}");
        assert!(!end.text().contains("panicked"), "{end:?}");
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    }
}

#[tokio::test]
async fn a_bad_file_ends_the_start_with_every_error() {
    let yaml = "services:\n  api: { endpoints: [\"127.0.0.1:9\"] }\nroutes:\n  all: { match: { host: shop.example }, service: ap }\n  odd: { match: { prefix: api }, service: api }\n";
    let end = refused_start(&Place::new(yaml)).await;
    assert_eq!(end.code(), 1, "{end:?}");
    for word in ["`ap`", "did you mean", "begin with", "gateway.yaml"] {
        assert!(end.stderr.to_lowercase().contains(word), "`{word}` in {}", end.stderr);
    }
}

#[tokio::test]
async fn a_missing_certificate_ends_the_start() {
    let place = Place::new(Config::new(ONE_ORIGIN).value("origin", "127.0.0.1:9"));
    std::fs::remove_file(place.file("certs/shop.key")).unwrap();
    let end = refused_start(&place).await;
    assert_eq!(end.code(), 1, "{end:?}");
    assert!(end.stderr.contains("shop.key"), "{end:?}");
}

#[tokio::test]
async fn descriptors_and_memory_are_given_back() {
    let (gateway, _origin) = behind(Behaviour::status(200)).await;
    gateway.get("/").repeat(50).await;
    let before = gateway.open_fds();
    for _ in 0..100 {
        gateway.get("/").await;
        gateway.get("/").http2().await;
    }
    gateway.eventually("descriptors are back", async || gateway.open_fds() <= before + 4).await;
}

#[tokio::test]
async fn a_full_disk_under_the_log_stops_no_traffic() {
    let origin = Origin::always(200).start().await;
    let yaml = format!("access_log: {{ path: /dev/full, format: json }}\n{ONE_ORIGIN}");
    let gateway = Gateway::run(one_origin(&origin).with_yaml(yaml)).await;
    let answers = gateway.get("/").repeat(200).await;
    assert_eq!(answers.with_status(200), 200);
    gateway.counted("access_log_dropped_total", &[], 1.0).await;
}
