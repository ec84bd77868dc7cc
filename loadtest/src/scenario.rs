//! Scenarios: origins, the gateway and users, something that happens to them, and whether what is promised was kept.
//!
//! Each is a file with a `play` that reads as the story it tells; what all share is the [`stage`].

mod admin;
mod gateway;
mod outcome;
mod promise;
mod shop;
mod stage;

mod bad_canary;
mod cutover;
mod dying_endpoint;
mod flood;
mod good_canary;
mod reload_storm;
mod shared_incident;
mod slow_canary;

pub(crate) use gateway::find as find_gateway;
pub(crate) use outcome::Outcome;

use std::io::{self, Write};
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use crate::Problem;

/// How a scenario is played.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// The gateway's binary.
    pub(crate) gateway: PathBuf,
    /// Requests a second.
    pub(crate) rate: f64,
    /// How long users go on, at most, beside what has to be waited for.
    pub(crate) length: Duration,
    /// Whether stable answers what a canary breaks.
    pub(crate) failover: bool,
    /// Whether it is told while it happens.
    pub(crate) aloud: bool,
}

/// A story with promises.
pub(crate) struct Scenario {
    /// What it is asked for by.
    pub(crate) name: &'static str,
    /// What happens, in a line.
    pub(crate) about: &'static str,
    /// The page that promises it.
    pub(crate) promised: &'static str,
    play: fn(&Setting) -> Playing<'_>,
}

type Playing<'a> = Pin<Box<dyn Future<Output = Result<Outcome, Problem>> + Send + 'a>>;

impl Scenario {
    /// Plays it to its end; the gateway ends before this does, or when it is dropped.
    ///
    /// # Errors
    /// When it could not be played, which says nothing about promises.
    pub(crate) async fn play(&self, setting: &Setting) -> Result<Outcome, Problem> {
        (self.play)(setting).await
    }
}

/// Tells people, on standard output. That nobody listens any more ends nothing.
pub(crate) fn say(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// All there are.
pub(crate) const ALL: [Scenario; 8] = [
    Scenario {
        name: bad_canary::NAME,
        about: "a canary begins to fail every request: it is out after five of them, and users see none",
        promised: "docs/rollouts.md",
        play: |setting| Box::pin(bad_canary::play(setting)),
    },
    Scenario {
        name: good_canary::NAME,
        about: "a canary as good as stable: it is promoted step by step, each on proof",
        promised: "docs/rollouts.md",
        play: |setting| Box::pin(good_canary::play(setting)),
    },
    Scenario {
        name: slow_canary::NAME,
        about: "a canary is slow and fails nothing: it is out after five slow answers",
        promised: "docs/rollouts.md",
        play: |setting| Box::pin(slow_canary::play(setting)),
    },
    Scenario {
        name: shared_incident::NAME,
        about: "stable and canary fail together: the rollout is held, nobody is blamed",
        promised: "docs/rollouts.md",
        play: |setting| Box::pin(shared_incident::play(setting)),
    },
    Scenario {
        name: cutover::NAME,
        about: "blue/green by one word of the file: no request fails, the new release gets everything",
        promised: "docs/rollouts.md",
        play: |setting| Box::pin(cutover::play(setting)),
    },
    Scenario {
        name: reload_storm::NAME,
        about: "hundreds of reloads under traffic: no request fails",
        promised: "docs/operations.md",
        play: |setting| Box::pin(reload_storm::play(setting)),
    },
    Scenario {
        name: dying_endpoint::NAME,
        about: "one of three endpoints dies and comes back: retries and ejection keep users unharmed",
        promised: "docs/health.md",
        play: |setting| Box::pin(dying_endpoint::play(setting)),
    },
    Scenario {
        name: flood::NAME,
        about: "one client sends far too much: it is refused, the others do not notice",
        promised: "docs/policies.md",
        play: |setting| Box::pin(flood::play(setting)),
    },
];
