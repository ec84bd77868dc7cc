//! `loadtest run`: sends load and tells how it was answered.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{HeaderName, HeaderValue, Method, Uri};
use loadtest::budget::{Budget, Verdict};
use loadtest::load::{Ask, Keys, Load, Report, Running, Series, Shape, Trust, Weighted};
use loadtest::picture::{Format, Picture};
use loadtest::units;
use serde::Serialize;

use super::progress::Ticker;
use super::{MISSED, NO_CONNECTION};
use crate::Problem;

const EXAMPLES: &str = "\
Exit status:
  0  done, and the budget is met
  1  the budget is missed
  2  the command line is wrong, or a file cannot be read or written
  3  no connection at all

Examples:
  loadtest run http://127.0.0.1:8080/ --rate 500 --duration 1m
  loadtest run https://shop.example/ --cacert ca.pem --connect-to 127.0.0.1:8443 --http2 --picture run.svg
  loadtest run http://127.0.0.1:8080 --request '9=GET /items' --request '1=POST /orders {\"item\": 1}'
  loadtest run 3=http://127.0.0.1:8080/a 1=http://127.0.0.1:8080/b --key-header x-api-key --keys 50
  loadtest run https://shop.example/ --budget 'p95<200ms,errors<0.1%,canary:p99<1s'";

/// Send requests at a fixed rate and tell how they were answered
///
/// Each request is due at its time, whether or not earlier ones were answered, and an answer's time counts from then:
/// a stall shows in every request that it holds up. Failed are requests with a status of 500 and above and those
/// without a full answer.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Run {
    /// Where to, `http://…` or `https://…`; of several, each gets requests by its WEIGHT, else 1
    #[arg(required = true, value_name = "[WEIGHT=]URL")]
    urls: Vec<Weighted<Uri>>,
    /// Requests a second
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// For how long: 30s, 2m, 1m30s
    #[arg(long, value_parser = units::duration, default_value = "10s", value_name = "TIME")]
    duration: Duration,
    /// Let the rate grow from 0 for so long, within the duration
    #[arg(long, value_parser = units::duration, default_value = "0s", value_name = "TIME")]
    ramp: Duration,
    /// Connections at most to each server
    #[arg(long, default_value_t = 16, value_name = "N")]
    connections: usize,
    /// Speak HTTP/2
    #[arg(long)]
    http2: bool,
    /// Trust the authority in this PEM file; for https
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    cacert: Option<PathBuf>,
    /// Believe every certificate
    #[arg(long)]
    insecure: bool,
    /// A request to send to each URL's server instead of the URL's own path, as `GET /path` or `POST /path BODY`; with
    /// @FILE as BODY the file's bytes. Several take turns by their WEIGHT, else 1
    #[arg(long = "request", value_name = "[WEIGHT=]REQUEST", conflicts_with_all = ["method", "body"])]
    requests: Vec<Weighted<Ask>>,
    /// The method
    #[arg(short = 'X', long, default_value = "GET")]
    method: Method,
    /// The body of each request, or @FILE
    #[arg(long, default_value = "")]
    body: String,
    /// A field of each request
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Users who take turns, each keeping its own cookies; 0 keeps none
    #[arg(long, default_value_t = 0, value_name = "N")]
    users: usize,
    /// A field with a key, `key-1` and so on, that differs from request to request
    #[arg(long, value_name = "NAME", requires = "keys")]
    key_header: Option<HeaderName>,
    /// How many keys take turns
    #[arg(long, value_name = "N", requires = "key_header", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys: Option<u32>,
    /// How long an answer may take
    #[arg(long, value_parser = units::duration, default_value = "30s", value_name = "TIME")]
    timeout: Duration,
    /// Connect here instead of to the URL's host
    #[arg(long, value_name = "HOST:PORT")]
    connect_to: Option<String>,
    /// The field in which answers name their release
    #[arg(long, default_value = "x-release", value_name = "NAME")]
    release_header: HeaderName,
    /// What the load may come to, such as `p95<200ms,errors<0.1%`. Measures: mean, p50, p90, p95, p99, p99.9 and max as
    /// times; errors as a share or a count; rate as full answers a second. `RELEASE:p95<200ms` looks at one release
    #[arg(long, value_name = "CLAUSES")]
    budget: Option<Budget>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Write the JSON to a file as well
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Draw what happened over time, as .svg or .png
    #[arg(long, value_name = "FILE", value_parser = picture)]
    picture: Option<PathBuf>,
    /// Tell every second how it goes, even if that is not to a terminal
    #[arg(long)]
    progress: bool,
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write it as `name: value`")?;
    let name = name.trim().parse().map_err(|_| format!("`{name}` is not a field name"))?;
    let value = value.trim().parse().map_err(|_| "the value holds control characters".to_owned())?;
    Ok((name, value))
}

fn picture(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    Format::of(&path).map(|_| path).ok_or_else(|| "its name ends in .svg or .png".to_owned())
}

/// Everything a run tells, as JSON.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    report: &'a Report,
    budget: &'a [Verdict],
}

pub(crate) async fn run(arguments: Run) -> Result<ExitCode, Problem> {
    let load = arguments.load()?;
    let running = load.begin()?;
    let report = watched(running, arguments.progress).await;
    let verdicts = arguments.budget.as_ref().map_or_else(Vec::new, |budget| budget.judge(&report.summary));
    arguments.tell(&report, &verdicts)?;
    if report.summary.never_connected() {
        let reason = report.trouble.as_deref().unwrap_or("no reason is known");
        eprintln!("loadtest: not one request had a connection: {reason}");
        return Ok(ExitCode::from(NO_CONNECTION));
    }
    if let Some(missed) =
        Some(verdicts.iter().filter(|verdict| !verdict.met).count()).filter(|missed| *missed > 0)
    {
        eprintln!("loadtest: the budget is missed in {missed} of {} clauses", verdicts.len());
        return Ok(ExitCode::from(MISSED));
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits for the load's end and tells meanwhile how it goes. The first interrupt ends the sending, the second the process.
async fn watched(mut running: Running, asked: bool) -> Report {
    let mut ticker = Ticker::new(std::io::stderr().is_terminal(), asked);
    let mut interrupts = 0;
    loop {
        tokio::select! {
            () = running.answered() => break,
            () = ticker.next() => ticker.tell(&running.progress()),
            _ = tokio::signal::ctrl_c() => {
                interrupts += 1;
                if interrupts > 1 {
                    break;
                }
                running.stop();
            }
        }
    }
    ticker.clear();
    running.report()
}

impl Run {
    fn load(&self) -> Result<Load, Problem> {
        let first = self.urls.first().ok_or("no URL")?;
        Ok(Load {
            mix: self.mix()?,
            headers: self.headers.clone(),
            ramp: self.ramp,
            connections: self.connections,
            http2: self.http2,
            users: self.users,
            keys: self.keys(),
            timeout: self.timeout,
            trust: self.trust()?,
            connect_to: self.connect_to.clone(),
            release_header: self.release_header.clone(),
            interval: Series::interval_for(self.duration),
            ..Load::new(first.item.clone(), self.rate, self.duration)
        })
    }

    fn keys(&self) -> Option<Keys> {
        let header = self.key_header.clone()?;
        Some(Keys { header, count: self.keys? as usize })
    }

    fn trust(&self) -> Result<Trust, Problem> {
        let secure = self.urls.iter().any(|url| url.item.scheme_str() == Some("https"));
        match (&self.cacert, self.insecure) {
            (Some(path), _) => Ok(Trust::Authority(path.clone())),
            (None, false) if secure => Err("an https URL needs --cacert FILE or --insecure".into()),
            (None, _) => Ok(Trust::Anything),
        }
    }

    /// Every URL with every request, by the product of their weights.
    fn mix(&self) -> Result<Vec<Shape>, Problem> {
        let mut mix = Vec::new();
        for Weighted { weight, item: url } in &self.urls {
            if self.requests.is_empty() {
                let (method, body) = (self.method.clone(), body(&self.body)?);
                mix.push(Shape { weight: *weight, method, url: url.clone(), body });
            }
            for ask in &self.requests {
                let Ask { method, path, body: text } = &ask.item;
                mix.push(Shape {
                    weight: weight.saturating_mul(ask.weight),
                    method: method.clone(),
                    url: at(url, path)?,
                    body: body(text)?,
                });
            }
        }
        Ok(mix)
    }

    fn tell(&self, report: &Report, verdicts: &[Verdict]) -> Result<(), Problem> {
        let json = serde_json::to_string_pretty(&Told { report, budget: verdicts })?;
        if self.json {
            println!("{json}");
        } else {
            println!("{}", report.summary);
            if !verdicts.is_empty() {
                println!("\nbudget");
            }
            verdicts.iter().for_each(|verdict| println!("  {verdict}"));
        }
        if let Some(path) = &self.out {
            std::fs::write(path, json + "\n").map_err(|error| unwritten(path, &error))?;
        }
        if let Some(path) = &self.picture {
            let picture = Picture::of(&self.title(), self.rate, self.duration, report);
            picture.write(path).map_err(|error| unwritten(path, &error))?;
        }
        Ok(())
    }

    fn title(&self) -> String {
        let urls: Vec<_> = self.urls.iter().take(2).map(|url| url.item.to_string()).collect();
        let more = if self.urls.len() > 2 { " …" } else { "" };
        urls.join(", ") + more
    }
}

fn unwritten(path: &Path, error: &std::io::Error) -> Problem {
    format!("{}: {error}", path.display()).into()
}

/// A body as written, or the bytes of the file after `@`.
fn body(text: &str) -> Result<Bytes, Problem> {
    match text.strip_prefix('@') {
        Some(path) => std::fs::read(path).map(Bytes::from).map_err(|error| format!("{path}: {error}").into()),
        None => Ok(Bytes::from(text.to_owned())),
    }
}

/// Another path on the same server.
fn at(url: &Uri, path: &str) -> Result<Uri, Problem> {
    if url.path() != "/" || url.query().is_some() {
        return Err(format!("`{url}` has a path of its own; with --request, name the server alone").into());
    }
    let mut parts = url.clone().into_parts();
    parts.path_and_query = Some(path.parse().map_err(|error| format!("`{path}`: {error}"))?);
    Ok(Uri::from_parts(parts)?)
}
