//! Active checks of every endpoint that has them, and the end of ejections: one background task.

mod check;
mod grpc;
mod places;

use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_core::health::pause;
use pingora::connectors::TransportConnector;

use self::check::Finding;
use self::places::{Place, Places};
use crate::runtime::Runtime;
use crate::snapshot::Snapshot;
use crate::upstream::registry::Checkup;
use crate::upstream::{Endpoint, Release, Service};

/// How often it is looked who is due.
const TICK: Duration = Duration::from_millis(50);

/// The same while nothing is checked and nobody can be ejected.
const IDLE: Duration = Duration::from_secs(1);

/// How often it is looked whether the first round is over.
const FIRST_TICK: Duration = Duration::from_millis(5);

/// Checks under way at a time; no service takes all of them.
const CONCURRENT: usize = 256;

/// The first checks of endpoints that appear together are spread over this, if their interval is not shorter.
const SPREAD: Duration = Duration::from_millis(200);

/// How long the start of the process waits for the first round of checks.
const FIRST_ROUND: Duration = Duration::from_secs(2);

/// Who checks.
pub(crate) struct Checker {
    connector: TransportConnector,
    places: Arc<Places>,
}

/// An endpoint whose check is due.
struct Due {
    since: Instant,
    service: Arc<Service>,
    release: Arc<Release>,
    endpoint: Arc<Endpoint>,
}

/// Makes the first round of checks, then watches for ever.
///
/// The round is over when this returns, or 2 s have passed; the rest goes on by itself.
pub(crate) async fn start(runtime: &Arc<Runtime>) {
    let checker =
        Arc::new(Checker { connector: TransportConnector::new(None), places: Places::new(CONCURRENT) });
    let snapshot = runtime.snapshot();
    let first_round = async {
        checker.look(&snapshot, Duration::ZERO);
        while has_waiting(&snapshot) {
            tokio::time::sleep(FIRST_TICK).await;
            checker.look(&snapshot, Duration::ZERO);
        }
    };
    if tokio::time::timeout(FIRST_ROUND, first_round).await.is_err() {
        tracing::warn!("the first health checks take long: serving begins without them");
    }
    tokio::spawn(keep_watching(runtime.clone(), checker));
}

/// Whether any endpoint waits for its first check.
fn has_waiting(snapshot: &Snapshot) -> bool {
    let releases = snapshot.services.values().flat_map(|service| &service.releases);
    releases
        .flat_map(|release| release.members().endpoints.clone())
        .any(|endpoint| endpoint.state.is_waiting())
}

async fn keep_watching(runtime: Arc<Runtime>, checker: Arc<Checker>) {
    loop {
        let snapshot = runtime.snapshot();
        checker.look(&snapshot, SPREAD);
        let watched = |service: &Arc<Service>| {
            service.definition.health.is_some() || service.definition.eject.is_some()
        };
        let pause = if snapshot.services.values().any(watched) { TICK } else { IDLE };
        drop(snapshot);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = runtime.published() => {}
        }
    }
}

impl Checker {
    /// Ends ejections and begins checks, as far as they are due. Checks that are new begin within `spread`.
    fn look(self: &Arc<Self>, snapshot: &Snapshot, spread: Duration) {
        let now = Instant::now();
        let mut due = Vec::new();
        for service in snapshot.services.values() {
            for release in &service.releases {
                release.take_back(service, now);
                for endpoint in &release.members().endpoints {
                    due.extend(Due::of(service, release, endpoint, now, spread));
                }
            }
        }
        // Whoever has waited longest goes first, should there not be room for all.
        due.sort_by_key(|due| due.since);
        for due in due {
            let Some(health) = &due.service.definition.health else { continue };
            if let Some(place) = self.places.take(&due.service.name) {
                let next = now + pause(health.interval, fastrand::f64());
                due.endpoint.standing.checkup.lock().due = Some(next);
                tokio::spawn(self.clone().examine(due, place));
            }
        }
    }

    async fn examine(self: Arc<Self>, due: Due, _place: Place) {
        let Due { service, release, endpoint, .. } = due;
        let (Some(health), Some(at)) = (&service.definition.health, &endpoint.checked_at) else { return };
        let wrong = match check::check(&self.connector, &service, at, health).await {
            Finding::Good => None,
            Finding::Bad(reason) => Some(reason),
            Finding::Unasked(reason) => {
                tracing::warn!(service = %service.name, endpoint = %endpoint.label, reason, "health check could not be made");
                return;
            }
        };
        let state = &endpoint.state;
        let believed = (!state.is_waiting()).then(|| state.is_healthy());
        let healthy = endpoint.standing.checkup.lock().note(wrong.clone(), believed, health);
        if believed == Some(healthy) {
            return;
        }
        state.set_healthy(healthy);
        endpoint.show();
        let (service_name, release_name, label) = (&service.name, &release.name, &endpoint.label);
        if healthy {
            tracing::info!(service = %service_name, release = %release_name, endpoint = %label, "endpoint is healthy");
        } else {
            let reason = wrong.unwrap_or_default();
            tracing::warn!(service = %service_name, release = %release_name, endpoint = %label, reason, "endpoint is unhealthy");
            // It may have been the last beside ejected ones.
            release.take_back(&service, Instant::now());
        }
    }
}

impl Due {
    /// The endpoint, if its check is due; one that is no longer checked is taken for healthy.
    fn of(
        service: &Arc<Service>,
        release: &Arc<Release>,
        endpoint: &Arc<Endpoint>,
        now: Instant,
        spread: Duration,
    ) -> Option<Self> {
        let mut checkup = endpoint.standing.checkup.lock();
        let Some(health) = &service.definition.health else {
            if !endpoint.state.is_healthy() {
                endpoint.state.set_healthy(true);
                endpoint.show();
            }
            *checkup = Checkup::default();
            return None;
        };
        let first = || now + spread.min(health.interval).mul_f64(fastrand::f64());
        let since = *checkup.due.get_or_insert_with(first);
        (since <= now).then(|| Self {
            since,
            service: service.clone(),
            release: release.clone(),
            endpoint: endpoint.clone(),
        })
    }
}
