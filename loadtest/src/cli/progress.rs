//! How a load goes, once a second.

use std::io::{self, Write};
use std::time::Duration;

use loadtest::load::Progress;
use loadtest::units::{count, milliseconds};
use tokio::time::{Interval, MissedTickBehavior};

/// Tells every second; on a terminal in one line that is written over, elsewhere line by line, and only if asked.
pub(crate) struct Ticker {
    seconds: Interval,
    terminal: bool,
    silent: bool,
}

impl Ticker {
    pub(crate) fn new(terminal: bool, asked: bool) -> Self {
        let second = Duration::from_secs(1);
        let mut seconds = tokio::time::interval_at(tokio::time::Instant::now() + second, second);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Self { seconds, terminal, silent: !terminal && !asked }
    }

    /// Waits for the next time to tell.
    pub(crate) async fn next(&mut self) {
        self.seconds.tick().await;
    }

    pub(crate) fn tell(&self, progress: &Progress) {
        let line = line(progress);
        match (self.silent, self.terminal) {
            (true, _) => {}
            (false, true) => write(&format!("\r\x1b[K{line}")),
            (false, false) => write(&format!("{line}\n")),
        }
    }

    /// Takes the last line away.
    pub(crate) fn clear(&self) {
        if self.terminal && !self.silent {
            write("\r\x1b[K");
        }
    }
}

/// Nobody has to see it: a closed standard error ends nothing.
fn write(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

fn line(Progress { elapsed, recent }: &Progress) -> String {
    let mut line = format!("{:>4} s  {:>7.0}/s ", elapsed.as_secs(), recent.rate);
    for (status, answers) in &recent.statuses {
        line.push_str(&format!("  {status}: {}", count(*answers)));
    }
    for (failure, requests) in &recent.errors {
        line.push_str(&format!("  {failure}: {}", count(*requests)));
    }
    if recent.answered > 0 {
        line.push_str(&format!("  p99 {}", milliseconds(recent.latency.p99)));
    }
    line
}
