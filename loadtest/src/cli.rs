//! The command line: one file for each subcommand, with its options and what it does.

mod origin;
mod run;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Open-loop HTTP load, and origins to send it to.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sends requests at a fixed rate and tells how they were answered.
    Run(run::Run),
    /// Answers as told until it is interrupted.
    Origin(origin::Serve),
}

/// Why a command could not do its work; each says so by itself.
type Problem = Box<dyn std::error::Error + Send + Sync>;

/// Does what the arguments say; the exit code is the command's own, or 2 when it could not begin.
pub(crate) async fn run() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(arguments) => run::run(arguments).await,
        Command::Origin(arguments) => origin::run(arguments).await,
    };
    outcome.unwrap_or_else(|problem| {
        eprintln!("loadtest: {problem}");
        ExitCode::from(2)
    })
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
