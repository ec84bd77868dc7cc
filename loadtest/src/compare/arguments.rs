//! What can be asked of a comparison.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::measure::Mode;
use super::peer::Kind;

/// The gateway beside nginx, HAProxy, Envoy, Caddy and a bare Pingora proxy doing the same job. A peer that is not
/// installed is named and left out; `make compare` installs them first.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// The gateway's binary, built for release.
    #[arg(long, value_name = "PATH", default_value = "target/release/gateway")]
    pub(super) gateway: PathBuf,
    /// The bare Pingora proxy: the example `bare_pingora` of this package, built for release.
    #[arg(long, value_name = "PATH", default_value = "target/release/examples/bare_pingora")]
    pub(super) bare: PathBuf,
    /// Envoy's binary.
    #[arg(long, value_name = "PATH", default_value = "target/peers/envoy")]
    pub(super) envoy: PathBuf,
    /// Who takes part; default: all.
    #[arg(long, value_name = "PEER,…", value_delimiter = ',', value_enum)]
    pub(super) peers: Vec<Kind>,
    /// What is measured; default: all.
    #[arg(long, value_name = "MODE,…", value_delimiter = ',', value_enum)]
    pub(super) modes: Vec<Mode>,
    /// Interleaved rounds; the medians are told.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of one measurement.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Idle connections whose memory is measured.
    #[arg(long, value_name = "CONNECTIONS", default_value_t = 10_000)]
    idle: usize,
    /// One short round with few connections: shows that it works, and no more.
    #[arg(long)]
    pub(super) quick: bool,
    /// Write the figures of every round to this file.
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Put the table between the marks in this page.
    #[arg(long, value_name = "FILE")]
    pub(super) markdown: Option<PathBuf>,
}

impl Arguments {
    /// Who takes part, each once.
    pub(super) fn peers(&self) -> Vec<Kind> {
        Kind::ALL.into_iter().filter(|kind| self.peers.is_empty() || self.peers.contains(kind)).collect()
    }

    /// What is measured, each once.
    pub(super) fn modes(&self) -> Vec<Mode> {
        Mode::ALL.into_iter().filter(|mode| self.modes.is_empty() || self.modes.contains(mode)).collect()
    }

    pub(super) fn rounds(&self) -> u32 {
        if self.quick { 1 } else { self.rounds }
    }

    /// The time of one measurement, and of what runs before it uncounted.
    pub(super) fn times(&self) -> (Duration, Duration) {
        // Between a moment that is too short to measure and a day that nobody waits for.
        let seconds = if self.quick { 0.3 } else { self.seconds.clamp(0.1, 86_400.0) };
        let time = Duration::from_secs_f64(seconds);
        (time, (time / 5).min(Duration::from_secs(1)))
    }

    pub(super) fn idle(&self) -> usize {
        if self.quick { self.idle.min(200) } else { self.idle }
    }
}
