//! The current snapshot, and the state that must outlive a reload.
//!
//! Requests, reloads and the admin API meet here and only here; this alone publishes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use gateway_core::config::changes::{Change, changes};
use gateway_core::config::model::Gateway;
use gateway_core::config::problem::{Code, Problem};
use gateway_core::config::report::Report;
use tokio::sync::{Mutex, Notify};

use crate::limits::registry::Limits;
use crate::listener::tls::Tickets;
use crate::load::Loaded;
use crate::maintenance::Switchboard;
use crate::passwords::Passwords;
use crate::rollouts::Rollouts;
use crate::rollouts::announce::{Announcer, Teller};
use crate::rollouts::events::Events;
use crate::rollouts::notify::Notifier;
use crate::rollouts::store::Store;
use crate::server::StartError;
use crate::snapshot::Snapshot;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::labels::Reload;
use crate::telemetry::metrics::Metrics;
use crate::upstream::Materials;
use crate::upstream::registry::Registry;
use crate::upstream::resolve::Names;

/// How often it is looked whether an old configuration is used by nobody any more.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// One running gateway.
pub(crate) struct Runtime {
    /// The configuration file.
    pub(crate) path: PathBuf,
    pub(crate) started: Instant,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) passwords: Arc<Passwords>,
    pub(crate) access_log: AccessLog,
    pub(crate) names: Names,
    pub(crate) tickets: Tickets,
    pub(crate) registry: Registry,
    pub(crate) limits: Limits,
    pub(crate) rollouts: Arc<Rollouts>,
    pub(crate) maintenance: Arc<Switchboard>,
    /// Changes of rollouts and switches, as they happen.
    pub(crate) events: Arc<Events>,
    current: ArcSwap<Snapshot>,
    publishing: Mutex<()>,
    published: Notify,
    last_reload: parking_lot::Mutex<Option<LastReload>>,
    ready: AtomicBool,
    draining: Arc<AtomicBool>,
}

/// How the last reload ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastReload {
    pub(crate) result: Reload,
    pub(crate) at: SystemTime,
    /// How much was wrong; 0 after a success.
    pub(crate) errors: usize,
}

impl Runtime {
    /// Builds and publishes the first snapshot; looks up names.
    ///
    /// # Errors
    /// When the access log cannot be opened or TLS cannot be set up.
    pub(crate) async fn new(path: PathBuf, loaded: Loaded) -> Result<Arc<Self>, StartError> {
        let metrics = Arc::new(Metrics::new(SystemTime::now()));
        let access_log = AccessLog::start(loaded.gateway.access_log.clone(), metrics.access_log_dropped())
            .map_err(|error| StartError::System { what: "cannot open the access log", error })?;
        let passwords = Arc::<Passwords>::default();
        let (names, tickets) = (Names::default(), Tickets::default());
        let (registry, limits) = (Registry::default(), Limits::default());
        names.learn(&loaded.gateway).await;
        let (announcer, announcements) = Announcer::new();
        let store = Arc::new(Store::open(loaded.gateway.state_path.clone(), metrics.state_write_failures()));
        let maintenance = Arc::new(Switchboard::new(store.clone(), announcer.clone()));
        let rollouts = Arc::new(Rollouts::new(store.clone(), announcer, metrics.kill_switch()));
        let events = Arc::<Events>::default();
        allow(&rollouts, &loaded)?;
        let materials = Materials {
            metrics: &metrics,
            passwords: &passwords,
            registry: &registry,
            limits: &limits,
            names: &names,
            rollouts: &rollouts,
            maintenance: &maintenance,
        };
        let first = Snapshot::compile(1, loaded, &materials, &tickets)?;
        rollouts.follow(&first);
        maintenance.follow(&first);
        metrics.set_max_connections(first.max_connections);
        let notifier = Notifier::new(metrics.notifications());
        let teller = Teller { store, metrics: metrics.clone(), events: events.clone(), notifier };
        tokio::spawn(teller.run(announcements));
        tokio::spawn(rollouts.clone().keep_ticking());
        tokio::spawn(maintenance.clone().keep_expiring());
        Ok(Arc::new(Self {
            path,
            started: Instant::now(),
            current: ArcSwap::from_pointee(first),
            metrics,
            passwords,
            access_log,
            names,
            tickets,
            registry,
            limits,
            rollouts,
            maintenance,
            events,
            publishing: Mutex::new(()),
            published: Notify::new(),
            last_reload: parking_lot::Mutex::new(None),
            ready: AtomicBool::new(false),
            draining: Arc::default(),
        }))
    }

    /// The configuration that serves now.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Makes a loaded configuration the current one; gives its revision and what changed.
    ///
    /// # Errors
    /// A report when something changed that only a new process can take up; nothing is changed then.
    pub(crate) async fn publish(&self, loaded: Loaded) -> Result<(u64, Vec<Change>), Report> {
        let _one_at_a_time = self.publishing.lock().await;
        let before = self.snapshot();
        let changes = changes(&before.model, &loaded.gateway);
        if changes.iter().any(|change| change.needs_restart) {
            return Err(refusal(&changes, &loaded));
        }
        allow(&self.rollouts, &loaded)?;
        self.names.learn(&loaded.gateway).await;
        self.retarget_log(&before.model, &loaded)?;
        let revision = before.revision + 1;
        let materials = self.materials();
        let next = Snapshot::compile(revision, loaded, &materials, &self.tickets)?;
        self.rollouts.follow(&next);
        self.maintenance.follow(&next);
        self.metrics.set_max_connections(next.max_connections);
        self.current.store(Arc::new(next));
        tokio::spawn(lay_to_rest(before));
        self.registry.sweep();
        self.limits.sweep();
        self.published.notify_waiters();
        Ok((revision, changes))
    }

    fn retarget_log(&self, before: &Gateway, loaded: &Loaded) -> Result<(), Report> {
        let target = &loaded.gateway.access_log;
        if *target == before.access_log {
            return Ok(());
        }
        self.access_log.switch(target.clone()).map_err(|error| {
            let mut report = loaded.warnings.clone();
            report.push(Problem::error(Code::File, format!("cannot open the access log: {error}")));
            report
        })
    }

    /// Returns when the next configuration has been published.
    pub(crate) async fn published(&self) {
        self.published.notified().await;
    }

    /// Takes up new addresses of host names.
    pub(crate) fn refresh_endpoints(&self, hosts: &[String]) {
        let snapshot = self.snapshot();
        for service in snapshot.services.values() {
            for release in &service.releases {
                if hosts.iter().any(|host| release.names_host(host)) {
                    let health = service.definition.health.as_ref();
                    release.refresh(&service.name, health, &self.materials());
                }
            }
        }
    }

    fn materials(&self) -> Materials<'_> {
        Materials {
            metrics: &self.metrics,
            passwords: &self.passwords,
            registry: &self.registry,
            limits: &self.limits,
            names: &self.names,
            rollouts: &self.rollouts,
            maintenance: &self.maintenance,
        }
    }

    /// Connections of clients that are open.
    pub(crate) fn open_connections(&self) -> i64 {
        self.snapshot().listeners.values().map(|listener| listener.metrics.open()).sum()
    }

    /// How the last reload ended; `None` before the first.
    pub(crate) fn last_reload(&self) -> Option<LastReload> {
        *self.last_reload.lock()
    }

    /// Counts a reload and remembers it as the last.
    pub(crate) fn note_reload(&self, result: Reload, errors: usize) {
        let at = SystemTime::now();
        self.metrics.note_reload(result, at);
        *self.last_reload.lock() = Some(LastReload { result, at, errors });
    }

    /// Whether every listener is up.
    pub(crate) fn is_started(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Whether requests are welcome: started, not stopping, and every service that is required is up.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_started() && !self.is_draining() && self.snapshot().required().all(|service| service.is_up())
    }

    /// Whether the process has begun to stop, for those who look often.
    pub(crate) fn draining(&self) -> Arc<AtomicBool> {
        self.draining.clone()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// From now on clients are asked to go elsewhere.
    pub(crate) fn begin_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Waits at most `patience` until all that must outlive the process is on disk; says whether it is.
    pub(crate) async fn flush(&self, patience: Duration) -> bool {
        self.rollouts.flush(patience).await
    }

    /// Says that everything is up.
    pub(crate) fn announce_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
        for (name, listener) in &self.snapshot().listeners {
            let scheme = if listener.tls.is_some() { "https" } else { "http" };
            tracing::info!(listener = %name, address = %listener.address, scheme, "listening");
        }
        tracing::info!(config = %self.path.display(), "ready");
    }
}

/// Refuses what was rolled back and must not come back by the file alone.
/// Frees a configuration once the last request that lives by it has ended. With many routes that takes milliseconds, which
/// would else be that request's to spend.
async fn lay_to_rest(old: Arc<Snapshot>) {
    let mut pause = Duration::from_millis(10);
    while Arc::strong_count(&old) > 1 {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn allow(rollouts: &Rollouts, loaded: &Loaded) -> Result<(), Report> {
    let problems = rollouts.refusals(&loaded.gateway);
    if problems.is_empty() {
        return Ok(());
    }
    let mut report = loaded.warnings.clone();
    report.extend(problems);
    Err(report)
}

/// Names what a running process cannot take up.
fn refusal(changes: &[Change], loaded: &Loaded) -> Report {
    let mut report = loaded.warnings.clone();
    for change in changes.iter().filter(|change| change.needs_restart) {
        let listener = change.name.as_deref().filter(|_| change.what == "listener");
        let place =
            listener.and_then(|name| loaded.gateway.listeners.get(name)).map(|found| found.address.span);
        let mut problem = Problem::error(Code::NeedsRestart, change.to_string())
            .help("start a new process for it; everything else of this file waits until then");
        if let Some(span) = place {
            problem = problem.at(span, "bound at start");
        }
        report.push(problem);
    }
    report
}
