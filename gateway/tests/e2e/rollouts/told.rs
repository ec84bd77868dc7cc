//! Who is told of a change: the log, the webhooks, and whoever listens.

use http::Method;
use serde_json::Value;

use super::{PLAN, SHOP, Shop};
use crate::support::{Behaviour, Origin};

/// The bodies a webhook got on a path.
fn told(hook: &Origin, path: &str) -> Vec<Value> {
    let requests = hook.requests().into_iter().filter(|request| request.path == path && request.complete);
    requests.map(|request| serde_json::from_str(&request.text()).unwrap()).collect()
}

/// A shop whose webhooks, JSON and Slack, hear of everything.
async fn with_webhooks(hook: &Origin) -> Shop {
    let to = |path: &str, format: &str| {
        let on = "[started, promoted, held, rolled_back, completed]";
        format!("{{ url: \"http://{}{path}\", format: {format}, on: {on} }}", hook.address())
    };
    let notify = format!("notify: [ {}, {} ]", to("/json", "json"), to("/slack", "slack"));
    Shop::start(&format!("{PLAN}, failover: {{}}, {notify}")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_hear_of_a_rollback_with_its_numbers() {
    let hook = Origin::always(200).named("hook").start().await;
    let shop = with_webhooks(&hook).await;
    shop.roll_back().await;
    let is_rollback = |event: &Value| event["kind"] == "rolled_back";
    shop.until("the webhook knows", async || told(&hook, "/json").iter().any(is_rollback)).await;
    shop.until("Slack knows", async || told(&hook, "/slack").len() >= 2).await;
    let events = told(&hook, "/json");
    let event = events.iter().find(|event| is_rollback(event)).unwrap();
    assert_eq!((&event["service"], &event["change"]["canary"]), (&"api".into(), &"api-42".into()), "{event}");
    assert!(event["change"]["evidence"]["canary"]["failures"].as_u64() >= Some(5), "{event}");
    let slack = told(&hook, "/slack");
    let texts: Vec<_> = slack.iter().map(|message| message["text"].as_str().unwrap()).collect();
    assert!(texts.iter().any(|text| text.contains("rolled back") && text.contains("api-42")), "{texts:?}");
    let sent = [("result", "sent")];
    shop.gateway.counted("notifications_total", &sent, events.len() as f64 + texts.len() as f64).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_is_down_is_tried_again_and_one_that_hangs_keeps_nobody() {
    let hook = Origin::script(Behaviour::status(200).failing_every(2, 503)).named("hook").start().await;
    let shop = with_webhooks(&hook).await;
    shop.order("pause").await;
    shop.order("resume").await;
    shop.gateway.counted("notifications_total", &[("result", "sent")], 3.0).await;
    hook.set_behaviour(Behaviour::status(200).delay(std::time::Duration::from_secs(60)));
    shop.roll_back().await;
    shop.canary_stays_out().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_line_of_the_log_answers_why() {
    let shop = Shop::start(&format!("{PLAN}, failover: {{}}")).await;
    shop.roll_back().await;
    let is_it = |line: &&str| line.contains("was rolled back");
    shop.until("it is in the log", async || shop.gateway.log().lines().any(|line| is_it(&line))).await;
    let log = shop.gateway.log();
    let line = log.lines().find(is_it).unwrap();
    for word in ["api-42", "api-41", "failures", "attempts", "evidence", "needed"] {
        assert!(line.contains(word), "`{word}` in {line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_tell_where_every_rollout_is() {
    let shop = Shop::start(&format!("{PLAN}, failover: {{}}")).await;
    let service = ("service", "api");
    let canary = ("release", "api-42");
    let metrics = shop.gateway.metrics().await;
    assert_eq!(metrics.labels("rollout_state"), ["release", "service", "state"]);
    assert_eq!(metrics.sum("rollout_state", &[service, canary]), 1.0, "exactly one state is the one");
    assert_eq!(metrics.sum("rollout_step", &[service]), 0.0);
    assert_eq!(metrics.sum("split_weight", &[service]), 100.0);
    shop.roll_back().await;
    shop.gateway.counted("rollbacks_total", &[service], 1.0).await;
    let metrics = shop.gateway.metrics().await;
    assert_eq!(metrics.sum("rollout_state", &[service, canary]), 1.0);
    assert_eq!(metrics.sum("rollbacks_total", &[service]), 1.0);
    assert_eq!(metrics.sum("rollout_step", &[service]), -1.0);
    assert_eq!(metrics.sum("split_weight", &[service]), 100.0);
    let failovers = metrics.sum("failovers_total", &[service, canary]);
    assert_eq!(failovers as usize, shop.canary.hits());
    assert_eq!(metrics.sum("rollbacks_total", &[service, ("reason", "aborted")]), 0.0);
    for (name, labels) in [
        ("rollbacks_total", &["reason", "service"][..]),
        ("failovers_total", &["release", "service"]),
        ("split_weight", &["release", "service"]),
        ("rollout_step", &["service"]),
        ("rollout_refused_total", &["service"]),
    ] {
        assert_eq!(metrics.labels(name), labels, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_listens_hears_of_each_change_and_can_ask_for_the_last_ones() {
    let shop = Shop::start(PLAN).await;
    let mut events = shop.gateway.admin("GET", "/v1/events?since=0").start().await.unwrap();
    assert_eq!(events.headers["content-type"], "text/event-stream");
    shop.order("pause").await;
    let mut text = String::new();
    while !text.contains("paused") {
        let piece = events.chunk().await.unwrap().expect("the stream goes on");
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    assert!(text.contains("started"), "what happened before is in it: {text}");
    assert!(text.contains("id:") && text.contains("data:"), "{text}");
    let id = text.lines().rev().find_map(|line| line.strip_prefix("id:")).unwrap().trim().to_owned();
    let mut later = shop.gateway.admin("GET", &format!("/v1/events?since={id}")).start().await.unwrap();
    shop.order("resume").await;
    let mut text = String::new();
    while !text.contains("resumed") {
        let piece = later.chunk().await.unwrap().expect("the stream goes on");
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    assert!(!text.contains("started"), "only what came after: {text}");
}

#[tokio::test]
async fn a_failing_endpoint_name_is_no_reason_to_begin() {
    let yaml = SHOP.replace("\"{api-42}\"", "\"nobody.invalid:80\"");
    let shop = Shop::start_with(&yaml, PLAN).await;
    shop.becomes("pending").await;
    let answers = shop.gateway.request(Method::GET, "/").repeat(100).await;
    assert_eq!(answers.served_by(&shop.stable), 100, "{answers:?}");
    assert!(shop.is("api-42", "pending").await);
}
