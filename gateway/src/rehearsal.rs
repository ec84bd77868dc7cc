//! What serves, without sockets, for benchmarks: the very objects a running gateway uses.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use gateway_core::config::Report;

pub use crate::proxy::rehearsal::Exchange;

use crate::explain::offline;
use crate::limits::registry::Limits;
use crate::listener::tls::Tickets;
use crate::load;
use crate::maintenance::Switchboard;
use crate::rollouts::Rollouts;
use crate::rollouts::announce::Announcer;
use crate::rollouts::store::Store;
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::Metrics;
use crate::upstream::registry::Registry;
use crate::upstream::resolve::Names;
use crate::upstream::{Materials, Service};

/// Does what a reload of the file at `path` does, but for publishing it. Reads files, binds nothing.
///
/// # Errors
/// Everything that is wrong, all at once.
pub fn reload(path: &Path) -> Result<(), Report> {
    offline::compile(load::load(path)?).map(drop)
}

/// A request on the first listener of the file at `path`, of which `request` are the bytes, and the fields of its answer.
///
/// # Errors
/// Everything that is wrong with the file, all at once.
///
/// # Panics
/// If it is no request over HTTP/1.1.
pub fn exchange(
    path: &Path,
    request: &[u8],
    answer: &[(&'static str, &'static str)],
) -> Result<Exchange, Report> {
    let snapshot = offline::compile(load::load(path)?)?;
    Ok(Exchange::new(snapshot, request, answer).expect("a request that can be read"))
}

/// A service with its rollouts, as a process that has just started would have it.
pub struct Stage {
    service: Arc<Service>,
    rollouts: Rollouts,
}

impl Stage {
    /// Takes up the file at `path`, of which the service `api` counts. Nothing is remembered and nothing is written.
    ///
    /// # Errors
    /// Everything that is wrong with the file, all at once.
    ///
    /// # Panics
    /// If there is no such service.
    pub fn set(path: &Path) -> Result<Self, Report> {
        let loaded = load::load(path)?;
        let (announcer, _nobody_listens) = Announcer::new();
        let (metrics, store) = (Metrics::new(SystemTime::now()), Arc::new(Store::blank()));
        let maintenance = Switchboard::new(store.clone(), announcer.clone());
        let rollouts = Rollouts::new(store, announcer, metrics.kill_switch());
        let materials = Materials {
            metrics: &metrics,
            passwords: &Arc::default(),
            registry: &Registry::default(),
            limits: &Limits::default(),
            names: &Names::default(),
            rollouts: &rollouts,
            maintenance: &maintenance,
        };
        let snapshot = Snapshot::compile(1, loaded, &materials, &Tickets::default())?;
        rollouts.follow(&snapshot);
        let stage = Self { service: snapshot.services["api"].clone(), rollouts };
        stage.tick();
        Ok(stage)
    }

    /// Looks at the clock once.
    pub fn tick(&self) {
        for (_, supervisor) in self.rollouts.all() {
            supervisor.tick();
        }
    }

    /// What a request that goes well costs beside proxying: its release is chosen and its success recorded. `ticket` is
    /// drawn uniformly from all 64-bit numbers.
    pub fn serve(&self, ticket: u64) {
        let (release, _why) = self.service.assign(None, ticket, None);
        release.tally.success();
    }

    /// Fails attempts of the canary until it has no traffic; gives how many it took, and the time from the last one's
    /// failure to the share of zero. Gives up after a thousand.
    pub fn fail(&self) -> Option<(usize, Duration)> {
        let canary =
            self.service.releases.iter().find(|release| release.index != self.service.stable().index)?;
        (1..=1000).find_map(|attempts| {
            let failed = Instant::now();
            canary.tally.failure();
            self.service.supervisor.on_failure();
            let gone = self.service.division().weight(canary.index).ppm() == 0;
            gone.then(|| (attempts, failed.elapsed()))
        })
    }
}
