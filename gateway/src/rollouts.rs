//! Rollouts at work. `gateway_core::rollout` decides; this counts what happens, asks, and acts on the answer.
//!
//! ```text
//! attempt ends ─Tally→ Supervisor ─Sample→ core::rollout ─Change→ Division (shares), then Store, Events, Notifier
//! ```

pub(crate) mod announce;
pub(crate) mod division;
pub(crate) mod events;
pub(crate) mod notify;
pub(crate) mod retirement;
pub(crate) mod store;
pub(crate) mod supervisor;
pub(crate) mod switches;
pub(crate) mod tally;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gateway_core::config::model::Gateway;
use gateway_core::config::problem::{Code, Problem};
use gateway_core::name::ServiceName;
use gateway_core::rollout::Target;
use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;

use self::announce::Announcer;
use self::store::Store;
use self::supervisor::{Remembered, Supervisor};
use self::switches::Switched;
use crate::snapshot::Snapshot;
use crate::telemetry::instruments::Gauge;

/// How often rollouts look at the clock.
const TICK: Duration = Duration::from_millis(100);

/// How long a person who throws a switch waits for the disk.
const SAVE_PATIENCE: Duration = Duration::from_secs(2);

/// Every rollout of the process.
pub(crate) struct Rollouts {
    clock: Clock,
    store: Arc<Store>,
    announcer: Announcer,
    supervisors: Mutex<HashMap<ServiceName, Arc<Supervisor>>>,
    killed: AtomicBool,
    /// Shows the kill switch.
    gauge: Arc<Gauge>,
}

/// The time since 1970, taken once and then counted on, so that it never goes back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    epoch: Duration,
    begun: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { epoch, begun: Instant::now() }
    }

    pub(crate) fn at(&self, instant: Instant) -> Duration {
        self.epoch + instant.saturating_duration_since(self.begun)
    }

    pub(crate) fn now(&self) -> Duration {
        self.at(Instant::now())
    }
}

impl Rollouts {
    /// Nothing yet but the kill switch as it was left, which `gauge` shows.
    pub(crate) fn new(store: Arc<Store>, announcer: Announcer, gauge: Arc<Gauge>) -> Self {
        let killed = store.is_killed();
        gauge.set(f64::from(killed));
        let killed = AtomicBool::new(killed);
        Self { clock: Clock::start(), store, announcer, supervisors: Mutex::default(), killed, gauge }
    }

    /// The rollouts of a service, made when it is asked for the first time.
    pub(crate) fn of(&self, service: &ServiceName) -> Arc<Supervisor> {
        let make = || Arc::new(Supervisor::new(service, self.clock, self.announcer.clone()));
        self.supervisors.lock().entry(service.clone()).or_insert_with(make).clone()
    }

    /// The rollouts of a service, if there is such a service.
    pub(crate) fn find(&self, service: &str) -> Option<Arc<Supervisor>> {
        self.supervisors.lock().get(service).cloned()
    }

    /// All of them, by name.
    pub(crate) fn all(&self) -> Vec<(ServiceName, Arc<Supervisor>)> {
        let mut all: Vec<_> =
            self.supervisors.lock().iter().map(|(name, found)| (name.clone(), found.clone())).collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }

    /// What of a configuration was rolled back before and must not be stable.
    pub(crate) fn refusals(&self, gateway: &Gateway) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (name, service) in &gateway.services {
            let remembered = self.remembered(name);
            if let Err(refusal) = self.of(name).check(&Target::all(service), &remembered) {
                let message = format!("service `{name}`: {refusal}");
                problems.push(Problem::error(Code::RolledBack, message).help(
                    "name another release, or allow this one again with `gateway rollout retry` while it is the canary",
                ));
            }
        }
        problems
    }

    /// Lets all rollouts follow a new configuration, whose services get their shares; to be called before it serves.
    pub(crate) fn follow(&self, snapshot: &Snapshot) {
        let killed = self.is_killed();
        for (name, service) in &snapshot.services {
            let remembered = self.remembered(name);
            let targets = Target::all(&service.definition);
            self.of(name).follow(service, targets, &remembered, killed);
        }
        let mut supervisors = self.supervisors.lock();
        for (name, gone) in supervisors.extract_if(|name, _| !snapshot.services.contains_key(name)) {
            // What was rolled back stays so, should the service come back.
            self.store.remember(&name, gone.records());
        }
    }

    /// What an earlier process, or an earlier configuration of this one, left behind.
    fn remembered(&self, service: &ServiceName) -> Remembered {
        self.store.recall(service)
    }

    /// The time rollouts go by, since 1970.
    pub(crate) fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Whether the kill switch sends everything to stable.
    pub(crate) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }

    /// Throws the kill switch, at once; it outlives reloads and restarts. Says whether it is on disk already.
    pub(crate) async fn kill(&self, on: bool) -> bool {
        self.killed.store(on, Ordering::Relaxed);
        for (_, supervisor) in self.all() {
            supervisor.kill(on);
        }
        self.gauge.set(f64::from(on));
        let switched = Switched::kill(self.now(), on);
        self.store.switch(&switched);
        self.announcer.announce_switch(switched);
        self.flush(SAVE_PATIENCE).await
    }

    /// Waits at most `patience` until everything that changed so far is on disk; says whether it is.
    pub(crate) async fn flush(&self, patience: Duration) -> bool {
        self.announcer.flush(patience).await
    }

    /// Looks at the clock for ever.
    pub(crate) async fn keep_ticking(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for (_, supervisor) in self.all() {
                supervisor.tick();
            }
        }
    }
}

#[cfg(test)]
mod tests;
