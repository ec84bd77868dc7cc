//! The command line: `loadtest run URL` sends load, `loadtest origin` is something to send it to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Parser, Subcommand};
use http::{HeaderName, HeaderValue, Method, Uri};
use loadtest::load::{Load, Trust};
use loadtest::origin::{Behaviour, Origin};
use tokio::signal::unix::{SignalKind, signal};

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
    Run(Run),
    /// Answers as told until it is interrupted.
    Origin(Serve),
    /// Measures the gateway beside other proxies.
    Compare(loadtest::compare::Arguments),
}

#[derive(Debug, Args)]
struct Run {
    /// Where to, `http://…` or `https://…`.
    url: Uri,
    /// Requests a second.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// For how many seconds.
    #[arg(long, value_parser = seconds, default_value = "10")]
    duration: Duration,
    /// Connections at most.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Speak HTTP/2.
    #[arg(long)]
    http2: bool,
    /// The authority to trust, a PEM file.
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    cacert: Option<PathBuf>,
    /// Believe every certificate.
    #[arg(long)]
    insecure: bool,
    /// A field of each request.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The method.
    #[arg(short = 'X', long, default_value = "GET")]
    method: Method,
    /// The body of each request.
    #[arg(long, default_value = "")]
    body: String,
    /// Users whose cookies are kept apart; 0 keeps none.
    #[arg(long, default_value_t = 0)]
    users: usize,
    /// Seconds an answer may take.
    #[arg(long, value_parser = seconds, default_value = "30")]
    timeout: Duration,
    /// Connect here instead of to the URL's host.
    #[arg(long, value_name = "HOST:PORT")]
    connect_to: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Serve {
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
    #[arg(long, value_parser = seconds, default_value = "0")]
    delay: Duration,
    /// Bytes in each body, instead of a short text.
    #[arg(long, conflicts_with = "echo")]
    body_bytes: Option<u64>,
    /// Describe each request in JSON instead.
    #[arg(long)]
    echo: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write it as `name: value`")?;
    let name = name.trim().parse().map_err(|_| format!("`{name}` is not a field name"))?;
    let value = value.trim().parse().map_err(|_| "the value holds control characters".to_owned())?;
    Ok((name, value))
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(arguments) => run(arguments).await,
        Command::Origin(arguments) => serve(arguments).await,
        Command::Compare(arguments) => compare(arguments).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("loadtest: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Run) -> Result<(), String> {
    let trust = match (arguments.cacert, arguments.insecure) {
        (Some(path), _) => Trust::Authority(path),
        (None, true) => Trust::Anything,
        (None, false) if arguments.url.scheme_str() == Some("https") => {
            return Err("an https URL needs --cacert FILE or --insecure".to_owned());
        }
        (None, false) => Trust::Anything,
    };
    let load = Load {
        method: arguments.method,
        headers: arguments.headers,
        body: Bytes::from(arguments.body),
        connections: arguments.connections,
        http2: arguments.http2,
        users: arguments.users,
        timeout: arguments.timeout,
        trust,
        connect_to: arguments.connect_to,
        ..Load::new(arguments.url, arguments.rate, arguments.duration)
    };
    let summary = load.run().await.map_err(|error| error.to_string())?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&summary).map_err(|error| error.to_string())?);
    } else {
        println!("{summary}");
    }
    Ok(())
}

async fn serve(arguments: Serve) -> Result<(), String> {
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
    tokio::signal::ctrl_c().await.map_err(|error| error.to_string())
}

/// Runs in a thread of its own, so that a signal is heard and every proxy is stopped on it.
async fn compare(arguments: loadtest::compare::Arguments) -> Result<(), String> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut comparison = {
        let stop = Arc::clone(&stop);
        tokio::task::spawn_blocking(move || loadtest::compare::run(&arguments, &stop))
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let ended = tokio::select! {
        ended = &mut comparison => ended,
        _ = tokio::signal::ctrl_c() => { stop.store(true, Ordering::Relaxed); comparison.await }
        _ = terminate.recv() => { stop.store(true, Ordering::Relaxed); comparison.await }
    };
    ended.map_err(|error| error.to_string())?.map_err(|trouble| trouble.to_string())
}
