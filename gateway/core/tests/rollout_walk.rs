//! An exhaustive walk: every command, reload, restart and kind of traffic in every state a rollout can reach.

#[path = "support/simulation.rs"]
#[allow(dead_code, reason = "shared with the simulations, which use all of it")]
mod simulation;

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::time::Duration;

use gateway_core::config::model::Gate;
use gateway_core::name::ReleaseName;
use gateway_core::rollout::{Command, Counts, Hold, Record, Rollout, Sample, State, Target, record::Manual};
use gateway_core::unit::Weight;
use simulation::{guard, percent, release, steps};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Action {
    Tick,
    Good,
    BadCanary,
    BadStable,
    CanaryGone,
    Minute,
    Store(bool),
    Do(Command),
    File(&'static str, Option<&'static str>),
    Restart,
}

const RELEASES: [&str; 3] = ["a", "b", "c"];

fn actions() -> Vec<Action> {
    let manual = Manual { weight: percent(30.0), until: None };
    let commands = [
        Command::Promote,
        Command::Pause,
        Command::Resume,
        Command::Abort,
        Command::Retry,
        Command::Weight(manual),
    ];
    let files = RELEASES.into_iter().flat_map(|stable| {
        let canaries = RELEASES.into_iter().filter(move |canary| *canary != stable).map(Some);
        canaries.chain([None]).map(move |canary| Action::File(stable, canary))
    });
    let plain = [
        Action::Tick,
        Action::Good,
        Action::BadCanary,
        Action::BadStable,
        Action::CanaryGone,
        Action::Minute,
        Action::Store(false),
        Action::Store(true),
        Action::Restart,
    ];
    plain.into_iter().chain(commands.map(Action::Do)).chain(files).collect()
}

fn target(stable: &str, canary: Option<&str>) -> Target {
    let plan = steps(&[(10.0, 60, 100, Gate::Manual), (100.0, 60, 100, Gate::Automatic)]);
    Target {
        stable: release(stable),
        canary: canary.map(release),
        plan: canary.map(|_| plan),
        guard: guard(0.05, 0.999),
        releases: RELEASES.map(release).to_vec(),
    }
}

/// A rollout with its world.
#[derive(Clone)]
struct Place {
    rollout: Rollout,
    file: Target,
    sample: Sample,
    now: Duration,
}

/// Everything that makes two places different but time and counts.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    state: State,
    stable: ReleaseName,
    canary: Option<ReleaseName>,
    file: (ReleaseName, Option<ReleaseName>),
    latched: Vec<ReleaseName>,
    paused: bool,
    by_hand: bool,
}

impl Place {
    fn start() -> Self {
        let (now, file) = (Duration::from_secs(1_800_000_000), target("a", Some("b")));
        let counts = Counts::default();
        let sample = Sample { canary: counts, stable: counts, canary_ready: true, stable_ready: true };
        Self { rollout: Rollout::new(now, file.clone()), file, sample, now }
    }

    fn key(&self) -> Key {
        let record = self.rollout.record();
        Key {
            state: record.state,
            stable: record.stable,
            canary: record.canary,
            file: (self.file.stable.clone(), self.file.canary.clone()),
            latched: record.rolled_back.into_iter().collect(),
            paused: record.paused,
            by_hand: record.manual.is_some(),
        }
    }

    fn after(&self, action: Action) -> Self {
        let mut next = self.clone();
        next.act(action);
        next
    }

    fn act(&mut self, action: Action) {
        self.now += Duration::from_millis(100);
        match action {
            Action::Tick => {}
            Action::Minute => self.now += Duration::from_secs(61),
            Action::Good => self.good(),
            Action::BadCanary => return self.bad(|sample| &mut sample.canary),
            Action::BadStable => return self.bad(|sample| &mut sample.stable),
            Action::CanaryGone => {
                let gone = Sample { canary_ready: false, ..self.sample };
                self.rollout.tick(self.now, &gone);
                return;
            }
            Action::Store(available) => self.rollout.set_store_available(available),
            Action::Do(command) => {
                let before = self.rollout.record();
                if self.rollout.command(self.now, command).is_err() {
                    assert_eq!(self.rollout.record(), before, "a refusal changed something");
                }
                return;
            }
            Action::File(stable, canary) => return self.load(target(stable, canary)),
            Action::Restart => return self.restart(),
        }
        self.rollout.tick(self.now, &self.sample);
    }

    fn good(&mut self) {
        for arm in [&mut self.sample.canary, &mut self.sample.stable] {
            arm.attempts += 1000;
        }
        self.rollout.tick(self.now, &self.sample);
        self.now += Duration::from_secs(61);
    }

    fn bad(&mut self, arm: fn(&mut Sample) -> &mut Counts) {
        for _ in 0..10 {
            let counts = arm(&mut self.sample);
            counts.attempts += 1;
            counts.failures += 1;
            counts.seen += 1;
            self.rollout.on_failure(self.now, &self.sample);
        }
    }

    fn load(&mut self, file: Target) {
        let before = self.rollout.record();
        match self.rollout.reload(self.now, file.clone()) {
            Ok(_) => self.file = file,
            Err(_) => assert_eq!(self.rollout.record(), before, "a refused file changed something"),
        }
    }

    fn restart(&mut self) {
        let written = serde_json::to_string_pretty(&self.rollout.record()).expect("JSON");
        let record: Record = serde_json::from_str(&written).expect("what was written can be read");
        let key = self.key();
        let (rollout, _) = Rollout::restore(self.now, record, self.file.clone()).expect("the same file");
        assert_eq!(rollout.weight(), self.rollout.weight(), "a restart moves no traffic");
        self.rollout = rollout;
        assert_eq!(self.key(), key, "a restart changed something");
    }

    fn check(&self, path: &[Action]) {
        let rollout = &self.rollout;
        let latched = |release: &ReleaseName| rollout.is_rolled_back(release);
        let canary_latched = rollout.canary().is_some_and(latched);
        assert_eq!(canary_latched, rollout.state() == State::RolledBack, "{path:?}");
        assert!(!canary_latched || rollout.weight() == Weight::ZERO, "{path:?}");
        assert!(!latched(rollout.stable()), "a rolled-back release is stable: {path:?}");
        assert!(rollout.canary() != Some(rollout.stable()), "{path:?}");
        let tests = rollout.evidence().tests;
        let numbers = [tests.error_rate, tests.worse_than_stable, tests.stable_error_rate];
        assert!(numbers.into_iter().all(|number| number.is_finite() && number >= 0.0), "{path:?}");
    }
}

/// Every reachable place; what must hold in each is checked on the way.
fn walk() -> HashSet<Key> {
    let (start, all) = (Place::start(), actions());
    let mut seen = HashSet::from([start.key()]);
    let mut open = VecDeque::from([(start, Vec::new())]);
    while let Some((place, path)) = open.pop_front() {
        let before: BTreeSet<_> = place.key().latched.into_iter().collect();
        for action in &all {
            let next = place.after(*action);
            let path: Vec<_> = path.iter().copied().chain([*action]).collect();
            next.check(&path);
            let after: BTreeSet<_> = next.key().latched.into_iter().collect();
            let forgiven = *action == Action::Do(Command::Retry);
            assert!(forgiven || after.is_superset(&before), "a latch was lost: {path:?}");
            if seen.insert(next.key()) {
                open.push_back((next, path));
            }
        }
    }
    seen
}

/// A release that was rolled back has no weight as canary, is never stable, and only `retry` takes its latch away; so
/// there is no way from a rollback to traffic but `retry` or another name.
#[test]
fn no_way_leads_from_a_rollback_to_traffic_but_retry_or_another_name() {
    let seen = walk();
    let states: BTreeSet<_> = seen.iter().map(|key| key.state.name()).collect();
    let all = ["completed", "held", "idle", "pending", "ramping", "rolled_back", "verifying"];
    assert_eq!(states, BTreeSet::from(all), "the walk went everywhere");
    let holds: BTreeSet<_> = seen.iter().filter_map(|key| key.state.hold()).collect();
    for hold in [Hold::Paused, Hold::StoreUnavailable, Hold::BaselineIncident, Hold::NoData, Hold::Gate] {
        assert!(holds.contains(&hold), "{hold:?} was never seen");
    }
    assert!(seen.len() > 200, "{} places", seen.len());
}
