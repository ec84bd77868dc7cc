//! The command line: one file for each subcommand, with its options and what it does.

mod compare;
mod origin;
mod progress;
mod run;
mod scenario;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Open-loop HTTP load, origins to send it to, and the gateway measured beside others.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::Run>),
    Origin(origin::Serve),
    Scenario(scenario::Scenarios),
    Compare(loadtest::compare::Arguments),
}

/// The exit code when the load's budget is missed, or a scenario's promise broken.
const MISSED: u8 = 1;

/// The exit code when the command line is wrong, or a file cannot be used.
const UNUSABLE: u8 = 2;

/// The exit code when no request had a connection.
const NO_CONNECTION: u8 = 3;

/// Does what the arguments say; the exit code is the command's own, or [`UNUSABLE`] with a sentence on why.
pub(crate) async fn run() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(arguments) => run::run(*arguments).await,
        Command::Origin(arguments) => origin::run(arguments).await,
        Command::Scenario(arguments) => scenario::run(arguments).await,
        Command::Compare(arguments) => compare::run(arguments).await,
    };
    outcome.unwrap_or_else(|problem| {
        eprintln!("loadtest: {problem}");
        ExitCode::from(UNUSABLE)
    })
}
