//! A snapshot of a file that nobody serves.

use std::time::SystemTime;

use gateway_core::config::report::Report;

use crate::listener::tls::Tickets;
use crate::load::Loaded;
use crate::rollouts::Rollouts;
use crate::rollouts::announce::Announcer;
use crate::rollouts::store::Store;
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::Metrics;
use crate::upstream::Materials;
use crate::upstream::registry::Registry;
use crate::upstream::resolve::Names;

/// Arranges a configuration as a gateway that starts with it would. Binds and contacts nothing: names stay unresolved,
/// so their releases have no endpoints.
///
/// # Errors
/// A report when TLS cannot be set up from files that were read well.
pub(crate) fn compile(loaded: Loaded) -> Result<Snapshot, Report> {
    let metrics = Metrics::new(SystemTime::now());
    let (names, registry, tickets) = (Names::default(), Registry::default(), Tickets::default());
    let (announcer, _nobody_listens) = Announcer::new();
    let rollouts = Rollouts::new(Store::open(loaded.gateway.state_path.clone()), announcer);
    let materials = Materials { metrics: &metrics, registry: &registry, names: &names, rollouts: &rollouts };
    let snapshot = Snapshot::compile(1, loaded, &materials, &tickets)?;
    rollouts.follow(&snapshot);
    Ok(snapshot)
}
