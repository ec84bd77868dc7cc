//! Active checks of every endpoint that has them, and the end of ejections: one background task.

mod check;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use gateway_core::config::model::Health;
use pingora::connectors::TransportConnector;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use self::check::Finding;
use crate::runtime::Runtime;
use crate::snapshot::Snapshot;
use crate::upstream::{Endpoint, Release, Service};

/// How often it is looked who is due.
const TICK: Duration = Duration::from_millis(50);

/// The same while nothing is checked and nobody can be ejected.
const IDLE: Duration = Duration::from_secs(1);

/// Checks under way at a time.
const CONCURRENT: usize = 256;

/// The first checks of endpoints that appear together are spread over this, if their interval is not shorter.
const SPREAD: Duration = Duration::from_millis(200);

/// How long the start of the process waits for the first round of checks.
const FIRST_ROUND: Duration = Duration::from_secs(2);

/// Who checks.
pub(crate) struct Checker {
    connector: TransportConnector,
    permits: Arc<Semaphore>,
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
    let checker = Arc::new(Checker {
        connector: TransportConnector::new(None),
        permits: Arc::new(Semaphore::new(CONCURRENT)),
    });
    let checks = checker.look(&runtime.snapshot(), Duration::ZERO);
    if tokio::time::timeout(FIRST_ROUND, join_all(checks)).await.is_err() {
        tracing::warn!("the first health checks take long: serving begins without them");
    }
    tokio::spawn(keep_watching(runtime.clone(), checker));
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
    fn look(self: &Arc<Self>, snapshot: &Snapshot, spread: Duration) -> Vec<JoinHandle<()>> {
        let now = Instant::now();
        let mut due = Vec::new();
        for service in snapshot.services.values() {
            for release in &service.releases {
                release.take_back(service, now);
                for endpoint in &release.members().endpoints {
                    let since = self.due_since(service, endpoint, now, spread);
                    due.extend(since.map(|since| Due {
                        since,
                        service: service.clone(),
                        release: release.clone(),
                        endpoint: endpoint.clone(),
                    }));
                }
            }
        }
        // Whoever has waited longest goes first, should there not be room for all.
        due.sort_by_key(|due| due.since);
        due.into_iter().map_while(|due| self.begin(due, now)).collect()
    }

    /// When the endpoint's check became due, if it has; one that is no longer checked is taken for healthy.
    fn due_since(
        &self,
        service: &Service,
        endpoint: &Endpoint,
        now: Instant,
        spread: Duration,
    ) -> Option<Instant> {
        let mut checkup = endpoint.standing.checkup.lock();
        let Some(health) = &service.definition.health else {
            if !endpoint.state.is_healthy() {
                endpoint.state.set_healthy(true);
                endpoint.show();
            }
            checkup.due = None;
            return None;
        };
        let due =
            *checkup.due.get_or_insert_with(|| now + spread.min(health.interval).mul_f64(fastrand::f64()));
        (due <= now).then_some(due)
    }

    /// Begins a check, if there is room for another.
    fn begin(self: &Arc<Self>, due: Due, now: Instant) -> Option<JoinHandle<()>> {
        let permit = self.permits.clone().try_acquire_owned().ok()?;
        let health = due.service.definition.health.clone()?;
        // Never before the interval is over, so a check, which is no longer, never meets the next one.
        let pause = health.interval.mul_f64(1.0 + fastrand::f64() / 10.0);
        due.endpoint.standing.checkup.lock().due = Some(now + pause);
        Some(tokio::spawn(self.clone().examine(due, health, permit)))
    }

    async fn examine(self: Arc<Self>, due: Due, health: Health, _permit: OwnedSemaphorePermit) {
        let Due { service, release, endpoint, .. } = due;
        let finding = check::check(&self.connector, &service, &endpoint, &health).await;
        let (good, reason) = match finding {
            Finding::Good => (true, String::new()),
            Finding::Bad(reason) => (false, reason),
            Finding::Unasked(reason) => {
                tracing::warn!(service = %service.name, endpoint = %endpoint.label, reason, "health check could not be made");
                return;
            }
        };
        let state = &endpoint.state;
        let believed = (!state.is_waiting()).then(|| state.is_healthy());
        let healthy = endpoint.standing.checkup.lock().streak.note(good, believed, &health);
        if believed == Some(healthy) {
            return;
        }
        state.set_healthy(healthy);
        endpoint.show();
        let (service_name, release_name, label) = (&service.name, &release.name, &endpoint.label);
        if healthy {
            tracing::info!(service = %service_name, release = %release_name, endpoint = %label, "endpoint is healthy");
        } else {
            tracing::warn!(service = %service_name, release = %release_name, endpoint = %label, reason, "endpoint is unhealthy");
            // It may have been the last beside ejected ones.
            release.take_back(&service, Instant::now());
        }
    }
}
