//! What the rollout engine promises, shown in seeded worlds of simulated traffic.

#[path = "support/simulation.rs"]
mod simulation;

use std::time::Duration;

use gateway_core::config::model::Gate;
use gateway_core::rollout::{
    Breach, Cause, Change, Counts, Hold, Plan, Stage, State, bound, record::Manual, *,
};
use simulation::{Ills, World, delays, false_alarms, guard, p95_limit, percent, release, steps, target};

const HEALTHY: Ills = Ills { canary_fails: 0.001, stable_fails: 0.001, canary_slow: 0.0, stable_slow: 0.0 };

fn failing(canary_fails: f64, stable_fails: f64) -> Ills {
    Ills { canary_fails, stable_fails, canary_slow: 0.0, stable_slow: 0.0 }
}

/// A one-step plan that is far from its end.
fn fixed(share: f64) -> Plan {
    Plan::fixed(percent(share))
}

fn breach(change: &Change) -> &'static str {
    match &change.cause {
        Cause::Breach(breach) => breach.name(),
        other => panic!("{other:?} is no breach"),
    }
}

/// That the true chance is at most α is shown, not hoped: its 95 % upper bound is.
#[test]
fn a_canary_as_good_as_stable_is_rolled_back_in_at_most_alpha_of_all_runs() {
    const RUNS: u64 = 2000;
    for share in [10.0, 50.0] {
        for rate in [0.001, 0.01] {
            let alarms = false_alarms(RUNS, share, 3000, &guard(0.01, 0.99), rate);
            assert!(bound::at_most(alarms, RUNS, 0.01), "{alarms} of {RUNS} at {rate}, share {share}");
        }
    }
    let alarms = false_alarms(RUNS, 50.0, 3000, &guard(0.05, 0.99), 0.05);
    assert!(bound::at_most(alarms, RUNS, 0.01), "{alarms} of {RUNS} at 0.05");
}

/// Guards the blast radius against plain chance: the excess of two equal arms wanders without bound.
#[test]
fn a_busy_canary_as_good_as_stable_does_not_blow_the_fuse() {
    let alarms = false_alarms(20, 50.0, 200_000, &guard(0.05, 0.999), 0.01);
    assert_eq!(alarms, 0);
}

#[test]
fn a_bad_canary_is_rolled_back_within_the_promised_attempts() {
    for (fails, promised) in [(1.0, 5), (0.5, 12), (0.2, 30), (0.1, 60)] {
        let delays = delays(401, 10.0, 0, &guard(0.01, 0.999), failing(fails, 0.001));
        assert!(delays[200] <= promised, "median {} attempts at {fails}", delays[200]);
        assert!(delays[400] < 40 * promised, "worst {} attempts at {fails}", delays[400]);
    }
}

#[test]
fn five_thousand_good_attempts_are_no_credit() {
    for (fails, promised) in [(1.0, 5), (0.5, 20), (0.2, 60), (0.1, 120)] {
        let delays = delays(25, 10.0, 5000, &guard(0.01, 0.999), failing(fails, 0.001));
        assert!(delays[12] <= promised, "median {} attempts at {fails}", delays[12]);
    }
}

#[test]
fn an_incident_in_both_arms_holds_the_rollout_and_it_resumes_afterwards() {
    let plan = || steps(&[(10.0, 600, 300, Gate::Automatic), (100.0, 600, 300, Gate::Automatic)]);
    let incident = failing(0.3, 0.3);
    let mut rolled_back = 0;
    for seed in 0..100 {
        let mut world = World::new(seed, 500.0, target(plan(), guard(0.01, 0.999)));
        world.attempts(5000, HEALTHY);
        world.attempts(10_000, incident);
        if world.rollout.state() == State::RolledBack {
            rolled_back += 1;
            continue;
        }
        assert_eq!(world.rollout.state(), State::Held(Stage::Ramping(0), Hold::BaselineIncident));
        world.attempts(59 * 500, HEALTHY);
        assert_eq!(world.rollout.state().hold(), Some(Hold::BaselineIncident), "seed {seed}");
        world.attempts(3 * 500, HEALTHY);
        assert_eq!(world.rollout.state(), State::Running(Stage::Ramping(0)), "seed {seed}");
        let since = world.rollout.record().since;
        assert!(world.now - since < Duration::from_secs(4), "the step's clock begins anew");
        assert!(world.rollout.evidence().canary.failures < 5, "what the incident did is forgotten");
    }
    assert_eq!(rolled_back, 0);
}

#[test]
fn a_canary_worse_than_a_sick_stable_is_rolled_back() {
    for seed in 0..50 {
        let mut world = World::new(seed, 500.0, target(fixed(10.0), guard(0.01, 0.999)));
        world.attempts(2000, failing(0.2, 0.2));
        assert_eq!(world.rollout.state().hold(), Some(Hold::BaselineIncident), "seed {seed}");
        let (_, change) = world.until_rolled_back(20_000, failing(0.8, 0.2)).expect("a rollback");
        assert_eq!(breach(&change), "worse_than_stable");
    }
}

#[test]
fn a_broken_latency_limit_is_a_breach_within_twenty_attempts() {
    let mut limit = guard(0.01, 0.999);
    limit.latency = p95_limit();
    for seed in 0..50 {
        let mut world = World::new(seed, 500.0, target(fixed(10.0), limit.clone()));
        world.attempts(20_000, Ills { canary_slow: 0.03, ..HEALTHY });
        assert_eq!(world.rollout.state(), State::Running(Stage::Ramping(0)), "3 % slow keep a p95");
        let slow = Ills { canary_slow: 1.0, ..HEALTHY };
        let (attempts, change) = world.until_rolled_back(10_000, slow).expect("a rollback");
        assert!(attempts <= 20, "{attempts}");
        assert!(matches!(change.cause, Cause::Breach(Breach::Latency { .. })));
    }
}

#[test]
fn a_failed_attempt_is_not_a_fast_answer() {
    let mut limit = guard(0.9, 0.999);
    limit.latency = p95_limit();
    let evidence = |canary| {
        let mut world = World::new(1, 500.0, target(fixed(10.0), limit.clone()));
        world.sample.canary = canary;
        world.rollout.tick(world.now, &world.sample);
        world.rollout.evidence().tests.latency
    };
    let answered = Counts { attempts: 4, failures: 0, slow: 4, seen: 0 };
    assert_eq!(evidence(answered), evidence(Counts { attempts: 8, failures: 4, ..answered }));
}

#[test]
fn a_fixed_weight_is_guarded_and_never_advances() {
    let mut world = World::new(1, 100.0, target(fixed(10.0), guard(0.05, 0.999)));
    world.attempts(100 * 700, HEALTHY);
    assert_eq!(world.rollout.state(), State::Running(Stage::Ramping(0)));
    let (attempts, _) = world.until_rolled_back(10_000, failing(1.0, 0.0)).expect("a rollback");
    assert!(attempts <= 6, "{attempts}");
}

/// The first attempts of all fail in both arms: of so few, the observed share alone would say next to nothing.
#[test]
fn an_outage_from_the_first_request_on_is_no_fault_of_the_canary() {
    for share in [10.0, 50.0] {
        let blamed = (0..400).filter(|seed| {
            let mut world = World::new(*seed, 500.0, target(fixed(share), guard(0.01, 0.999)));
            world.attempts(2000, failing(1.0, 1.0));
            world.rollout.state() == State::RolledBack
        });
        // Its first five attempts may come before any of stable's: share⁵, 3 % at a half.
        let expected = (share / 100.0_f64).powi(5) * 400.0;
        let blamed = blamed.count();
        assert!((blamed as f64) < expected + 5.0 * expected.sqrt().max(1.0), "{blamed} of 400 at {share} %");
    }
}

#[test]
fn slowness_in_both_arms_holds_the_rollout() {
    let mut limit = guard(0.01, 0.999);
    limit.latency = p95_limit();
    for seed in 0..50 {
        let mut world = World::new(seed, 500.0, target(fixed(10.0), limit.clone()));
        world.attempts(2000, HEALTHY);
        world.attempts(2000, Ills { canary_slow: 1.0, stable_slow: 1.0, ..HEALTHY });
        assert_eq!(world.rollout.state().hold(), Some(Hold::BaselineIncident), "seed {seed}");
    }
}

/// Two failures of stable are evidence of 61: too little to roll a release back, enough to suspect stable.
#[test]
fn stable_is_believed_to_be_sick_before_a_canary_would_be() {
    let mut world = World::new(1, 500.0, target(fixed(50.0), guard(0.05, 0.999)));
    world.sample.stable = Counts { attempts: 2, failures: 2, slow: 0, seen: 2 };
    world.rollout.on_failure(world.now, &world.sample);
    assert_eq!(world.rollout.state().hold(), Some(Hold::BaselineIncident));
}

#[test]
fn fifteen_times_almost_nothing_is_no_reason() {
    let mut limits = guard(0.05, 0.999);
    limits.max_failed_requests = 1_000_000;
    let mut world = World::new(2, 500.0, target(fixed(50.0), limits));
    world.attempts(60_000, failing(0.0015, 0.0001));
    let tests = world.rollout.evidence().tests;
    assert!(tests.worse_than_stable > tests.needed, "{tests:?}");
    assert_ne!(world.rollout.state(), State::RolledBack);
}

#[test]
fn no_test_rolls_back_on_fewer_than_five_failures() {
    let mut limits = guard(0.05, 0.999);
    limits.consecutive_failures = 50;
    let mut world = World::new(1, 500.0, target(fixed(1.0), limits));
    world.attempts(2000, failing(0.0, 0.0));
    for failure in 1..=5 {
        assert_ne!(world.rollout.state(), State::RolledBack, "before failure {failure}");
        world.sample.canary.attempts += 1;
        world.sample.canary.failures += 1;
        world.rollout.on_failure(world.now, &world.sample);
        if failure == 3 {
            let tests = world.rollout.evidence().tests;
            assert!(tests.error_rate.max(tests.worse_than_stable) > tests.needed, "{tests:?}");
        }
    }
    assert_eq!(world.rollout.state(), State::RolledBack);
}

#[test]
fn twenty_attempts_with_two_scattered_failures_decide_nothing() {
    let plan = steps(&[(10.0, 60, 20, Gate::Automatic), (100.0, 60, 20, Gate::Automatic)]);
    let mut world = World::new(1, 10.0, target(plan, guard(0.05, 0.999)));
    for attempt in 0..20 {
        let fails = if attempt == 6 || attempt == 13 { 1.0 } else { 0.0 };
        while !canary_attempted(&mut world, failing(fails, 0.0)) {}
    }
    world.idle(Duration::from_secs(3600));
    assert!(
        matches!(world.rollout.state(), State::Held(Stage::Ramping(0), _)),
        "{:?}",
        world.rollout.state()
    );
    assert_eq!(world.rollout.evidence().canary.failures, 2);
}

fn canary_attempted(world: &mut World, ills: Ills) -> bool {
    let before = world.sample.canary.attempts;
    world.attempt(ills);
    world.sample.canary.attempts > before
}

#[test]
fn without_traffic_the_rollout_waits_for_data_and_every_number_is_one() {
    let plan = steps(&[(10.0, 60, 20, Gate::Automatic), (100.0, 60, 20, Gate::Automatic)]);
    let mut limit = guard(0.05, 0.999);
    limit.latency = p95_limit();
    let mut world = World::new(1, 10.0, target(plan, limit));
    world.idle(Duration::from_secs(86_400));
    assert_eq!(world.rollout.state(), State::Held(Stage::Ramping(0), Hold::NoData));
    let shown = serde_json::to_string(&world.rollout.status()).expect("JSON");
    assert!(!shown.contains("null,\"worse_than_stable") && !shown.contains("NaN"), "{shown}");
    let tests = world.rollout.evidence().tests;
    let numbers = [tests.error_rate, tests.worse_than_stable, tests.stable_error_rate, tests.upper_bound];
    assert!(numbers.into_iter().chain(tests.latency).all(f64::is_finite), "{tests:?}");
    while world.rollout.state().hold() == Some(Hold::NoData) {
        world.attempt(HEALTHY);
    }
    assert_eq!(world.rollout.state(), State::Running(Stage::Verifying(1)), "it ends by itself");
    assert!(world.sample.canary.attempts >= 59, "and not before there is evidence");
}

#[test]
fn a_good_canary_climbs_every_step_and_completes() {
    let plan = steps(&[
        (10.0, 60, 300, Gate::Automatic),
        (50.0, 60, 300, Gate::Manual),
        (100.0, 60, 300, Gate::Automatic),
    ]);
    let mut world = World::new(7, 100.0, target(plan, guard(0.02, 0.999)));
    world.attempts(6100, HEALTHY);
    assert_eq!(world.rollout.state(), State::Running(Stage::Ramping(1)));
    world.attempts(6100, HEALTHY);
    assert_eq!(world.rollout.state(), State::Held(Stage::Ramping(1), Hold::Gate));
    world.rollout.command(world.now, Command::Promote).expect("the gate is open to a person");
    assert_eq!(world.rollout.weight(), percent(100.0));
    let changes = world.attempts(6100, HEALTHY);
    assert_eq!(changes.last().map(|change| change.to), Some(State::Completed));
    assert_eq!(world.rollout.weight(), percent(100.0));
}

#[test]
fn the_guard_acts_while_the_rollout_is_paused_waits_at_a_gate_or_has_a_weight_set_by_hand() {
    let plan = || steps(&[(10.0, 1, 1, Gate::Manual), (100.0, 60, 1, Gate::Automatic)]);
    let manual = Command::Weight(Manual { weight: percent(30.0), until: None });
    for command in [None, Some(Command::Pause), Some(manual)] {
        let mut world = World::new(3, 500.0, target(plan(), guard(0.02, 0.999)));
        world.attempts(5000, HEALTHY);
        assert_eq!(world.rollout.state().hold(), Some(Hold::Gate));
        if let Some(command) = command {
            world.rollout.command(world.now, command).expect("taken");
        }
        assert!(world.rollout.state().hold().is_some());
        let (attempts, _) = world.until_rolled_back(1000, failing(1.0, 0.001)).expect("a rollback");
        assert!(attempts <= 5);
    }
}

#[test]
fn a_canary_clearly_above_the_warning_waits_and_is_not_rolled_back() {
    let plan = steps(&[(20.0, 60, 100, Gate::Automatic), (100.0, 60, 100, Gate::Automatic)]);
    let mut limits = guard(0.10, 0.999);
    limits.warn = gateway_core::unit::Ratio::new(0.01).expect("a ratio");
    limits.worse_than_stable = gateway_core::unit::Multiple::new(20.0).expect("a multiple");
    limits.max_failed_requests = 10_000;
    let mut world = World::new(5, 100.0, target(plan, limits));
    world.attempts(20_000, failing(0.04, 0.005));
    assert_eq!(world.rollout.state(), State::Held(Stage::Ramping(0), Hold::Warning));
}

#[test]
fn users_who_saw_twenty_five_failures_more_than_on_stable_are_enough() {
    let mut limits = guard(0.05, 0.999);
    limits.worse_than_stable = gateway_core::unit::Multiple::new(100.0).expect("a multiple");
    let mut world = World::new(5, 1000.0, target(fixed(10.0), limits));
    let (_, change) = world.until_rolled_back(2_000_000, failing(0.004, 0.0)).expect("a rollback");
    assert_eq!(breach(&change), "failed_requests");
    assert_eq!(world.sample.canary.failures, 25);
}

#[test]
fn what_users_saw_in_earlier_steps_counts_on() {
    let plan = steps(&[(10.0, 600, 1, Gate::Automatic), (20.0, 600, 1, Gate::Automatic)]);
    let mut limits = guard(0.5, 0.999);
    limits.worse_than_stable = gateway_core::unit::Multiple::new(1000.0).expect("a multiple");
    let mut world = World::new(5, 500.0, target(plan, limits));
    let mut until_seen = |seen| {
        while world.sample.canary.seen < seen {
            world.attempt(failing(0.2, 0.0));
        }
        let _ = world.rollout.command(world.now, Command::Promote);
        world.rollout.state()
    };
    assert_eq!(until_seen(20), State::Running(Stage::Ramping(1)));
    assert_eq!(until_seen(25), State::RolledBack);
}

#[test]
fn failures_in_a_row_during_an_incident_are_forgotten_with_it() {
    let mut world = World::new(5, 500.0, target(fixed(10.0), guard(0.05, 0.999)));
    world.attempts(500, HEALTHY);
    while world.rollout.evidence().tests.consecutive_failures < 6 {
        world.attempt(failing(0.9, 0.9));
    }
    assert_eq!(world.rollout.state().hold(), Some(Hold::BaselineIncident));
    world.idle(Duration::from_secs(62));
    assert_eq!(world.rollout.state(), State::Running(Stage::Ramping(0)));
}

#[test]
fn a_canary_without_endpoints_is_rolled_back_at_once_unless_stable_has_none_either() {
    let mut world = World::new(5, 100.0, target(fixed(10.0), guard(0.05, 0.999)));
    world.sample.canary_ready = false;
    world.sample.stable_ready = false;
    world.idle(Duration::from_secs(1));
    assert_eq!(world.rollout.state().hold(), Some(Hold::BaselineIncident));
    world.sample.stable_ready = true;
    let change = world.idle(Duration::from_millis(100)).pop().expect("a change");
    assert_eq!(breach(&change), "no_endpoint");
}

/// Guards the share against the step before: measured at 10 %, five canary failures at 50 % would look like five times
/// too many.
#[test]
fn a_step_up_does_not_look_like_a_worse_canary() {
    let plan = || steps(&[(1.0, 1, 1, Gate::Automatic), (90.0, 600, 1, Gate::Automatic)]);
    for seed in 0..50 {
        let mut world = World::new(seed, 1000.0, target(plan(), guard(0.5, 0.999)));
        world.attempts(15_000, failing(0.05, 0.05));
        assert_eq!(world.rollout.state(), State::Running(Stage::Ramping(1)), "seed {seed}");
    }
}

/// Guards the relative test against blindness: a hold that comes or goes moves no traffic, so the shares still hold.
#[test]
fn a_hold_between_does_not_blind_the_relative_test() {
    for seed in 0..20 {
        let mut limits = guard(0.5, 0.999);
        limits.max_failed_requests = 1_000_000;
        let mut world = World::new(seed, 500.0, target(fixed(10.0), limits));
        world.attempts(2000, HEALTHY);
        let mut canary_attempts = 0;
        while world.rollout.state() != State::RolledBack {
            let _ = world.rollout.command(world.now, Command::Pause);
            let _ = world.rollout.command(world.now, Command::Resume);
            canary_attempts += u64::from(canary_attempted(&mut world, failing(0.3, 0.001)));
        }
        assert!(canary_attempts < 60, "{canary_attempts} attempts, seed {seed}");
    }
}

/// The absolute test and the fuses wait for stable's word; the relative test, which has it already, need not.
#[test]
fn a_suspect_stable_is_heard_before_the_canary_goes() {
    let mut limits = guard(0.01, 0.999);
    limits.worse_than_stable = gateway_core::unit::Multiple::new(1000.0).expect("a multiple");
    let mut world = World::new(1, 1000.0, target(fixed(10.0), limits));
    world.attempts(1000, failing(0.0, 0.0));
    let mut fail = |arm: fn(&mut Sample) -> &mut Counts| {
        let counts = arm(&mut world.sample);
        counts.attempts += 1;
        counts.failures += 1;
        world.rollout.on_failure(world.now, &world.sample);
        world.rollout.state()
    };
    fail(|sample| &mut sample.stable);
    for _ in 0..4 {
        fail(|sample| &mut sample.canary);
    }
    let after_five = fail(|sample| &mut sample.canary);
    assert_ne!(after_five, State::RolledBack, "the fuse waits for stable");
    world.idle(Duration::from_millis(200));
    assert_ne!(world.rollout.state(), State::RolledBack);
    world.idle(Duration::from_millis(100));
    assert_eq!(world.rollout.state(), State::RolledBack, "and no longer than it must");
    assert!(world.rollout.is_rolled_back(&release("api-42")));
}
