//! A made-up world that drives the rollout engine: arrivals, chance and a clock, all from one seed.

use std::time::Duration;

use gateway_core::config::model::{self, FailureSet, Gate, Guard, LatencyGuard, Step};
use gateway_core::name::ReleaseName;
use gateway_core::rollout::reload::Target;
use gateway_core::rollout::{Change, Counts, Plan, Rollout, Sample};
use gateway_core::unit::{Multiple, Ratio, Weight};

/// SplitMix64 (Steele, Lea & Flood 2014).
struct Chance(u64);

impl Chance {
    /// True with this probability.
    fn happens(&mut self, probability: f64) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64 <= probability && probability > 0.0
    }
}

pub(crate) fn release(name: &str) -> ReleaseName {
    ReleaseName::new(name).expect("a name")
}

pub(crate) fn percent(percent: f64) -> Weight {
    Weight::from_percent(percent).expect("a percentage")
}

/// The guard of the manual's example, with this `max` and this confidence (each 0 to 1), warning at `max`.
pub(crate) fn guard(max: f64, confidence: f64) -> Guard {
    let ratio = |value| Ratio::new(value).expect("a ratio");
    Guard {
        warn: ratio(max),
        max: ratio(max),
        worse_than_stable: Multiple::new(1.2).expect("a multiple"),
        latency: None,
        consecutive_failures: 5,
        max_failed_requests: 25,
        failures: FailureSet {
            connect: true,
            timeout: true,
            reset: true,
            server_errors: true,
            statuses: vec![],
        },
        confidence: ratio(confidence),
    }
}

pub(crate) fn p95_limit() -> Option<LatencyGuard> {
    Some(LatencyGuard { quantile: Ratio::new(0.95).expect("a ratio"), max: Duration::from_millis(400) })
}

pub(crate) fn target(plan: Plan, guard: Guard) -> Target {
    let (stable, canary) = (release("api-41"), release("api-42"));
    let releases = vec![stable.clone(), canary.clone()];
    Target { stable, canary: Some(canary), plan: Some(plan), guard, releases }
}

pub(crate) fn steps(steps: &[(f64, u64, u64, Gate)]) -> Plan {
    let step = |(weight, seconds, min_requests, gate): &(f64, u64, u64, Gate)| Step {
        weight: percent(*weight),
        hold: Duration::from_secs(*seconds),
        min_requests: *min_requests,
        gate: *gate,
    };
    Plan::new(&model::Plan::Steps(steps.iter().map(step).collect()))
}

/// How often attempts end badly, 0 to 1.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ills {
    pub(crate) canary_fails: f64,
    pub(crate) stable_fails: f64,
    pub(crate) canary_slow: f64,
    pub(crate) stable_slow: f64,
}

pub(crate) struct World {
    pub(crate) rollout: Rollout,
    pub(crate) now: Duration,
    pub(crate) sample: Sample,
    chance: Chance,
    between: Duration,
    next_tick: Duration,
}

const TICK: Duration = Duration::from_millis(100);

impl World {
    /// A world with so many attempts a second, in which the rollout has begun.
    pub(crate) fn new(seed: u64, per_second: f64, target: Target) -> Self {
        let now = Duration::from_secs(1_800_000_000);
        let sample = Sample {
            canary: Counts::default(),
            stable: Counts::default(),
            canary_ready: true,
            stable_ready: true,
        };
        let mut world = Self {
            rollout: Rollout::new(now, target),
            now,
            sample,
            chance: Chance(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x5eed),
            between: Duration::from_secs_f64(1.0 / per_second),
            next_tick: now,
        };
        world.tick();
        world
    }

    fn tick(&mut self) -> Option<Change> {
        self.next_tick = self.now + TICK;
        self.rollout.tick(self.now, &self.sample)
    }

    /// Time passes without traffic; every change on the way.
    pub(crate) fn idle(&mut self, time: Duration) -> Vec<Change> {
        let end = self.now + time;
        let mut changes = Vec::new();
        while self.now < end {
            self.now += TICK;
            changes.extend(self.tick());
        }
        changes
    }

    /// One attempt, and a tick when it is due. What changed last.
    pub(crate) fn attempt(&mut self, ills: Ills) -> Option<Change> {
        self.now += self.between;
        let share = f64::from(self.rollout.weight().ppm()) / 1e6;
        let change = if self.chance.happens(share) { self.on_canary(ills) } else { self.on_stable(ills) };
        let ticked = if self.now >= self.next_tick { self.tick() } else { None };
        ticked.or(change)
    }

    fn on_canary(&mut self, ills: Ills) -> Option<Change> {
        self.sample.canary.attempts += 1;
        if self.chance.happens(ills.canary_fails) {
            self.sample.canary.failures += 1;
            self.sample.canary.seen += 1;
            return self.rollout.on_failure(self.now, &self.sample);
        }
        if self.chance.happens(ills.canary_slow) {
            self.sample.canary.slow += 1;
            return self.rollout.on_slow(self.now, &self.sample);
        }
        None
    }

    fn on_stable(&mut self, ills: Ills) -> Option<Change> {
        self.sample.stable.attempts += 1;
        if self.chance.happens(ills.stable_fails) {
            self.sample.stable.failures += 1;
            self.sample.stable.seen += 1;
            return self.rollout.on_failure(self.now, &self.sample);
        }
        if self.chance.happens(ills.stable_slow) {
            self.sample.stable.slow += 1;
            return self.rollout.on_slow(self.now, &self.sample);
        }
        None
    }

    /// So many attempts; every change on the way.
    pub(crate) fn attempts(&mut self, count: u64, ills: Ills) -> Vec<Change> {
        (0..count).filter_map(|_| self.attempt(ills)).collect()
    }

    /// Canary attempts until the rollback, and the change; `None` if it does not come within `limit` attempts in all.
    pub(crate) fn until_rolled_back(&mut self, limit: u64, ills: Ills) -> Option<(u64, Change)> {
        let before = self.sample.canary.attempts;
        for _ in 0..limit {
            if let Some(change) = self.attempt(ills)
                && self.rollout.state() == gateway_core::rollout::State::RolledBack
            {
                return Some((self.sample.canary.attempts - before, change));
            }
        }
        None
    }
}

/// Canary attempts from the onset to the rollback, sorted, one for each of `runs` seeds; `u64::MAX` where none came.
pub(crate) fn delays(runs: u64, share: f64, healthy: u64, guard: &Guard, ills: Ills) -> Vec<u64> {
    let mut delays: Vec<u64> = (0..runs).map(|seed| delay(seed, share, healthy, guard, ills)).collect();
    delays.sort_unstable();
    delays
}

fn delay(seed: u64, share: f64, healthy: u64, guard: &Guard, ills: Ills) -> u64 {
    let mut world = World::new(seed, 500.0, target(Plan::fixed(percent(share)), guard.clone()));
    let well = Ills { canary_fails: ills.stable_fails, canary_slow: 0.0, ..ills };
    while world.sample.canary.attempts < healthy {
        world.attempt(well);
    }
    world.until_rolled_back(200_000, ills).map_or(u64::MAX, |(attempts, _)| attempts)
}

/// How many of `runs` roll back a canary that is exactly as good as stable, within so many attempts in all.
pub(crate) fn false_alarms(runs: u64, share: f64, attempts: u64, guard: &Guard, rate: f64) -> u64 {
    let ills = Ills { canary_fails: rate, stable_fails: rate, canary_slow: 0.0, stable_slow: 0.0 };
    let alarm = |seed: &u64| {
        let mut world = World::new(*seed, 500.0, target(Plan::fixed(percent(share)), guard.clone()));
        world.until_rolled_back(attempts, ills).is_some()
    };
    (0..runs).filter(alarm).count() as u64
}
