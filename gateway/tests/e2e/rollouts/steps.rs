//! How a canary climbs, what it waits for, and fixed shares.

use std::collections::HashMap;

use http::Method;

use super::{PLAN, Shop};
use crate::support::traffic::IN_FLIGHT;
use crate::support::{Behaviour, Config, Gateway, Origin, Traffic, eventually};

const THREE: &str =
    "steps: [ { weight: 10%, hold: 10m }, { weight: 50%, hold: 10m }, { weight: 100%, hold: 10m } ]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_user_sees_both_releases_within_a_step_and_nobody_goes_back() {
    let shop = Shop::start(&format!("{THREE}, sticky: {{ header: x-user-id }}")).await;
    let mut on_canary = vec![false; 1000];
    for percent in [10.0, 50.0, 100.0] {
        assert_eq!(shop.weight("api-42").await, percent);
        let releases = releases_of(&shop, on_canary.len()).await;
        assert_eq!(releases_of(&shop, on_canary.len()).await, releases, "the same step, the same releases");
        for (user, (was, is)) in on_canary.iter().zip(&releases).enumerate() {
            assert!(*is || !*was, "user {user} went back to stable at {percent} %");
        }
        let share = releases.iter().filter(|is| **is).count() as f64 / 10.0;
        assert!((share - percent).abs() <= 8.0, "{share} % of the users at {percent} %");
        on_canary = releases;
        if percent < 100.0 {
            shop.order("promote").await;
        }
    }
    assert!(on_canary.iter().all(|is| *is));
}

/// Whether each user is on the canary.
async fn releases_of(shop: &Shop, users: usize) -> Vec<bool> {
    let mut client = shop.gateway.get("/").connect().await.unwrap();
    let mut releases = Vec::new();
    for user in 0..users {
        let request = shop.gateway.get("/").header("x-user-id", &format!("user-{user}"));
        if client.is_closed().await {
            client = request.connect().await.unwrap();
        }
        let answer = client.send(&request).await.unwrap();
        assert_eq!(answer.status, 200);
        releases.push(answer.release() == "api-42");
    }
    releases
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_canary_climbs_by_itself_until_it_has_everything() {
    let plan = "steps: [ { weight: 20%, hold: 500ms, min_requests: 50 }, { weight: 60%, hold: 500ms }, \
                { weight: 100%, hold: 500ms } ]";
    let shop = Shop::start(plan).await;
    let traffic = shop.traffic(Method::GET, 0);
    shop.becomes("completed").await;
    let asked = shop.stable.hits();
    let mark = shop.canary.hits();
    shop.until("the canary serves", async || shop.canary.hits() >= mark + 300).await;
    assert!(shop.stable.hits() <= asked + IN_FLIGHT, "stable has nothing any more");
    let summary = traffic.end().await;
    assert_eq!(summary.failed(), 0, "{summary}");
    let rollout = shop.gateway.rollout("api").await;
    let causes: Vec<_> = rollout["history"].as_array().unwrap().iter().map(|change| &change["to"]).collect();
    assert!(causes.len() >= 4, "every step is remembered: {rollout}");
    assert_eq!(shop.weight("api-42").await, 100.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guard_is_armed_at_a_gate() {
    let plan = "steps: [ { weight: 20%, hold: 300ms, gate: manual }, { weight: 100%, hold: 10m } ]";
    let shop = Shop::start(&format!("{plan}, failover: {{}}")).await;
    let traffic = shop.traffic(Method::GET, 0);
    shop.until("it waits at the gate", async || shop.gateway.rollout("api").await["reason"] == "gate").await;
    assert_eq!(shop.weight("api-42").await, 20.0);
    shop.canary.set_behaviour(Behaviour::status(500));
    shop.becomes("rolled_back").await;
    let summary = traffic.end().await;
    assert_eq!(summary.failed(), 0, "{summary}");
    let failed = shop.attempts("api-42", "status_5xx").await as usize;
    assert!((5..=7 + IN_FLIGHT).contains(&failed), "{failed} attempts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_opens_when_a_person_says_so() {
    let plan = "steps: [ { weight: 20%, hold: 300ms, gate: manual }, { weight: 100%, hold: 10m } ]";
    let shop = Shop::start(plan).await;
    let traffic = shop.traffic(Method::GET, 0);
    shop.until("it waits at the gate", async || shop.gateway.rollout("api").await["reason"] == "gate").await;
    shop.order("promote").await;
    shop.becomes("verifying").await;
    traffic.end().await;
    assert_eq!(shop.weight("api-42").await, 100.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guard_is_armed_while_paused() {
    let shop = Shop::start(&format!("{PLAN}, failover: {{}}")).await;
    shop.order("pause").await;
    assert!(shop.is("api-42", "held").await);
    shop.roll_back().await;
    shop.canary_stays_out().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incident_of_both_is_waited_out() {
    let shop = Shop::start(&format!("{PLAN}, failover: {{}}")).await;
    let traffic = shop.traffic(Method::GET, 0);
    shop.until("both are busy", async || shop.canary.hits() >= 20).await;
    for origin in [&shop.stable, &shop.canary] {
        origin.set_behaviour(Behaviour::status(200).mixed(0.3, 500));
    }
    shop.until("it waits for stable", async || {
        shop.gateway.rollout("api").await["reason"] == "baseline_incident"
    })
    .await;
    let mark = shop.canary.hits();
    shop.until("it goes on like that", async || shop.canary.hits() >= mark + 100).await;
    traffic.end().await;
    assert!(shop.is("api-42", "held").await);
    assert_eq!(shop.weight("api-42").await, 10.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fixed_share_is_guarded_and_never_grows() {
    let shop = Shop::start("weight: 20%, failover: {}").await;
    shop.gateway.get("/").repeat(500).await;
    assert_eq!(shop.weight("api-42").await, 20.0);
    shop.roll_back().await;
    shop.canary_stays_out().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_part_of_a_split_is_guarded_by_itself() {
    let yaml = r#"
services:
  api:
    releases: { a: { endpoints: ["{a}"] }, b: { endpoints: ["{b}"] }, c: { endpoints: ["{c}"] } }
    stable: a
    split: { a: 60, b: 20, c: 20 }
    rollout: { failover: {} }
routes:
  all: { match: { host: shop.example }, service: api }
"#;
    let mut origins = HashMap::new();
    for name in ["a", "b", "c"] {
        origins.insert(name, Origin::always(200).named(name).start().await);
    }
    let config = origins.values().fold(Config::new(yaml), |config, origin| config.origin(origin));
    let gateway = Gateway::run(&config).await;
    let weights = async || {
        let metrics = gateway.metrics().await;
        ["a", "b", "c"].map(|name| metrics.sum("split_weight", &[("service", "api"), ("release", name)]))
    };
    eventually("all have their shares", async || weights().await == [60.0, 20.0, 20.0]).await;
    let traffic = Traffic::begin(&gateway, Method::GET, 500.0, 0);
    for (bad, then) in [("c", [80.0, 20.0, 0.0]), ("b", [100.0, 0.0, 0.0])] {
        origins[bad].set_behaviour(Behaviour::status(500));
        eventually(&format!("{bad} is out"), async || weights().await == then).await;
        assert!(origins[bad].hits() > 0);
    }
    let summary = traffic.end().await;
    assert_eq!(summary.failed(), 0, "{summary}");
    let asked = origins["b"].hits() + origins["c"].hits();
    let answers = gateway.get("/").repeat(300).await;
    assert_eq!((answers.served_by(&origins["a"]), origins["b"].hits() + origins["c"].hits()), (300, asked));
    gateway.change_config(&config).await;
    assert_eq!(weights().await, [100.0, 0.0, 0.0], "across a reload");
}
