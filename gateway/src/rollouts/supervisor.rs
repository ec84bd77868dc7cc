//! One service's rollouts while the process lives: what was seen goes in, shares of traffic come out.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use gateway_core::name::{ReleaseName, ServiceName};
use gateway_core::rollout::{Change, Command, Counts, Record, Refusal, Rollout, Sample, Target};
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
        let alone = targets.len() == 1;
        let known = |target| find(&inner.rollouts, target, alone);
        for target in targets {
            match (known(target), remembered) {
                (Some(rollout), _) => rollout.check(target)?,
                (None, Remembered::Records(records)) => {
                    let record = recall(records, target, alone).cloned();
                    record.map(|record| Rollout::restore(now, record, target.clone())).transpose()?;
                }
                (None, _) => {}
            }
        }
        Ok(())
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
        let before = std::mem::take(&mut inner.rollouts);
        let (mut changes, mut refused) = (Vec::new(), 0);
        let alone = targets.len() == 1;
        for target in targets {
            let (rollout, change, is_refused) = take_up(now, target, alone, &before, remembered);
            refused += u64::from(is_refused);
            changes.extend(change);
            inner.rollouts.push(rollout);
        }
        inner.killed = killed;
        inner.serving.push(Arc::downgrade(service));
        self.settle(&mut inner, changes);
        service.refused.add(refused);
    }

    /// To be called for every failed or slow attempt, once it is counted. At most one change comes of it.
    pub(crate) fn on_failure(&self) {
        let now = self.clock.now();
        self.observe(|rollout, sample| rollout.on_failure(now, sample));
    }

    /// To be called every 100 ms.
    pub(crate) fn tick(&self) {
        let now = self.clock.now();
        self.observe(|rollout, sample| rollout.tick(now, sample));
    }

    fn observe(&self, look: impl Fn(&mut Rollout, &Sample) -> Option<Change>) {
        let mut inner = self.inner.lock();
        let Inner { rollouts, serving, .. } = &mut *inner;
        let Some(service) = serving.last().and_then(Weak::upgrade) else { return };
        let mut changes = Vec::new();
        for rollout in rollouts {
            // One without a canary may have the next one to take up.
            let canary = rollout.canary();
            let sample = Sample {
                canary: canary.map_or_else(Counts::default, |canary| self.tally(canary).counts()),
                stable: self.tally(rollout.stable()).counts(),
                canary_ready: canary.is_some_and(|canary| service.is_ready(canary)),
                stable_ready: service.is_ready(rollout.stable()),
            };
            changes.extend(look(rollout, &sample));
        }
        drop(service);
        if !changes.is_empty() {
            self.settle(&mut inner, changes);
        }
    }

    /// Does what a person asks of every rollout of the service that can do it.
    ///
    /// # Errors
    /// The first refusal, when none can.
    pub(crate) fn command(&self, command: Command) -> Result<Vec<Change>, Refusal> {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
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
        self.settle(&mut inner, changes.clone());
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
        for (release, retirement) in &*self.retirements.lock() {
            retirement.set(inner.rollouts.iter().any(|rollout| rollout.is_rolled_back(release)));
        }
        for service in inner.serving.iter().filter_map(Weak::upgrade) {
            let index = |release: &ReleaseName| service.index_of(release);
            let division =
                Division::new(&self.service, &service.definition, &inner.rollouts, inner.killed, index);
            service.set_division(division);
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

/// The rollout that a target goes on with: the one with the same canary, or the only one when there is one target.
fn find<'a>(rollouts: &'a [Rollout], target: &Target, alone: bool) -> Option<&'a Rollout> {
    let same =
        rollouts.iter().find(|known| known.canary().is_some() && known.canary() == target.canary.as_ref());
    same.or(rollouts.first().filter(|_| alone && rollouts.len() == 1))
}

/// As [`find`], among what was written.
fn recall<'a>(records: &'a [Record], target: &Target, alone: bool) -> Option<&'a Record> {
    let same = records.iter().find(|record| record.canary.is_some() && record.canary == target.canary);
    same.or(records.first().filter(|_| alone && records.len() == 1))
}

fn take_up(
    now: Duration,
    target: Target,
    alone: bool,
    before: &[Rollout],
    remembered: &Remembered,
) -> (Rollout, Option<Change>, bool) {
    if let Some(known) = find(before, &target, alone) {
        let mut rollout = known.clone();
        // What is refused was refused before anything changed; a rollout that disagrees all the same stays as it was.
        let reloaded = rollout.reload(now, target).unwrap_or_default();
        return (rollout, reloaded.change, reloaded.refused);
    }
    match remembered {
        Remembered::Unreadable => (Rollout::unreadable(now, target), None, true),
        Remembered::Records(records) => match recall(records, &target, alone).cloned() {
            Some(record) => match Rollout::restore(now, record, target.clone()) {
                Ok((rollout, reloaded)) => (rollout, reloaded.change, reloaded.refused),
                Err(_) => (Rollout::unreadable(now, target), None, true),
            },
            None => (Rollout::new(now, target), None, false),
        },
        Remembered::Nothing => (Rollout::new(now, target), None, false),
    }
}
