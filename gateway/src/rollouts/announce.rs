//! What happens after a rollout has changed or a switch was thrown: it is logged, counted, written down, and then told.

use std::sync::Arc;
use std::time::Duration;

use gateway_core::config::model::Notify;
use gateway_core::name::ServiceName;
use gateway_core::rollout::{Change, Evidence, Record};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use super::events::{Event, Events, Kind, place};
use super::notify::Notifier;
use super::store::Store;
use super::switches::Switched;
use crate::telemetry::labels::Rollback;
use crate::telemetry::metrics::Metrics;

/// How soon what could not be written is tried again.
const WRITE_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Changes of one service's rollouts; the shares they lead to are in force already.
#[derive(Debug)]
pub(crate) struct Announcement {
    pub(crate) service: ServiceName,
    /// All rollouts of the service as they are now.
    pub(crate) records: Vec<Record>,
    /// In the order they happened.
    pub(crate) changes: Vec<Change>,
    /// Who is to be told.
    pub(crate) notify: Vec<Notify>,
}

/// What goes to the [`Teller`].
#[derive(Debug)]
pub(crate) enum Message {
    Changed(Announcement),
    /// Moved and remembered already.
    Switched(Switched),
    /// Everything before is to be on disk; answered with whether it is.
    Flush(oneshot::Sender<bool>),
}

/// Takes announcements without ever waiting.
#[derive(Debug, Clone)]
pub(crate) struct Announcer(UnboundedSender<Message>);

impl Announcer {
    /// The way in, and the way out for whoever writes and tells.
    pub(crate) fn new() -> (Self, UnboundedReceiver<Message>) {
        let (sender, receiver) = unbounded_channel();
        (Self(sender), receiver)
    }

    pub(crate) fn announce(&self, announcement: Announcement) {
        // The receiver goes only with the process.
        let _ = self.0.send(Message::Changed(announcement));
    }

    pub(crate) fn announce_switch(&self, switched: Switched) {
        let _ = self.0.send(Message::Switched(switched));
    }

    /// Waits at most `patience` until everything announced so far is on disk; says whether it is.
    pub(crate) async fn flush(&self, patience: Duration) -> bool {
        let (done, saved) = oneshot::channel();
        let _ = self.0.send(Message::Flush(done));
        matches!(tokio::time::timeout(patience, saved).await, Ok(Ok(true)))
    }
}

/// Does what follows an announcement, one after the other, in the order they came.
pub(crate) struct Teller {
    pub(crate) store: Arc<Store>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) events: Arc<Events>,
    pub(crate) notifier: Notifier,
}

impl Teller {
    /// Works until nobody can announce any more.
    pub(crate) async fn run(self, mut messages: UnboundedReceiver<Message>) {
        let mut again = tokio::time::interval(WRITE_AGAIN_AFTER);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = messages.recv() => match message {
                    Some(Message::Changed(announcement)) => self.tell(announcement).await,
                    Some(Message::Switched(switched)) => self.tell_switch(switched).await,
                    Some(Message::Flush(done)) => {
                        let _ = done.send(self.save().await);
                    }
                    None => return,
                },
                _ = again.tick() => {
                    self.save().await;
                }
            }
        }
    }

    async fn tell(&self, announcement: Announcement) {
        let Announcement { service, records, changes, notify } = announcement;
        for change in &changes {
            log(&service, change);
            if let Some(reason) = Rollback::of(&change.cause) {
                self.metrics.rollouts(&service).rollbacks.count(reason);
            }
        }
        self.store.remember(&service, records);
        self.save().await;
        for change in changes {
            let event = self.events.publish(&service, change);
            for receiver in notify.iter().filter(|receiver| event.kind.concerns(&receiver.on)) {
                self.notifier.notify(receiver, &event);
            }
        }
    }

    async fn tell_switch(&self, switched: Switched) {
        let route = switched.route.as_ref().map_or("", |route| route.as_str());
        tracing::warn!(switch = ?switched.kind, route, to = ?switched.to, by = ?switched.by, "{switched}");
        self.save().await;
        self.events.publish_switch(switched);
    }

    /// Writes what is not on disk yet, where a slow disk delays nobody else; says whether all of it is now.
    async fn save(&self) -> bool {
        if !self.store.is_behind() {
            return true;
        }
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || store.write()).await.unwrap_or(false)
    }
}

/// One line that answers why, with every number that led to it.
fn log(service: &ServiceName, change: &Change) {
    let text = Event::sentence(service, change);
    let tried = change.canary.as_ref().map_or("", |canary| canary.as_str());
    let (from, to, weight) = (place(change.from), place(change.to), change.weight.to_string());
    let Change { stable: beside, cause, evidence: Evidence { canary, stable, tests }, .. } = change;
    macro_rules! tell {
        ($level:ident) => {
            tracing::$level!(
                %service, canary = tried, stable = %beside, from, to, weight, %cause,
                canary.attempts = canary.attempts, canary.failures = canary.failures,
                canary.slow = canary.slow, canary.seen = canary.seen,
                stable.attempts = stable.attempts, stable.failures = stable.failures, stable.slow = stable.slow,
                evidence.needed = tests.needed, evidence.error_rate = tests.error_rate,
                evidence.worse_than_stable = tests.worse_than_stable, evidence.latency = tests.latency,
                evidence.stable_error_rate = tests.stable_error_rate, evidence.upper_bound = tests.upper_bound,
                evidence.consecutive_failures = tests.consecutive_failures,
                evidence.excess_seen = tests.excess.seen, evidence.excess_expected = tests.excess.expected,
                "{text}"
            )
        };
    }
    match Kind::of(change) {
        Kind::RolledBack | Kind::Refused | Kind::Held => tell!(warn),
        _ => tell!(info),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use gateway_core::name::ReleaseName;
    use gateway_core::rollout::{Breach, Cause, Counts, Stage, State};
    use gateway_core::unit::Weight;

    use super::*;
    use crate::rollouts::events::Told;
    use crate::rollouts::supervisor::Remembered;

    fn rolled_back() -> Change {
        let canary = Counts { attempts: 5, failures: 5, ..Counts::default() };
        Change {
            at: Duration::from_secs(1_800_000_000),
            canary: ReleaseName::new("b").ok(),
            stable: ReleaseName::new("a").unwrap(),
            from: State::Running(Stage::Ramping(0)),
            to: State::RolledBack,
            weight: Weight::ZERO,
            cause: Cause::Breach(Breach::ErrorRate { canary, max: 0.01, evidence: 5342.0, needed: 1000.0 }),
            evidence: Evidence { canary, ..Evidence::default() },
        }
    }

    fn teller(path: &std::path::Path) -> Teller {
        let metrics = Arc::new(Metrics::new(SystemTime::now()));
        let notifier = Notifier::new(metrics.notifications());
        let store = Arc::new(Store::open(path.to_owned(), metrics.state_write_failures()));
        Teller { store, metrics, events: Arc::default(), notifier }
    }

    #[tokio::test]
    async fn what_was_announced_is_on_disk_counted_and_told_when_it_is_flushed() {
        let directory = tempfile::tempdir().unwrap();
        let teller = teller(directory.path());
        let (store, metrics, events) = (teller.store.clone(), teller.metrics.clone(), teller.events.clone());
        let service = ServiceName::new("api").unwrap();
        let _held = metrics.rollouts(&service);
        let (announcer, messages) = Announcer::new();
        let working = tokio::spawn(teller.run(messages));
        let (records, changes, notify) = (Vec::new(), vec![rolled_back()], Vec::new());
        announcer.announce(Announcement { service: service.clone(), records, changes, notify });
        assert!(announcer.flush(Duration::from_secs(60)).await);
        assert!(directory.path().join("rollouts/api.json").exists());
        assert!(matches!(store.recall(&service), Remembered::Records(_)));
        let shown = metrics.encode("");
        assert!(shown.contains("rollbacks_total{service=\"api\",reason=\"error_rate\"} 1\n"), "{shown}");
        let (told, _) = events.since(0);
        let [Told::Rollout(event)] = &told[..] else { panic!("one event: {told:?}") };
        assert_eq!(event.kind, Kind::RolledBack);
        drop(announcer);
        working.await.unwrap();
    }

    #[tokio::test]
    async fn a_disk_that_takes_nothing_is_told_by_the_flush_and_silences_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        std::fs::write(&state, "in the way").unwrap();
        let teller = teller(&state);
        let events = teller.events.clone();
        let (announcer, messages) = Announcer::new();
        tokio::spawn(teller.run(messages));
        let (service, records) = (ServiceName::new("api").unwrap(), Vec::new());
        announcer.announce(Announcement {
            service,
            records,
            changes: vec![rolled_back()],
            notify: Vec::new(),
        });
        assert!(!announcer.flush(Duration::from_secs(60)).await);
        assert_eq!(events.since(0).0.len(), 1);
        std::fs::remove_file(&state).unwrap();
        assert!(announcer.flush(Duration::from_secs(60)).await);
        assert!(state.join("rollouts/api.json").exists());
    }
}
