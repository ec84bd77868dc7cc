//! A snapshot of a file that nobody serves.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gateway_core::config::report::Report;
use gateway_core::name::ReleaseName;
use gateway_core::rollout::{Counts, Rollout, Sample, Target};

use crate::limits::registry::Limits;
use crate::listener::tls::Tickets;
use crate::load::Loaded;
use crate::maintenance::Switchboard;
use crate::rollouts::Rollouts;
use crate::rollouts::announce::Announcer;
use crate::rollouts::division::Division;
use crate::rollouts::store::Store;
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::Metrics;
use crate::upstream::registry::Registry;
use crate::upstream::resolve::Names;
use crate::upstream::{Materials, Service};

/// Arranges a configuration as a gateway would that knows nothing but the file: every rollout is at its first step. Binds
/// and contacts nothing: names stay unresolved, so their releases have no endpoints.
///
/// # Errors
/// A report when TLS cannot be set up from files that were read well.
pub(crate) fn compile(loaded: Loaded) -> Result<Snapshot, Report> {
    let metrics = Metrics::new(SystemTime::now());
    let (names, registry, tickets) = (Names::default(), Registry::default(), Tickets::default());
    let (announcer, _nobody_listens) = Announcer::new();
    let store = Arc::new(Store::blank());
    let maintenance = Switchboard::new(store.clone(), announcer.clone());
    let rollouts = Rollouts::new(store, announcer, metrics.kill_switch());
    let limits = Limits::default();
    let materials = Materials {
        metrics: &metrics,
        passwords: &Arc::default(),
        registry: &registry,
        limits: &limits,
        names: &names,
        rollouts: &rollouts,
        maintenance: &maintenance,
    };
    let snapshot = Snapshot::compile(1, loaded, &materials, &tickets)?;
    snapshot.services.values().for_each(|service| divide(service));
    Ok(snapshot)
}

/// Gives a service the shares of its rollouts' first steps, as if all its releases answered.
fn divide(service: &Service) {
    let none = Counts::default();
    let up = Sample { canary: none, stable: none, canary_ready: true, stable_ready: true };
    let begun = |target| {
        let mut rollout = Rollout::new(Duration::ZERO, target);
        rollout.tick(Duration::ZERO, &up);
        rollout
    };
    let rollouts: Vec<Rollout> = Target::all(&service.definition).into_iter().map(begun).collect();
    let index = |release: &ReleaseName| service.index_of(release);
    let endpoints = service.releases.iter().flat_map(|release| release.members().endpoints.clone());
    endpoints.for_each(|endpoint| endpoint.state.set_healthy(true));
    service.set_division(Division::new(&service.name, &service.definition, &rollouts, false, index));
}
