//! The states of a rollout and every way from one to another, in one table: [`State::after`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// A step under way; the index is that of the plan, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The canary has a part of the traffic.
    Ramping(usize),
    /// The canary has all of it, and stable is kept warm.
    Verifying(usize),
}

impl Stage {
    /// The step's index in the plan.
    pub fn step(self) -> usize {
        match self {
            Self::Ramping(step) | Self::Verifying(step) => step,
        }
    }
}

/// Why a rollout waits where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// A person said so.
    Paused,
    /// The fleet's store cannot be asked whether to go on.
    StoreUnavailable,
    /// Stable itself breaches, so the canary cannot be blamed.
    BaselineIncident,
    /// The canary is above `warn`.
    Warning,
    /// Time is up and too little was seen.
    NoData,
    /// Time is up, all is well, and a person has to say go.
    Gate,
}

/// Where a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// No canary is named.
    Idle,
    /// A canary is named and has no endpoint that can be used yet.
    Pending,
    /// A step is under way.
    Running(Stage),
    /// A step is under way and will not end before the reason is gone. The guard is armed.
    Held(Stage, Hold),
    /// The canary has everything and is no longer judged.
    Completed,
    /// The canary has nothing, until `retry` or another release name.
    RolledBack,
}

/// What can happen to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The file names a canary that was not rolled back, or no longer the one it named.
    Named,
    /// The file names a canary that was rolled back, or nothing can be said about what it names.
    NamedRolledBack,
    /// The file names none.
    Unnamed,
    /// The file makes another release stable; the old one is kept warm.
    CutOver(Stage),
    /// The file makes the canary stable.
    Adopted,
    /// The file's plan changed; this stage is the one to go on with.
    Replanned(Stage),
    /// The canary has an endpoint.
    Ready(Stage),
    /// Something is in the way.
    Wait(Hold),
    /// Nothing is in the way any more.
    GoOn,
    /// The step is over, the next one follows.
    Advance(Stage),
    /// The last step is over.
    Complete,
    /// A breach, or `abort`.
    RollBack,
    /// `retry`.
    Retry,
}

/// Why a command or a file is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No canary is named.
    #[error("no rollout is under way: the service names no canary")]
    NoRollout,
    /// The canary has no endpoint yet.
    #[error("the canary has no usable endpoint yet")]
    NotStarted,
    /// The canary has everything already.
    #[error("the rollout is completed")]
    Completed,
    /// The release is latched.
    #[error("`{release}` was rolled back: retry it, or deploy a release with another name")]
    RolledBack {
        /// Its name.
        release: crate::name::ReleaseName,
    },
    /// There is nothing to retry.
    #[error("the canary was not rolled back")]
    NotRolledBack,
    /// It waits for a person who said pause.
    #[error("the rollout is paused: resume it first")]
    Paused,
    /// It is not paused.
    #[error("the rollout is not paused")]
    NotPaused,
    /// Stable breaches.
    #[error("stable itself is failing: the rollout goes on a minute after it recovers")]
    BaselineIncident,
    /// The fleet cannot be asked.
    #[error("the fleet's store cannot be reached, so no step can be agreed on")]
    StoreUnavailable,
    /// The weight is fixed in the file.
    #[error("the canary has a fixed weight: change it in the file, or make the canary stable")]
    FixedWeight,
}

/// No way leads from this state by this event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Impossible;

impl State {
    /// The state after an event: every transition there is.
    ///
    /// # Errors
    /// [`Impossible`] when the event cannot happen here; nothing changes then.
    pub fn after(self, event: Event) -> Result<Self, Impossible> {
        use Event::{
            Adopted, Advance, Complete, CutOver, GoOn, Named, NamedRolledBack, Ready, Replanned, Retry,
            RollBack, Unnamed, Wait,
        };
        use State::{Completed, Held, Idle, Pending, RolledBack, Running};
        Ok(match (self, event) {
            // The file speaks of another release, so where the old one was does not matter.
            (_, Named) => Pending,
            (_, NamedRolledBack) => RolledBack,
            (_, Unnamed) => Idle,
            (_, CutOver(stage)) => Running(stage),

            // Absorbing: only `retry` leads on, and to the beginning.
            (RolledBack, Retry) => Pending,
            (RolledBack, RollBack) => RolledBack,
            (RolledBack, _) => return Err(Impossible),

            (Pending, Ready(stage)) => Running(stage),
            (Running(_), Replanned(stage)) => Running(stage),
            (Held(_, reason), Replanned(stage)) => Held(stage, reason),
            (Running(stage) | Held(stage, _), Wait(reason)) => Held(stage, reason),
            (Held(stage, _), GoOn) => Running(stage),
            (Running(_) | Held(..), Advance(stage)) => Running(stage),
            (Running(Stage::Verifying(_)) | Held(Stage::Verifying(_), _), Complete) => Completed,
            (Pending | Running(_) | Held(..) | Completed, Adopted) => Completed,
            (Pending | Running(_) | Held(..) | Completed, RollBack) => RolledBack,

            (_, Adopted | Replanned(_) | Ready(_) | Wait(_) | GoOn | Advance(_))
            | (_, Complete | RollBack | Retry) => return Err(Impossible),
        })
    }

    /// The stage under way, if one is.
    pub fn stage(self) -> Option<Stage> {
        match self {
            Self::Running(stage) | Self::Held(stage, _) => Some(stage),
            Self::Idle | Self::Pending | Self::Completed | Self::RolledBack => None,
        }
    }

    /// Why it waits, if it does.
    pub fn hold(self) -> Option<Hold> {
        match self {
            Self::Held(_, reason) => Some(reason),
            _ => None,
        }
    }

    /// The one word of the admin API and the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Pending => "pending",
            Self::Running(Stage::Ramping(_)) => "ramping",
            Self::Running(Stage::Verifying(_)) => "verifying",
            Self::Held(..) => "held",
            Self::Completed => "completed",
            Self::RolledBack => "rolled_back",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Hold {
    /// The word of the admin API and the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::StoreUnavailable => "store_unavailable",
            Self::BaselineIncident => "baseline_incident",
            Self::Warning => "warning",
            Self::NoData => "no_data",
            Self::Gate => "gate",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn events() -> Vec<Event> {
        let stages = [Stage::Ramping(0), Stage::Ramping(1), Stage::Verifying(2)];
        let holds = [
            Hold::Paused,
            Hold::StoreUnavailable,
            Hold::BaselineIncident,
            Hold::Warning,
            Hold::NoData,
            Hold::Gate,
        ];
        let plain = [
            Event::Named,
            Event::NamedRolledBack,
            Event::Unnamed,
            Event::Adopted,
            Event::GoOn,
            Event::Complete,
            Event::RollBack,
            Event::Retry,
        ];
        let staged = stages
            .into_iter()
            .flat_map(|s| [Event::CutOver(s), Event::Replanned(s), Event::Ready(s), Event::Advance(s)]);
        plain.into_iter().chain(staged).chain(holds.into_iter().map(Event::Wait)).collect()
    }

    fn reachable(from: State, allowed: impl Fn(Event) -> bool) -> HashSet<State> {
        let (mut seen, mut next) = (HashSet::from([from]), vec![from]);
        while let Some(state) = next.pop() {
            let after = events().into_iter().filter(|e| allowed(*e)).filter_map(|e| state.after(e).ok());
            next.extend(after.filter(|state| seen.insert(*state)).collect::<Vec<_>>());
        }
        seen
    }

    #[test]
    fn rolled_back_is_left_by_retry_and_by_the_file_alone() {
        let by_file = |e| matches!(e, Event::Named | Event::Unnamed | Event::CutOver(_));
        let reached = reachable(State::RolledBack, |e| !by_file(e) && e != Event::Retry);
        assert_eq!(reached, HashSet::from([State::RolledBack]));
    }

    #[test]
    fn every_state_is_reachable_and_can_be_aborted_unless_idle() {
        let all = reachable(State::Idle, |_| true);
        assert_eq!(all.len(), 4 + 3 + 3 * 6);
        for state in all {
            let expected = if state == State::Idle { Err(Impossible) } else { Ok(State::RolledBack) };
            assert_eq!(state.after(Event::RollBack), expected, "{state:?}");
        }
    }

    #[test]
    fn nothing_is_completed_without_having_had_all_traffic_or_the_file_saying_so() {
        for state in reachable(State::Idle, |_| true) {
            let verifying = matches!(state.stage(), Some(Stage::Verifying(_)));
            assert_eq!(state.after(Event::Complete) == Ok(State::Completed), verifying, "{state:?}");
        }
    }
}
