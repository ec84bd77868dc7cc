//! What ends a rollout, how soon, and what does not.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Method;

use super::{PLAN, RATE, SHOP, Shop};
use crate::support::traffic::IN_FLIGHT;
use crate::support::{Behaviour, Traffic};

/// The canary may fail one request in a hundred.
const STRICT: &str = "guard: { error_rate: { max: 1% } }";

/// All traffic on the canary, for as long as a test takes.
const EVERYTHING: &str = "steps: [ { weight: 100%, hold: 10m } ]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_fails_everything_is_out_within_a_second_and_users_see_nothing() {
    let sticky = "sticky: { cookie: gw_id, ttl: 30d }";
    let shop = Shop::start(&format!("{PLAN}, {sticky}, failover: {{}}, {STRICT}")).await;
    let mut users = Vec::new();
    while users.len() < 10 {
        let answer = shop.gateway.get("/").await;
        if answer.release() == "api-42" {
            let cookie = answer.header("set-cookie").expect("a new user gets a cookie");
            users.push(cookie.split(';').next().unwrap().to_owned());
        }
    }
    let healthy = shop.canary.hits();
    shop.canary.set_behaviour(Behaviour::status(500));
    let traffic = shop.traffic(Method::GET, 100);
    shop.becomes("rolled_back").await;
    let summary = traffic.end().await;
    let failed = shop.canary.hits() - healthy;
    assert!((5..=5 + IN_FLIGHT).contains(&failed), "{failed} attempts on a canary that fails them all");
    assert_eq!(summary.failed(), 0, "{summary}");
    assert_eq!(shop.weight("api-42").await, 0.0);

    shop.canary_stays_out().await;
    for cookie in users {
        let answers = shop.gateway.get("/").header("cookie", &cookie).repeat(10).await;
        assert_eq!(answers.served_by(&shop.stable), 10, "a user of the canary: {answers:?}");
    }
    assert_eq!(shop.canary.hits(), healthy + failed);
    let passed = requests_between_the_failures(&shop).await;
    assert!(passed <= RATE as usize, "{passed} requests passed until the rollback: more than a second's");
}

/// How many requests ended between the first and the last that the canary failed.
async fn requests_between_the_failures(shop: &Shop) -> usize {
    shop.gateway.get("/last").await;
    shop.gateway.logged("/last").await;
    let log = shop.gateway.access_log();
    let is_failed =
        |line: &&serde_json::Value| line["attempts"].as_u64().is_some_and(|attempts| attempts > 1);
    let failed: Vec<usize> =
        log.iter().enumerate().filter(|(_, line)| is_failed(line)).map(|(at, _)| at).collect();
    failed.last().expect("something failed") - failed[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_what_cannot_be_sent_twice_users_see_five_failures() {
    let shop = Shop::start(&format!("{PLAN}, failover: {{}}, {STRICT}")).await;
    shop.canary.set_behaviour(Behaviour::status(500));
    let traffic = shop.traffic(Method::POST, 0);
    shop.becomes("rolled_back").await;
    let summary = traffic.end().await;
    let failed = shop.canary.hits();
    assert!((5..=5 + IN_FLIGHT).contains(&failed), "{failed} attempts on a canary that fails them all");
    assert_eq!(summary.failed() as usize, failed, "{summary}");
    assert_eq!(shop.stable.hits() + failed, summary.requests as usize, "no order reached both releases");
    shop.canary_stays_out().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_canary_costs_nobody_anything_whatever_the_method() {
    for method in [Method::GET, Method::POST] {
        let mut shop = Shop::start(&format!("{PLAN}, failover: {{}}, {STRICT}")).await;
        shop.kill_canary().await;
        let traffic = shop.traffic(method.clone(), 0);
        shop.becomes("rolled_back").await;
        let summary = traffic.end().await;
        assert_eq!(summary.failed(), 0, "{method}: {summary}");
        let refused = shop.attempts("api-42", "connect").await;
        assert!((5.0..=5.0 + IN_FLIGHT as f64).contains(&refused), "{method}: {refused} attempts");
        shop.canary_stays_out().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_killed_under_load_fails_at_most_what_was_under_way() {
    for (method, most) in [(Method::GET, 0), (Method::POST, IN_FLIGHT)] {
        let mut shop = Shop::start(&format!("{PLAN}, failover: {{}}, {STRICT}")).await;
        let traffic = shop.traffic(method.clone(), 0);
        shop.until("the canary is busy", async || shop.canary.hits() >= 20).await;
        shop.kill_canary().await;
        shop.becomes("rolled_back").await;
        let summary = traffic.end().await;
        assert!(summary.failed() as usize <= most, "{method}: {summary}");
        shop.canary_stays_out().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fewer_fail_the_longer_it_takes_and_never_too_long() {
    for (share, status, most) in [(0.5, 503, 40), (0.1, 500, 200)] {
        let shop = Shop::start(&format!("{PLAN}, failover: {{}}, {STRICT}")).await;
        shop.canary.set_behaviour(Behaviour::status(200).mixed(share, status));
        let traffic = shop.traffic(Method::GET, 0);
        shop.becomes("rolled_back").await;
        let summary = traffic.end().await;
        let attempts = shop.canary.hits();
        assert!(attempts <= most + IN_FLIGHT, "{attempts} attempts with {share} failing");
        assert_eq!(summary.failed(), 0, "{summary}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_whose_answers_are_late_is_out_within_twenty() {
    let guard = "guard: { latency: { quantile: 95%, max: 400ms } }";
    let shop = Shop::start(&format!("{PLAN}, {guard}")).await;
    shop.canary.set_behaviour(Behaviour::status(200).delay(Duration::from_millis(600)));
    let traffic = Traffic::begin(&shop.gateway, Method::GET, 100.0, 0);
    shop.becomes("rolled_back").await;
    let summary = traffic.end().await;
    let attempts = shop.canary.hits();
    assert!(attempts <= 20 + IN_FLIGHT, "{attempts} attempts on a canary that is late");
    assert_eq!(summary.failed(), 0, "{summary}");
    let reason = [("service", "api"), ("reason", "latency")];
    assert_eq!(shop.gateway.metrics().await.sum("rollbacks_total", &reason), 1.0);
}

#[tokio::test]
async fn two_scattered_failures_of_twenty_neither_end_it_nor_let_it_go_on() {
    let plan = "steps: [ { weight: 50%, hold: 2s, min_requests: 20 }, { weight: 100%, hold: 10m } ]";
    let shop = Shop::start(plan).await;
    shop.canary.set_behaviour(Behaviour::status(200).failing_every(10, 500));
    while shop.canary.hits() < 20 {
        shop.gateway.get("/").await;
    }
    shop.becomes("held").await;
    let ends = shop.gateway.rollout("api").await["next"].as_f64().expect("the step has an end");
    shop.until("the step's time is over", async || seconds() > ends + 0.5).await;
    let rollout = shop.gateway.rollout("api").await;
    assert_eq!((&rollout["reason"], &rollout["weight"]), (&"warning".into(), &50.0.into()), "{rollout}");
    let seen = &rollout["evidence"]["canary"];
    assert_eq!((&seen["attempts"], &seen["failures"]), (&20.into(), &2.into()), "{rollout}");
}

/// The time since 1970.
fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[tokio::test]
async fn without_traffic_it_waits_and_every_number_is_one() {
    let plan = "steps: [ { weight: 10%, hold: 300ms }, { weight: 100%, hold: 10m } ]";
    let shop = Shop::start(&format!("{plan}, guard: {{ latency: {{ quantile: 95%, max: 1s }} }}")).await;
    shop.becomes("held").await;
    assert_eq!(shop.weight("api-42").await, 10.0);
    let rollout = shop.gateway.admin("GET", "/v1/rollouts/api").await;
    assert_eq!(rollout.json()["reason"], "no_data");
    let tests = rollout.json()["evidence"]["tests"].clone();
    assert!(numbers(&tests).iter().all(|value| value.is_number()), "{tests}");
    for text in [rollout.text(), shop.gateway.admin("GET", "/metrics").await.text()] {
        assert!(!text.contains("NaN") && !text.contains("inf\""), "{text}");
    }
}

/// Every leaf of a value.
fn numbers(value: &serde_json::Value) -> Vec<&serde_json::Value> {
    match value {
        serde_json::Value::Object(fields) => fields.values().flat_map(numbers).collect(),
        leaf => vec![leaf],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_blame_the_client_are_no_failures() {
    for status in [404, 429] {
        let shop = Shop::start(&format!("{EVERYTHING}, {STRICT}")).await;
        shop.canary.set_behaviour(Behaviour::status(status));
        let answers = shop.gateway.get("/").repeat(500).await;
        assert_eq!((answers.with_status(status), shop.canary.hits()), (500, 500));
        assert!(shop.is("api-42", "verifying").await, "{status}");
        let evidence = shop.evidence(500).await;
        assert_eq!(evidence["canary"]["failures"], 0, "{status}: {evidence}");
    }
}

#[tokio::test]
async fn clients_that_hang_up_blame_nobody() {
    let shop = Shop::start(&format!("{EVERYTHING}, {STRICT}")).await;
    shop.canary.set_behaviour(Behaviour::status(200).delay(Duration::from_secs(60)));
    for asked in 1..=30 {
        let mut client = shop.gateway.raw_tls().await;
        client.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
        shop.until("the canary is asked", async || shop.canary.hits() == asked).await;
    }
    let aborts = [("release", "api-42"), ("outcome", "client_abort")];
    shop.gateway.counted("upstream_attempts_total", &aborts, 30.0).await;
    assert!(shop.is("api-42", "verifying").await);
}

#[tokio::test]
async fn what_the_gateway_refuses_itself_is_not_held_against_the_canary() {
    let yaml = SHOP.replace("service: api }\n", "service: api, body_limit: 1KiB }\n");
    let shop = Shop::start_with(&yaml, &format!("{EVERYTHING}, {STRICT}")).await;
    shop.becomes("verifying").await;
    for _ in 0..30 {
        let upload = shop.gateway.post("/", "").upload().await;
        upload.send(vec![b'x'; 4096]).await;
        let answer = upload.finish().await.unwrap();
        assert_eq!(answer.status, 413, "{answer:?}");
        assert_eq!(shop.gateway.post("/", vec![b'x'; 4096]).await.status, 413);
    }
    assert!(shop.is("api-42", "verifying").await);
    let evidence = shop.gateway.rollout("api").await["evidence"]["canary"].clone();
    assert_eq!(evidence["failures"], 0, "{evidence}");
}
