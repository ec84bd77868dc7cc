//! Switches thrown by hand: above the file, for a time or until they are thrown back, and remembered.

use std::fs;

use serde_json::{Value, json};

use super::Shop;
use crate::support::gateway::Finished;

/// `gateway maintenance …`, which must work.
async fn takes(shop: &Shop, arguments: &[&str]) -> Finished {
    let finished = shop.gateway.command(&[&["maintenance"], arguments].concat()).await;
    assert_eq!(finished.code(), 0, "{arguments:?}: {finished:?}");
    finished
}

/// What is on disk.
fn switches(shop: &Shop) -> Value {
    let text = fs::read_to_string(shop.gateway.place().file("state/switches.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn a_switch_outranks_the_file_both_ways_and_the_file_returns_when_asked() {
    let shop = Shop::start("maintenance: { on: false, body: closed }").await;
    let told = takes(&shop, &["web", "on"]).await;
    assert!(told.stdout.contains("`gateway maintenance web file`"), "how to end it: {told:?}");
    assert_eq!((shop.status().await, shop.gauge().await), (503, 1.0));
    shop.gateway.change_config(shop.config.replace("body: closed", "body: still closed")).await;
    assert_eq!(shop.get().await.text(), "still closed", "a reload keeps the switch and takes the body");

    takes(&shop, &["web", "off"]).await;
    let on = shop.config.replace("on: false", "on: true");
    shop.gateway.change_config(&on).await;
    assert_eq!((shop.status().await, shop.gauge().await), (200, 0.0), "off by hand beats on by file");
    takes(&shop, &["web", "file"]).await;
    assert_eq!((shop.status().await, shop.gauge().await), (503, 1.0));
    shop.gateway.change_config(&shop.config).await;
    assert_eq!((shop.status().await, shop.gauge().await), (200, 0.0), "the file alone decides again");
}

#[tokio::test]
async fn a_route_of_which_the_file_says_nothing_can_be_switched_too() {
    let shop = Shop::start("timeout: 10s").await;
    takes(&shop, &["web", "on"]).await;
    let answer = shop.get().await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]), (503, &"maintenance".into()));
    assert_eq!(answer.header("retry-after"), None, "nobody knows for how long");
    assert_eq!(shop.gateway.get("/other").await.status, 200);
}

#[tokio::test]
async fn a_switch_thrown_for_a_time_falls_back_by_itself() {
    let shop = Shop::start("maintenance: {}").await;
    takes(&shop, &["web", "on", "--for", "1h"]).await;
    let answer = shop.get().await;
    let wait: u64 = answer.header("retry-after").expect("the end is known").parse().unwrap();
    assert!((3500..=3600).contains(&wait), "{wait}");
    takes(&shop, &["web", "on", "--for", "1s"]).await;
    assert_eq!(shop.standing().await["by"], "switch");
    shop.gateway.eventually("the route is open again", async || shop.status().await == 200).await;
    let told = async || shop.gateway.log().contains("its time is over");
    shop.gateway.eventually("it is told", told).await;
    assert_eq!(shop.gauge().await, 0.0);
    let forgotten = async || switches(&shop)["maintenance"].is_null();
    shop.gateway.eventually("it is off the disk", forgotten).await;
    let standing = shop.standing().await;
    assert_eq!((&standing["by"], &standing["until"]), (&"file".into(), &Value::Null));
}

#[tokio::test]
async fn switches_outlive_every_end_of_the_process() {
    let mut shop = Shop::start("maintenance: {}").await;
    takes(&shop, &["web", "on"]).await;
    shop.gateway.command(&["kill", "on"]).await;
    let before = shop.standing().await;
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGKILL] {
        shop.gateway.restart(signal).await;
        assert_eq!((shop.status().await, shop.gauge().await), (503, 1.0), "after signal {signal}");
        assert_eq!(shop.standing().await, before, "since when, too");
        assert_eq!(shop.gateway.metrics().await.sum("kill_switch", &[]), 1.0);
    }
    takes(&shop, &["web", "file"]).await;
    shop.gateway.restart(libc::SIGKILL).await;
    assert_eq!(shop.status().await, 200);
    assert_eq!(shop.gateway.metrics().await.sum("kill_switch", &[]), 1.0, "the other switch stays");
    shop.gateway.command(&["kill", "off"]).await;
    assert_eq!(shop.gateway.metrics().await.sum("kill_switch", &[]), 0.0);
}

#[tokio::test]
async fn a_time_that_is_over_before_the_process_is_back_is_over() {
    let mut shop = Shop::start("maintenance: {}").await;
    takes(&shop, &["web", "on", "--for", "1h"]).await;
    let age = |place: &crate::support::Place| {
        let file = place.file("state/switches.json");
        let mut found: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        found["maintenance"]["web"]["until"] = json!(1_000_000_000.0);
        fs::write(&file, found.to_string()).unwrap();
    };
    shop.gateway.restart_after(libc::SIGKILL, age).await;
    assert_eq!(shop.status().await, 200);
}

#[tokio::test]
async fn an_unreadable_file_closes_no_route_and_is_loud() {
    let mut shop = Shop::start("maintenance: {}").await;
    takes(&shop, &["web", "on"]).await;
    let tear = |place: &crate::support::Place| {
        fs::write(place.file("state/switches.json"), "{ \"version\": 1, \"mainten").unwrap();
    };
    shop.gateway.restart_after(libc::SIGKILL, tear).await;
    assert_eq!(shop.status().await, 200, "the file's word");
    assert!(shop.gateway.log().contains("the maintenance of routes is as the file says"));
    assert_eq!(shop.gateway.metrics().await.sum("kill_switch", &[]), 1.0, "what it kept back stays back");
}

#[tokio::test]
async fn the_switch_of_a_route_that_is_gone_waits_for_it() {
    let shop = Shop::start("maintenance: {}").await;
    takes(&shop, &["web", "on"]).await;
    let renamed = shop.config.replace("  web:", "  shop:");
    shop.gateway.change_config(&renamed).await;
    assert_eq!(shop.status().await, 200);
    let listed = takes(&shop, &[]).await.stdout;
    assert!(listed.contains("web") && listed.contains("not in the file now"), "{listed}");
    let again = shop.gateway.command(&["maintenance", "web", "on"]).await;
    assert_eq!(again.code(), 3, "what is gone is not switched: {again:?}");
    shop.gateway.change_config(&shop.config).await;
    assert_eq!(shop.status().await, 503, "it comes back as it was left");

    shop.gateway.change_config(&renamed).await;
    takes(&shop, &["web", "file"]).await;
    shop.gateway.change_config(&shop.config).await;
    assert_eq!(shop.status().await, 200, "what is gone can be forgotten");
}

#[tokio::test]
async fn who_switched_what_and_since_when_is_told_everywhere() {
    let shop = Shop::start("maintenance: { on: true }").await;
    let quiet = takes(&shop, &[]).await.stdout;
    assert!(quiet.lines().any(|line| line.starts_with("web") && line.contains("file")), "{quiet}");
    takes(&shop, &["other", "on", "--for", "30m"]).await;
    shop.gateway.command(&["kill", "on"]).await;
    let listed = takes(&shop, &[]).await.stdout;
    assert!(listed.starts_with("the kill switch is on"), "{listed}");
    assert!(listed.lines().any(|line| line.starts_with("other") && line.contains("switch")), "{listed}");
    let status = shop.gateway.command(&["status", "--json"]).await.json();
    let lines = status["maintenance"].as_array().unwrap();
    let routes: Vec<_> = lines.iter().map(|line| (line["route"].as_str(), line["by"].as_str())).collect();
    assert_eq!(routes, [(Some("other"), Some("switch")), (Some("web"), Some("file"))], "{status}");
    assert!(shop.gateway.command(&["status"]).await.stdout.contains("MAINTENANCE"));

    let history = takes(&shop, &["--json"]).await.json()["history"].clone();
    let kinds: Vec<_> = history.as_array().unwrap().iter().map(|one| one["kind"].as_str()).collect();
    assert_eq!(kinds, [Some("maintenance"), Some("kill")], "{history}");
    assert_eq!(switches(&shop)["history"].as_array().unwrap().len(), 2, "the record is on disk");

    let mut events = shop.gateway.admin("GET", "/v1/events?since=0").start().await.unwrap();
    let mut text = String::new();
    while !text.contains("\"kind\":\"kill\"") {
        let chunk = events.chunk().await.unwrap().expect("the stream does not end");
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(text.contains("\"kind\":\"maintenance\"") && text.contains("\"route\":\"other\""), "{text}");
}

#[tokio::test]
async fn a_route_nobody_knows_is_refused_with_the_nearest_name() {
    let shop = Shop::start("maintenance: {}").await;
    for arguments in [&["maintenance", "wbe", "on"][..], &["maintenance", "wbe"]] {
        let finished = shop.gateway.command(arguments).await;
        assert_eq!(finished.code(), 3, "{finished:?}");
        assert!(finished.stderr.contains("did you mean `web`?"), "{finished:?}");
    }
    for wrong in [&["maintenance", "web", "maybe"][..], &["maintenance", "web", "on", "--for", "30"]] {
        assert_eq!(shop.gateway.command(wrong).await.code(), 2, "{wrong:?}");
    }
    let until_file = shop.gateway.command(&["maintenance", "web", "file", "--for", "1h"]).await;
    assert_eq!(until_file.code(), 3, "{until_file:?}");
    assert!(until_file.stderr.contains("no end"), "{until_file:?}");
    let body =
        shop.gateway.admin("PUT", "/v1/routes/web/maintenance").header("content-type", "application/json");
    let foreign = body.clone().header("origin", "https://evil.example").body(r#"{"on": true}"#).await;
    assert_eq!(foreign.status, 403, "guarded as every call that changes something");
    assert_eq!(body.body("{}").await.status, 422, "what is meant must be written");
    assert_eq!(shop.status().await, 200);
}
