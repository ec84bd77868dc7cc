//! What becomes of a rollout when the file changes, and when the process begins again.

use std::time::Duration;

use super::judge::Judge;
use super::machine::Rollout;
use super::plan::Plan;
use super::record::{Cause, Change, Record};
use super::state::{Event, Refusal, Stage, State};
use crate::config::model::{self, Guard, Traffic};
use crate::name::ReleaseName;
use crate::unit::Weight;

/// What the file asks of one rollout.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The release that serves what nothing else takes.
    pub stable: ReleaseName,
    /// The release that is tried.
    pub canary: Option<ReleaseName>,
    /// How much the canary gets, and when; a cutover is watched as its last step says, without one for ten minutes.
    pub plan: Option<Plan>,
    /// What it must keep.
    pub guard: Guard,
    /// The releases that can be served at all.
    pub releases: Vec<ReleaseName>,
}

impl Target {
    /// The plan whose last step tells how a cutover is watched.
    pub(super) fn cutover_plan(&self) -> Plan {
        self.plan.clone().filter(Plan::advances).unwrap_or_else(Plan::cutover)
    }

    /// The rollouts of a service: one, or for a fixed split one for each release beside stable.
    pub fn all(service: &model::Service) -> Vec<Self> {
        let target = |canary, plan| Self {
            stable: service.stable.clone(),
            canary,
            plan,
            guard: service.rollout.guard.clone(),
            releases: service.releases.keys().cloned().collect(),
        };
        match &service.traffic {
            Traffic::Stable { plan } => vec![target(None, plan.as_ref().map(Plan::new))],
            Traffic::Canary { canary, plan } => vec![target(Some(canary.clone()), Some(Plan::new(plan)))],
            Traffic::Split(parts) => {
                let total: u64 = parts.iter().map(|(_, part)| u64::from(*part)).sum();
                parts
                    .iter()
                    .filter(|(release, _)| *release != service.stable)
                    .map(|(release, part)| {
                        target(Some(release.clone()), Some(Plan::fixed(share(*part, total))))
                    })
                    .collect()
            }
        }
    }
}

fn share(part: u32, total: u64) -> Weight {
    Weight::from_percent(100.0 * f64::from(part) / total.max(1) as f64).unwrap_or(Weight::ZERO)
}

/// What a reload did to a rollout.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reloaded {
    /// What changed, if anything did.
    pub change: Option<Change>,
    /// Whether the file still asks for a release that was rolled back; it gets nothing.
    pub refused: bool,
}

impl Rollout {
    /// Follows the file. See the table in `docs/rollouts.md`.
    ///
    /// # Errors
    /// [`Refusal::RolledBack`] when `stable` was changed to a release that was rolled back, or the release that serves
    /// in its place is gone from the file. Nothing changed then, and the file should be refused as a whole;
    /// [`Rollout::check`] asks without acting.
    pub fn reload(&mut self, now: Duration, target: Target) -> Result<Reloaded, Refusal> {
        self.check(&target)?;
        let stable_changed = target.stable != self.target.stable;
        let old = std::mem::replace(&mut self.target, target);
        let judged_otherwise = old.guard != self.target.guard;
        if judged_otherwise {
            self.judge = Judge::new(&self.target.guard);
        }
        let change =
            if stable_changed { self.follow_stable(now) } else { self.follow(now, judged_otherwise) };
        Ok(Reloaded { change, refused: self.state == State::RolledBack })
    }

    /// Whether [`Rollout::reload`] would take this.
    ///
    /// # Errors
    /// As [`Rollout::reload`].
    pub fn check(&self, target: &Target) -> Result<(), Refusal> {
        let changed = target.stable != self.target.stable && target.stable != self.stable;
        let no_way_back = target.stable != self.stable && !target.releases.contains(&self.stable);
        if (changed || no_way_back) && self.rolled_back.contains(&target.stable) {
            return Err(Refusal::RolledBack { release: target.stable.clone() });
        }
        Ok(())
    }

    /// Goes on where the process ended: same step and clock, evidence gathered anew; then follows the file.
    ///
    /// # Errors
    /// As [`Rollout::reload`].
    pub fn restore(now: Duration, record: Record, target: Target) -> Result<(Self, Reloaded), Refusal> {
        let mut rollout = Self::blank(now, target.clone());
        rollout.target.stable = record.declared_stable;
        rollout.state = record.state;
        rollout.stable = record.stable;
        rollout.canary = record.canary;
        rollout.since = record.since.min(now);
        rollout.paused = record.paused;
        rollout.manual = record.manual;
        rollout.rolled_back = record.rolled_back;
        rollout.history = record.history;
        if rollout.canary.as_ref().is_some_and(|canary| rollout.rolled_back.contains(canary)) {
            rollout.state = State::RolledBack;
        }
        let mut reloaded = rollout.reload(now, target)?;
        // The plan may have been edited while nobody was there to see the difference.
        let moved = rollout.state.stage().is_some_and(|stage| {
            rollout.planned(stage) != record.weight || stage.step() > rollout.plan.last()
        });
        if moved && reloaded.change.is_none() {
            reloaded.change = rollout.replan(now, record.weight);
        }
        Ok((rollout, reloaded))
    }

    /// A rollout whose memory cannot be read: a canary may have been rolled back, so it gets nothing until `retry`.
    pub fn unreadable(now: Duration, target: Target) -> Self {
        let mut rollout = Self::blank(now, target);
        rollout.canary = rollout.target.canary.clone();
        if rollout.canary.is_some() {
            rollout.enter(now, Event::NamedRolledBack, Cause::Unreadable);
        }
        rollout
    }

    fn follow_stable(&mut self, now: Duration) -> Option<Change> {
        let stable = self.target.stable.clone();
        if self.canary.as_ref() == Some(&stable) {
            self.settle();
            return self.enter(now, Event::Adopted, Cause::Adopted);
        }
        if stable == self.stable || !self.target.releases.contains(&self.stable) {
            self.stable = stable;
            return self.follow(now, false);
        }
        self.canary = Some(stable);
        self.plan = self.target.cutover_plan();
        self.enter(now, Event::CutOver(Stage::Verifying(self.plan.last())), Cause::CutOver)
    }

    /// `stable` is as it was.
    fn follow(&mut self, now: Duration, judged_otherwise: bool) -> Option<Change> {
        let cutover = self.is_cutover();
        let plan = if cutover { Some(self.target.cutover_plan()) } else { self.target.plan.clone() };
        let replanned = judged_otherwise || plan.as_ref().is_some_and(|plan| *plan != self.plan);
        let weight = self.state.stage().map(|stage| self.planned(stage));
        self.plan = plan.unwrap_or_else(|| self.plan.clone());
        match (self.canary.clone(), self.target.canary.clone()) {
            _ if cutover && !self.target.releases.contains(&self.stable) => {
                self.settle();
                self.enter(now, Event::Adopted, Cause::Adopted)
            }
            (Some(is), named) if cutover || named.as_ref() == Some(&is) => {
                weight.filter(|_| replanned).and_then(|weight| self.replan(now, weight))
            }
            (None, None) => None,
            // What was completed is told first; the next tick takes the new canary up.
            (None, Some(_)) if self.state == State::Completed => None,
            (Some(_), None) => {
                self.canary = None;
                self.enter(now, Event::Unnamed, Cause::Removed)
            }
            (_, Some(named)) => self.name(now, named),
        }
    }

    /// Goes on at the new plan's highest step that gives the canary no more than it had.
    fn replan(&mut self, now: Duration, weight: Weight) -> Option<Change> {
        let stage = if self.is_cutover() {
            Stage::Verifying(self.plan.last())
        } else {
            self.stage(self.plan.nearest_at_most(weight))
        };
        self.enter(now, Event::Replanned(stage), Cause::Replanned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{FailureSet, Gate, Step};
    use crate::rollout::{Command, Counts, Refusal, Sample};
    use crate::unit::{Multiple, Ratio};

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn release(name: &str) -> ReleaseName {
        ReleaseName::new(name).expect("a name")
    }

    fn guard() -> Guard {
        let ratio = |value| Ratio::new(value).expect("a ratio");
        Guard {
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
        }
    }

    fn target(stable: &str, canary: Option<&str>, percents: &[f64]) -> Target {
        let step = |percent: &f64| Step {
            weight: Weight::from_percent(*percent).expect("a percentage"),
            hold: Duration::from_secs(60),
            min_requests: 10,
            gate: Gate::Automatic,
        };
        let plan = Plan::new(&model::Plan::Steps(percents.iter().map(step).collect()));
        let releases = ["a", "b", "c"].map(release).to_vec();
        Target {
            stable: release(stable),
            canary: canary.map(release),
            plan: Some(plan),
            guard: guard(),
            releases,
        }
    }

    const STEPS: [f64; 3] = [10.0, 50.0, 100.0];

    fn sample() -> Sample {
        let counts = Counts::default();
        Sample { canary: counts, stable: counts, canary_ready: true, stable_ready: true }
    }

    /// Canary `b` beside stable `a`, at its second step.
    fn at_fifty() -> Rollout {
        let mut rollout = Rollout::new(NOW, target("a", Some("b"), &STEPS));
        rollout.tick(NOW, &sample());
        rollout.command(NOW, Command::Promote).expect("taken");
        assert_eq!(rollout.weight().percent(), 50.0);
        rollout
    }

    fn rolled_back() -> Rollout {
        let mut rollout = at_fifty();
        rollout.command(NOW, Command::Abort).expect("taken");
        rollout
    }

    #[test]
    fn the_same_file_changes_nothing() {
        let mut rollout = at_fifty();
        let before = rollout.record();
        let reloaded = rollout.reload(NOW + Duration::from_secs(5), target("a", Some("b"), &STEPS));
        assert_eq!(reloaded, Ok(Reloaded::default()));
        assert_eq!(rollout.record(), before);
    }

    #[test]
    fn a_rolled_back_canary_gets_nothing_whatever_else_the_file_says() {
        let mut rollout = rolled_back();
        for percents in [&STEPS[..], &[100.0]] {
            let reloaded = rollout.reload(NOW, target("a", Some("b"), percents)).expect("taken");
            assert_eq!(reloaded, Reloaded { change: None, refused: true });
        }
        rollout.reload(NOW, target("a", None, &STEPS)).expect("taken");
        assert_eq!(rollout.state(), State::Idle);
        let named_again = rollout.reload(NOW, target("a", Some("b"), &STEPS)).expect("taken");
        assert!(named_again.refused);
        assert_eq!(rollout.weight(), Weight::ZERO);
    }

    #[test]
    fn what_another_rollout_of_the_service_rolled_back_stays_out_until_it_is_retried_there() {
        let latched = [release("b")].into();
        let rollout = Rollout::with_latches(NOW, target("a", Some("b"), &STEPS), latched);
        assert_eq!((rollout.state(), rollout.weight()), (State::RolledBack, Weight::ZERO));
        let mut other = Rollout::new(NOW, target("a", Some("c"), &STEPS));
        other.inherit(rollout.rolled_back());
        let named = other.reload(NOW, target("a", Some("b"), &STEPS)).expect("taken");
        assert!(named.refused);
        let mut other = Rollout::new(NOW, target("a", Some("c"), &STEPS));
        other.inherit(rollout.rolled_back());
        other.forget(&release("b"));
        let named = other.reload(NOW, target("a", Some("b"), &STEPS)).expect("taken");
        assert_eq!((named.refused, other.state()), (false, State::Pending));
    }

    #[test]
    fn a_canary_that_begins_after_a_cutover_has_its_own_plan() {
        let mut rollout = Rollout::new(NOW, target("a", None, &[10.0, 100.0]));
        let fixed = Some(Plan::fixed(Weight::from_percent(10.0).expect("a percentage")));
        rollout.reload(NOW, Target { plan: fixed, ..target("b", Some("c"), &[]) }).expect("taken");
        rollout.tick(NOW, &sample());
        rollout.command(NOW, Command::Promote).expect("taken");
        rollout.tick(NOW, &sample());
        rollout.tick(NOW, &sample());
        assert_eq!(rollout.canary(), Some(&release("c")));
        assert_eq!(rollout.weight().percent(), 10.0);
    }

    #[test]
    fn a_cutover_without_a_canary_is_watched_as_the_last_step_says() {
        let mut rollout = Rollout::new(NOW, target("a", None, &[10.0, 100.0]));
        rollout.reload(NOW, target("b", None, &[10.0, 100.0])).expect("taken");
        assert_eq!(rollout.state(), State::Running(Stage::Verifying(1)));
        assert_eq!(rollout.status().next, Some((NOW + Duration::from_secs(60)).as_secs_f64()));
    }

    #[test]
    fn an_edited_plan_goes_on_at_the_nearest_lower_weight_without_evidence() {
        let mut rollout = at_fifty();
        let later = NOW + Duration::from_secs(30);
        let good = Counts { attempts: 500, ..Counts::default() };
        rollout.tick(later, &sample());
        rollout.tick(later, &Sample { canary: good, ..sample() });
        assert_eq!(rollout.evidence().canary.attempts, 500);
        let edited = target("a", Some("b"), &[5.0, 20.0, 60.0, 100.0]);
        rollout.reload(later, edited).expect("taken").change.expect("a change");
        assert_eq!(rollout.state(), State::Running(Stage::Ramping(1)));
        assert_eq!(rollout.evidence().canary.attempts, 0);
    }

    #[test]
    fn an_edited_guard_keeps_the_step_and_not_the_evidence() {
        let mut rollout = at_fifty();
        let mut edited = target("a", Some("b"), &STEPS);
        edited.guard.consecutive_failures = 1;
        let change = rollout.reload(NOW, edited).expect("taken").change.expect("a change");
        assert_eq!(change.cause, Cause::Replanned);
        assert_eq!(rollout.state(), State::Running(Stage::Ramping(1)));
    }

    #[test]
    fn a_new_name_supersedes_and_begins_at_the_first_step() {
        for mut rollout in [at_fifty(), rolled_back()] {
            rollout.reload(NOW, target("a", Some("c"), &STEPS)).expect("taken");
            assert_eq!((rollout.state(), rollout.weight()), (State::Pending, Weight::ZERO));
            rollout.tick(NOW, &sample());
            assert_eq!(rollout.weight().percent(), 10.0);
        }
    }

    #[test]
    fn making_the_canary_stable_completes_unless_it_was_rolled_back() {
        let mut rollout = at_fifty();
        rollout.reload(NOW, target("b", None, &STEPS)).expect("taken");
        assert_eq!((rollout.state(), rollout.stable()), (State::Completed, &release("b")));

        let mut rollout = rolled_back();
        let before = rollout.record();
        let refused = rollout.reload(NOW, target("b", None, &STEPS));
        assert_eq!(refused, Err(Refusal::RolledBack { release: release("b") }));
        assert_eq!(rollout.record(), before);
    }

    #[test]
    fn a_cutover_is_verified_and_a_breach_switches_back_for_good() {
        let mut rollout = Rollout::new(NOW, target("a", None, &STEPS));
        rollout.reload(NOW, target("b", None, &STEPS)).expect("taken");
        assert_eq!(rollout.state(), State::Running(Stage::Verifying(2)));
        assert_eq!((rollout.canary(), rollout.weight()), (Some(&release("b")), Weight::FULL));
        rollout.tick(NOW, &sample());
        for failures in 1..=5 {
            let canary = Counts { attempts: failures, failures, slow: 0, seen: failures };
            rollout.on_failure(NOW, &Sample { canary, ..sample() });
        }
        assert_eq!((rollout.state(), rollout.weight()), (State::RolledBack, Weight::ZERO));
        assert_eq!(rollout.stable(), &release("a"));
        assert!(rollout.reload(NOW, target("b", None, &STEPS)).expect("the same file").refused);
        assert_eq!(rollout.weight(), Weight::ZERO);
        let mut without_a = target("b", None, &STEPS);
        without_a.releases.retain(|name| *name != release("a"));
        assert!(rollout.reload(NOW, without_a).is_err(), "nothing would be left to serve");
        rollout.reload(NOW, target("a", None, &STEPS)).expect("the way back");
        assert_eq!(rollout.state(), State::Idle);
    }

    #[test]
    fn a_cutover_from_a_release_that_is_gone_is_not_watched() {
        let mut rollout = Rollout::new(NOW, target("a", None, &STEPS));
        let mut gone = target("b", None, &STEPS);
        gone.releases.retain(|name| *name != release("a"));
        rollout.reload(NOW, gone).expect("taken");
        assert_eq!((rollout.state(), rollout.stable()), (State::Idle, &release("b")));
    }

    #[test]
    fn a_completed_canary_keeps_everything_across_reload_and_restart() {
        let mut rollout = at_fifty();
        rollout.command(NOW, Command::Promote).expect("taken");
        rollout.command(NOW, Command::Promote).expect("taken");
        assert_eq!(rollout.state(), State::Completed);
        rollout.reload(NOW, target("a", Some("b"), &[10.0, 100.0])).expect("taken");
        let (restored, _) =
            Rollout::restore(NOW, rollout.record(), target("a", Some("b"), &STEPS)).expect("taken");
        assert_eq!((restored.state(), restored.weight()), (State::Completed, Weight::FULL));
    }

    #[test]
    fn an_unreadable_memory_gives_the_canary_nothing_until_retry() {
        let mut rollout = Rollout::unreadable(NOW, target("a", Some("b"), &STEPS));
        rollout.tick(NOW, &sample());
        assert_eq!((rollout.state(), rollout.weight()), (State::RolledBack, Weight::ZERO));
        rollout.command(NOW, Command::Retry).expect("taken");
        rollout.tick(NOW, &sample());
        assert_eq!(rollout.weight().percent(), 10.0);
    }

    #[test]
    fn a_restart_with_an_edited_plan_never_gives_more() {
        let record = at_fifty().record();
        let (restored, _) =
            Rollout::restore(NOW, record, target("a", Some("b"), &[5.0, 90.0, 100.0])).expect("taken");
        assert_eq!(restored.weight().percent(), 5.0);
    }
}
