//! Where a rollout stands, in a sentence: what it waits for, and what to do.

use std::time::{Duration, SystemTime};

use gateway_core::rollout::{Cause, Hold, Rollout, Stage, State};

use crate::telemetry::rfc3339::Rfc3339;

/// Where a rollout stands and what happens next.
pub(super) fn standing(service: &str, rollout: &Rollout) -> String {
    let stable = rollout.stable();
    let Some(canary) = rollout.canary() else {
        return format!("no canary is named; all traffic goes to `{stable}`");
    };
    match rollout.state() {
        State::Idle => format!("no canary is named; all traffic goes to `{stable}`"),
        State::Pending => format!("`{canary}` gets no traffic until one of its endpoints can be used"),
        State::Running(stage) => running(canary.as_str(), stage, rollout),
        State::Held(stage, hold) => held(service, stage, hold, rollout),
        State::Completed => {
            format!("`{canary}` has all traffic; make it `stable` in the file before the next release")
        }
        State::RolledBack => {
            let why = why(rollout).map_or(String::new(), |why| format!(": {why}"));
            format!(
                "`{canary}` gets no traffic{why}; deploy a release with another name, or `gateway rollout retry {service}`"
            )
        }
    }
}

/// What took the canary's traffic away. A file that names it again is no reason of its own.
fn why(rollout: &Rollout) -> Option<&Cause> {
    let causes = rollout.status().history.iter().rev().filter(|change| change.to == State::RolledBack);
    let mut causes = causes.filter(|change| change.canary.as_ref() == rollout.canary());
    causes
        .find(|change| matches!(change.cause, Cause::Breach(_) | Cause::Aborted | Cause::Unreadable))
        .map(|change| &change.cause)
}

fn running(canary: &str, stage: Stage, rollout: &Rollout) -> String {
    let (step, plan) = (stage.step(), rollout.plan());
    match stage {
        _ if !plan.advances() => {
            format!("`{canary}` keeps the {} the file gives it, and is guarded", rollout.weight())
        }
        Stage::Verifying(_) => {
            format!("`{canary}` has all traffic and is watched, with `{}` kept warm", rollout.stable())
        }
        Stage::Ramping(_) if step < plan.last() => {
            format!("`{canary}` has {}; {} is next", rollout.weight(), plan.step(step + 1).weight)
        }
        Stage::Ramping(_) => format!("`{canary}` has {}, the last step of the plan", rollout.weight()),
    }
}

fn held(service: &str, stage: Stage, hold: Hold, rollout: &Rollout) -> String {
    match hold {
        Hold::Paused => paused(service, rollout),
        Hold::StoreUnavailable => "the fleet's store cannot be reached; it goes on once it can".into(),
        Hold::BaselineIncident => format!(
            "stable `{}` itself is failing or has no endpoint; the step begins anew a minute after it recovers",
            rollout.stable()
        ),
        Hold::Warning => warning(rollout),
        Hold::NoData => no_data(stage, rollout),
        Hold::Gate => format!("all is proved; `gateway rollout promote {service}` goes on"),
    }
}

fn paused(service: &str, rollout: &Rollout) -> String {
    let resume = format!("`gateway rollout resume {service}`");
    match rollout.manual() {
        None => format!("paused by hand; {resume} goes on"),
        Some(manual) => match manual.until {
            None => {
                format!("a weight of {} was set by hand; {resume} returns to the plan", manual.weight)
            }
            Some(until) => format!(
                "a weight of {} was set by hand until {}; {resume} returns to the plan before",
                manual.weight,
                time(until)
            ),
        },
    }
}

/// What is above may be the last two thousand attempts alone, so the rate of the step is only told.
fn warning(rollout: &Rollout) -> String {
    let (canary, warn) = (rollout.evidence().canary, rollout.guard().warn);
    format!(
        "the canary fails more than `warn` ({warn}) allows, {} of {} attempts since the step began; it goes on when it no longer does",
        canary.failures, canary.attempts
    )
}

/// Either too few attempts, or too few to be sure of `max`.
fn no_data(stage: Stage, rollout: &Rollout) -> String {
    let (evidence, step) = (rollout.evidence(), rollout.plan().step(stage.step()));
    let seen = evidence.canary.attempts;
    if seen < step.min_requests {
        return format!("the canary has had {seen} of the {} attempts the step needs", step.min_requests);
    }
    format!(
        "{seen} attempts do not prove that the canary keeps `max`: its failure rate may be {:.2}%, {} is the limit",
        evidence.tests.upper_bound * 100.0,
        rollout.guard().max
    )
}

fn time(since: Duration) -> Rfc3339 {
    Rfc3339(SystemTime::UNIX_EPOCH + since)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use gateway_core::config::{self, Process};
    use gateway_core::rollout::{Command, Counts, Manual, Sample, Target};
    use gateway_core::unit::Weight;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    const FILE: &str = "
version: 1
listeners: { web: { address: \"127.0.0.1:8080\" } }
services:
  api:
    releases: { a: { endpoints: [\"127.0.0.1:1\"] }, b: { endpoints: [\"127.0.0.1:2\"] } }
    stable: a
    canary: b
    rollout: { steps: [{ weight: 10%, hold: 1m, min_requests: 100, gate: manual }, { weight: 100%, hold: 1m }] }
routes: { all: { match: { host: localhost }, service: api } }
";

    fn pending() -> Rollout {
        let loaded = config::load("gateway.yaml", FILE, Path::new(""), &Process).expect("good");
        let service = loaded.gateway.services.values().next().expect("a service");
        Rollout::new(NOW, Target::all(service).remove(0))
    }

    /// Looks after so many seconds, when so many attempts of the canary have failed.
    fn look(rollout: &mut Rollout, seconds: u64, attempts: u64, failures: u64) {
        let canary = Counts { attempts, failures, ..Counts::default() };
        let stable = Counts { attempts: 9 * attempts, ..Counts::default() };
        let sample = Sample { canary, stable, canary_ready: true, stable_ready: true };
        rollout.tick(NOW + Duration::from_secs(seconds), &sample);
    }

    fn said(rollout: &Rollout) -> String {
        standing("api", rollout)
    }

    #[test]
    fn each_hold_says_what_it_waits_for() {
        let mut rollout = pending();
        assert_eq!(said(&rollout), "`b` gets no traffic until one of its endpoints can be used");
        look(&mut rollout, 0, 0, 0);
        assert_eq!(said(&rollout), "`b` has 10%; 100% is next");
        look(&mut rollout, 60, 40, 0);
        assert_eq!(said(&rollout), "the canary has had 40 of the 100 attempts the step needs");
        look(&mut rollout, 61, 500, 0);
        assert_eq!(said(&rollout), "all is proved; `gateway rollout promote api` goes on");
        rollout.command(NOW, Command::Pause).expect("taken");
        assert_eq!(said(&rollout), "paused by hand; `gateway rollout resume api` goes on");
        let weight = Weight::from_percent(30.0).expect("a weight");
        rollout.command(NOW, Command::Weight(Manual { weight, until: Some(NOW) })).expect("taken");
        let text = said(&rollout);
        assert!(
            text.starts_with("a weight of 30% was set by hand until 2027-01-15T08:00:00.000Z; "),
            "{text}"
        );
    }

    #[test]
    fn a_rollback_keeps_its_reason() {
        let mut rollout = pending();
        look(&mut rollout, 0, 0, 0);
        rollout.command(NOW, Command::Abort).expect("taken");
        let expected = "`b` gets no traffic: aborted by hand; deploy a release with another name, or `gateway rollout retry api`";
        assert_eq!(said(&rollout), expected);
    }
}
