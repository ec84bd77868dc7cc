//! `max_in_flight`: how many requests are served at a time, who waits, and who is sent away.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use tokio_tungstenite::tungstenite::Error;

use crate::support::request::{Answer, Upload};
use crate::support::websocket::WebSocket;
use crate::support::{Behaviour, Config, Gateway, Origin, own_answer};

/// A route to the service `api` with this limit.
fn route_with(limit: &str, origin: &Origin) -> Config {
    let yaml = format!(
        "services: {{ api: {{ endpoints: [\"{{origin}}\"] }} }}\n\
         routes:\n  \
           all: {{ service: api, max_in_flight: {limit} }}\n  \
           other: {{ match: {{ prefix: /other }}, service: api }}\n"
    );
    Config::new(yaml).value("origin", origin.address())
}

/// Two routes to the service `api` with this limit.
fn service_with(limit: &str, origin: &Origin) -> Config {
    let yaml = format!(
        "services: {{ api: {{ endpoints: [\"{{origin}}\"], max_in_flight: {limit} }} }}\n\
         routes:\n  \
           a: {{ match: {{ prefix: /a }}, service: api }}\n  \
           b: {{ match: {{ prefix: /b }}, service: api }}\n"
    );
    Config::new(yaml).value("origin", origin.address())
}

/// An origin whose answers last as long as the requests.
async fn echo() -> Origin {
    Origin::script(Behaviour::echo_body()).on("/ws", Behaviour::websocket()).start().await
}

/// A request that is served until it is finished; at the origin when this returns.
async fn hold(gateway: &Gateway, origin: &Origin, path: &str) -> Upload {
    let hits = origin.hits();
    let upload = gateway.request(Method::POST, path).upload().await;
    gateway.eventually("the origin is asked", async || origin.hits() > hits).await;
    upload
}

/// Sends a request on a task of its own and waits until so many wait.
async fn queued(gateway: &Gateway, path: &str, waiting: u32) -> tokio::task::JoinHandle<Answer> {
    let request = gateway.get(path);
    let asking = tokio::spawn(async move { request.await });
    let what = format!("{waiting} wait");
    let waits = async || gateway.metrics().await.sum("in_flight_waiting", &[]) >= f64::from(waiting);
    gateway.eventually(&what, waits).await;
    asking
}

async fn status(gateway: &Gateway, path: &str) -> u16 {
    gateway.get(path).await.status.as_u16()
}

async fn decisions(gateway: &Gateway, decision: &str) -> f64 {
    gateway.metrics().await.sum("in_flight_decisions_total", &[("decision", decision)])
}

#[tokio::test]
async fn a_burst_never_has_more_at_the_origin_than_the_limit() {
    let origin = Origin::script(Behaviour::status(200).delay(Duration::from_millis(20))).start().await;
    let config = route_with("{ requests: 3, queue: 100, wait: 25s }", &origin);
    let gateway = Gateway::run(config).await;
    let answers = join_all((0..60).map(|_| gateway.get("/").into_future())).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert_eq!((origin.hits(), origin.most_at_once()), (60, 3));
    let (passed, queued) = (decisions(&gateway, "passed").await, decisions(&gateway, "queued").await);
    assert!(passed >= 3.0 && passed + queued == 60.0, "{passed} passed, {queued} queued");
}

#[tokio::test]
async fn who_finds_the_queue_full_is_sent_away_at_once_and_told_when_to_come_again() {
    let origin = echo().await;
    let gateway = Gateway::run(route_with("{ requests: 1, queue: 1, wait: 25500ms }", &origin)).await;
    let held = hold(&gateway, &origin, "/held").await;
    let waits = queued(&gateway, "/waits", 1).await;
    let refused = gateway.get("/refused").await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, Some("26")));
    assert_eq!(own_answer(&refused)["error"], "overloaded");
    assert_eq!(gateway.logged("/refused").await["termination"], "overloaded");
    assert_eq!(held.finish().await.unwrap().status, 200);
    assert_eq!(waits.await.unwrap().status, 200);
    let labels = |decision| [("route", "all"), ("service", ""), ("decision", decision)];
    let metrics = gateway.metrics().await;
    for decision in ["passed", "queued", "full"] {
        assert_eq!(metrics.sum("in_flight_decisions_total", &labels(decision)), 1.0, "{decision}");
    }
    assert_eq!(metrics.sum("in_flight_waiting", &[]), 0.0);
}

#[tokio::test]
async fn waiting_ends_when_its_time_is_over() {
    let origin = echo().await;
    let gateway = Gateway::run(route_with("{ requests: 1, queue: 9, wait: 100ms }", &origin)).await;
    let held = hold(&gateway, &origin, "/held").await;
    let refused = gateway.get("/").await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, Some("1")));
    assert_eq!((decisions(&gateway, "timed_out").await, origin.hits()), (1.0, 1));
    assert_eq!(held.finish().await.unwrap().status, 200);
    gateway.eventually("the place is free", async || status(&gateway, "/").await == 200).await;
}

#[tokio::test]
async fn the_time_of_the_whole_route_bounds_the_waiting_too() {
    let origin = echo().await;
    let config = service_with("{ requests: 1, wait: 1h }", &origin);
    let config = config.replace("prefix: /a }, service: api", "prefix: /a }, service: api, timeout: 200ms");
    let gateway = Gateway::run(config).await;
    let _held = hold(&gateway, &origin, "/b").await;
    assert_eq!(status(&gateway, "/a").await, 503);
    assert_eq!((decisions(&gateway, "timed_out").await, origin.hits()), (1.0, 1));
}

#[tokio::test]
async fn who_came_first_is_served_first() {
    let origin = echo().await;
    let gateway = Gateway::run(route_with("{ requests: 1, queue: 9, wait: 25s }", &origin)).await;
    let held = hold(&gateway, &origin, "/held").await;
    let mut asking = Vec::new();
    for (path, waiting) in [("/1", 1), ("/2", 2), ("/3", 3), ("/4", 4)] {
        asking.push(queued(&gateway, path, waiting).await);
    }
    held.finish().await.unwrap();
    for answer in join_all(asking).await {
        assert_eq!(answer.unwrap().status, 200);
    }
    let order: Vec<String> = origin.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(order, ["/held", "/1", "/2", "/3", "/4"]);
}

#[tokio::test]
async fn other_routes_go_on() {
    let origin = echo().await;
    let gateway = Gateway::run(route_with("{ requests: 1, queue: 0 }", &origin)).await;
    let _held = hold(&gateway, &origin, "/held").await;
    assert_eq!((status(&gateway, "/").await, status(&gateway, "/other").await), (503, 200));
}

#[tokio::test]
async fn a_service_counts_the_requests_of_all_its_routes() {
    let origin = echo().await;
    let gateway = Gateway::run(service_with("{ requests: 2, queue: 0 }", &origin)).await;
    let a = hold(&gateway, &origin, "/a").await;
    let _b = hold(&gateway, &origin, "/b").await;
    assert_eq!((status(&gateway, "/a").await, status(&gateway, "/b").await), (503, 503));
    a.finish().await.unwrap();
    gateway.eventually("a place is free for either", async || status(&gateway, "/b").await == 200).await;
    let labels = [("route", ""), ("service", "api"), ("decision", "full")];
    assert!(gateway.metrics().await.sum("in_flight_decisions_total", &labels) >= 2.0);
}

#[tokio::test]
async fn each_protocol_is_counted_and_counts() {
    let origin = echo().await;
    let gateway = Gateway::run(route_with("{ requests: 1, queue: 0 }", &origin)).await;
    let all_are_refused = async |by: &str| {
        assert_eq!(status(&gateway, "/").await, 503, "h1 while {by} is served");
        assert_eq!(gateway.get("/").http2().await.status, 503, "h2 while {by} is served");
        match WebSocket::connect(gateway.tls(), "/ws", &[]).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status(), 503, "websocket while {by} is served"),
            other => panic!("not refused while {by} is served: {:?}", other.map(|_| "open")),
        }
    };
    let is_free = async || status(&gateway, "/").await == 200;

    let h1 = hold(&gateway, &origin, "/h1").await;
    all_are_refused("h1").await;
    h1.finish().await.unwrap();
    gateway.eventually("h1 has left", is_free).await;

    let hits = origin.hits();
    let h2 = gateway.request(Method::POST, "/h2").http2().upload().await;
    gateway.eventually("the origin is asked", async || origin.hits() > hits).await;
    all_are_refused("h2").await;
    h2.finish().await.unwrap();
    gateway.eventually("h2 has left", is_free).await;

    gateway.eventually("the place is free again", async || open_websocket(&gateway).await).await;
}

/// Opens a WebSocket if there is a place for it, shows that it takes the place while it is open, and closes it.
async fn open_websocket(gateway: &Gateway) -> bool {
    let Ok(mut socket) = WebSocket::connect(gateway.tls(), "/ws", &[]).await else { return false };
    assert_eq!(socket.echo("hello").await, "hello");
    assert_eq!(status(gateway, "/").await, 503, "while a WebSocket is open");
    socket.close().await;
    gateway.eventually("the WebSocket has left", async || status(gateway, "/").await == 200).await;
    true
}

#[tokio::test]
async fn a_client_that_hangs_up_gives_its_place_back() {
    let origin = echo().await;
    let gateway = Gateway::run(route_with("{ requests: 1, queue: 9, wait: 25s }", &origin)).await;
    let mut held = hold(&gateway, &origin, "/held").await;
    let waits = queued(&gateway, "/waits", 1).await;
    held.abort().await;
    assert_eq!(waits.await.unwrap().status, 200);
}

#[tokio::test]
async fn a_reload_keeps_count_of_those_who_are_served() {
    let origin = echo().await;
    let config = route_with("{ requests: 3, queue: 0 }", &origin);
    let gateway = Gateway::run(&config).await;
    let first = hold(&gateway, &origin, "/1").await;
    let _second = hold(&gateway, &origin, "/2").await;
    gateway.change_config(config.replace("requests: 3", "requests: 1")).await;
    assert_eq!(status(&gateway, "/").await, 503, "two are served, and one may be");
    first.finish().await.unwrap();
    assert_eq!(status(&gateway, "/").await, 503, "one is served, and one may be");
    gateway.change_config(config.replace("requests: 3", "requests: 2")).await;
    gateway.eventually("one more may be", async || status(&gateway, "/").await == 200).await;
    gateway.change_config(config.replace("{ requests: 3, queue: 0 }", "1, timeout: 9m")).await;
    let waits = queued(&gateway, "/", 1).await;
    gateway.change_config(config.replace("requests: 3", "requests: 2")).await;
    assert_eq!(waits.await.unwrap().status, 200, "who waits comes in when more may");
}

#[tokio::test]
async fn who_is_refused_for_something_else_takes_no_place_and_waits_for_none() {
    let origin = echo().await;
    let config = route_with("{ requests: 1, wait: 25s }, limits: [few], body_limit: 1KiB", &origin);
    let limits = "rate_limits: { few: { key: client_ip, rate: 2/h, burst: 2 } }\n";
    let config = config.replace("services:", &format!("{limits}services:"));
    let gateway = Gateway::run(config).await;
    let _held = hold(&gateway, &origin, "/held").await;
    assert_eq!(gateway.post("/", vec![0; 2048]).await.status, 413);
    assert_eq!(status(&gateway, "/").await, 429);
    let asked = gateway.metrics().await.sum("in_flight_decisions_total", &[]);
    assert_eq!(asked, 1.0);
}

/// A canary with half of the traffic, and one request at a time.
async fn with_canary(canary: Behaviour, rollout: &str) -> (Gateway, Origin, Origin) {
    let stable = Origin::script(Behaviour::echo_body()).named("api-41").start().await;
    let canary = Origin::script(canary).named("api-42").start().await;
    let yaml = format!(
        "services:\n  api:\n    \
           releases: {{ api-41: {{ endpoints: [\"{{api-41}}\"] }}, api-42: {{ endpoints: [\"{{api-42}}\"] }} }}\n    \
           stable: api-41\n    canary: api-42\n    \
           rollout: {{ {rollout} }}\n    \
           max_in_flight: {{ requests: 1, queue: 0 }}\n\
         routes: {{ all: {{ service: api }} }}\n"
    );
    let gateway = Gateway::run(Config::new(yaml).origin(&stable).origin(&canary)).await;
    gateway.eventually("the canary has traffic", async || weight(&gateway).await == 50.0).await;
    (gateway, stable, canary)
}

async fn weight(gateway: &Gateway) -> f64 {
    gateway.metrics().await.sum("split_weight", &[("release", "api-42")])
}

#[tokio::test]
async fn a_request_that_fails_over_is_one_request() {
    let rollout = "weight: 50%, failover: { budget: 100% }, guard: { error_rate: { max: 99% }, \
         worse_than_stable: 1000x, consecutive_failures: 1000000, max_failed_requests: 1000000 }";
    let (gateway, stable, canary) = with_canary(Behaviour::status(503), rollout).await;
    let answers = gateway.get("/").repeat(40).await;
    assert_eq!(answers.served_by(&stable), 40, "{answers:?}");
    assert!(canary.hits() > 0);
    assert_eq!(decisions(&gateway, "passed").await, 40.0);
}

#[tokio::test]
async fn who_is_refused_says_nothing_about_the_canary() {
    let (gateway, stable, canary) = with_canary(Behaviour::echo_body(), "weight: 50%").await;
    let held = gateway.request(Method::POST, "/held").upload().await;
    gateway.eventually("one is served", async || stable.hits() + canary.hits() == 1).await;
    let answers = gateway.get("/").repeat(100).await;
    assert_eq!(answers.with_status(503), 100);
    held.finish().await.unwrap();
    assert_eq!(stable.hits() + canary.hits(), 1);
    let evidence = &gateway.rollout("api").await["evidence"]["canary"];
    assert_eq!(evidence["failures"].as_u64().unwrap(), 0, "{evidence}");
    assert_eq!(weight(&gateway).await, 50.0);
}

#[tokio::test]
async fn explain_names_the_limits_of_route_and_service() {
    let origin = echo().await;
    let config = route_with("{ requests: 7, queue: 0 }", &origin);
    let config = config.replace("[\"{origin}\"]", "[\"{origin}\"], max_in_flight: 20");
    let gateway = Gateway::run(config).await;
    let explained = gateway.command(&["explain", "https://shop.example/"]).await.stdout;
    for line in [
        "7 requests at a time, else 503",
        "over all routes to api, 20 requests at a time, 20 wait up to 1s, else 503",
    ] {
        assert!(explained.contains(line), "{explained}");
    }
}
