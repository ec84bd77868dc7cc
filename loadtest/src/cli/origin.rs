//! `loadtest origin`: something to send load to.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use loadtest::origin::{Behaviour, Origin};

use super::Problem;

/// Answer as told until interrupted
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// What it calls itself in `x-release`.
    #[arg(long, default_value = "origin")]
    name: String,
    /// The status of its answers.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..600))]
    status: u16,
    /// The share of requests that get `--error-status` instead, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    errors: f64,
    /// The status of the failing share.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(200..600))]
    error_status: u16,
    /// Seconds it takes to answer.
    #[arg(long, value_parser = loadtest::units::duration, default_value = "0")]
    delay: Duration,
    /// Bytes in each body, instead of a short text.
    #[arg(long, conflicts_with = "echo")]
    body_bytes: Option<u64>,
    /// Describe each request in JSON instead.
    #[arg(long)]
    echo: bool,
}

pub(crate) async fn run(arguments: Serve) -> Result<ExitCode, Problem> {
    let mut behaviour = match arguments.echo {
        true => Behaviour::echo(),
        false => Behaviour::status(arguments.status),
    };
    if let Some(bytes) = arguments.body_bytes {
        behaviour = behaviour.body_of(bytes);
    }
    let behaviour = behaviour.mixed(arguments.errors, arguments.error_status).delay(arguments.delay);
    let origin = Origin::script(behaviour).named(&arguments.name).listen(arguments.listen);
    let origin = origin.try_start().await.map_err(|error| format!("{}: {error}", arguments.listen))?;
    println!("{} listens on {}", origin.name(), origin.address());
    tokio::signal::ctrl_c().await?;
    Ok(ExitCode::SUCCESS)
}
