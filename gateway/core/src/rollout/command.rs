//! What people may ask of a rollout, and why it may refuse.

use std::time::Duration;

use super::machine::Rollout;
use super::record::{Cause, Change, Manual};
use super::state::{Event, Hold, Refusal, Stage, State};

/// What a person may ask of a rollout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Command {
    /// Go on to the next step now.
    Promote,
    /// Stay at this step.
    Pause,
    /// Take back `pause` or `weight`.
    Resume,
    /// Give the canary nothing, until `retry`.
    Abort,
    /// Begin again with a release that was rolled back.
    Retry,
    /// Give the canary this share instead of the plan's, and do not go on meanwhile.
    Weight(Manual),
}

impl Rollout {
    /// Does what a person asks.
    ///
    /// # Errors
    /// [`Refusal`] says why not; nothing changed then.
    pub fn command(&mut self, now: Duration, command: Command) -> Result<Change, Refusal> {
        let Some(canary) = self.canary.clone() else { return Err(Refusal::NoRollout) };
        match command {
            Command::Abort if self.state != State::RolledBack => {
                self.enter(now, Event::RollBack, Cause::Aborted).ok_or(Refusal::NoRollout)
            }
            Command::Retry if self.state == State::RolledBack => {
                self.rolled_back.remove(&canary);
                self.enter(now, Event::Retry, Cause::Retried).ok_or(Refusal::NotRolledBack)
            }
            Command::Retry => Err(Refusal::NotRolledBack),
            Command::Promote => self.promote(now),
            Command::Pause => self.pause(now),
            Command::Resume => self.resume(now),
            Command::Weight(manual) => self.set_weight(now, manual),
            Command::Abort => Err(Refusal::RolledBack { release: canary }),
        }
    }

    fn promote(&mut self, now: Duration) -> Result<Change, Refusal> {
        let stage = self.running_stage()?;
        if !self.plan.advances() {
            return Err(Refusal::FixedWeight);
        }
        match self.ordered_hold() {
            Some(Hold::StoreUnavailable) => Err(Refusal::StoreUnavailable),
            Some(_) => Err(Refusal::Paused),
            None if self.judge.incident() => Err(Refusal::BaselineIncident),
            None => self.advance(now, stage, Cause::Promoted).ok_or(Refusal::Completed),
        }
    }

    fn pause(&mut self, now: Duration) -> Result<Change, Refusal> {
        self.running_stage()?;
        if self.paused {
            return Err(Refusal::Paused);
        }
        self.paused = true;
        self.enter(now, Event::Wait(Hold::Paused), Cause::Paused).ok_or(Refusal::NotStarted)
    }

    fn resume(&mut self, now: Duration) -> Result<Change, Refusal> {
        self.running_stage()?;
        if !self.paused && self.manual.is_none() {
            return Err(Refusal::NotPaused);
        }
        self.paused = false;
        self.set_manual(None);
        self.enter(now, Event::GoOn, Cause::Resumed).ok_or(Refusal::NotPaused)
    }

    fn set_weight(&mut self, now: Duration, manual: Manual) -> Result<Change, Refusal> {
        self.running_stage()?;
        self.set_manual(Some(manual));
        self.enter(now, Event::Wait(Hold::Paused), Cause::Weight).ok_or(Refusal::NotStarted)
    }

    fn running_stage(&self) -> Result<Stage, Refusal> {
        match (self.state, &self.canary) {
            (State::Running(stage) | State::Held(stage, _), _) => Ok(stage),
            (State::RolledBack, Some(canary)) => Err(Refusal::RolledBack { release: canary.clone() }),
            (State::Idle | State::RolledBack, _) => Err(Refusal::NoRollout),
            (State::Pending, _) => Err(Refusal::NotStarted),
            (State::Completed, _) => Err(Refusal::Completed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{FailureSet, Gate, Guard, Plan as Written, Step};
    use crate::name::ReleaseName;
    use crate::rollout::{Counts, Plan, Sample, Target};
    use crate::unit::{Multiple, Ratio, Weight};

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn release(name: &str) -> ReleaseName {
        ReleaseName::new(name).expect("a name")
    }

    fn ramping(plan: Plan) -> Rollout {
        let ratio = |value| Ratio::new(value).expect("a ratio");
        let guard = Guard {
            warn: ratio(0.01),
            max: ratio(0.05),
            worse_than_stable: Multiple::new(1.2).expect("a multiple"),
            latency: None,
            consecutive_failures: 5,
            max_failed_requests: 25,
            failures: FailureSet {
                connect: true,
                timeout: true,
                reset: true,
                server_errors: true,
                statuses: vec![],
            },
            confidence: ratio(0.999),
        };
        let releases = vec![release("a"), release("b")];
        let (stable, canary) = (release("a"), Some(release("b")));
        let mut rollout = Rollout::new(NOW, Target { stable, canary, plan: Some(plan), guard, releases });
        tick(&mut rollout, NOW);
        rollout
    }

    fn tick(rollout: &mut Rollout, now: Duration) -> Option<Change> {
        let counts = Counts::default();
        rollout.tick(now, &Sample { canary: counts, stable: counts, canary_ready: true, stable_ready: true })
    }

    fn steps(percents: &[f64]) -> Plan {
        let step = |percent: &f64| Step {
            weight: weight(*percent),
            hold: Duration::from_secs(60),
            min_requests: 10,
            gate: Gate::Automatic,
        };
        Plan::new(&Written::Steps(percents.iter().map(step).collect()))
    }

    fn weight(percent: f64) -> Weight {
        Weight::from_percent(percent).expect("a percentage")
    }

    #[test]
    fn abort_beats_promote_whichever_comes_first() {
        for orders in [[Command::Abort, Command::Promote], [Command::Promote, Command::Abort]] {
            let mut rollout = ramping(steps(&[10.0, 100.0]));
            for order in orders {
                let _ = rollout.command(NOW, order);
            }
            assert_eq!((rollout.state(), rollout.weight()), (State::RolledBack, Weight::ZERO));
        }
    }

    #[test]
    fn every_refusal_says_why() {
        let mut rollout = ramping(steps(&[10.0, 100.0]));
        assert_eq!(rollout.command(NOW, Command::Resume), Err(Refusal::NotPaused));
        assert_eq!(rollout.command(NOW, Command::Retry), Err(Refusal::NotRolledBack));
        rollout.command(NOW, Command::Pause).expect("taken");
        assert_eq!(rollout.command(NOW, Command::Promote), Err(Refusal::Paused));
        assert_eq!(rollout.command(NOW, Command::Pause), Err(Refusal::Paused));
        rollout.command(NOW, Command::Resume).expect("taken");
        rollout.set_store_available(false);
        assert_eq!(rollout.command(NOW, Command::Promote), Err(Refusal::StoreUnavailable));
        rollout.command(NOW, Command::Abort).expect("taken");
        let latched = Err(Refusal::RolledBack { release: release("b") });
        for command in [Command::Promote, Command::Pause, Command::Resume, Command::Abort] {
            assert_eq!(rollout.command(NOW, command), latched, "{command:?}");
        }
        rollout.command(NOW, Command::Retry).expect("taken");
        assert_eq!(rollout.command(NOW, Command::Promote), Err(Refusal::NotStarted));
        let mut fixed = ramping(Plan::fixed(weight(10.0)));
        assert_eq!(fixed.command(NOW, Command::Promote), Err(Refusal::FixedWeight));
    }

    #[test]
    fn a_weight_set_by_hand_ends_by_itself() {
        let mut rollout = ramping(steps(&[10.0, 100.0]));
        let until = Some(NOW + Duration::from_secs(5));
        rollout.command(NOW, Command::Weight(Manual { weight: weight(30.0), until })).expect("taken");
        assert_eq!((rollout.weight(), rollout.state().hold()), (weight(30.0), Some(Hold::Paused)));
        assert_eq!(tick(&mut rollout, NOW + Duration::from_secs(4)), None);
        let change = tick(&mut rollout, NOW + Duration::from_secs(5)).expect("a change");
        assert_eq!((change.cause, rollout.weight()), (Cause::Weight, weight(10.0)));
        assert_eq!(rollout.state(), State::Running(Stage::Ramping(0)));
    }

    #[test]
    fn a_plan_that_ends_below_all_traffic_goes_no_further_without_a_person() {
        let mut rollout = ramping(steps(&[10.0, 50.0]));
        rollout.command(NOW, Command::Promote).expect("taken");
        assert_eq!(rollout.weight(), weight(50.0));
        let good = Counts { attempts: 1000, ..Counts::default() };
        let sample = Sample { canary: good, stable: good, canary_ready: true, stable_ready: true };
        tick(&mut rollout, NOW);
        rollout.tick(NOW + Duration::from_secs(3600), &sample);
        assert_eq!(rollout.state(), State::Held(Stage::Ramping(1), Hold::Gate));
        rollout.command(NOW, Command::Promote).expect("taken");
        assert_eq!(rollout.state(), State::Running(Stage::Verifying(1)));
    }
}
