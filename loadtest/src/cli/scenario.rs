//! `loadtest scenario`: what the gateway promises, shown and measured.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use loadtest::units;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::MISSED;
use crate::Problem;
use crate::scenario::{self, ALL, Outcome, Scenario, Setting};

const EXAMPLES: &str = "\
Exit status:
  0  every promise was kept
  1  one was broken; standard error names it
  2  it could not be played: no gateway, a wrong command line, an interrupt

Examples:
  loadtest scenario list
  loadtest scenario bad-canary --picture .
  loadtest scenario all --quick --json
  loadtest scenario bad-canary --without-failover";

/// Start origins, the gateway and users, let something happen, and tell whether what is promised was kept
///
/// Everything runs on this machine, on free ports and in a directory that goes with it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Scenarios {
    /// Which one; `all`, or `list` for what there is
    name: String,
    /// Requests a second that users send; default: 200, or 100 with --quick
    #[arg(long)]
    rate: Option<f64>,
    /// How long users go on, at most, beside what has to be waited for; default: 20s, or 4s with --quick
    #[arg(long, value_parser = units::duration, value_name = "TIME")]
    duration: Option<Duration>,
    /// Seconds each: enough to see that it works, not how well
    #[arg(long)]
    quick: bool,
    /// The gateway's binary; default: beside this one, in target/release, target/debug or on the path
    #[arg(long, value_name = "PATH")]
    gateway: Option<PathBuf>,
    /// Draw each into this directory, as NAME.svg and NAME.png
    #[arg(long, value_name = "DIR")]
    picture: Option<PathBuf>,
    /// Print JSON, an array with a value for each, instead of telling
    #[arg(long)]
    json: bool,
    /// Leave `failover` out of the gateway's file, to see what it spares users
    #[arg(long)]
    without_failover: bool,
}

pub(crate) async fn run(arguments: Scenarios) -> Result<ExitCode, Problem> {
    if arguments.name == "list" {
        ALL.iter().for_each(|Scenario { name, about, .. }| println!("{name:<17}{about}"));
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = chosen(&arguments.name)?;
    let setting = arguments.setting()?;
    if let Some(directory) = &arguments.picture {
        std::fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    }
    let outcomes = tokio::select! {
        outcomes = arguments.play(&chosen, &setting) => outcomes?,
        interrupted = interrupted() => return Err(interrupted),
    };
    if arguments.json {
        let told: Vec<Value> = outcomes.iter().map(Outcome::to_json).collect();
        println!("{}", serde_json::to_string_pretty(&told)?);
    }
    Ok(if outcomes.iter().all(Outcome::kept) { ExitCode::SUCCESS } else { ExitCode::from(MISSED) })
}

fn chosen(name: &str) -> Result<Vec<&'static Scenario>, Problem> {
    let chosen: Vec<_> = ALL.iter().filter(|one| name == "all" || name == one.name).collect();
    if chosen.is_empty() {
        let names: Vec<_> = ALL.iter().map(|one| one.name).collect();
        return Err(format!("there is no scenario `{name}`; there are {}, and all", names.join(", ")).into());
    }
    Ok(chosen)
}

/// Ends with the first signal that ends commands; what runs is then dropped, and the gateway stopped with it.
async fn interrupted() -> Problem {
    let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = signals else {
        return "signals cannot be listened for".into();
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    "interrupted; the gateway was stopped".into()
}

impl Scenarios {
    fn setting(&self) -> Result<Setting, Problem> {
        let (rate, seconds) = if self.quick { (100.0, 4) } else { (200.0, 20) };
        let (rate, length) =
            (self.rate.unwrap_or(rate), self.duration.unwrap_or(Duration::from_secs(seconds)));
        if !(10.0..=10_000.0).contains(&rate) || length < Duration::from_secs(1) {
            return Err("a scenario needs a rate from 10 to 10000 and a second at least".into());
        }
        let gateway = scenario::find_gateway(self.gateway.clone())?;
        Ok(Setting { gateway, rate, length, failover: !self.without_failover, aloud: !self.json })
    }

    async fn play(&self, chosen: &[&Scenario], setting: &Setting) -> Result<Vec<Outcome>, Problem> {
        let mut outcomes = Vec::new();
        for (index, scenario) in chosen.iter().enumerate() {
            if setting.aloud {
                let gap = if index > 0 { "\n\n" } else { "" };
                scenario::say(&format!(
                    "{gap}{}: {} ({})\n\n",
                    scenario.name, scenario.about, scenario.promised
                ));
            }
            let outcome = scenario.play(setting).await?;
            self.tell(scenario.name, &outcome)?;
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    fn tell(&self, name: &str, outcome: &Outcome) -> Result<(), Problem> {
        if !self.json {
            scenario::say(&outcome.to_string());
        }
        if !outcome.kept() {
            eprintln!("loadtest: {name}: broken: {}", outcome.broken().join("; "));
            eprintln!("the end of the gateway's log:\n{}", outcome.log_tail());
        }
        self.picture.as_ref().map_or(Ok(()), |directory| outcome.draw(directory))
    }
}
