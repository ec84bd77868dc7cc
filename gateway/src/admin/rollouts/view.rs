//! Rollouts as JSON: states and causes are words, weights percent, times seconds since 1970.

use std::time::Duration;

use gateway_core::config::model::{Gate, Guard, Step};
use gateway_core::rollout::{Breach, Cause, Change, Hold, Manual, Plan, Rollout, Stage, State};
use serde_json::{Value, json};

use super::text;
use crate::rollouts::Rollouts;
use crate::rollouts::supervisor::Supervisor;

/// The rollout of a service; the second and further ones of a fixed split are its `others`.
///
/// While the kill switch is thrown (`killed`) their weights are what they would be without. `None` for a service that has just been removed.
pub(super) fn service(name: &str, supervisor: &Supervisor, killed: bool) -> Option<Value> {
    // Copied first: whoever fails an attempt meanwhile waits for this lock.
    let rollouts = supervisor.read(<[Rollout]>::to_vec);
    let (first, others) = rollouts.split_first()?;
    let mut view = rollout(name, first);
    view["kill"] = killed.into();
    view["others"] = others.iter().map(|other| rollout(name, other)).collect();
    Some(view)
}

/// A line for each rollout there is.
pub(in crate::admin) fn lines(rollouts: &Rollouts) -> Vec<Value> {
    let mut lines = Vec::new();
    for (service, supervisor) in rollouts.all() {
        supervisor.read(|rollouts| {
            let named = rollouts.iter().filter(|rollout| rollout.state() != State::Idle);
            lines.extend(named.map(|rollout| line(service.as_str(), rollout)));
        });
    }
    lines
}

fn line(service: &str, rollout: &Rollout) -> Value {
    let state = rollout.state();
    json!({
        "service": service,
        "state": state.name(),
        "reason": state.hold().map(Hold::name),
        "canary": rollout.canary(),
        "weight": rollout.weight(),
    })
}

fn rollout(service: &str, rollout: &Rollout) -> Value {
    let status = rollout.status();
    json!({
        "service": service,
        "stable": status.stable,
        "canary": status.canary,
        "state": status.state,
        "reason": status.reason,
        "text": text::standing(service, rollout),
        "step": status.step,
        "weight": status.weight,
        "since": status.since,
        "next": status.next,
        "manual": rollout.manual().map(manual),
        "plan": plan(rollout.plan()),
        "guard": guard(rollout.guard()),
        "evidence": status.evidence,
        "history": status.history.iter().map(change).collect::<Vec<_>>(),
    })
}

fn manual(Manual { weight, until }: Manual) -> Value {
    json!({ "weight": weight, "until": until.as_ref().map(Duration::as_secs_f64) })
}

/// A fixed weight is one step whose time never ends it.
fn plan(plan: &Plan) -> Value {
    let step = |Step { weight, hold, min_requests, gate }: &Step| {
        json!({
            "weight": weight,
            "hold_seconds": plan.advances().then_some(hold.as_secs_f64()),
            "min_requests": min_requests,
            "gate": if *gate == Gate::Manual { "manual" } else { "automatic" },
        })
    };
    (0..=plan.last()).map(|index| step(plan.step(index))).collect()
}

/// Rates are 0 to 1, as in the evidence.
fn guard(guard: &Guard) -> Value {
    let latency = guard.latency.as_ref();
    json!({
        "error_rate": { "warn": guard.warn.get(), "max": guard.max.get() },
        "worse_than_stable": guard.worse_than_stable.get(),
        "latency": latency.map(|it| json!({ "quantile": it.quantile.get(), "max_seconds": it.max.as_secs_f64() })),
        "consecutive_failures": guard.consecutive_failures,
        "max_failed_requests": guard.max_failed_requests,
        "confidence": guard.confidence.get(),
    })
}

/// One change, with where it led and all that led to it.
pub(super) fn change(change: &Change) -> Value {
    let breach: Option<&Breach> = match &change.cause {
        Cause::Breach(breach) => Some(breach),
        _ => None,
    };
    json!({
        "at": change.at.as_secs_f64(),
        "stable": change.stable,
        "canary": change.canary,
        "from": change.from.name(),
        "to": change.to.name(),
        "reason": change.to.hold().map(Hold::name),
        "step": change.to.stage().map(Stage::step),
        "weight": change.weight.percent(),
        "cause": change.cause.name(),
        "why": change.cause.to_string(),
        "breach": breach,
        "evidence": change.evidence,
    })
}
