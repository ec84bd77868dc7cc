use axum::extract::Path;
use axum::routing::{get, post, put};
use axum::{Json, Router};

use super::super::client::tests::{admin_api, args_for};
use super::*;

const NOW: f64 = 1_800_000_600.0;

/// A rollout at its first step, as the admin API tells it.
pub(super) fn sample() -> Value {
    json!({
        "service": "api", "stable": "api-41", "canary": "api-42", "state": "ramping", "reason": null,
        "text": "`api-42` has 10%; 100% is next", "step": 0, "weight": 10.0,
        "since": NOW - 252.0, "next": NOW + 348.0, "manual": null,
        "plan": [
            {"weight": 10.0, "hold_seconds": 600.0, "min_requests": 300, "gate": "manual"},
            {"weight": 100.0, "hold_seconds": 900.0, "min_requests": 0, "gate": "automatic"}
        ],
        "guard": {
            "error_rate": {"warn": 0.01, "max": 0.05}, "worse_than_stable": 1.2, "latency": null,
            "consecutive_failures": 5, "max_failed_requests": 25, "confidence": 0.999
        },
        "evidence": evidence(),
        "history": [change("ramping", "ready", "the canary has an endpoint")],
        "kill": false, "others": []
    })
}

/// The same, after it was rolled back.
pub(super) fn rolled_back() -> Value {
    let mut view = sample();
    (view["state"], view["step"], view["weight"]) = (json!("rolled_back"), json!(null), json!(0.0));
    view["next"] = json!(null);
    view["text"] = json!("`api-42` gets no traffic: 5 attempts in a row failed, 5 are the limit");
    view["evidence"] = serde_json::to_value(gateway_core::rollout::Evidence::default()).expect("JSON");
    let fall = change("rolled_back", "breach", "5 attempts in a row failed, 5 are the limit");
    view["history"].as_array_mut().expect("a list").push(fall);
    view
}

fn change(to: &str, cause: &str, why: &str) -> Value {
    json!({
        "at": NOW - 252.0, "stable": "api-41", "canary": "api-42", "from": "pending", "to": to, "reason": null,
        "step": if to == "ramping" { json!(0) } else { json!(null) }, "weight": if to == "ramping" { 10.0 } else { 0.0 },
        "cause": cause, "why": why, "breach": null, "evidence": evidence()
    })
}

fn evidence() -> Value {
    json!({
        "canary": {"attempts": 150, "failures": 5, "slow": 0, "seen": 1},
        "stable": {"attempts": 1350, "failures": 3, "slow": 0, "seen": 3},
        "tests": {
            "needed": 1000.0, "error_rate": 0.3, "worse_than_stable": 31.6, "latency": null, "stable_error_rate": 0.1,
            "upper_bound": 0.0689, "consecutive_failures": 2,
            "excess": {"seen": 1.0, "expected": 0.3, "variance": 0.4}
        }
    })
}

fn page(view: Value) -> String {
    show::page(&View::read(&view).expect("a view"), NOW, show::CHANGES)
}

#[test]
fn a_page_says_where_it_is_and_how_far_each_limit_is() {
    let expected = "\
api: api-42 ramping
`api-42` has 10%; 100% is next

  stable  api-41
  canary  api-42
  state   ramping for 4m 12s
  step    1 of 2, its time is up in 5m 48s
  weight  10%   ██▍·····················

ATTEMPTS of this step
          attempts  failed  rate   too slow  seen by users
  canary  150       5       3.33%  0         1
  stable  1,350     3       0.22%  0         3

AGAINST IT  a full bar takes it out, tests on 5 failures or more; the last bar only holds it
  fails too often (evidence)           0.3  of 1,000  ························
  worse than stable (evidence)         32   of 1,000  ███████████▉············
  failures in a row                    2    of 5      █████████▌··············
  failures users saw, beyond stable's  0.7  of 25     ▋·······················
  stable itself fails (holds)          0.1  of 20     ························

FOR IT  full bars let it go on once its time is up
  attempts                         150    of 300  ████████████············
  failure rate at most (95% sure)  6.89%  of 5%   █████████████████▍······
  and then `gateway rollout promote api`

LAST CHANGES
  2027-01-15T08:05:48.000Z  ramping  step 1  10%  the canary has an endpoint
";
    let page = page(sample());
    assert_eq!(page, expected, "\n{page}");
}

#[test]
fn after_a_rollback_the_page_shows_why_and_the_evidence_of_that_moment() {
    let page = page(rolled_back());
    assert!(
        page.starts_with("api: api-42 rolled back\n`api-42` gets no traffic: 5 attempts in a row failed"),
        "{page}"
    );
    assert!(page.contains("ATTEMPTS of this step, when it was taken out 4m 12s ago"), "{page}");
    assert!(page.contains("canary  150       5       3.33%"), "{page}");
    let changes = page.split_once("LAST CHANGES\n").expect("a section").1;
    assert!(changes.lines().next().is_some_and(|line| line.contains("rolled back")), "{page}");
    assert!(!page.contains("FOR IT"), "{page}");
}

#[test]
fn a_thrown_kill_switch_stands_above_everything() {
    let mut view = sample();
    view["kill"] = json!(true);
    assert!(page(view).starts_with("The kill switch is on: all traffic goes to stable"));
}

#[test]
fn a_fixed_weight_and_a_service_without_a_canary_are_shown_as_such() {
    let mut fixed = sample();
    fixed["plan"] = json!([{"weight": 10.0, "hold_seconds": null, "min_requests": 0, "gate": "automatic"}]);
    fixed["next"] = json!(null);
    let text = page(fixed);
    assert!(text.contains("step    fixed\n") && !text.contains("FOR IT"), "{text}");

    let mut idle = sample();
    (idle["state"], idle["canary"], idle["step"]) = (json!("idle"), json!(null), json!(null));
    (idle["history"], idle["next"]) = (json!([]), json!(null));
    let text = page(idle);
    assert!(
        text.starts_with("api: idle\n") && text.contains("canary  -\n") && !text.contains("AGAINST"),
        "{text}"
    );
}

/// Answers as a gateway does, with what it was asked as the sentence.
fn gateway() -> AdminArgs {
    let told = |asked: String| {
        let mut view = sample();
        view["text"] = json!(asked);
        Json(view)
    };
    let order = move |Path((service, command)): Path<(String, String)>| async move {
        if command == "promote" {
            let problem = json!({"title": "Conflict", "detail": "the rollout is paused: resume it first"});
            return (StatusCode::CONFLICT, Json(problem));
        }
        (StatusCode::OK, told(format!("{command} {service}")))
    };
    let weight = move |Json(body): Json<Value>| async move { told(body.to_string()) };
    let list = || async { Json(json!({"kill": true, "rollouts": [sample(), rolled_back()]})) };
    let app = Router::new()
        .route("/v1/rollouts", get(list))
        .route("/v1/rollouts/api", get(|| async { Json(sample()) }))
        .route("/v1/rollouts/api/weight", put(weight))
        .route("/v1/rollouts/{service}/{command}", post(order));
    args_for(admin_api(app))
}

fn said(command: &RolloutCommand) -> Result<String, Failure> {
    let mut out = Vec::new();
    run(command, &mut out).map(|()| String::from_utf8(out).expect("text"))
}

fn args(json: bool) -> ServiceArgs {
    ServiceArgs { service: ServiceName::new("api").expect("a name"), admin: gateway(), json }
}

#[test]
fn each_order_reaches_the_gateway_and_what_became_of_it_is_told() {
    let orders = [
        (RolloutCommand::Pause(args(false)), "pause"),
        (RolloutCommand::Resume(args(false)), "resume"),
        (RolloutCommand::Abort(args(false)), "abort"),
        (RolloutCommand::Retry(args(false)), "retry"),
    ];
    for (order, word) in orders {
        let expected = format!("api: ramping, step 1 of 2, 10%: {word} api\n");
        assert_eq!(said(&order).expect("taken"), expected);
    }
    let json = said(&RolloutCommand::Pause(args(true))).expect("taken");
    assert_eq!(serde_json::from_str::<Value>(&json).expect("JSON")["text"], "pause api");
}

#[test]
fn a_refusal_is_status_3_with_its_reason() {
    let failure = said(&RolloutCommand::Promote(args(false))).expect_err("refused");
    assert!(
        failure.to_string().ends_with("409 Conflict: the rollout is paused: resume it first"),
        "{failure}"
    );
    assert_eq!(failure.exit_code(), std::process::ExitCode::from(3));
}

#[test]
fn a_weight_goes_as_a_number_with_its_time() {
    let weight = |text: &str, lasts: Option<&str>| {
        let ServiceArgs { service, admin, json } = args(false);
        let (weight, lasts) = (text.parse().expect("a weight"), lasts.map(str::to_owned));
        said(&RolloutCommand::Weight(WeightArgs { service, weight, lasts, admin, json })).expect("taken")
    };
    assert!(weight("30%", Some("10m")).ends_with(": {\"weight\":30.0,\"expires\":\"10m\"}\n"));
    assert!(weight("2.5%", None).ends_with(": {\"weight\":2.5}\n"));
    assert!(lasting("10").is_err() && lasting("0s").is_err() && lasting("10m").is_ok());
}

#[test]
fn the_list_has_a_row_for_each_rollout() {
    let text = said(&RolloutCommand::List(ListArgs { admin: gateway(), json: false })).expect("answered");
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("The kill switch is on"), "{text}");
    assert!(lines[2].starts_with("SERVICE  STATE        CANARY  STABLE  STEP    WEIGHT"), "{text}");
    assert!(lines[3].starts_with("api      ramping      api-42  api-41  1 of 2  10%"), "{text}");
    assert!(lines[4].starts_with("api      rolled back  api-42  api-41  -       0%"), "{text}");
    let shown = said(&RolloutCommand::Show(args(true))).expect("answered");
    assert_eq!(serde_json::from_str::<Value>(&shown).expect("JSON"), sample());
}
