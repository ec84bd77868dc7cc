//! What is remembered when the process ends, however it ends, and when nothing can be remembered.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use http::Method;

use super::{PLAN, SHOP, Shop};
use crate::support::Behaviour;

const STATE: &str = "state/rollouts/api.json";

/// The files about rollouts by name.
fn files(shop: &Shop) -> Vec<String> {
    let entries = fs::read_dir(shop.gateway.place().file("state/rollouts")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Waits until a text stands in the file about `api`.
async fn written(shop: &Shop, text: &str) {
    let file = shop.gateway.place().file(STATE);
    let holds = |file: &PathBuf| fs::read_to_string(file).is_ok_and(|found| found.contains(text));
    shop.until(&format!("{text} is on disk"), async || holds(&file)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_outlives_every_end_of_the_process() {
    let mut shop = Shop::start(&format!("{PLAN}, failover: {{}}")).await;
    shop.roll_back().await;
    written(&shop, "\"rolled_back\"").await;
    shop.canary.set_behaviour(Behaviour::status(200));
    for signal in [libc::SIGTERM, libc::SIGKILL, libc::SIGKILL] {
        shop.gateway.restart(signal).await;
        assert!(shop.is("api-42", "rolled_back").await, "after signal {signal}");
        assert!(shop.refusals().await >= 1.0, "the file still names it");
        shop.canary_stays_out().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_right_after_the_deciding_failure_has_written_it_or_begins_anew() {
    let mut shop = Shop::start(&format!("{PLAN}, failover: {{}}")).await;
    shop.canary.set_behaviour(Behaviour::status(500));
    let traffic = shop.traffic(Method::GET, 0);
    shop.until("it is decided", async || shop.weight("api-42").await == 0.0).await;
    shop.gateway.restart(libc::SIGKILL).await;
    traffic.end().await;
    shop.roll_back().await;
    assert_eq!(files(&shop), ["api.json"], "no half-written file is left");
}

#[tokio::test]
async fn step_clock_and_pause_go_on_and_evidence_does_not() {
    let mut shop = Shop::start(
        "steps: [ { weight: 10%, hold: 10m }, { weight: 50%, hold: 10m }, { weight: 100%, hold: 10m } ]",
    )
    .await;
    shop.order("promote").await;
    shop.order("pause").await;
    shop.gateway.get("/").repeat(20).await;
    let before = shop.gateway.rollout("api").await;
    written(&shop, "\"paused\": true").await;
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        shop.gateway.restart(signal).await;
        let after = shop.gateway.rollout("api").await;
        for field in ["state", "reason", "step", "weight", "since", "next", "canary", "stable"] {
            assert_eq!(after[field], before[field], "{field}: {after}");
        }
        assert_eq!(after["evidence"]["canary"]["attempts"], 0, "{after}");
    }
}

#[tokio::test]
async fn a_weight_set_by_hand_goes_on() {
    let mut shop = Shop::start(PLAN).await;
    let body = r#"{"weight": 37, "expires": "1h"}"#;
    let answer = shop.gateway.admin("PUT", "/v1/rollouts/api/weight");
    let answer = answer.header("content-type", "application/json").body(body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    written(&shop, "\"weight\": 37.0").await;
    shop.gateway.restart(libc::SIGKILL).await;
    assert_eq!(shop.weight("api-42").await, 37.0);
}

#[tokio::test]
async fn a_completed_rollout_stays_completed() {
    let mut shop = Shop::start(PLAN).await;
    shop.order("promote").await;
    shop.order("promote").await;
    shop.becomes("completed").await;
    written(&shop, "completed").await;
    shop.gateway.restart(libc::SIGKILL).await;
    shop.becomes("completed").await;
    shop.gateway.change_config(&shop.config).await;
    assert_eq!(shop.gateway.get("/").repeat(100).await.served_by(&shop.canary), 100);
}

#[tokio::test]
async fn a_torn_file_is_moved_aside_and_the_canary_waits_for_retry() {
    let mut shop = Shop::start(PLAN).await;
    written(&shop, "api-42").await;
    let tear = |place: &crate::support::Place| {
        let text = fs::read_to_string(place.file(STATE)).unwrap();
        fs::write(place.file(STATE), &text[..text.len() / 2]).unwrap();
    };
    shop.gateway.restart_after(libc::SIGKILL, tear).await;
    shop.becomes("rolled_back").await;
    shop.canary_stays_out().await;
    assert!(files(&shop).iter().any(|name| name.starts_with("api.json.unreadable-")), "{:?}", files(&shop));
    assert!(shop.gateway.log().contains("cannot be read"), "it is told");

    shop.gateway.restart(libc::SIGKILL).await;
    shop.canary_stays_out().await;
    shop.order("retry").await;
    shop.until("the canary begins again", async || shop.weight("api-42").await == 10.0).await;
    written(&shop, "retried").await;
    shop.gateway.restart(libc::SIGKILL).await;
    shop.until("the canary has its share", async || shop.weight("api-42").await == 10.0).await;
}

#[tokio::test]
async fn another_name_is_what_a_torn_file_waits_for_too() {
    let mut shop = Shop::start(PLAN).await;
    written(&shop, "api-42").await;
    let tear = |place: &crate::support::Place| fs::write(place.file(STATE), "{").unwrap();
    shop.gateway.restart_after(libc::SIGKILL, tear).await;
    shop.becomes("rolled_back").await;
    shop.edit("canary: api-42", "canary: api-43").await;
    shop.until("api-43 begins", async || shop.weight("api-43").await == 10.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_loud_and_stops_neither_traffic_nor_verdicts() {
    let mut shop = Shop::start(&format!("{PLAN}, failover: {{}}")).await;
    written(&shop, "ramping").await;
    let new = shop.gateway.place().file("state/rollouts/api.json.new");
    symlink("/dev/full", &new).unwrap();
    shop.roll_back().await;
    shop.gateway.counted("state_write_failures_total", &[], 1.0).await;
    shop.until("it is told", async || shop.gateway.log().contains("cannot be written")).await;
    shop.canary_stays_out().await;
    shop.edit("prefix: /other", "prefix: /another").await;
    shop.canary_stays_out().await;

    fs::remove_file(new).unwrap();
    written(&shop, "\"rolled_back\"").await;
    shop.until("that is told as well", async || shop.gateway.log().contains("on disk again")).await;
    shop.gateway.restart(libc::SIGKILL).await;
    shop.canary_stays_out().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_directory_that_cannot_be_made_is_loud_and_stops_nothing() {
    let yaml = format!("state: {{ path: \"{{dir}}/gateway.yaml/state\" }}\n{SHOP}");
    let shop = Shop::start_with(&yaml, &format!("{PLAN}, failover: {{}}")).await;
    shop.until("the canary has traffic", async || shop.weight("api-42").await == 10.0).await;
    assert!(shop.gateway.log().contains("cannot be remembered"), "{}", shop.gateway.log());
    shop.roll_back().await;
    shop.gateway.counted("state_write_failures_total", &[], 1.0).await;
    shop.canary_stays_out().await;
}
