//! What stable does for requests that the canary failed.

use std::time::Duration;

use http::Method;

use super::Shop;
use crate::support::{Behaviour, Fault};

/// A canary with half of the traffic that nothing ends.
const TOLERANT: &str = "weight: 50%, guard: { error_rate: { max: 99% }, worse_than_stable: 1000x, \
     consecutive_failures: 1000000, max_failed_requests: 1000000 }";

/// Such a canary, and failures that go to stable within this budget.
async fn tolerant(failover: &str) -> Shop {
    Shop::start(&format!("{TOLERANT}, failover: {{ {failover} }}")).await
}

#[tokio::test]
async fn a_get_the_canary_fails_in_whatever_way_is_answered_by_stable() {
    let shop = tolerant("budget: 100%").await;
    for (what, behaviour) in [
        ("status", Behaviour::status(503)),
        ("close", Behaviour::status(200).fault(Fault::CloseBeforeHeader)),
        ("reset", Behaviour::status(200).fault(Fault::ResetBeforeHeader)),
    ] {
        shop.canary.set_behaviour(behaviour);
        let (failed, served) = (shop.canary.hits(), shop.stable.hits());
        let answers = shop.gateway.get("/").repeat(40).await;
        assert_eq!(answers.served_by(&shop.stable), 40, "{what}: {answers:?}");
        assert_eq!(shop.stable.hits() - served, 40, "{what}: each answered by stable once");
        assert!(shop.canary.hits() > failed, "{what}");
    }
    let metrics = shop.gateway.metrics().await;
    let failovers = metrics.sum("failovers_total", &[("service", "api"), ("release", "api-42")]);
    assert_eq!(failovers as usize, shop.canary.hits());
    let logged = async || {
        let lines = shop.gateway.access_log();
        lines.iter().filter(|line| line["termination"] == "failed_over").count() == shop.canary.hits()
    };
    shop.gateway.eventually("the log says so of each", logged).await;
}

#[tokio::test]
async fn a_silent_canary_costs_a_get_its_time_and_no_more() {
    let yaml =
        super::SHOP.replace("    stable: api-41", "    timeouts: { first_byte: 200ms }\n    stable: api-41");
    let shop = Shop::start_with(&yaml, &format!("{TOLERANT}, failover: {{}}")).await;
    shop.until("the canary has traffic", async || shop.weight("api-42").await > 0.0).await;
    shop.canary.set_behaviour(Behaviour::status(200).delay(Duration::from_secs(60)));
    while shop.canary.hits() < 3 {
        let answer = shop.gateway.get("/").await;
        assert_eq!((answer.status.as_u16(), answer.release()), (200, "api-41"));
    }
    assert_eq!(shop.attempts("api-42", "timeout").await, 3.0);
}

#[tokio::test]
async fn a_post_that_was_sent_never_reaches_both_releases() {
    let shop = tolerant("budget: 100%").await;
    let mut asked = 0;
    for (behaviour, status) in [
        (Behaviour::status(503), 503),
        (Behaviour::status(200).fault(Fault::CloseBeforeHeader), 502),
        (Behaviour::status(200).fault(Fault::ResetBeforeHeader), 502),
    ] {
        shop.canary.set_behaviour(behaviour);
        let failed = shop.canary.hits();
        let answers = shop.gateway.post("/", "order").repeat(40).await;
        asked += 40;
        let failed = shop.canary.hits() - failed;
        assert!(failed > 0);
        assert_eq!((answers.with_status(200), answers.with_status(status)), (40 - failed, failed));
        assert_eq!(shop.stable.hits() + shop.canary.hits(), asked, "each order arrived once");
    }
    assert_eq!(shop.gateway.metrics().await.sum("failovers_total", &[]), 0.0);
}

#[tokio::test]
async fn a_post_that_was_not_sent_is_answered_by_stable() {
    let mut shop = tolerant("budget: 100%").await;
    shop.kill_canary().await;
    let answers = shop.gateway.post("/", "order").repeat(40).await;
    assert_eq!(answers.served_by(&shop.stable), 40, "{answers:?}");
    assert_eq!(shop.stable.hits(), 40);
    assert!(shop.stable.requests().iter().all(|request| request.text() == "order"));
    assert!(shop.attempts("api-42", "connect").await > 0.0);
}

#[tokio::test]
async fn the_body_goes_to_stable_as_well_as_long_as_it_is_at_hand() {
    let shop = tolerant("methods: [GET, PUT], budget: 100%").await;
    shop.canary.set_behaviour(Behaviour::status(500));
    let small = vec![b's'; 16 << 10];
    let answers = shop.gateway.request(Method::PUT, "/small").body(small.clone()).repeat(20).await;
    assert_eq!(answers.served_by(&shop.stable), 20, "{answers:?}");
    assert!(shop.stable.requests().iter().all(|request| request.body == small && request.complete));

    let (asked, served) = (shop.canary.hits(), shop.stable.hits());
    let large = vec![b'l'; 1 << 20];
    let answers = shop.gateway.request(Method::PUT, "/large").body(large).repeat(20).await;
    let failed = shop.canary.hits() - asked;
    assert!(failed > 0);
    assert_eq!((answers.with_status(500), answers.with_status(200)), (failed, 20 - failed));
    assert_eq!(shop.stable.hits() - served, 20 - failed, "what is not at hand any more is not sent in part");
}

#[tokio::test]
async fn only_the_canary_is_blamed() {
    let shop = tolerant("budget: 100%").await;
    shop.canary.set_behaviour(Behaviour::status(500));
    shop.gateway.get("/").repeat(60).await;
    let failed = shop.canary.hits() as f64;
    assert_eq!(shop.attempts("api-42", "status_5xx").await, failed);
    assert_eq!(shop.attempts("api-41", "status_5xx").await, 0.0);
    // A success of stable is folded in within 100 ms; what it took over never is.
    let own = 60 - shop.canary.hits();
    let stable = async || shop.gateway.rollout("api").await["evidence"]["stable"]["attempts"].clone();
    shop.until("all of stable's own are evidence", async || stable().await == own).await;
    let evidence = shop.evidence(shop.canary.hits()).await;
    assert_eq!(evidence["canary"]["failures"].as_f64(), Some(failed), "{evidence}");
    assert_eq!(evidence["canary"]["seen"], 0, "no user saw one: {evidence}");
    assert_eq!(evidence["stable"]["failures"], 0, "{evidence}");
    assert_eq!(evidence["stable"]["attempts"], own, "{evidence}");
}

#[tokio::test]
async fn what_stable_fails_in_its_turn_goes_no_further() {
    let shop = tolerant("budget: 100%").await;
    shop.canary.set_behaviour(Behaviour::status(503));
    shop.stable.set_behaviour(Behaviour::status(500));
    let answers = shop.gateway.get("/").repeat(40).await;
    assert_eq!(answers.with_status(500), 40, "{answers:?}");
    assert_eq!(shop.stable.hits(), 40);
}

#[tokio::test]
async fn the_budget_bounds_what_stable_takes_over() {
    let shop = tolerant("budget: 20%").await;
    shop.canary.set_behaviour(Behaviour::status(500));
    let answers = shop.gateway.get("/").repeat(600).await;
    let failovers = shop.gateway.metrics().await.sum("failovers_total", &[]);
    let (failed, seen) = (shop.canary.hits(), answers.with_status(500));
    assert_eq!(failed, seen + failovers as usize);
    // Every window of at most ten seconds has a fifth of its requests, or thirty; a slow machine sees two.
    assert!((30.0..=180.0).contains(&failovers), "{failovers} of {failed} failures were taken over");
    assert!(seen > 0, "{answers:?}");
}

#[tokio::test]
async fn an_answer_that_has_begun_is_never_begun_again() {
    let shop = tolerant("budget: 100%").await;
    shop.canary.set_behaviour(Behaviour::status(200).body_of(100_000).fault(Fault::BreakOffAfter(50_000)));
    let mut broken = 0;
    for _ in 0..20 {
        let answer = shop.gateway.get("/").await;
        broken += usize::from(answer.broken.is_some());
        assert_eq!(answer.broken.is_some(), answer.release() == "api-42", "{:?}", answer.broken);
    }
    assert_eq!((broken, shop.stable.hits()), (shop.canary.hits(), 20 - broken));
    assert_eq!(shop.attempts("api-42", "truncated").await as usize, broken);
}

#[tokio::test]
async fn without_failover_the_failure_is_the_users() {
    let shop = Shop::start(TOLERANT).await;
    shop.canary.set_behaviour(Behaviour::status(503));
    let answers = shop.gateway.get("/").repeat(60).await;
    assert_eq!(answers.with_status(503), shop.canary.hits());
    assert_eq!(shop.stable.hits() + shop.canary.hits(), 60);
}
