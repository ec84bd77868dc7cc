//! What was measured: every round, and the medians of them.

use serde::Serialize;

use super::machine::{Cores, Machine};
use super::measure::Mode;
use super::peer::Kind;

/// A whole comparison.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) cores: Cores,
    /// How to repeat it.
    pub(super) command: String,
    pub(super) rounds: u32,
    /// Of one measurement.
    pub(super) seconds: f64,
    pub(super) peers: Vec<Peer>,
    pub(super) missing: Vec<Missing>,
    pub(super) traffic: Vec<Traffic>,
    pub(super) handshakes: Vec<Handshakes>,
    pub(super) idle: Vec<Idle>,
}

/// Who took part.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Peer {
    pub(super) kind: Kind,
    pub(super) version: String,
    /// What it did not do of the job, and what went wrong.
    pub(super) remarks: Vec<String>,
}

/// Who did not.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Missing {
    pub(super) kind: Kind,
    pub(super) reason: String,
}

/// One way of asking.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Traffic {
    pub(super) mode: Mode,
    /// Requests a second that latency was measured at.
    pub(super) rate: f64,
    pub(super) rows: Vec<TrafficRow>,
}

/// One proxy's rounds of it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct TrafficRow {
    pub(super) kind: Kind,
    pub(super) full: Vec<Full>,
    pub(super) half: Vec<Half>,
    /// The rate this proxy's latency was measured at, if it cannot hold the common one.
    pub(super) own_rate: Option<f64>,
}

/// As much as goes.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Full {
    pub(super) per_second: f64,
    pub(super) cpu_micros: f64,
    /// The share of its core the proxy used.
    pub(super) busy: f64,
    /// The share of its core that load and origin used.
    pub(super) load_busy: f64,
    pub(super) failed: u64,
}

/// At a fixed rate.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Half {
    pub(super) p50_micros: u64,
    pub(super) p99_micros: u64,
    pub(super) failed: u64,
}

/// New TLS connections, one request on each.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Handshakes {
    pub(super) kind: Kind,
    pub(super) full: Vec<Full>,
    pub(super) resumed: Vec<Full>,
    /// The least share of the second kind that was really resumed.
    pub(super) resumed_share: f64,
}

/// Memory with idle connections.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Idle {
    pub(super) kind: Kind,
    pub(super) connections: usize,
    pub(super) before_bytes: u64,
    pub(super) after_bytes: u64,
    pub(super) resident_bytes: u64,
}

/// A proxy that used this share of its core had no more to give.
pub(super) const SATURATED: f64 = 0.95;

/// The medians of rounds.
pub(super) fn full(rounds: &[Full]) -> Option<Full> {
    Some(Full {
        per_second: median(rounds.iter().map(|round| round.per_second))?,
        cpu_micros: median(rounds.iter().map(|round| round.cpu_micros))?,
        busy: median(rounds.iter().map(|round| round.busy))?,
        load_busy: median(rounds.iter().map(|round| round.load_busy))?,
        failed: rounds.iter().map(|round| round.failed).sum(),
    })
}

/// The medians of rounds.
pub(super) fn half(rounds: &[Half]) -> Option<Half> {
    Some(Half {
        p50_micros: median(rounds.iter().map(|round| round.p50_micros as f64))? as u64,
        p99_micros: median(rounds.iter().map(|round| round.p99_micros as f64))? as u64,
        failed: rounds.iter().map(|round| round.failed).sum(),
    })
}

/// The middle of an odd number of values, the mean of the two middle ones of an even; `None` of none.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    match values.len() % 2 {
        1 => Some(upper),
        _ => Some(f64::midpoint(values[values.len() / 2 - 1], upper)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_not_moved_by_one_bad_round() {
        assert_eq!(median([3.0, 1.0, 900.0].into_iter()), Some(3.0));
        assert_eq!(median([4.0, 1.0, 2.0, 900.0].into_iter()), Some(3.0));
        assert_eq!(median(std::iter::empty()), None);
    }
}
