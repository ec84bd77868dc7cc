//! What a changed file does to a rollout under way: the table of the manual, row by row.

use super::{PLAN, Shop};
use crate::support::Behaviour;

const THREE: &str =
    "steps: [ { weight: 10%, hold: 10m }, { weight: 50%, hold: 10m }, { weight: 100%, hold: 10m } ]";

/// Some traffic, until all of it is evidence.
async fn gather(shop: &Shop) {
    shop.gateway.get("/").repeat(40).await;
    shop.evidence(shop.canary.hits()).await;
    assert!(shop.canary.hits() > 0);
}

#[tokio::test]
async fn an_edit_of_something_else_changes_nothing() {
    let mut shop = Shop::start(THREE).await;
    shop.order("promote").await;
    gather(&shop).await;
    let before = shop.gateway.rollout("api").await;
    shop.edit("prefix: /other", "prefix: /another").await;
    let after = shop.gateway.rollout("api").await;
    for field in ["state", "step", "weight", "since", "next", "history", "evidence"] {
        assert_eq!(after[field], before[field], "{field}: {after}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolled_back_name_stays_out_whatever_else_the_file_says() {
    let mut shop = Shop::start(&format!("{THREE}, failover: {{}}")).await;
    shop.roll_back().await;
    shop.canary.set_behaviour(Behaviour::status(200));
    let asked = shop.canary.hits();
    for (from, to) in [
        ("canary: api-42", "canary: api-42"),
        ("prefix: /other", "prefix: /another"),
        ("steps: [ { weight: 10%", "steps: [ { weight: 50%"),
        ("hold: 10m }, { weight: 100%, hold: 10m } ]", "hold: 10m, min_requests: 7 } ]"),
        ("    canary: api-42\n", ""),
        ("stable: api-41\n", "stable: api-41\n    canary: api-42\n"),
    ] {
        let refused = shop.refusals().await;
        shop.edit(from, to).await;
        let named = !to.is_empty();
        // The watcher may have read the file as well.
        assert_eq!(shop.refusals().await > refused, named, "`{from}` → `{to}`");
        let answers = shop.gateway.get("/").repeat(200).await;
        assert_eq!(answers.served_by(&shop.stable), 200, "`{from}` → `{to}`: {answers:?}");
    }
    assert_eq!(shop.canary.hits(), asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_name_begins_at_the_first_step_and_the_old_one_stays_out() {
    let mut shop = Shop::start(&format!("{THREE}, failover: {{}}")).await;
    shop.roll_back().await;
    let asked = shop.canary.hits();
    shop.edit("canary: api-42", "canary: api-43").await;
    shop.until("api-43 begins", async || shop.is("api-43", "ramping").await).await;
    assert_eq!((shop.weight("api-43").await, shop.weight("api-42").await), (10.0, 0.0));
    shop.until("api-43 is asked", async || {
        shop.gateway.get("/").repeat(20).await;
        shop.next.hits() > 0
    })
    .await;
    shop.edit("canary: api-43", "canary: api-42").await;
    assert!(shop.is("api-42", "rolled_back").await);
    assert_eq!(shop.gateway.get("/").repeat(200).await.served_by(&shop.stable), 200);
    assert_eq!(shop.canary.hits(), asked);
}

#[tokio::test]
async fn another_name_supersedes_one_under_way() {
    let mut shop = Shop::start(THREE).await;
    shop.order("promote").await;
    assert_eq!(shop.weight("api-42").await, 50.0);
    shop.edit("canary: api-42", "canary: api-43").await;
    shop.until("api-43 begins", async || shop.weight("api-43").await == 10.0).await;
    assert_eq!(shop.weight("api-42").await, 0.0);
    shop.edit("canary: api-43", "canary: api-42").await;
    shop.until("api-42 begins anew", async || shop.weight("api-42").await == 10.0).await;
}

#[tokio::test]
async fn an_edited_plan_goes_on_with_no_more_than_the_canary_had_and_stays_paused() {
    let mut shop = Shop::start(THREE).await;
    shop.order("promote").await;
    shop.order("pause").await;
    gather(&shop).await;
    let edited =
        "steps: [ { weight: 5%, hold: 10m }, { weight: 20%, hold: 10m }, { weight: 60%, hold: 10m } ]";
    shop.edit(THREE, edited).await;
    let rollout = shop.gateway.rollout("api").await;
    assert_eq!((&rollout["weight"], &rollout["step"]), (&20.0.into(), &1.into()), "{rollout}");
    assert_eq!(rollout["evidence"]["canary"]["attempts"], 0, "evidence begins anew: {rollout}");
    assert_eq!(rollout["reason"], "paused", "{rollout}");
}

#[tokio::test]
async fn an_edited_guard_keeps_the_step_and_not_the_evidence() {
    let mut shop = Shop::start(&format!("{THREE}, guard: {{ consecutive_failures: 5 }}")).await;
    shop.order("promote").await;
    gather(&shop).await;
    shop.edit("consecutive_failures: 5", "consecutive_failures: 6").await;
    let rollout = shop.gateway.rollout("api").await;
    assert_eq!((&rollout["weight"], &rollout["step"]), (&50.0.into(), &1.into()), "{rollout}");
    assert_eq!(rollout["evidence"]["canary"]["attempts"], 0, "{rollout}");
}

#[tokio::test]
async fn no_canary_is_no_rollout() {
    let mut shop = Shop::start(PLAN).await;
    shop.edit("    canary: api-42\n", "").await;
    shop.canary_stays_out().await;
    assert_eq!(shop.gateway.rollout("api").await["state"], "idle");
    shop.edit("stable: api-41\n", "stable: api-41\n    canary: api-42\n").await;
    shop.until("api-42 begins anew", async || shop.weight("api-42").await == 10.0).await;
}

#[tokio::test]
async fn the_canary_made_stable_is_completed() {
    let mut shop = Shop::start(PLAN).await;
    shop.config = shop.config.replace("    canary: api-42\n", "");
    shop.edit("stable: api-41", "stable: api-42").await;
    assert_eq!(shop.gateway.get("/").repeat(100).await.served_by(&shop.canary), 100);
    assert_eq!(shop.gateway.rollout("api").await["state"], "completed");
    assert_eq!(shop.gateway.metrics().await.sum("rollbacks_total", &[]), 0.0);
}

#[tokio::test]
async fn a_rolled_back_release_made_stable_is_a_bad_file() {
    let shop = Shop::start(PLAN).await;
    shop.order("abort").await;
    let without = shop.config.replace("    canary: api-42\n", "");
    shop.gateway.write_config(without.replace("stable: api-41", "stable: api-42"));
    let reload = shop.gateway.reload().await;
    assert_eq!(reload.code(), 1, "{reload:?}");
    for word in ["api-42", "rolled back", "retry"] {
        assert!(reload.text().contains(word), "`{word}` in {}", reload.text());
    }
    assert_eq!(shop.gateway.admin("POST", "/v1/reload").await.status, 422);
    shop.canary_stays_out().await;
}
