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
    /// How much the canary gets, and when; without one a cutover follows the last plan known.
    pub plan: Option<Plan>,
    /// What it must keep.
    pub guard: Guard,
    /// The releases that can be served at all.
    pub releases: Vec<ReleaseName>,
}

impl Target {
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
            Traffic::Stable => vec![target(None, None)],
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
    /// [`Refusal::RolledBack`] when `stable` was changed to a release that was rolled back. Nothing changed then, and
    /// the file should be refused as a whole; [`Rollout::check`] asks without acting.
    pub fn reload(&mut self, now: Duration, target: Target) -> Result<Reloaded, Refusal> {
        self.check(&target)?;
        let stable_changed = target.stable != self.target.stable;
        let old = std::mem::replace(&mut self.target, target);
        let judged_otherwise = old.guard != self.target.guard;
        if judged_otherwise {
            self.judge = Judge::new(&self.target.guard);
        }
        let replanned = self.target.plan.as_ref().is_some_and(|plan| *plan != self.plan) || judged_otherwise;
        let change = if stable_changed { self.follow_stable(now) } else { self.follow(now, replanned) };
        Ok(Reloaded { change, refused: self.state == State::RolledBack })
    }

    /// Whether [`Rollout::reload`] would take this.
    ///
    /// # Errors
    /// As [`Rollout::reload`].
    pub fn check(&self, target: &Target) -> Result<(), Refusal> {
        let changed = target.stable != self.target.stable && target.stable != self.stable;
        if changed && self.rolled_back.contains(&target.stable) {
            return Err(Refusal::RolledBack { release: target.stable.clone() });
        }
        Ok(())
    }

    /// Goes on where the process ended: same step and clock, evidence gathered anew; then follows the file.
    ///
    /// # Errors
    /// As [`Rollout::reload`]; the file was changed meanwhile to make a rolled-back release stable.
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
        let moved = rollout.state.stage().is_some_and(|stage| rollout.planned(stage) != record.weight);
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
        if let Some(plan) = self.target.plan.clone() {
            self.plan = plan;
        }
        if !self.plan.advances() {
            self.plan = Plan::cutover();
        }
        self.enter(now, Event::CutOver(Stage::Verifying(self.plan.last())), Cause::CutOver)
    }

    /// `stable` is as it was.
    fn follow(&mut self, now: Duration, replanned: bool) -> Option<Change> {
        if self.is_cutover() {
            return self.follow_cutover(now, replanned);
        }
        let weight = self.state.stage().map(|stage| self.planned(stage));
        if let Some(plan) = self.target.plan.clone() {
            self.plan = plan;
        }
        match (self.canary.clone(), self.target.canary.clone()) {
            (None, None) => None,
            (Some(_), None) => {
                self.canary = None;
                self.enter(now, Event::Unnamed, Cause::Removed)
            }
            (Some(is), Some(named)) if is == named => {
                weight.filter(|_| replanned).and_then(|weight| self.replan(now, weight))
            }
            (_, Some(named)) => self.name(now, named),
        }
    }

    /// A cutover goes on, or cannot be taken back any more because the old release is gone from the file.
    fn follow_cutover(&mut self, now: Duration, replanned: bool) -> Option<Change> {
        if self.state == State::RolledBack {
            return None;
        }
        if !self.target.releases.contains(&self.stable) {
            self.settle();
            return self.enter(now, Event::Adopted, Cause::Adopted);
        }
        let plan = self.target.plan.clone().filter(|plan| replanned && plan.advances());
        self.plan = plan.unwrap_or_else(|| self.plan.clone());
        let stage = Stage::Verifying(self.plan.last());
        replanned.then(|| self.enter(now, Event::Replanned(stage), Cause::Replanned)).flatten()
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
