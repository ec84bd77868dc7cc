//! `loadtest run`: sends load and tells how it was answered.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{HeaderName, HeaderValue, Method, Uri};
use loadtest::load::{Load, Trust};

use super::{Problem, seconds};

#[derive(Debug, Args)]
pub(crate) struct Run {
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

pub(crate) async fn run(arguments: Run) -> Result<ExitCode, Problem> {
    let trust = match (arguments.cacert, arguments.insecure) {
        (Some(path), _) => Trust::Authority(path),
        (None, true) => Trust::Anything,
        (None, false) if arguments.url.scheme_str() == Some("https") => {
            return Err("an https URL needs --cacert FILE or --insecure".into());
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
    Ok(ExitCode::SUCCESS)
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write it as `name: value`")?;
    let name = name.trim().parse().map_err(|_| format!("`{name}` is not a field name"))?;
    let value = value.trim().parse().map_err(|_| "the value holds control characters".to_owned())?;
    Ok((name, value))
}
