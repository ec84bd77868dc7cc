//! What people may do, by the command line and by the admin API.

use serde_json::{Value, json};

use super::{PLAN, Shop};
use crate::support::gateway::Finished;

/// `gateway rollout …`.
async fn rollout(shop: &Shop, arguments: &[&str]) -> Finished {
    shop.gateway.command(&[&["rollout"], arguments].concat()).await
}

/// A command that must work.
async fn takes(shop: &Shop, arguments: &[&str]) {
    let finished = rollout(shop, arguments).await;
    assert_eq!(finished.code(), 0, "{arguments:?}: {finished:?}");
}

/// A call of the admin API with a body.
async fn put(shop: &Shop, path: &str, body: Value) -> crate::support::request::Answer {
    shop.gateway.admin("PUT", path).header("content-type", "application/json").body(body.to_string()).await
}

#[tokio::test]
async fn every_command_does_what_it_says() {
    let shop = Shop::start(PLAN).await;
    takes(&shop, &["pause", "api"]).await;
    assert_eq!(shop.gateway.rollout("api").await["reason"], "paused");
    takes(&shop, &["resume", "api"]).await;
    assert!(shop.is("api-42", "ramping").await);
    takes(&shop, &["weight", "api", "35%"]).await;
    assert_eq!(shop.weight("api-42").await, 35.0);
    takes(&shop, &["resume", "api"]).await;
    assert_eq!(shop.weight("api-42").await, 10.0);
    takes(&shop, &["promote", "api"]).await;
    assert_eq!(shop.weight("api-42").await, 100.0);
    takes(&shop, &["abort", "api"]).await;
    shop.canary_stays_out().await;
    takes(&shop, &["retry", "api"]).await;
    shop.until("the canary begins again", async || shop.weight("api-42").await == 10.0).await;
    takes(&shop, &["promote", "api"]).await;
    takes(&shop, &["promote", "api"]).await;
    shop.becomes("completed").await;
}

#[tokio::test]
async fn what_is_refused_is_explained_and_changes_nothing() {
    let shop = Shop::start(PLAN).await;
    let refused = async |command: &str, reason: &str| {
        let before = shop.gateway.rollout("api").await["history"].clone();
        let answer = shop.gateway.admin("POST", &format!("/v1/rollouts/api/{command}")).await;
        assert_eq!(answer.status, 409, "{command}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert!(detail.contains(reason), "`{reason}` in {detail}");
        let finished = rollout(&shop, &[command, "api"]).await;
        assert_eq!(finished.code(), 3, "{command}: {finished:?}");
        assert!(finished.stderr.contains(reason), "`{reason}` in {finished:?}");
        assert_eq!(shop.gateway.rollout("api").await["history"], before, "{command}");
    };
    refused("resume", "not paused").await;
    refused("retry", "not rolled back").await;
    shop.order("pause").await;
    refused("pause", "paused").await;
    refused("promote", "paused").await;
    shop.order("abort").await;
    for command in ["promote", "pause", "resume", "abort"] {
        refused(command, "rolled back").await;
    }
    let answer = put(&shop, "/v1/rollouts/api/weight", json!({ "weight": 50 })).await;
    assert_eq!(answer.status, 409, "{answer:?}");
    assert_eq!(shop.weight("api-42").await, 0.0);
}

#[tokio::test]
async fn a_service_nobody_knows_is_named_with_those_there_are() {
    let shop = Shop::start(PLAN).await;
    let finished = rollout(&shop, &["pause", "apy"]).await;
    assert_ne!(finished.code(), 0);
    assert!(finished.stderr.contains("apy") && finished.stderr.contains("api"), "{finished:?}");
    assert_eq!(shop.gateway.admin("GET", "/v1/rollouts/apy").await.status, 404);
}

#[tokio::test]
async fn a_weight_set_by_hand_ends_by_itself() {
    let shop = Shop::start(PLAN).await;
    let answer = put(&shop, "/v1/rollouts/api/weight", json!({ "weight": 25, "expires": "1s" })).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["weight"]), (200, &25.0.into()), "{answer:?}");
    shop.until("the plan's weight returns", async || shop.weight("api-42").await == 10.0).await;
    assert!(shop.is("api-42", "ramping").await);
}

#[tokio::test]
async fn the_kill_switch_sends_everybody_to_stable_until_it_is_thrown_back() {
    let rollout =
        "weight: 100%, sticky: { header: x-user-id }, override: { header: x-canary, from: [127.0.0.0/8] }";
    let mut shop = Shop::start(rollout).await;
    assert_eq!(shop.gateway.get("/").await.release(), "api-42");
    let kill = async |shop: &Shop, word: &str| {
        let finished = shop.gateway.command(&["kill", word]).await;
        assert_eq!(finished.code(), 0, "{finished:?}");
    };
    kill(&shop, "on").await;
    shop.canary_stays_out().await;
    let wished = shop.gateway.get("/").header("x-canary", "always").header("x-user-id", "anna");
    assert_eq!(wished.repeat(20).await.served_by(&shop.stable), 20, "it beats every wish");
    shop.gateway.change_config(&shop.config).await;
    shop.canary_stays_out().await;
    shop.gateway.restart(libc::SIGKILL).await;
    shop.canary_stays_out().await;
    kill(&shop, "off").await;
    assert_eq!(shop.gateway.get("/").await.release(), "api-42");
}

#[tokio::test]
async fn show_and_list_tell_people_and_scripts() {
    let shop = Shop::start(PLAN).await;
    shop.gateway.get("/").repeat(50).await;
    let list = rollout(&shop, &["list"]).await;
    assert_eq!(list.code(), 0, "{list:?}");
    for word in ["api", "api-42", "ramping", "10%"] {
        assert!(list.stdout.contains(word), "`{word}` in {}", list.stdout);
    }
    let show = rollout(&shop, &["show", "api"]).await;
    assert_eq!(show.code(), 0, "{show:?}");
    for word in ["api-41", "api-42", "ramping", "10%"] {
        assert!(show.stdout.contains(word), "`{word}` in {}", show.stdout);
    }
    let script = rollout(&shop, &["show", "api", "--json"]).await.json();
    assert_eq!((&script["canary"], &script["state"]), (&"api-42".into(), &"ramping".into()));
    shop.evidence(shop.canary.hits()).await;
    let status = shop.gateway.rollout("api").await;
    for field in [
        "service", "stable", "canary", "state", "reason", "step", "weight", "since", "next", "evidence",
        "history",
    ] {
        assert!(status.get(field).is_some(), "{field}: {status}");
    }
}
