//! Rollouts through configurations as they are served, without sockets.

use std::path::Path;

use gateway_core::name::ReleaseName;
use gateway_core::rollout::{Command, Refusal, State};
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;

use super::announce::Message;
use super::*;
use crate::limits::registry::Limits;
use crate::listener::tls::Tickets;
use crate::load;
use crate::maintenance::Switchboard;
use crate::telemetry::metrics::Metrics;
use crate::upstream::registry::Registry;
use crate::upstream::resolve::Names;
use crate::upstream::{Materials, Service};

const CANARY: &str = "stable: a, canary: b, rollout: { weight: 10% }";

/// One process, without sockets; what it announces is written down when [`Process::save`] is called.
struct Process {
    metrics: Metrics,
    registry: Registry,
    names: Names,
    store: Arc<Store>,
    rollouts: Rollouts,
    messages: UnboundedReceiver<Message>,
    snapshot: Option<Snapshot>,
}

impl Process {
    fn start(directory: &TempDir) -> Self {
        let metrics = Metrics::new(SystemTime::now());
        let store = Store::open(directory.path().join("state"), metrics.state_write_failures());
        let store = Arc::new(store);
        let (announcer, messages) = Announcer::new();
        let rollouts = Rollouts::new(store.clone(), announcer, metrics.kill_switch());
        let (registry, names) = Default::default();
        Self { metrics, registry, names, store, rollouts, messages, snapshot: None }
    }

    /// Takes up a file with one service of the releases a, b and c, unless it is refused.
    fn load(&mut self, directory: &TempDir, service: &str) -> Result<(), String> {
        let releases =
            ["a", "b", "c"].map(|name| format!("{name}: {{ endpoints: ['127.0.0.1:{}'] }}", port(name)));
        self.take_up(directory, &format!("api: {{ releases: {{ {} }}, {service} }}", releases.join(", ")))
    }

    fn take_up(&mut self, directory: &TempDir, services: &str) -> Result<(), String> {
        let loaded = loaded(directory.path(), services);
        if let [problem, ..] = &self.rollouts.refusals(&loaded.gateway)[..] {
            return Err(problem.message.clone());
        }
        let (metrics, registry, names) = (&self.metrics, &self.registry, &self.names);
        let maintenance = &Switchboard::new(self.store.clone(), Announcer::new().0);
        let materials = Materials {
            metrics,
            passwords: &Arc::default(),
            registry,
            limits: &Limits::default(),
            names,
            rollouts: &self.rollouts,
            maintenance,
        };
        let next = Snapshot::compile(1, loaded, &materials, &Tickets::default()).unwrap();
        self.rollouts.follow(&next);
        self.snapshot = Some(next);
        Ok(())
    }

    fn service(&self) -> &Service {
        &self.snapshot.as_ref().unwrap().services["api"]
    }

    /// Attempts of a release fail, one after the other.
    fn fail(&self, release: &str, count: usize) {
        let service = self.service();
        for _ in 0..count {
            let index = service.index_of(&name(release)).unwrap();
            service.releases[index].tally.failure();
            service.supervisor.on_failure();
        }
    }

    fn order(&self, command: Command) -> Result<(), Refusal> {
        self.service().supervisor.command(command).map(drop)
    }

    /// What the release gets, in percent.
    fn weight(&self, release: &str) -> f64 {
        let service = self.service();
        service.division().weight(service.index_of(&name(release)).unwrap()).percent()
    }

    fn states(&self) -> Vec<State> {
        self.service().supervisor.read(|rollouts| rollouts.iter().map(|rollout| rollout.state()).collect())
    }

    fn save(&mut self) {
        while let Ok(Message::Changed(announcement)) = self.messages.try_recv() {
            self.store.remember(&announcement.service, announcement.records);
        }
        assert!(self.store.write());
    }
}

fn name(release: &str) -> ReleaseName {
    ReleaseName::new(release).unwrap()
}

fn port(release: &str) -> u32 {
    u32::from(release.as_bytes()[0])
}

fn loaded(directory: &Path, services: &str) -> load::Loaded {
    let path = directory.join("gateway.yaml");
    let text = format!(
        "version: 1\nlisteners: {{ http: {{ address: '127.0.0.1:80' }} }}\n\
         services: {{ web: {{ endpoints: ['127.0.0.1:9'] }}, {services} }}\nroutes: {{ web: {{ service: web }} }}\n"
    );
    std::fs::write(&path, text).unwrap();
    load::load(&path).unwrap()
}

fn started(service: &str) -> (TempDir, Process) {
    let directory = tempfile::tempdir().unwrap();
    let mut process = Process::start(&directory);
    process.load(&directory, service).unwrap();
    (directory, process)
}

#[test]
fn a_failing_canary_has_nothing_from_the_next_request_on_whatever_the_file_says_and_after_a_restart() {
    let (directory, mut process) = started(CANARY);
    assert_eq!((process.weight("b"), process.weight("a")), (10.0, 90.0));
    process.fail("b", 4);
    assert_eq!(process.weight("b"), 10.0);
    process.fail("b", 1);
    assert_eq!((process.weight("b"), process.weight("a")), (0.0, 100.0));
    process.load(&directory, "stable: a, canary: b, rollout: { weight: 50% }").unwrap();
    assert_eq!(process.weight("b"), 0.0);
    let refused = "rollout_refused_total{service=\"api\"} 1\n";
    assert!(process.metrics.encode("").contains(refused));
    process.save();
    let mut next = Process::start(&directory);
    next.load(&directory, CANARY).unwrap();
    assert_eq!((next.weight("b"), next.states()), (0.0, vec![State::RolledBack]));
    assert!(next.metrics.encode("").contains(refused));
    next.load(&directory, "stable: a, canary: c, rollout: { weight: 10% }").unwrap();
    assert_eq!(next.weight("c"), 10.0);
}

#[test]
fn what_failed_before_a_retry_is_not_held_against_the_canary_again() {
    let (_directory, process) = started(CANARY);
    process.fail("b", 5);
    process.order(Command::Retry).unwrap();
    process.service().supervisor.tick();
    process.fail("b", 4);
    assert_eq!(process.weight("b"), 10.0);
    process.fail("b", 1);
    assert_eq!(process.weight("b"), 0.0);
}

#[test]
fn a_latch_outlives_the_absence_of_its_service() {
    let (directory, mut process) = started(CANARY);
    process.fail("b", 5);
    process.take_up(&directory, "other: { endpoints: ['127.0.0.1:8'] }").unwrap();
    assert!(process.rollouts.find("api").is_none());
    process.load(&directory, CANARY).unwrap();
    assert_eq!(process.weight("b"), 0.0);
}

#[test]
fn a_latch_outlives_the_change_between_split_and_canary_until_it_is_retried() {
    let (directory, mut process) = started("stable: a, split: { a: 80, b: 15, c: 5 }");
    process.fail("c", 5);
    assert_eq!([process.weight("a"), process.weight("b"), process.weight("c")], [85.0, 15.0, 0.0]);
    process.load(&directory, CANARY).unwrap();
    assert_eq!(process.weight("b"), 10.0);
    process.load(&directory, "stable: a, canary: c, rollout: { weight: 10% }").unwrap();
    assert_eq!(process.weight("c"), 0.0);
    process.load(&directory, "stable: a, split: { a: 80, b: 15, c: 5 }").unwrap();
    assert_eq!([process.weight("b"), process.weight("c")], [15.0, 0.0]);
    process.order(Command::Retry).unwrap();
    assert_eq!(process.weight("c"), 5.0);
    process.load(&directory, CANARY).unwrap();
    process.load(&directory, "stable: a, canary: c, rollout: { weight: 10% }").unwrap();
    assert_eq!(process.weight("c"), 10.0);
}

#[test]
fn what_was_rolled_back_cannot_be_made_stable_in_any_form_of_the_file_or_by_a_restart() {
    let (directory, mut process) = started("stable: a, split: { a: 80, b: 15, c: 5 }");
    process.fail("c", 5);
    process.save();
    for service in
        ["stable: c", "stable: c, split: { a: 80, c: 20 }", "stable: c, canary: a, rollout: { weight: 1% }"]
    {
        let refusal = process.load(&directory, service).unwrap_err();
        assert!(refusal.contains("`c` was rolled back"), "{refusal}");
        let refusal = Process::start(&directory).load(&directory, service).unwrap_err();
        assert!(refusal.contains("`c` was rolled back"), "{refusal}");
    }
    assert_eq!(process.weight("a"), 85.0);
}

#[test]
fn a_canary_whose_past_cannot_be_read_has_nothing_until_it_is_retried() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join("state/rollouts")).unwrap();
    std::fs::write(directory.path().join("state/rollouts/api.json"), "{ \"torn").unwrap();
    let mut process = Process::start(&directory);
    for service in ["stable: a", CANARY, "stable: a, canary: b, rollout: { weight: 20% }"] {
        process.load(&directory, service).unwrap();
        assert_eq!(process.weight("b"), 0.0, "{service}");
    }
    process.save();
    let mut next = Process::start(&directory);
    next.load(&directory, CANARY).unwrap();
    assert_eq!(next.weight("b"), 0.0);
    next.order(Command::Retry).unwrap();
    assert_eq!(next.weight("b"), 10.0);
}

#[tokio::test]
async fn the_kill_switch_stands_above_every_share_and_is_thrown_in_the_next_process_too() {
    let (directory, mut process) = started(CANARY);
    let throwing = process.rollouts.kill(true);
    // Nobody writes here, so only the first part of it runs.
    let _ = futures_util::FutureExt::now_or_never(throwing);
    assert_eq!((process.weight("a"), process.weight("b")), (100.0, 0.0));
    process.save();
    let mut next = Process::start(&directory);
    next.load(&directory, CANARY).unwrap();
    assert_eq!((next.rollouts.is_killed(), next.weight("b")), (true, 0.0));
}

#[test]
fn a_cutover_is_watched_for_the_hold_of_the_last_step_and_reverts_when_it_fails() {
    let plan = "rollout: { steps: [{ weight: 100%, hold: 90s }] }";
    let (directory, mut process) = started(&format!("stable: a, {plan}"));
    process.load(&directory, &format!("stable: b, {plan}")).unwrap();
    assert_eq!((process.weight("a"), process.weight("b")), (0.0, 100.0));
    let watched = process.service().supervisor.read(|rollouts| {
        let status = rollouts[0].status();
        status.next.map(|next| (next - status.since).round())
    });
    assert_eq!(watched, Some(90.0));
    process.fail("b", 5);
    assert_eq!((process.weight("a"), process.weight("b")), (100.0, 0.0));
    assert_eq!(process.service().stable().name, name("a"));
}

#[test]
fn a_canary_named_during_a_cutover_begins_when_that_is_completed() {
    let (directory, mut process) = started("stable: a");
    process.load(&directory, "stable: b, canary: c, rollout: { weight: 10% }").unwrap();
    assert_eq!(process.weight("b"), 100.0);
    process.order(Command::Promote).unwrap();
    for _ in 0..2 {
        process.service().supervisor.tick();
    }
    assert_eq!((process.weight("b"), process.weight("c")), (90.0, 10.0));
}

#[test]
fn a_weight_by_hand_holds_for_one_canary_and_not_for_a_split() {
    use gateway_core::rollout::Manual;
    use gateway_core::unit::Weight;
    let weight =
        |percent| Command::Weight(Manual { weight: Weight::from_percent(percent).unwrap(), until: None });
    for service in [CANARY, "stable: a, split: { a: 90, b: 10 }"] {
        let (_directory, process) = started(service);
        process.order(weight(60.0)).unwrap();
        assert_eq!((process.weight("a"), process.weight("b")), (40.0, 60.0), "{service}");
    }
    let (_directory, process) = started("stable: a, split: { a: 80, b: 10, c: 10 }");
    assert_eq!(process.order(weight(60.0)), Err(Refusal::FixedWeight));
}

#[test]
fn states_and_steps_are_shown_and_go_with_their_releases() {
    let (directory, mut process) = started(CANARY);
    let shown = process.metrics.encode("");
    let line = |release: &str, state: &str, value: u8| {
        format!("rollout_state{{service=\"api\",release=\"{release}\",state=\"{state}\"}} {value}\n")
    };
    assert!(shown.contains(&line("b", "ramping", 1)), "{shown}");
    assert!(shown.contains(&line("b", "rolled_back", 0)) && shown.contains(&line("a", "idle", 1)));
    assert!(shown.contains("rollout_step{service=\"api\"} 0\n"));
    process.fail("b", 5);
    let shown = process.metrics.encode("");
    assert!(shown.contains(&line("b", "rolled_back", 1)) && shown.contains(&line("b", "ramping", 0)));
    assert!(shown.contains("rollout_step{service=\"api\"} -1\n"));
    process.take_up(&directory, "other: { endpoints: ['127.0.0.1:8'] }").unwrap();
    let _last = process.metrics.encode("");
    assert!(!process.metrics.encode("").contains("service=\"api\""));
}
