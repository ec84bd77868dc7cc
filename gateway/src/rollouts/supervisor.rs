//! One service's rollouts while the process lives: what was seen goes in, shares of traffic come out.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use gateway_core::name::{ReleaseName, ServiceName};
use gateway_core::rollout::{Change, Command, Record, Refusal, Rollout, Sample, State, Target};
use parking_lot::Mutex;

use super::Clock;
use super::announce::{Announcement, Announcer};
use super::division::Division;
use super::retirement::Retirement;
use super::tally::Tally;
use crate::upstream::Service;

/// The rollouts of one service: one, or one for each release beside stable of a fixed split.
///
/// A failing attempt is judged here before its request goes on. The lock is taken by failures, ticks and people, never
/// by a request that succeeds.
pub(crate) struct Supervisor {
    service: ServiceName,
    clock: Clock,
    tallies: Mutex<HashMap<ReleaseName, Arc<Tally>>>,
    retirements: Mutex<HashMap<ReleaseName, Arc<Retirement>>>,
    inner: Mutex<Inner>,
    announcer: Announcer,
}

#[derive(Default)]
struct Inner {
    rollouts: Vec<Rollout>,
    /// The service in the snapshots that are in use; the newest last.
    serving: Vec<Weak<Service>>,
    killed: bool,
}

impl Supervisor {
    /// Nothing is remembered and nothing serves yet; [`Self::follow`] begins.
    pub(crate) fn new(service: &ServiceName, clock: Clock, announcer: Announcer) -> Self {
        let (tallies, retirements, inner) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { service: service.clone(), clock, tallies, retirements, inner, announcer }
    }

    /// Where a release's attempts are counted, the same for as long as the process lives.
    pub(crate) fn tally(&self, release: &ReleaseName) -> Arc<Tally> {
        self.tallies.lock().entry(release.clone()).or_default().clone()
    }

    /// Whether a release is rolled back, for what still runs on it.
    pub(crate) fn retirement(&self, release: &ReleaseName) -> Arc<Retirement> {
        self.retirements.lock().entry(release.clone()).or_default().clone()
    }

    /// Whether the file asks for something that was rolled back. `remembered` counts as for [`Self::follow`].
    ///
    /// # Errors
    /// The refusal, which names the release.
    pub(crate) fn check(&self, targets: &[Target], remembered: &Remembered) -> Result<(), Refusal> {
        let now = self.clock.now();
        let inner = self.inner.lock();
        let past = Past::new(&inner.rollouts, remembered);
        let alone = targets.len() == 1;
        targets.iter().try_for_each(|target| past.take_up(now, target.clone(), alone).map(drop))
    }

    /// Follows a new configuration: rollouts go on, begin or end, and `service` gets the shares they say.
    ///
    /// `remembered` is what an earlier process left behind; it counts for rollouts that are not known here.
    pub(crate) fn follow(
        &self,
        service: &Arc<Service>,
        targets: Vec<Target>,
        remembered: &Remembered,
        killed: bool,
    ) {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        // What was counted so far belongs to what was asked so far.
        self.look(&mut inner, |rollout, sample| rollout.tick(now, sample));
        let before = std::mem::take(&mut inner.rollouts);
        let past = Past::new(&before, remembered);
        let (mut changes, mut refused) = (Vec::new(), 0);
        let alone = targets.len() == 1;
        for target in targets {
            let taken = past.take_up(now, target.clone(), alone).unwrap_or_else(|_| past.stay(now, target));
            refused += u64::from(taken.refused);
            changes.extend(taken.change);
            inner.rollouts.push(taken.rollout);
        }
        inner.killed = killed;
        inner.serving.push(Arc::downgrade(service));
        self.settle(&mut inner, changes);
        self.look(&mut inner, |rollout, sample| rollout.tick(now, sample));
        drop(inner);
        service.rollouts.refused.add(refused);
        self.tallies.lock().retain(|_, tally| Arc::strong_count(tally) > 1);
    }

    /// To be called for every failed attempt, once it is counted. At most one change of each rollout comes of it.
    pub(crate) fn on_failure(&self) {
        let now = self.clock.now();
        self.look(&mut self.inner.lock(), |rollout, sample| rollout.on_failure(now, sample));
    }

    /// To be called for every answer over the latency limit, as [`Self::on_failure`].
    pub(crate) fn on_slow(&self) {
        let now = self.clock.now();
        self.look(&mut self.inner.lock(), |rollout, sample| rollout.on_slow(now, sample));
    }

    /// To be called every 100 ms.
    pub(crate) fn tick(&self) {
        let now = self.clock.now();
        self.look(&mut self.inner.lock(), |rollout, sample| rollout.tick(now, sample));
    }

    /// Shows every rollout what was counted, and acts on what it says.
    fn look(&self, inner: &mut Inner, observe: impl Fn(&mut Rollout, &Sample) -> Option<Change>) {
        let Some(service) = inner.serving.last().and_then(Weak::upgrade) else { return };
        let mut changes = Vec::new();
        for rollout in &mut inner.rollouts {
            // One without a canary may have a next one waiting; its own counts are of no concern then.
            let canary = rollout.canary().unwrap_or(rollout.stable());
            // A canary begins when a check has found it good, and is not lost before one has found it bad.
            let pending = rollout.state() == State::Pending;
            let sample = Sample {
                canary: self.tally(canary).counts(),
                stable: self.tally(rollout.stable()).counts(),
                canary_ready: service.is_ready(canary) || !pending && service.is_waiting(canary),
                stable_ready: service.is_ready(rollout.stable()) || service.is_waiting(rollout.stable()),
            };
            changes.extend(observe(rollout, &sample));
        }
        drop(service);
        if !changes.is_empty() {
            self.settle(inner, changes);
        }
    }

    /// Does what a person asks of every rollout of the service that can do it.
    ///
    /// # Errors
    /// The first refusal, when none can. A weight by hand is refused for a split, whose shares add up in the file.
    pub(crate) fn command(&self, command: Command) -> Result<Vec<Change>, Refusal> {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        if matches!(command, Command::Weight(_)) && inner.rollouts.len() > 1 {
            return Err(Refusal::FixedWeight);
        }
        let (mut changes, mut refusal) = (Vec::new(), None);
        for rollout in &mut inner.rollouts {
            match rollout.command(now, command) {
                Ok(change) => changes.push(change),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        if changes.is_empty() {
            return Err(refusal.unwrap_or(Refusal::NoRollout));
        }
        if command == Command::Retry {
            let retried: Vec<_> = changes.iter().filter_map(|change| change.canary.as_ref()).collect();
            inner.rollouts.iter_mut().for_each(|rollout| retried.iter().for_each(|it| rollout.forget(it)));
        }
        self.settle(&mut inner, changes.clone());
        self.look(&mut inner, |rollout, sample| rollout.tick(now, sample));
        Ok(changes)
    }

    /// Sends everything to stable, or stops doing so.
    pub(crate) fn kill(&self, on: bool) {
        let mut inner = self.inner.lock();
        inner.killed = on;
        self.divide(&mut inner);
    }

    /// Looks at the rollouts without changing them.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&[Rollout]) -> T) -> T {
        look(&self.inner.lock().rollouts)
    }

    /// What must outlive the process.
    pub(crate) fn records(&self) -> Vec<Record> {
        self.read(|rollouts| rollouts.iter().map(Rollout::record).collect())
    }

    /// Shares first, then memory and everybody who wants to know.
    fn settle(&self, inner: &mut Inner, changes: Vec<Change>) {
        self.divide(inner);
        if changes.is_empty() {
            return;
        }
        let serving = inner.serving.last().and_then(Weak::upgrade);
        let notify = serving.map_or_else(Vec::new, |service| service.definition.rollout.notify.clone());
        let records = inner.rollouts.iter().map(Rollout::record).collect();
        self.announcer.announce(Announcement { service: self.service.clone(), records, changes, notify });
    }

    fn divide(&self, inner: &mut Inner) {
        inner.serving.retain(|service| service.strong_count() > 0);
        let mut retired = Vec::new();
        for (release, retirement) in &*self.retirements.lock() {
            if retirement.set(inner.rollouts.iter().any(|rollout| rollout.is_rolled_back(release))) {
                retired.push(release.clone());
            }
        }
        for service in inner.serving.iter().filter_map(Weak::upgrade) {
            let index = |release: &ReleaseName| service.index_of(release);
            let division =
                Division::new(&self.service, &service.definition, &inner.rollouts, inner.killed, index);
            service.set_division(division);
            // Nobody is sent there any more, so none of them is missed.
            retired.iter().filter_map(index).for_each(|gone| service.releases[gone].drop_idle());
            service.show(&inner.rollouts);
        }
    }
}

/// What is known from before this process.
pub(crate) enum Remembered {
    /// Nothing was written, or everything written is in use already.
    Nothing,
    /// What was written.
    Records(Vec<Record>),
    /// Something was written that cannot be read: a canary may have been rolled back.
    Unreadable,
}

/// The rollouts of a service until now: those at work or, when there are none, those that were remembered.
struct Past<'a> {
    rollouts: &'a [Rollout],
    remembered: &'a Remembered,
    /// What any of them rolled back.
    latched: BTreeSet<ReleaseName>,
}

/// A rollout that follows a target.
struct Taken {
    rollout: Rollout,
    change: Option<Change>,
    /// Whether the file asks for a release that was rolled back.
    refused: bool,
}

impl<'a> Past<'a> {
    fn new(rollouts: &'a [Rollout], remembered: &'a Remembered) -> Self {
        let latched = match remembered {
            Remembered::Records(records) if rollouts.is_empty() => {
                records.iter().flat_map(|record| &record.rolled_back).cloned().collect()
            }
            _ => rollouts.iter().flat_map(Rollout::rolled_back).cloned().collect(),
        };
        Self { rollouts, remembered, latched }
    }

    /// The rollout a target goes on with, or a new one; `alone` when it is the service's only target.
    fn take_up(&self, now: Duration, target: Target, alone: bool) -> Result<Taken, Refusal> {
        let known = find(self.rollouts, &target, alone, Rollout::canary, Rollout::stable);
        if let Some(known) = known.filter(|known| !self.is_in_the_dark(known)) {
            let mut rollout = known.clone();
            rollout.inherit(&self.latched);
            let reloaded = rollout.reload(now, target)?;
            return Ok(Taken { rollout, change: reloaded.change, refused: reloaded.refused });
        }
        match self.remembered {
            Remembered::Unreadable if known.is_some() || self.rollouts.is_empty() => {
                Ok(Taken::begin(Rollout::unreadable(now, target)))
            }
            Remembered::Records(records) if self.rollouts.is_empty() => {
                self.restore(now, records, target, alone)
            }
            _ => self.begin(now, target),
        }
    }

    /// Nothing is known of what came before, and nothing has happened since: no canary was named.
    fn is_in_the_dark(&self, known: &Rollout) -> bool {
        matches!(self.remembered, Remembered::Unreadable) && known.last_change().is_none()
    }

    fn restore(
        &self,
        now: Duration,
        records: &[Record],
        target: Target,
        alone: bool,
    ) -> Result<Taken, Refusal> {
        let found = find(records, &target, alone, |record| record.canary.as_ref(), |record| &record.stable);
        let Some(mut record) = found.cloned() else { return self.begin(now, target) };
        let others = self.latched.iter().filter(|release| Some(*release) != record.canary.as_ref());
        record.rolled_back.extend(others.cloned());
        let (rollout, reloaded) = Rollout::restore(now, record, target)?;
        Ok(Taken { rollout, change: reloaded.change, refused: reloaded.refused })
    }

    fn begin(&self, now: Duration, target: Target) -> Result<Taken, Refusal> {
        if self.latched.contains(&target.stable) {
            return Err(Refusal::RolledBack { release: target.stable });
        }
        Ok(Taken::begin(Rollout::with_latches(now, target, self.latched.clone())))
    }

    /// For what was rolled back after the file had been checked and before it is followed: nothing goes on with it.
    fn stay(&self, now: Duration, target: Target) -> Taken {
        match find(self.rollouts, &target, true, Rollout::canary, Rollout::stable) {
            Some(known) => Taken { rollout: known.clone(), change: None, refused: true },
            None => Taken::begin(Rollout::unreadable(now, target)),
        }
    }
}

impl Taken {
    fn begin(rollout: Rollout) -> Self {
        let refused = rollout.state() == State::RolledBack;
        Self { change: rollout.last_change().cloned(), refused, rollout }
    }
}

/// What a target goes on with: that with the same canary. A service's only target goes on with another one, too: first
/// with that whose canary it makes stable. Of several, each stands beside the same stable release as before or begins
/// anew, since shares of a split are not a cutover.
fn find<'a, T>(
    all: &'a [T],
    target: &Target,
    alone: bool,
    canary: impl Fn(&T) -> Option<&ReleaseName>,
    stable: impl Fn(&T) -> &ReleaseName,
) -> Option<&'a T> {
    let same = |one: &&T| canary(one).is_some() && canary(one) == target.canary.as_ref();
    if !alone {
        return all.iter().find(|one| same(one) && *stable(one) == target.stable);
    }
    let adopted = |one: &&T| canary(one) == Some(&target.stable);
    all.iter().find(same).or_else(|| all.iter().find(adopted)).or_else(|| all.first())
}
