//! From counts to a verdict: which tests are armed, and what they say.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bound;
use super::evidence::{Arms, Counts, Observed};
use super::fuse::{BlastRadius, Excess, InARow};
use super::state::Hold;
use super::test::{Absolute, Batch, Latency, Relative};
use crate::config::model::{Guard, Step};

/// A test alone rolls nothing back on fewer failures.
const MIN_FAILURES: u64 = 5;

/// The relative test rolls nothing back for a smaller difference of failure rates.
const MIN_DIFFERENCE: f64 = 0.005;

/// How long the other tests and the fuses wait for stable's own verdict.
const STABLE_VERDICT_WITHIN: Duration = Duration::from_millis(250);

/// How long after stable's last breach the canary is judged by itself again.
const INCIDENT_OVER_AFTER: Duration = Duration::from_secs(60);

/// 1/α of stable's own tests. A mistaken hold costs a minute and a mistaken rollback a release, so it is believed early.
const STABLE_THRESHOLD: f64 = 20.0;

/// What the evidence says about the canary.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Nothing is in the way.
    Pass,
    /// It may stay, and not go on.
    Hold(Hold),
    /// It must go.
    RollBack(Breach),
}

/// The limit crossed, with the numbers seen. Rates are 0 to 1; `evidence` breached at `needed` (1/α).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "limit", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields are those of the sentence the breach displays as")]
pub enum Breach {
    /// More failures than `max`.
    ErrorRate { canary: Counts, max: f64, evidence: f64, needed: f64 },
    /// More failures than `worse_than_stable` times stable's.
    WorseThanStable { canary: Counts, stable: Counts, ratio: f64, evidence: f64, needed: f64 },
    /// More slow answers than the quantile allows.
    Latency { canary: Counts, quantile: f64, max_ms: u64, evidence: f64, needed: f64 },
    /// A fuse: failures in a row.
    ConsecutiveFailures { count: u64, max: u64 },
    /// A fuse: failures users saw.
    FailedRequests { seen: u64, expected: f64, max: u64 },
    /// No endpoint of the canary can be used.
    NoEndpoint,
}

impl Breach {
    /// The word for it in metrics and records.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ErrorRate { .. } => "error_rate",
            Self::WorseThanStable { .. } => "worse_than_stable",
            Self::Latency { .. } => "latency",
            Self::ConsecutiveFailures { .. } => "consecutive_failures",
            Self::FailedRequests { .. } => "failed_requests",
            Self::NoEndpoint => "no_endpoint",
        }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |rate: f64| format!("{}%", (rate * 1e4).round() / 1e2);
        let failed = |c: &Counts| format!("{} of {} attempts failed", c.failures, c.attempts);
        match self {
            Self::ErrorRate { canary, max, evidence, needed } => {
                write!(f, "{} where {} are allowed", failed(canary), percent(*max))?;
                write!(f, " (evidence {evidence:.0}, needed {needed:.0})")
            }
            Self::WorseThanStable { canary, stable, ratio, evidence, needed } => {
                write!(f, "{}, on stable {} of {}", failed(canary), stable.failures, stable.attempts)?;
                write!(f, ", where {ratio}x is allowed (evidence {evidence:.0}, needed {needed:.0})")
            }
            Self::Latency { canary, quantile, max_ms, evidence, needed } => {
                write!(f, "{} of {} answers took longer than {max_ms}ms", canary.slow, canary.answered())?;
                let allowed = percent(1.0 - quantile);
                write!(f, " where {allowed} may (evidence {evidence:.0}, needed {needed:.0})")
            }
            Self::ConsecutiveFailures { count, max } => {
                write!(f, "{count} attempts in a row failed, {max} are the limit")
            }
            Self::FailedRequests { seen, expected, max } => {
                write!(f, "users saw {seen} failures where stable would have given {expected:.1}")?;
                write!(f, "; {max} more are the limit")
            }
            Self::NoEndpoint => f.write_str("no endpoint of the canary can be used"),
        }
    }
}

/// Everything a decision rests on, as it is recorded and shown.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// The canary's counts since the step began or the evidence was reset.
    pub canary: Counts,
    /// Stable's in the same time.
    pub stable: Counts,
    /// What the tests make of them.
    pub tests: Tests,
}

/// The tests' values; each breaches at `needed`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Tests {
    /// 1/α.
    pub needed: f64,
    /// The absolute test.
    pub error_rate: f64,
    /// The relative test.
    pub worse_than_stable: f64,
    /// The latency test, if there is a limit.
    pub latency: Option<f64>,
    /// Stable's own absolute test; it breaches at 20.
    pub stable_error_rate: f64,
    /// One-sided 95 % upper bound on the canary's failure rate, 0 to 1.
    pub upper_bound: f64,
    /// Failures in a row.
    pub consecutive_failures: u64,
    /// Failures users saw in this rollout, and what stable would have given.
    pub excess: Excess,
}

/// Judges one canary against one guard. Its memory does not grow.
#[derive(Debug, Clone, PartialEq)]
pub struct Judge {
    guard: Guard,
    needed: f64,
    observed: Observed,
    absolute: Absolute,
    relative: Relative,
    latency: Option<Latency>,
    stable: Absolute,
    stable_latency: Option<Latency>,
    in_a_row: InARow,
    blast: BlastRadius,
    waiting_since: Option<Duration>,
    stable_breached: Option<Duration>,
    warned: bool,
}

impl Judge {
    /// A judge without evidence.
    pub fn new(guard: &Guard) -> Self {
        let max = guard.max.get();
        // A confidence of 100 % would need infinite evidence; it is taken for one in a billion.
        let alpha = (1.0 - guard.confidence.get()).clamp(1e-9, 1.0);
        let latency = guard.latency.as_ref().map(|latency| Latency::new(latency.quantile.get()));
        Self {
            // Rounded, as 1 − 0.999 is not quite 0.001.
            needed: (1e3 / alpha).round() / 1e3,
            observed: Observed::default(),
            absolute: Absolute::new(max),
            relative: Relative::new(guard.worse_than_stable.get()),
            latency: latency.clone(),
            stable: Absolute::new(max),
            stable_latency: latency,
            in_a_row: InARow::default(),
            blast: BlastRadius::new(max, alpha),
            waiting_since: None,
            stable_breached: None,
            warned: false,
            guard: guard.clone(),
        }
    }

    /// The guard that is judged by.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Begins anew, as each step does: every test has its α for a whole step. What users saw is not forgotten.
    pub fn reset(&mut self) {
        self.blast.carry(self.observed.step);
        self.observed = Observed::default();
        self.absolute.reset();
        self.relative.reset();
        self.in_a_row = InARow::default();
        self.stable.reset();
        self.latency.iter_mut().chain(&mut self.stable_latency).for_each(Latency::reset);
        self.waiting_since = None;
        self.stable_breached = None;
        self.warned = false;
    }

    /// Tells that the weight changed within a step, so that the share of the last seconds no longer describes the traffic.
    pub fn weight_changed(&mut self) {
        self.observed.forget_shares();
    }

    /// Takes in what came since the last look. `hit_last`: the last thing that happened is the one failure or slow
    /// answer among it. `planned`: the share of traffic the canary should have, 0 to 1.
    pub fn take(&mut self, now: Duration, came: Arms, hit_last: bool, planned: f64) {
        self.observed.take(now, came);
        let batch = |trials, hits| Batch { trials, hits, hit_last };
        let failures = |arm: Counts| batch(arm.attempts, arm.failures);
        self.absolute.fold(failures(came.canary));
        self.stable.fold(failures(came.stable));
        self.in_a_row.fold(failures(came.canary));
        for (latency, arm) in [(&mut self.latency, came.canary), (&mut self.stable_latency, came.stable)] {
            latency.iter_mut().for_each(|latency| latency.fold(batch(arm.answered(), arm.slow)));
        }
        let share = self.observed.share(now, planned);
        self.relative.fold(came.canary.failures, came.stable.failures, share);
    }

    /// What the evidence says now. `canary_ready` and `stable_ready`: whether each arm has an endpoint.
    ///
    /// A pass says that nothing is wrong, not that the step is proved: ask [`Judge::proved`].
    pub fn verdict(&mut self, now: Duration, canary_ready: bool, stable_ready: bool) -> Verdict {
        self.judge_stable(now, stable_ready);
        if !canary_ready && stable_ready {
            return Verdict::RollBack(Breach::NoEndpoint);
        }
        if let Some(breach) = self.worse_than_stable() {
            return Verdict::RollBack(breach);
        }
        if self.incident() {
            return Verdict::Hold(Hold::BaselineIncident);
        }
        let failed = self.blown().or_else(|| self.above_max());
        let (breach, suspect) = match failed {
            Some(breach) => (Some(breach), self.observed.stable_failed_lately()),
            None => (self.slow(), self.observed.stable_slow_lately()),
        };
        match breach {
            Some(breach) if !suspect || self.has_waited(now) => return Verdict::RollBack(breach),
            Some(_) => {}
            None => self.waiting_since = None,
        }
        if self.warns() { Verdict::Hold(Hold::Warning) } else { Verdict::Pass }
    }

    /// Whether stable is breaching, or was less than a minute ago. What was seen meanwhile is forgotten afterwards.
    pub fn incident(&self) -> bool {
        self.stable_breached.is_some()
    }

    /// Whether the canary has shown that it may leave `step`.
    ///
    /// # Errors
    /// The hold that is due instead: too little was seen, or what was seen is above the warning.
    pub fn proved(&self, step: &Step) -> Result<(), Hold> {
        let canary = self.observed.step.canary;
        if canary.failure_rate() > self.guard.warn.get() && canary.attempts >= step.min_requests {
            return Err(Hold::Warning);
        }
        let bounded = bound::at_most(canary.failures, canary.attempts, self.guard.max.get());
        if canary.attempts < step.min_requests || !bounded { Err(Hold::NoData) } else { Ok(()) }
    }

    /// The numbers of the moment. Costs some microseconds for the bound.
    pub fn evidence(&self) -> Evidence {
        let Arms { canary, stable } = self.observed.step;
        Evidence {
            canary,
            stable,
            tests: Tests {
                needed: self.needed,
                error_rate: self.absolute.value(),
                worse_than_stable: self.relative.value(),
                latency: self.latency.as_ref().map(Latency::value),
                stable_error_rate: self.stable.value(),
                upper_bound: bound::upper(canary.failures, canary.attempts),
                consecutive_failures: self.in_a_row.count(),
                excess: self.blast.excess(self.observed.step),
            },
        }
    }

    /// Notes a breach of stable, and forgets all that was seen once the last one is a minute ago.
    fn judge_stable(&mut self, now: Duration, ready: bool) {
        let slow = self.stable_latency.as_ref().is_some_and(|latency| latency.value() >= STABLE_THRESHOLD);
        if slow || self.stable.value() >= STABLE_THRESHOLD {
            self.stable.reset();
            self.stable_latency.iter_mut().for_each(Latency::reset);
            self.stable_breached = Some(now);
        }
        if !ready {
            self.stable_breached = Some(now);
        }
        if self.stable_breached.is_some_and(|at| now.saturating_sub(at) >= INCIDENT_OVER_AFTER) {
            self.reset();
        }
    }

    fn worse_than_stable(&self) -> Option<Breach> {
        let Arms { canary, stable } = self.observed.step;
        let evidence = self.relative.value();
        let breached = evidence >= self.needed
            && canary.failures >= MIN_FAILURES
            && self.observed.lately.difference() >= MIN_DIFFERENCE;
        let ratio = self.guard.worse_than_stable.get();
        breached.then_some(Breach::WorseThanStable { canary, stable, ratio, evidence, needed: self.needed })
    }

    fn slow(&self) -> Option<Breach> {
        let limit = self.guard.latency.as_ref()?;
        let evidence = self.latency.as_ref()?.value();
        let canary = self.observed.step.canary;
        let breached = evidence >= self.needed && canary.slow >= MIN_FAILURES;
        let (quantile, max_ms) = (limit.quantile.get(), limit.max.as_millis() as u64);
        breached.then_some(Breach::Latency { canary, quantile, max_ms, evidence, needed: self.needed })
    }

    fn blown(&self) -> Option<Breach> {
        let (count, max) = (self.in_a_row.count(), u64::from(self.guard.consecutive_failures));
        if max > 0 && count >= max {
            return Some(Breach::ConsecutiveFailures { count, max });
        }
        let max = self.guard.max_failed_requests;
        let excess = self.blast.blown(self.observed.step, max)?;
        let (seen, expected) = (excess.seen as u64, excess.expected);
        Some(Breach::FailedRequests { seen, expected, max: u64::from(max) })
    }

    fn above_max(&self) -> Option<Breach> {
        let canary = self.observed.step.canary;
        let evidence = self.absolute.value();
        let breached = evidence >= self.needed && canary.failures >= MIN_FAILURES;
        let max = self.guard.max.get();
        breached.then_some(Breach::ErrorRate { canary, max, evidence, needed: self.needed })
    }

    /// An incident shows in both arms within moments; only then is it fair to ask who began.
    fn has_waited(&mut self, now: Duration) -> bool {
        let since = *self.waiting_since.get_or_insert(now);
        now.saturating_sub(since) >= STABLE_VERDICT_WITHIN
    }

    /// Clearly above `warn` of late; once so, until the rate itself is no longer above.
    fn warns(&mut self) -> bool {
        let warn = self.guard.warn.get();
        let (failures, attempts) = self.observed.lately.canary_counts();
        self.warned = if self.warned {
            self.observed.lately.canary_rate() > warn
        } else {
            // A few failures are the beginning of a verdict, not a reason to tell people.
            failures >= MIN_FAILURES && bound::above(failures, attempts, warn)
        };
        self.warned
    }
}
