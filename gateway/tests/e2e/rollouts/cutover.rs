//! Blue and green: `stable` names another release.

use http::Method;

use super::{SHOP, Shop};
use crate::support::traffic::IN_FLIGHT;
use crate::support::{Behaviour, Traffic};

/// `api-41` is blue and has everything.
async fn blue(rollout: &str) -> Shop {
    Shop::start_with(&SHOP.replace("    canary: api-42\n", ""), rollout).await
}

/// `api-42` is green: the file makes it stable.
async fn turn_green(shop: &mut Shop) {
    shop.edit("stable: api-41", "stable: api-42").await;
}

const WATCHED: &str = "steps: [ { weight: 100%, hold: 10m } ]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_switch_fails_no_request_and_leaves_nothing_on_blue() {
    let mut shop = blue(WATCHED).await;
    let traffic = Traffic::begin(&shop.gateway, Method::GET, 1000.0, 0);
    shop.until("blue is busy", async || shop.stable.hits() >= 500).await;
    turn_green(&mut shop).await;
    let mark = shop.canary.hits();
    shop.until("what was under way has ended", async || shop.canary.hits() >= mark + 100).await;
    let on_blue = shop.stable.hits();
    shop.until("green is busy", async || shop.canary.hits() >= mark + 1500).await;
    let summary = traffic.end().await;
    assert_eq!(summary.failed(), 0, "{summary}");
    assert_eq!(shop.stable.hits(), on_blue, "blue was asked after the switch");
    assert!(shop.is("api-42", "verifying").await);
    assert_eq!(shop.weight("api-42").await, 100.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn green_that_turns_bad_while_it_is_watched_is_switched_back_for_good() {
    for (method, failover) in [(Method::GET, ", failover: {}"), (Method::POST, "")] {
        let mut shop = blue(&format!("{WATCHED}{failover}")).await;
        turn_green(&mut shop).await;
        let traffic = shop.traffic(method.clone(), 0);
        shop.until("green is busy", async || shop.canary.hits() >= 200).await;
        shop.canary.set_behaviour(Behaviour::status(500));
        shop.becomes("rolled_back").await;
        let summary = traffic.end().await;
        let failed = shop.attempts("api-42", "status_5xx").await as usize;
        assert!((5..=5 + IN_FLIGHT).contains(&failed), "{method}: {failed} attempts");
        let seen = if method == Method::GET { 0 } else { failed };
        assert_eq!(summary.failed() as usize, seen, "{method}: {summary}");

        shop.canary_stays_out().await;
        let refused = shop.refusals().await;
        shop.gateway.change_config(&shop.config).await;
        assert!(shop.refusals().await > refused, "the file still wants green");
        shop.canary_stays_out().await;
    }
}

#[tokio::test]
async fn blue_again_in_the_file_is_blue_at_once_and_green_may_come_back() {
    let mut shop = blue(WATCHED).await;
    turn_green(&mut shop).await;
    assert_eq!(shop.gateway.get("/").await.release(), "api-42");
    shop.edit("stable: api-42", "stable: api-41").await;
    shop.canary_stays_out().await;
    turn_green(&mut shop).await;
    assert_eq!(shop.gateway.get("/").repeat(50).await.served_by(&shop.canary), 50);
    assert_eq!(shop.refusals().await, 0.0);
}

#[tokio::test]
async fn without_blue_in_the_file_there_is_no_way_back_and_nothing_is_watched() {
    let mut shop = blue(WATCHED).await;
    shop.config = shop.config.replace("      api-41: { endpoints: [\"{api-41}\"] }\n", "");
    turn_green(&mut shop).await;
    shop.canary.set_behaviour(Behaviour::status(500));
    let answers = shop.gateway.get("/").repeat(50).await;
    assert_eq!(answers.served_by(&shop.canary), 50, "{answers:?}");
    assert_eq!(shop.gateway.metrics().await.sum("rollbacks_total", &[("service", "api")]), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_named_with_the_switch_begins_when_green_has_been_watched() {
    let mut shop = blue("steps: [ { weight: 10%, hold: 10m }, { weight: 100%, hold: 1s } ]").await;
    shop.edit("stable: api-41", "stable: api-42\n    canary: api-43").await;
    assert_eq!(shop.gateway.get("/").repeat(50).await.served_by(&shop.canary), 50);
    assert_eq!(shop.weight("api-43").await, 0.0);
    let traffic = shop.traffic(Method::GET, 0);
    shop.until("api-43 begins", async || shop.weight("api-43").await == 10.0).await;
    shop.until("api-43 is asked", async || shop.next.hits() > 0).await;
    let summary = traffic.end().await;
    assert_eq!((summary.failed(), shop.stable.hits()), (0, 0), "{summary}");
}
