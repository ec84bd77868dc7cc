//! The changes of all rollouts and switches as a stream, with a memory for those who come late.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use gateway_core::config::model::NotifyEvent;
use gateway_core::name::ServiceName;
use gateway_core::rollout::{Cause, Change, Counts, State};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::broadcast;

use super::switches::Switched;

/// How many events are kept.
const KEPT: usize = 1000;

/// How far a reader may fall behind before it misses events; it can ask again from the last it saw.
const LAG: usize = 256;

/// One change of a rollout, as it is told.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Event {
    /// Greater than that of every event before, also of earlier processes.
    pub(crate) id: u64,
    /// When, since the Unix epoch, in seconds.
    pub(crate) at: f64,
    pub(crate) service: ServiceName,
    pub(crate) kind: Kind,
    /// For people.
    pub(crate) text: String,
    /// With all that led to it.
    pub(crate) change: Change,
}

/// What a change was, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// The file names a canary, or another one.
    Named,
    /// A canary that was rolled back before is named, or nobody knows whether it was: it gets nothing.
    Refused,
    /// The canary gets its first traffic.
    Started,
    /// It goes to the next step.
    Promoted,
    /// It waits.
    Held,
    /// What it waited for is there.
    Released,
    /// A person said wait.
    Paused,
    /// A person said go on.
    Resumed,
    /// A weight set by hand began or ended.
    Weighted,
    /// The plan or the guard is another.
    Replanned,
    /// The canary has everything.
    Completed,
    /// The canary has nothing any more.
    RolledBack,
    /// A person lets it begin again.
    Retried,
    /// The file names no canary any more.
    Removed,
}

impl Kind {
    pub(crate) fn of(change: &Change) -> Self {
        match (&change.cause, change.to) {
            (Cause::Unreadable, _) | (Cause::Named, State::RolledBack) => Self::Refused,
            (Cause::Breach(_) | Cause::Aborted, _) => Self::RolledBack,
            (Cause::Proved | Cause::Promoted, State::Completed) | (Cause::Adopted, _) => Self::Completed,
            (Cause::Named, _) => Self::Named,
            (Cause::Ready | Cause::CutOver, _) => Self::Started,
            (Cause::Proved | Cause::Promoted, _) => Self::Promoted,
            (Cause::Held(_), _) => Self::Held,
            (Cause::Released(_), _) => Self::Released,
            (Cause::Paused, _) => Self::Paused,
            (Cause::Resumed, _) => Self::Resumed,
            (Cause::Retried, _) => Self::Retried,
            (Cause::Weight, _) => Self::Weighted,
            (Cause::Removed, _) => Self::Removed,
            (Cause::Replanned, _) => Self::Replanned,
        }
    }

    /// Whether somebody who wants to hear of `events` hears of this. A pause is a wait, too.
    pub(crate) fn concerns(self, events: &[NotifyEvent]) -> bool {
        let event = match self {
            Self::Started => NotifyEvent::Started,
            Self::Promoted => NotifyEvent::Promoted,
            Self::Held | Self::Paused => NotifyEvent::Held,
            Self::RolledBack => NotifyEvent::RolledBack,
            Self::Completed => NotifyEvent::Completed,
            _ => return false,
        };
        events.contains(&event)
    }
}

impl Event {
    /// What happened and what was seen, in one or two sentences.
    pub(crate) fn sentence(service: &ServiceName, change: &Change) -> String {
        let Change { stable, cause, weight, .. } = change;
        let canary = change.canary.as_ref().map_or("the canary".to_owned(), |canary| format!("`{canary}`"));
        let what = match Kind::of(change) {
            Kind::Named => format!("{canary} is the canary and waits for an endpoint"),
            Kind::Refused => format!("{canary} gets no traffic until it is retried: {}", refusal(cause)),
            Kind::Started => format!("{canary} begins with {weight} of the traffic"),
            Kind::Promoted => format!("{canary} goes on with {weight} of the traffic: {cause}"),
            Kind::Held | Kind::Paused => format!("{canary} stays at {weight}: {cause}"),
            Kind::Released | Kind::Resumed => format!("{canary} at {weight}: {cause}"),
            Kind::Weighted => format!("{canary} gets {weight}: {cause}"),
            Kind::Replanned => format!("{canary} goes on with {weight}: {cause}"),
            Kind::Completed => {
                format!("{} has all traffic, the rollout is completed: {cause}", winner(change))
            }
            Kind::RolledBack => {
                format!("{canary} was rolled back, all traffic goes to `{stable}`: {cause}")
            }
            Kind::Retried => format!("{canary} begins again: {cause}"),
            Kind::Removed => format!("all traffic goes to `{stable}`: {cause}"),
        };
        format!("{service}: {what}.{}", seen(change))
    }
}

/// A canary that was made stable is the canary no longer.
fn winner(change: &Change) -> String {
    format!("`{}`", change.canary.as_ref().unwrap_or(&change.stable))
}

fn refusal(cause: &Cause) -> String {
    match cause {
        Cause::Named => "it was rolled back before".into(),
        cause => cause.to_string(),
    }
}

/// What was seen before the change, if anything was.
fn seen(change: &Change) -> String {
    let (canary, stable) = (change.evidence.canary, change.evidence.stable);
    if canary.attempts + stable.attempts == 0 {
        return String::new();
    }
    let arm = |counts: Counts| {
        let Counts { attempts, failures, slow, seen } = counts;
        let slow = if slow > 0 { format!(", {slow} late") } else { String::new() };
        let seen = if seen > 0 { format!(", {seen} seen by users") } else { String::new() };
        format!("{failures} of {attempts} attempts failed{slow}{seen}")
    };
    format!(" Since the step began: canary {}; stable {}.", arm(canary), arm(stable))
}

/// Where a rollout is, with its step and what it waits for.
pub(crate) fn place(state: State) -> String {
    let reason = state.hold().map_or(String::new(), |hold| format!(" ({})", hold.name()));
    let step = state.stage().map_or(String::new(), |stage| format!(", step {}", stage.step()));
    format!("{state}{reason}{step}")
}

/// A switch that was thrown, as it is told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SwitchEvent {
    /// As that of an [`Event`].
    pub(crate) id: u64,
    pub(crate) switched: Switched,
}

/// What is told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Told {
    Rollout(Arc<Event>),
    Switch(Arc<SwitchEvent>),
}

impl Told {
    /// Greater than that of everything told before.
    pub(crate) fn id(&self) -> u64 {
        match self {
            Self::Rollout(event) => event.id,
            Self::Switch(event) => event.id,
        }
    }
}

/// The last events, and the way to hear of the next.
#[derive(Debug)]
pub(crate) struct Events {
    ring: Mutex<Ring>,
    next: broadcast::Sender<Told>,
}

#[derive(Debug)]
struct Ring {
    last: u64,
    events: VecDeque<Told>,
}

impl Ring {
    fn next_id(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

impl Default for Events {
    /// Ids begin at the time in milliseconds, so that they go on where those of an earlier process ended.
    fn default() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let last = u64::try_from(now.as_millis()).unwrap_or_default();
        Self { ring: Mutex::new(Ring { last, events: VecDeque::new() }), next: broadcast::Sender::new(LAG) }
    }
}

impl Events {
    /// Tells a change to everybody who listens, and keeps it for those who come later.
    pub(crate) fn publish(&self, service: &ServiceName, change: Change) -> Arc<Event> {
        let text = Event::sentence(service, &change);
        let (at, kind) = (change.at.as_secs_f64(), Kind::of(&change));
        let mut ring = self.ring.lock();
        let id = ring.next_id();
        let event = Arc::new(Event { id, at, service: service.clone(), kind, text, change });
        self.tell(&mut ring, Told::Rollout(event.clone()));
        event
    }

    /// Tells that a switch was thrown, likewise.
    pub(crate) fn publish_switch(&self, switched: Switched) {
        let mut ring = self.ring.lock();
        let id = ring.next_id();
        self.tell(&mut ring, Told::Switch(Arc::new(SwitchEvent { id, switched })));
    }

    /// Called with the ring locked, so that nobody who begins to listen misses it or hears it twice.
    fn tell(&self, ring: &mut Ring, told: Told) {
        if ring.events.len() == KEPT {
            ring.events.pop_front();
        }
        ring.events.push_back(told.clone());
        // Nobody needs to listen.
        let _ = self.next.send(told);
    }

    /// The kept events after the one with this id, and every one that follows.
    pub(crate) fn since(&self, id: u64) -> (Vec<Told>, broadcast::Receiver<Told>) {
        let ring = self.ring.lock();
        let kept = ring.events.iter().filter(|told| told.id() > id).cloned().collect();
        (kept, self.next.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gateway_core::name::ReleaseName;
    use gateway_core::rollout::{Breach, Evidence, Hold, Stage};
    use gateway_core::unit::Weight;

    use super::*;

    fn service() -> ServiceName {
        ServiceName::new("api").unwrap()
    }

    fn change(cause: Cause, to: State, weight: f64) -> Change {
        let canary = Counts { attempts: 40, failures: 12, slow: 0, seen: 3 };
        let stable = Counts { attempts: 360, failures: 1, ..Counts::default() };
        Change {
            at: Duration::from_secs(1_800_000_000),
            canary: ReleaseName::new("api-42").ok(),
            stable: ReleaseName::new("api-41").unwrap(),
            from: State::Running(Stage::Ramping(0)),
            to,
            weight: Weight::from_percent(weight).unwrap(),
            cause,
            evidence: Evidence { canary, stable, ..Evidence::default() },
        }
    }

    #[test]
    fn a_rollback_is_one_sentence_with_its_numbers() {
        let breach = Breach::ConsecutiveFailures { count: 5, max: 5 };
        let change = change(Cause::Breach(breach), State::RolledBack, 0.0);
        assert_eq!(
            Event::sentence(&service(), &change),
            "api: `api-42` was rolled back, all traffic goes to `api-41`: 5 attempts in a row failed, 5 are the limit. \
             Since the step began: canary 12 of 40 attempts failed, 3 seen by users; stable 1 of 360 attempts failed."
        );
        assert_eq!(place(change.from), "ramping, step 0");
        assert_eq!(place(State::Held(Stage::Ramping(1), Hold::Gate)), "held (gate), step 1");
    }

    #[test]
    fn receivers_hear_of_what_they_asked_for() {
        let held =
            Kind::of(&change(Cause::Held(Hold::Gate), State::Held(Stage::Ramping(0), Hold::Gate), 10.0));
        assert_eq!(held, Kind::Held);
        assert!(held.concerns(&[NotifyEvent::RolledBack, NotifyEvent::Held]));
        assert!(!held.concerns(&[NotifyEvent::RolledBack]));
        assert!(!Kind::Released.concerns(&[NotifyEvent::Held, NotifyEvent::Completed]));
        let last = change(Cause::Proved, State::Completed, 100.0);
        assert_eq!(Kind::of(&last), Kind::Completed);
        assert_eq!(Kind::of(&change(Cause::Named, State::RolledBack, 0.0)), Kind::Refused);
    }

    #[tokio::test]
    async fn events_are_kept_from_an_id_on_and_the_next_one_follows() {
        let events = Events::default();
        let publish = || events.publish(&service(), change(Cause::Paused, State::Completed, 10.0));
        let (first, second) = (publish(), publish());
        let (kept, mut next) = events.since(first.id);
        assert_eq!(kept, [Told::Rollout(second.clone())]);
        let third = publish();
        assert_eq!(third.id, second.id + 1);
        assert_eq!(next.recv().await.unwrap(), Told::Rollout(third));
        events.publish_switch(Switched::kill(Duration::from_secs(1_800_000_000), true));
        assert_eq!(next.recv().await.unwrap().id(), second.id + 2, "one count for all that is told");
    }

    #[test]
    fn only_so_many_events_are_kept() {
        let events = Events::default();
        let published = |_| events.publish(&service(), change(Cause::Paused, State::Completed, 10.0)).id;
        let ids: Vec<u64> = (0..=KEPT).map(published).collect();
        let kept: Vec<u64> = events.since(0).0.iter().map(Told::id).collect();
        assert_eq!(kept, ids[1..]);
    }

    #[test]
    fn an_event_reads_as_its_change_does() {
        let event = Events::default().publish(&service(), change(Cause::Aborted, State::RolledBack, 0.0));
        let json = serde_json::to_value(&*event).unwrap();
        assert_eq!((&json["kind"], &json["service"]), (&"rolled_back".into(), &"api".into()));
        assert_eq!(json["at"], 1_800_000_000.0);
        assert_eq!(json["change"]["evidence"]["canary"]["failures"], 12);
    }
}
