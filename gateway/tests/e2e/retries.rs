//! What is tried again, what never is, and that a dead release is not buried under second tries.

use std::time::Duration;

use http::Method;

use crate::support::{Behaviour, Config, Fault, Gateway, Origin, Traffic};

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// A service whose endpoints `bad` and `good` take turns, with this in `retry`.
struct Two {
    gateway: Gateway,
    bad: Origin,
    good: Origin,
}

impl Two {
    async fn with(retry: &str, bad: Behaviour) -> Self {
        let bad = Origin::script(bad).named("bad").start().await;
        let good = Origin::always(200).named("good").start().await;
        let yaml = format!(
            "services:\n  api:\n    endpoints: [\"{{bad}}\", \"{{good}}\"]\n    balance: round_robin\n    \
             timeouts: {{ first_byte: 300ms }}\n    retry: {{ {retry} }}\n\
             routes: {{ all: {{ service: api }} }}\n"
        );
        Self { gateway: Gateway::run(Config::new(yaml).origin(&bad).origin(&good)).await, bad, good }
    }

    async fn retries(&self, reason: &str) -> f64 {
        let labels = [("service", "api"), ("reason", reason)];
        self.gateway.metrics().await.sum("upstream_retries_total", &labels)
    }
}

#[tokio::test]
async fn a_listed_status_is_tried_at_another_endpoint_for_safe_methods_only() {
    for (listed, status) in [("5xx", 503), ("404", 404)] {
        let two = Two::with(&format!("on: [{listed}], budget: 100%"), Behaviour::status(status)).await;
        let answers = two.gateway.get("/").repeat(10).await;
        assert_eq!(answers.with_status(200), 10, "{listed}: {answers:?}");
        let retried = two.bad.hits();
        assert!(retried > 0 && two.retries("status").await == retried as f64, "{listed}: {retried}");
        let answers = two.gateway.post("/", "once").repeat(10).await;
        assert_eq!(answers.with_status(status), two.bad.hits() - retried, "{listed}: {answers:?}");
        assert!(two.bad.hits() > retried);
    }
}

#[tokio::test]
async fn a_status_that_is_not_listed_or_stays_is_the_answer() {
    let two = Two::with("on: [connect, reset], budget: 100%", Behaviour::status(503)).await;
    let answers = two.gateway.get("/").repeat(10).await;
    assert_eq!((answers.with_status(503), two.retries("status").await), (two.bad.hits(), 0.0), "{answers:?}");

    let two = Two::with("on: [5xx], budget: 100%", Behaviour::status(503).body("of the origin")).await;
    two.good.set_behaviour(Behaviour::status(503).body("of the origin"));
    let answer = two.gateway.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (503, "of the origin"));
    assert_eq!(two.bad.hits() + two.good.hits(), 2, "one more try, and no further one");
}

#[tokio::test]
async fn each_try_has_the_time_to_the_first_byte_for_itself() {
    let two = Two::with("on: [timeout], budget: 100%", Behaviour::status(200).delay(FOR_EVER)).await;
    for http2 in [false, true] {
        let (hits, request) = (two.bad.hits(), two.gateway.get("/"));
        let request = if http2 { request.http2() } else { request };
        for _ in 0..4 {
            assert_eq!(request.clone().await.status, 200, "http2 {http2}");
        }
        assert!(two.bad.hits() > hits, "http2 {http2}");
    }
    assert_eq!(two.retries("timeout").await, two.bad.hits() as f64);
}

#[tokio::test]
async fn an_answer_that_has_begun_is_never_begun_anew() {
    let broken = Behaviour::status(200).body_of(100_000).fault(Fault::BreakOffAfter(50_000));
    let two = Two::with("attempts: 3, on: [connect, timeout, reset, 5xx], budget: 100%", broken).await;
    let mut whole = 0;
    for _ in 0..10 {
        let answer = two.gateway.get("/").await;
        assert_eq!(answer.status, 200);
        whole += usize::from(answer.broken.is_none());
    }
    assert_eq!((two.good.hits(), two.bad.hits()), (whole, 10 - whole));
    assert!(whole < 10 && two.retries("reset").await == 0.0);
}

#[tokio::test]
async fn under_load_a_dead_release_gets_a_fifth_more_than_users_ask() {
    let two = Two::with("attempts: 3, on: [connect, reset, 5xx], budget: 20%", Behaviour::status(503)).await;
    two.good.set_behaviour(Behaviour::status(200).fault(Fault::ResetBeforeHeader));
    let traffic = Traffic::begin(&two.gateway, Method::GET, 200.0, 1);
    let attempts = async || two.bad.hits() + two.good.hits();
    two.gateway.eventually("there is load", async || attempts().await >= 800).await;
    traffic.end().await;
    let requests = two.gateway.metrics().await.sum("http_requests_total", &[("route", "all")]);
    let retries = two.retries("status").await + two.retries("reset").await;
    assert_eq!(attempts().await as f64, requests + retries);
    // Thirty in ten seconds are granted whatever the share.
    let most = requests * 0.2 + 60.0;
    assert!((1.0..=most).contains(&retries), "{retries} further tries of {requests} requests");
}
