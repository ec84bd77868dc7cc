use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use gateway_core::rollout::Refusal;

use super::super::tests::{Admin, Answer};
use super::*;

/// Sends a call that may change something, with the token.
async fn order(admin: &Admin, line: &str, body: &str) -> Answer {
    let head = format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer hunter2\r\nContent-Type: application/json\r\n\
         Content-Length: {}",
        body.len()
    );
    admin.send_with(&head, body).await
}

/// An admin API whose canary has begun.
async fn ramping() -> Admin {
    let admin = Admin::start().await;
    admin.runtime.rollouts.find("api").expect("a service").tick();
    admin
}

async fn state(admin: &Admin) -> (Value, Value, Value) {
    let view = admin.read("/v1/rollouts/api").await;
    (view["state"].clone(), view["reason"].clone(), view["weight"].clone())
}

#[tokio::test]
async fn a_rollout_tells_where_it_is_and_why() {
    let admin = ramping().await;
    let view = admin.read("/v1/rollouts/api").await;
    let fields: Vec<_> = view.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        [
            "service", "stable", "canary", "state", "reason", "text", "step", "weight", "since", "next",
            "manual", "plan", "guard", "evidence", "history", "kill", "others"
        ]
    );
    assert_eq!((&view["stable"], &view["canary"]), (&json!("api-41"), &json!("api-42")));
    assert_eq!(
        (&view["state"], &view["step"], &view["weight"]),
        (&json!("ramping"), &json!(0), &json!(10.0))
    );
    assert_eq!(view["evidence"]["canary"], json!({"attempts": 0, "failures": 0, "slow": 0, "seen": 0}));
    assert_eq!(view["evidence"]["tests"]["needed"], 1000.0);
    let last = &view["history"][1];
    assert_eq!((&last["from"], &last["to"]), (&json!("pending"), &json!("ramping")));
    assert_eq!((&last["cause"], &last["why"]), (&json!("ready"), &json!("the canary has an endpoint")));

    let all = admin.read("/v1/rollouts").await;
    assert_eq!(all["kill"], false);
    assert_eq!(all["rollouts"].as_array().map(Vec::len), Some(1));
    assert_eq!(all["rollouts"][0]["canary"], "api-42");
}

#[tokio::test]
async fn a_service_nobody_knows_is_a_problem_that_names_those_there_are() {
    let admin = Admin::start().await;
    let answer = admin.ask("GET /v1/rollouts/apii").await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json()["detail"], "there is no service `apii`; there are api");
    for line in ["POST /v1/rollouts/apii/abort", "POST /v1/rollouts/api/explode"] {
        assert_eq!(order(&admin, line, "").await.status, 404, "{line}");
    }
    assert_eq!(order(&admin, "PUT /v1/rollouts/apii/weight", r#"{"weight": 1}"#).await.status, 404);
    assert_eq!(order(&admin, "POST /v1/rollouts/api/weight", "").await.status, 405);
}

#[tokio::test]
async fn people_pause_resume_abort_and_retry_and_are_answered_with_what_became_of_it() {
    let admin = ramping().await;
    let all = [
        ("pause", "held", json!("paused"), 10.0),
        ("resume", "ramping", json!(null), 10.0),
        ("abort", "rolled_back", json!(null), 0.0),
    ];
    for (command, state, reason, weight) in all {
        let answer = order(&admin, &format!("POST /v1/rollouts/api/{command}"), "").await;
        assert_eq!(answer.status, 200, "{command}: {}", answer.body);
        let view = answer.json();
        assert_eq!(
            (&view["state"], &view["reason"], &view["weight"]),
            (&json!(state), &reason, &json!(weight)),
            "{command}"
        );
    }
    let text = admin.read("/v1/rollouts/api").await["text"].to_string();
    assert!(text.contains("aborted by hand") && text.contains("gateway rollout retry api"), "{text}");
    let answer = order(&admin, "POST /v1/rollouts/api/retry", "").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_ne!(answer.json()["state"], "rolled_back");
}

#[tokio::test]
async fn a_refusal_is_a_conflict_with_its_reason_and_changes_nothing() {
    let admin = ramping().await;
    let before = state(&admin).await;
    for (command, refusal) in
        [("promote", Refusal::FixedWeight), ("resume", Refusal::NotPaused), ("retry", Refusal::NotRolledBack)]
    {
        let answer = order(&admin, &format!("POST /v1/rollouts/api/{command}"), "").await;
        assert_eq!(
            (answer.status, &answer.json()["detail"]),
            (409, &json!(refusal.to_string())),
            "{command}"
        );
        assert!(answer.head.contains("content-type: application/problem+json"), "{}", answer.head);
    }
    assert_eq!(state(&admin).await, before);
}

#[tokio::test]
async fn what_changes_a_rollout_needs_the_token() {
    let admin = ramping().await;
    let before = state(&admin).await;
    for line in ["POST /v1/rollouts/api/abort", "PUT /v1/rollouts/api/weight", "PUT /v1/kill"] {
        assert_eq!(admin.ask(line).await.status, 401, "{line}");
    }
    assert_eq!((state(&admin).await, admin.runtime.rollouts.is_killed()), (before, false));
}

#[tokio::test]
async fn a_weight_set_by_hand_is_held_for_its_time() {
    let admin = ramping().await;
    let answer = order(&admin, "PUT /v1/rollouts/api/weight", r#"{"weight": 30.5, "expires": "10m"}"#).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let view = answer.json();
    assert_eq!((&view["weight"], &view["reason"]), (&json!(30.5), &json!("paused")));
    let until = view["manual"]["until"].as_f64().expect("an end");
    let lasts = until - admin.runtime.rollouts.now().as_secs_f64();
    assert!((590.0..=600.0).contains(&lasts), "{lasts}");
    let answer = order(&admin, "PUT /v1/rollouts/api/weight", r#"{"weight": 0}"#).await;
    assert_eq!(answer.json()["manual"], json!({"weight": 0.0, "until": null}));
    order(&admin, "POST /v1/rollouts/api/resume", "").await;
    assert_eq!(state(&admin).await, (json!("ramping"), json!(null), json!(10.0)));
}

#[tokio::test]
async fn a_weight_that_is_none_is_a_problem() {
    let admin = ramping().await;
    let bodies = [
        (r#"{"weight": 101}"#, 400),
        (r#"{"weight": -1}"#, 400),
        (r#"{"weight": 10, "expires": "10"}"#, 400),
        (r#"{"weight": 10, "expires": "0s"}"#, 400),
        (r#"{"weight": 10, "expires": "99999999d"}"#, 400),
        (r#"{"weight": "10%"}"#, 422),
        (r#"{"weight": 10, "until": 3}"#, 422),
        ("{", 400),
    ];
    for (body, status) in bodies {
        let answer = order(&admin, "PUT /v1/rollouts/api/weight", body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert!(answer.head.contains("content-type: application/problem+json"), "{}", answer.head);
    }
    assert_eq!(state(&admin).await, (json!("ramping"), json!(null), json!(10.0)));
}

#[tokio::test]
async fn the_kill_switch_sends_everything_to_stable_until_it_is_thrown_back() {
    let admin = ramping().await;
    for (on, shares) in [(true, [100.0, 0.0]), (false, [90.0, 10.0])] {
        let answer = order(&admin, "PUT /v1/kill", &json!({ "on": on }).to_string()).await;
        assert_eq!((answer.status, answer.json()), (200, json!({ "on": on, "saved": true })));
        let status = admin.read("/v1/status").await;
        assert_eq!(status["kill"], on);
        let weights = [&status["releases"][0]["weight"], &status["releases"][1]["weight"]];
        assert_eq!(weights.map(Value::as_f64), shares.map(Some));
    }
    assert_eq!(order(&admin, "PUT /v1/kill", "{}").await.status, 422);
}

#[tokio::test]
async fn the_status_has_a_line_for_each_rollout() {
    let admin = ramping().await;
    let line =
        json!({"service": "api", "state": "ramping", "reason": null, "canary": "api-42", "weight": 10.0});
    assert_eq!(admin.read("/v1/status").await["rollouts"], json!([line]));
}

#[tokio::test]
async fn each_part_of_a_split_has_a_rollout() {
    let split = "split: { api-41: 80, api-42: 15, api-43: 5 }\n    stable: api-41";
    let config = super::super::tests::CONFIG
        .replace("api-42: { endpoints", "api-43: { endpoints: [\"127.0.0.1:8043\"] }, api-42: { endpoints")
        .replace("stable: api-41\n    canary: api-42\n    rollout: { weight: 10% }", split);
    let admin = Admin::start_with(&config).await;
    let view = admin.read("/v1/rollouts/api").await;
    let canaries = [&view["canary"], &view["others"][0]["canary"], &view["others"][1]["canary"]];
    assert_eq!(canaries, [&json!("api-42"), &json!("api-43"), &json!(null)]);
    assert_eq!(admin.read("/v1/status").await["rollouts"].as_array().map(Vec::len), Some(2));
}

/// Reads events from a stream until there are so many.
async fn events(admin: &Admin, head: &str, many: usize) -> Vec<Value> {
    let (address, head) = (admin.address, format!("{head}\r\n\r\n"));
    let reading = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).expect("connected");
        stream.write_all(head.as_bytes()).expect("sent");
        let lines = BufReader::new(stream).lines().map(|line| line.expect("read"));
        let data = lines.filter_map(|line| Some(line.strip_prefix("data: ")?.to_owned()));
        data.take(many).map(|data| serde_json::from_str(&data).expect("JSON")).collect()
    });
    reading.await.expect("no panic")
}

#[tokio::test]
async fn events_are_sent_from_the_id_a_reader_names_and_as_they_happen() {
    let admin = ramping().await;
    order(&admin, "POST /v1/rollouts/api/pause", "").await;
    let kept = events(&admin, "GET /v1/events?since=0 HTTP/1.1\r\nHost: localhost", 3).await;
    let kinds: Vec<_> = kept.iter().map(|event| &event["kind"]).collect();
    assert_eq!(kinds, ["named", "started", "paused"]);
    assert_eq!((&kept[2]["service"], &kept[2]["change"]["to"]), (&json!("api"), &json!("held")));

    let head =
        format!("GET /v1/events?since=0 HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {}", kept[1]["id"]);
    let (heard, _) =
        tokio::join!(events(&admin, &head, 2), order(&admin, "POST /v1/rollouts/api/resume", ""));
    assert_eq!((&heard[0]["kind"], &heard[1]["kind"]), (&json!("paused"), &json!("resumed")));
    assert_eq!(admin.ask("GET /v1/events?since=yesterday").await.status, 400);
}
