//! `loadtest`: load, and origins to send it to.

mod cli;
mod scenario;

use std::process::ExitCode;

/// Why a command could not do its work; each says so by itself.
type Problem = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    cli::run().await
}
