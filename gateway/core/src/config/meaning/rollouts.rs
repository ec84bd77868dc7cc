//! `rollout`: the plan, who goes where, and what a canary must keep.

use std::time::Duration;

use http::Method;

use super::Meaning;
use super::nets;
use super::services::{failures, percent};
use crate::config::decode::List;
use crate::config::leaf::{FieldName, MethodName};
use crate::config::model::{
    At, Failover, FailureSet, Gate, Guard, LatencyGuard, Notify, NotifyEvent, NotifyFormat, Override, Plan,
    Rollout, Secret, Step, Sticky,
};
use crate::config::problem::{Code, Problem};
use crate::config::raw::service as raw;
use crate::config::raw::value::{Sticky as RawSticky, StickyBy};
use crate::unit::{Multiple, Ratio, Weight};

impl raw::Rollout {
    /// Whether the file says how much the canary gets.
    pub(super) fn has_plan(&self) -> bool {
        self.weight.is_some() || self.steps.is_some()
    }
}

impl Meaning<'_> {
    /// How much the canary gets; `None` when the file does not say, or says it badly.
    pub(super) fn plan(&mut self, raw: &raw::Rollout) -> Option<Plan> {
        match (&raw.weight, &raw.steps) {
            (None, None) => None,
            (Some(weight), None) => Some(Plan::Fixed(weight.value)),
            (Some(weight), Some(steps)) => {
                let problem = Problem::error(Code::Conflict, "`weight` and `steps` exclude each other");
                self.problems
                    .push(problem.at(weight.span, "one share").at(steps.span, "steps").help("leave one out"));
                None
            }
            (None, Some(steps)) => self.steps(steps).map(Plan::Steps),
        }
    }

    fn steps(&mut self, raw: &List<At<raw::Step>>) -> Option<Vec<Step>> {
        if raw.is_empty() {
            let help = "for example `- { weight: 10%, hold: 10m }`";
            self.error(Code::MissingKey, "there is no step", raw.span, help);
            return None;
        }
        let mut least = Weight::ZERO;
        for At { value: step, span } in &raw.items {
            if step.weight == Weight::ZERO {
                self.error(Code::InvalidValue, "a step without traffic shows nothing", *span, "more than 0%");
            } else if step.weight < least {
                let message = format!("the weight falls from {least} to {}", step.weight);
                self.error(
                    Code::InvalidValue,
                    message,
                    *span,
                    "a step has at least the weight of the one before",
                );
            }
            least = least.max(step.weight);
        }
        Some(raw.items.iter().map(|step| step_of(&step.value)).collect())
    }

    pub(super) fn rollout(&mut self, raw: Option<&raw::Rollout>) -> Rollout {
        let notify = raw.and_then(|raw| raw.notify.as_deref()).unwrap_or(&[]);
        Rollout {
            sticky: raw.and_then(|raw| raw.sticky.as_ref()).map_or(Sticky::Off, |sticky| self.sticky(sticky)),
            overrides: raw
                .and_then(|raw| raw.override_.as_ref())
                .map(|raw| Override { header: raw.header.0.clone(), from: nets(Some(&raw.from)) }),
            guard: self.guard(raw.and_then(|raw| raw.guard.as_ref())),
            failover: raw.and_then(|raw| raw.failover.as_ref()).map(|failover| self.failover(failover)),
            notify: notify.iter().map(|raw| self.notify(raw)).collect(),
        }
    }

    fn sticky(&mut self, raw: &RawSticky) -> Sticky {
        let RawSticky::By(by) = raw else {
            return Sticky::ClientIp;
        };
        match &by.value {
            StickyBy { cookie: Some(name), ttl, header: None } => {
                if !is_token(&name.value) {
                    let message = format!("`{}` is not the name of a cookie", name.value);
                    self.error(Code::InvalidValue, message, name.span, "letters, digits, `-` and `_`");
                }
                let ttl = self.period(ttl.as_ref(), Duration::from_secs(30 * 24 * 3600));
                Sticky::Cookie { name: name.value.clone(), ttl }
            }
            StickyBy { cookie: None, ttl: None, header: Some(At { value: FieldName(name), .. }) } => {
                Sticky::Header(name.clone())
            }
            _ => {
                let help = "write `{ cookie: gw_id, ttl: 30d }` or `{ header: x-user-id }`";
                self.error(Code::Conflict, "a user sticks by a cookie or by a header", by.span, help);
                Sticky::Off
            }
        }
    }

    fn guard(&mut self, raw: Option<&raw::Guard>) -> Guard {
        let rate = raw.and_then(|raw| raw.error_rate.as_ref());
        let (warn, max) = self.error_rate(rate);
        Guard {
            warn,
            max,
            worse_than_stable: raw
                .and_then(|raw| raw.worse_than_stable)
                .unwrap_or_else(|| Multiple::new(1.2).expect("1.2 is at least 1")),
            latency: raw.and_then(|raw| raw.latency.as_ref()).map(|latency| LatencyGuard {
                quantile: self.proper(Some(&latency.quantile), 95.0),
                max: self.period(Some(&latency.max), Duration::ZERO),
            }),
            consecutive_failures: self.count(raw.and_then(|raw| raw.consecutive_failures.as_ref()), 5),
            max_failed_requests: self.count(raw.and_then(|raw| raw.max_failed_requests.as_ref()), 25),
            failures: raw.and_then(|raw| raw.failures.as_deref()).map_or_else(every_failure, failures),
            confidence: self.proper(raw.and_then(|raw| raw.confidence.as_ref()), 99.9),
        }
    }

    fn error_rate(&mut self, raw: Option<&raw::ErrorRate>) -> (Ratio, Ratio) {
        let max = self.proper(raw.and_then(|raw| raw.max.as_ref()), 5.0);
        let default = if percent(1.0) < max { percent(1.0) } else { max };
        let Some(warn) = raw.and_then(|raw| raw.warn.as_ref()) else {
            return (default, max);
        };
        if warn.value > max {
            let message =
                format!("the canary would be rolled back at {max}, before the warning at {}", warn.value);
            self.error(Code::Conflict, message, warn.span, "`warn` is at most `max`");
        }
        (warn.value, max)
    }

    /// A share strictly between none and all: a test against 0 % or with a confidence of 100 % decides nothing.
    fn proper(&mut self, raw: Option<&At<Ratio>>, default: f64) -> Ratio {
        let Some(At { value, span }) = raw else {
            return percent(default);
        };
        if value.get() <= 0.0 || value.get() >= 1.0 {
            let message = format!("`{value}` cannot be tested");
            self.error(Code::InvalidValue, message, *span, "more than 0% and less than 100%");
        }
        *value
    }

    fn failover(&mut self, raw: &raw::Failover) -> Failover {
        if let Some(to) = raw.to.as_ref().filter(|to| to.value != "stable") {
            let message = format!("a failed request cannot go to `{}`", to.value);
            self.error(Code::InvalidValue, message, to.span, "write `to: stable`");
        }
        let methods = raw
            .methods
            .as_ref()
            .map(|list| list.as_slice().iter().map(|MethodName(name)| name.clone()).collect());
        Failover {
            on: raw.on.as_deref().map_or_else(every_failure, failures),
            methods: methods.unwrap_or_else(|| vec![Method::GET, Method::HEAD, Method::OPTIONS]),
            budget: raw.budget.unwrap_or_else(|| percent(20.0)),
        }
    }

    fn notify(&mut self, raw: &raw::Notify) -> Notify {
        use NotifyEvent::{Completed, Held, RolledBack};
        if !["http://", "https://"].iter().any(|scheme| raw.url.value.starts_with(scheme)) {
            let help = "it begins with https:// or http://";
            self.error(Code::InvalidValue, "this is not the URL of a webhook", raw.url.span, help);
        }
        Notify {
            url: Secret(raw.url.value.clone()),
            format: raw.format.unwrap_or(NotifyFormat::Json),
            on: raw.on.clone().unwrap_or_else(|| vec![Held, RolledBack, Completed]),
        }
    }
}

fn step_of(raw: &raw::Step) -> Step {
    Step {
        weight: raw.weight,
        hold: raw.hold.0,
        min_requests: raw.min_requests.unwrap_or(1),
        gate: raw.gate.unwrap_or(Gate::Automatic),
    }
}

fn every_failure() -> FailureSet {
    FailureSet { connect: true, timeout: true, reset: true, server_errors: true, statuses: Vec::new() }
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    let mark = |byte| b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || mark(byte))
}
