//! One rollout, driven by samples. States change by [`State::after`] alone.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use serde::Serialize;

use super::evidence::{Arms, Sample};
use super::judge::{Breach, Evidence, Judge, Verdict};
use super::plan::Plan;
use super::record::{Cause, Change, MAX_CHANGES, Manual, Record, VERSION};
use super::reload::Target;
use super::state::{Event, Hold, Stage, State};
use crate::config::model::{Gate, Guard};
use crate::name::ReleaseName;
use crate::unit::Weight;

/// The rollout of one service, or of one part of its fixed split.
///
/// `now` is the time since the Unix epoch. It may be any clock that never goes back while the process lives; if it goes
/// back over a restart, holds take longer and nothing else happens.
#[derive(Debug, Clone)]
pub struct Rollout {
    pub(super) state: State,
    pub(super) stable: ReleaseName,
    pub(super) canary: Option<ReleaseName>,
    pub(super) target: Target,
    pub(super) plan: Plan,
    pub(super) judge: Judge,
    pub(super) since: Duration,
    pub(super) paused: bool,
    pub(super) manual: Option<Manual>,
    pub(super) rolled_back: BTreeSet<ReleaseName>,
    pub(super) history: VecDeque<Change>,
    store_down: bool,
    totals: Option<Arms>,
}

impl Rollout {
    /// A rollout nothing was remembered of: pending if the file names a canary, idle if not.
    pub fn new(now: Duration, target: Target) -> Self {
        Self::with_latches(now, target, BTreeSet::new())
    }

    /// As [`Rollout::new`], where these releases were rolled back by others of the same service.
    pub fn with_latches(now: Duration, target: Target, rolled_back: BTreeSet<ReleaseName>) -> Self {
        let mut rollout = Self::blank(now, target);
        rollout.rolled_back = rolled_back;
        if let Some(canary) = rollout.target.canary.clone() {
            rollout.name(now, canary);
        }
        rollout
    }

    pub(super) fn blank(now: Duration, target: Target) -> Self {
        Self {
            state: State::Idle,
            stable: target.stable.clone(),
            canary: None,
            plan: target.plan.clone().unwrap_or_else(|| target.cutover_plan()),
            judge: Judge::new(&target.guard),
            since: now,
            paused: false,
            manual: None,
            rolled_back: BTreeSet::new(),
            history: VecDeque::new(),
            store_down: false,
            totals: None,
            target,
        }
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// The release that has what the canary has not.
    pub fn stable(&self) -> &ReleaseName {
        &self.stable
    }

    /// The release that is tried.
    pub fn canary(&self) -> Option<&ReleaseName> {
        self.canary.as_ref()
    }

    /// The canary's share of the moment. Never above zero while its name is latched.
    pub fn weight(&self) -> Weight {
        match self.state {
            State::Idle | State::Pending | State::RolledBack => Weight::ZERO,
            State::Completed if self.canary.is_none() => Weight::ZERO,
            State::Completed => Weight::FULL,
            State::Running(stage) | State::Held(stage, _) => {
                self.manual.map_or_else(|| self.planned(stage), |manual| manual.weight)
            }
        }
    }

    /// Whether this release gets no traffic until `retry`.
    pub fn is_rolled_back(&self, release: &ReleaseName) -> bool {
        self.rolled_back.contains(release)
    }

    /// The releases that get no traffic until `retry`.
    pub fn rolled_back(&self) -> &BTreeSet<ReleaseName> {
        &self.rolled_back
    }

    /// Takes over what other rollouts of the service rolled back. About its own canary it knows better.
    pub fn inherit(&mut self, rolled_back: &BTreeSet<ReleaseName>) {
        let others = rolled_back.iter().filter(|release| Some(*release) != self.canary.as_ref());
        self.rolled_back.extend(others.cloned());
    }

    /// Forgets that a release was rolled back, as another rollout of the service retries it. Its own canary stays out.
    pub fn forget(&mut self, release: &ReleaseName) {
        if self.canary.as_ref() != Some(release) {
            self.rolled_back.remove(release);
        }
    }

    /// The last change, if there was one.
    pub fn last_change(&self) -> Option<&Change> {
        self.history.back()
    }

    /// The numbers of the moment.
    pub fn evidence(&self) -> Evidence {
        self.judge.evidence()
    }

    /// The steps it climbs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The limits the canary must keep.
    pub fn guard(&self) -> &Guard {
        self.judge.guard()
    }

    /// The weight set by hand, if one is.
    pub fn manual(&self) -> Option<Manual> {
        self.manual
    }

    /// To be called for each failed attempt of either arm, once it is counted: `sample` ends with it.
    pub fn on_failure(&mut self, now: Duration, sample: &Sample) -> Option<Change> {
        self.observe(now, sample, true)
    }

    /// To be called for each answer of either arm over the latency limit, once it is counted: `sample` ends with it.
    pub fn on_slow(&mut self, now: Duration, sample: &Sample) -> Option<Change> {
        self.observe(now, sample, true)
    }

    /// To be called every 100 ms or so, and once right after the rollout was made or reloaded.
    pub fn tick(&mut self, now: Duration, sample: &Sample) -> Option<Change> {
        self.observe(now, sample, false)
    }

    /// Tells whether the fleet's store can be asked; no step ends without it. Acts at the next tick.
    pub fn set_store_available(&mut self, available: bool) {
        self.store_down = !available;
    }

    /// What must outlive the process.
    pub fn record(&self) -> Record {
        Record {
            version: VERSION,
            state: self.state,
            stable: self.stable.clone(),
            canary: self.canary.clone(),
            declared_stable: self.target.stable.clone(),
            since: self.since,
            weight: self.state.stage().map_or(self.weight(), |stage| self.planned(stage)),
            paused: self.paused,
            manual: self.manual,
            rolled_back: self.rolled_back.clone(),
            history: self.history.clone(),
        }
    }

    /// What people are shown.
    pub fn status(&self) -> Status<'_> {
        let stage = self.state.stage();
        Status {
            stable: &self.stable,
            canary: self.canary.as_ref(),
            state: self.state.name(),
            reason: self.state.hold().map(Hold::name),
            step: stage.map(Stage::step),
            weight: self.weight(),
            since: self.since.as_secs_f64(),
            next: stage.filter(|_| self.plan.advances()).map(|stage| self.step_ends(stage).as_secs_f64()),
            evidence: self.evidence(),
            history: &self.history,
        }
    }

    fn observe(&mut self, now: Duration, sample: &Sample, hit_last: bool) -> Option<Change> {
        let totals = Arms { canary: sample.canary, stable: sample.stable };
        let before = self.totals.replace(totals).unwrap_or(totals);
        match self.state {
            State::Idle | State::RolledBack => None,
            State::Completed => self.take_up_next(now),
            State::Pending => {
                let stage =
                    if self.is_cutover() { Stage::Verifying(self.plan.last()) } else { self.stage(0) };
                sample.canary_ready.then(|| self.enter(now, Event::Ready(stage), Cause::Ready)).flatten()
            }
            State::Running(stage) | State::Held(stage, _) => {
                self.judge.take(now, totals.since(before), hit_last);
                self.decide(now, stage, sample)
            }
        }
    }

    fn decide(&mut self, now: Duration, stage: Stage, sample: &Sample) -> Option<Change> {
        let incident = self.judge.incident();
        let verdict = self.judge.verdict(now, sample.canary_ready, sample.stable_ready);
        if incident && !self.judge.incident() {
            self.since = now;
        }
        match verdict {
            Verdict::RollBack(breach) => return self.roll_back(now, breach),
            Verdict::Pass | Verdict::Hold(_) if self.manual_is_over(now) => return self.end_manual(now),
            Verdict::Pass | Verdict::Hold(_) => {}
        }
        let judged = if let Verdict::Hold(reason) = verdict { Some(reason) } else { None };
        let over = now >= self.step_ends(stage) && self.plan.advances();
        let due = self.ordered_hold().or(judged).or_else(|| if over { self.unproved(stage) } else { None });
        match (self.state.hold(), due) {
            (is, Some(reason)) if is != Some(reason) => {
                self.enter(now, Event::Wait(reason), Cause::Held(reason))
            }
            (_, None) if over => self.advance(now, stage, Cause::Proved),
            (Some(reason), None) => self.enter(now, Event::GoOn, Cause::Released(reason)),
            _ => None,
        }
    }

    /// A hold that does not depend on what was seen.
    pub(super) fn ordered_hold(&self) -> Option<Hold> {
        if self.paused || self.manual.is_some() {
            return Some(Hold::Paused);
        }
        self.store_down.then_some(Hold::StoreUnavailable)
    }

    /// What keeps a stage whose time is over from ending.
    fn unproved(&self, stage: Stage) -> Option<Hold> {
        let step = self.plan.step(stage.step());
        // A plan that ends below 100 % never asked for more; a person must.
        let gated =
            step.gate == Gate::Manual || self.after(stage).is_some_and(|next| self.exceeds_plan(next));
        self.judge.proved(step).err().or(gated.then_some(Hold::Gate))
    }

    fn roll_back(&mut self, now: Duration, breach: Breach) -> Option<Change> {
        self.enter(now, Event::RollBack, Cause::Breach(breach))
    }

    pub(super) fn advance(&mut self, now: Duration, stage: Stage, cause: Cause) -> Option<Change> {
        match self.after(stage) {
            Some(next) => self.enter(now, Event::Advance(next), cause),
            None => {
                let change = self.enter(now, Event::Complete, cause);
                if self.is_cutover() {
                    self.settle();
                }
                change
            }
        }
    }

    /// The stage that follows, if any.
    fn after(&self, stage: Stage) -> Option<Stage> {
        if stage.step() < self.plan.last() {
            return Some(self.stage(stage.step() + 1));
        }
        matches!(stage, Stage::Ramping(_)).then_some(Stage::Verifying(stage.step()))
    }

    fn exceeds_plan(&self, stage: Stage) -> bool {
        self.planned(stage) > self.plan.step(stage.step()).weight
    }

    /// The canary becomes stable, and there is none any more.
    pub(super) fn settle(&mut self) {
        if let Some(canary) = self.canary.take() {
            self.stable = canary;
        }
    }

    /// A canary the file named during a cutover begins after it.
    fn take_up_next(&mut self, now: Duration) -> Option<Change> {
        let next = self.target.canary.clone().filter(|next| self.canary.is_none() && *next != self.stable)?;
        // Until now it was the cutover's.
        self.plan = self.target.plan.clone().unwrap_or_else(|| self.plan.clone());
        self.name(now, next)
    }

    /// Makes `canary` the one that is tried, or that is refused if it was rolled back before.
    pub(super) fn name(&mut self, now: Duration, canary: ReleaseName) -> Option<Change> {
        let latched = self.rolled_back.contains(&canary);
        self.canary = Some(canary);
        self.enter(now, if latched { Event::NamedRolledBack } else { Event::Named }, Cause::Named)
    }

    pub(super) fn set_manual(&mut self, manual: Option<Manual>) {
        if self.manual != manual {
            self.manual = manual;
            self.judge.weight_changed();
        }
    }

    fn manual_is_over(&self, now: Duration) -> bool {
        self.manual.and_then(|manual| manual.until).is_some_and(|until| now >= until)
    }

    fn end_manual(&mut self, now: Duration) -> Option<Change> {
        self.set_manual(None);
        let event = if self.paused { Event::Wait(Hold::Paused) } else { Event::GoOn };
        self.enter(now, event, Cause::Weight)
    }

    /// Whether the file's stable release is the one being verified.
    pub(super) fn is_cutover(&self) -> bool {
        self.canary.as_ref() == Some(&self.target.stable)
    }

    /// The stage of a step of the plan.
    pub(super) fn stage(&self, step: usize) -> Stage {
        if self.plan.step(step).weight == Weight::FULL {
            Stage::Verifying(step)
        } else {
            Stage::Ramping(step)
        }
    }

    /// The canary's share in a stage, by the plan.
    pub(super) fn planned(&self, stage: Stage) -> Weight {
        match stage {
            Stage::Ramping(step) => self.plan.step(step).weight,
            Stage::Verifying(_) => Weight::FULL,
        }
    }

    fn step_ends(&self, stage: Stage) -> Duration {
        self.since + self.plan.step(stage.step()).hold
    }

    /// The one place where the state changes: weight, clock, evidence, latch and history follow from it.
    pub(super) fn enter(&mut self, now: Duration, event: Event, cause: Cause) -> Option<Change> {
        let from = self.state;
        let to = from.after(event).ok()?;
        let evidence = self.judge.evidence();
        self.state = to;
        match event {
            Event::Wait(_) | Event::GoOn => {}
            Event::Replanned(_) | Event::Ready(_) | Event::Advance(_) => self.begin_step(now),
            _ => self.begin_anew(now),
        }
        if to == State::RolledBack {
            self.rolled_back.extend(self.canary.clone());
        }
        let (canary, stable) = (self.canary.clone(), self.stable.clone());
        let change = Change { at: now, canary, stable, from, to, weight: self.weight(), cause, evidence };
        if self.history.len() == MAX_CHANGES {
            self.history.pop_front();
        }
        self.history.push_back(change.clone());
        Some(change)
    }

    fn begin_step(&mut self, now: Duration) {
        self.since = now;
        self.judge.reset();
    }

    fn begin_anew(&mut self, now: Duration) {
        self.since = now;
        self.judge = Judge::new(self.judge.guard());
        self.paused = false;
        self.manual = None;
        self.totals = None;
    }
}

/// What people are shown of a rollout; times in seconds since the Unix epoch, weights in percent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status<'a> {
    /// The release that has what the canary has not.
    pub stable: &'a ReleaseName,
    /// The release that is tried.
    pub canary: Option<&'a ReleaseName>,
    /// One word.
    pub state: &'static str,
    /// Why it waits, if it does.
    pub reason: Option<&'static str>,
    /// The step's index, from 0.
    pub step: Option<usize>,
    /// The canary's share.
    pub weight: Weight,
    /// When the step or state began.
    pub since: f64,
    /// When the step's time is over, if time can end it.
    pub next: Option<f64>,
    /// The numbers of the moment.
    pub evidence: Evidence,
    /// The last changes, the newest last.
    pub history: &'a VecDeque<Change>,
}
