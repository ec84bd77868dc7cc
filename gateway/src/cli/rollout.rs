//! `gateway rollout`: what rollouts do, and what people ask of them.

mod chart;
mod show;
mod view;
mod watch;

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use gateway_core::name::{InvalidName, ServiceName};
use gateway_core::unit::{Weight, parse_duration};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use self::view::View;
use super::client::{Answer, Client};
use super::{AdminArgs, Failure, table};

/// See and steer rollouts
#[derive(Debug, Subcommand)]
#[command(after_help = "\
The gateway climbs the steps of a rollout and takes a bad release back by itself; these commands look at it, and overrule \
it. What it will not do is told with the reason, and the exit status is 3.")]
pub enum RolloutCommand {
    /// List the rollouts of all services
    #[command(after_long_help = "\
Examples:
  gateway rollout list
  gateway rollout list --json | jq -r '.rollouts[] | select(.state == \"held\") | .service'")]
    List(ListArgs),

    /// Show one rollout: where it is, on which evidence, and what led to it
    ///
    /// The bars of the tests are logarithmic. One that is full rolls the canary back.
    #[command(after_long_help = "\
Examples:
  gateway rollout show api
  gateway rollout show api --json | jq .evidence.tests")]
    Show(ServiceArgs),

    /// Watch a rollout until it is completed or rolled back
    ///
    /// Redraws in place on a terminal; elsewhere writes a line for each change. The exit status is 0 when it was completed, 1
    /// when it was rolled back or its canary was taken out of the file, and 130 after Ctrl-C, which leaves the rollout alone.
    #[command(after_long_help = "\
Examples:
  gateway rollout watch api
  gateway reload && gateway rollout watch api    in a pipeline: fails when the release is rolled back
  gateway rollout watch api --json               one object for each change")]
    Watch(ServiceArgs),

    /// Go on to the next step now
    ///
    /// Skips the rest of the hold, `min_requests` and the gate. The guard stays armed.
    #[command(after_long_help = "\
Examples:
  gateway rollout promote api")]
    Promote(ServiceArgs),

    /// Stay at this step until `resume`
    ///
    /// The guard stays armed: a bad canary is rolled back all the same.
    #[command(after_long_help = "\
Examples:
  gateway rollout pause api")]
    Pause(ServiceArgs),

    /// Take back `pause` or `weight`
    #[command(after_long_help = "\
Examples:
  gateway rollout resume api")]
    Resume(ServiceArgs),

    /// Roll the canary back now
    ///
    /// It gets no traffic until `retry`, whatever the file says; another release name begins anew.
    #[command(after_long_help = "\
Examples:
  gateway rollout abort api")]
    Abort(ServiceArgs),

    /// Let a release that was rolled back begin again, at the first step
    #[command(after_long_help = "\
Examples:
  gateway rollout retry api")]
    Retry(ServiceArgs),

    /// Give the canary this share by hand, and do not go on meanwhile
    ///
    /// Until `resume`, or for a time. The guard stays armed.
    #[command(after_long_help = "\
Examples:
  gateway rollout weight api 30% --for 10m
  gateway rollout weight api 0%               nothing, without rolling it back")]
    Weight(WeightArgs),
}

#[derive(Debug, Args)]
#[allow(missing_docs, reason = "a doc comment here would become the command's help")]
pub struct ListArgs {
    #[command(flatten)]
    pub admin: AdminArgs,

    /// Write the gateway's answer as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[allow(missing_docs, reason = "a doc comment here would become the command's help")]
pub struct ServiceArgs {
    /// The service, by its name in the file
    #[arg(value_name = "SERVICE", value_parser = service)]
    pub service: ServiceName,

    #[command(flatten)]
    pub admin: AdminArgs,

    /// Write the gateway's answer as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[allow(missing_docs, reason = "a doc comment here would become the command's help")]
pub struct WeightArgs {
    /// The service, by its name in the file
    #[arg(value_name = "SERVICE", value_parser = service)]
    pub service: ServiceName,

    /// The canary's share, like 30%
    #[arg(value_name = "WEIGHT")]
    pub weight: Weight,

    /// For how long, like 10m [default: until `resume`]
    #[arg(long = "for", value_name = "TIME", value_parser = lasting)]
    pub lasts: Option<String>,

    #[command(flatten)]
    pub admin: AdminArgs,

    /// Write the gateway's answer as JSON
    #[arg(long)]
    pub json: bool,
}

fn service(text: &str) -> Result<ServiceName, InvalidName> {
    ServiceName::new(text)
}

/// Checked here, so that a mistake is one of the command line.
pub(super) fn lasting(text: &str) -> Result<String, String> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Err("it would be over at once".into()),
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Does what is asked and writes what became of it.
///
/// # Errors
/// [`Failure::Refused`] with the reason when the gateway refuses or none answers; of `watch`, see its help.
pub fn run(command: &RolloutCommand, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        RolloutCommand::List(args) => list(args, out),
        RolloutCommand::Show(args) => show(args, out),
        RolloutCommand::Watch(args) => {
            let client = Client::locate(&args.admin)?;
            let style = match args.json {
                true => watch::Style::Json,
                false if io::stdout().is_terminal() => watch::Style::Live,
                false => watch::Style::Lines,
            };
            watch::run(&client, &path(&args.service, ""), style, out)
        }
        RolloutCommand::Promote(args) => order(args, "promote", out),
        RolloutCommand::Pause(args) => order(args, "pause", out),
        RolloutCommand::Resume(args) => order(args, "resume", out),
        RolloutCommand::Abort(args) => order(args, "abort", out),
        RolloutCommand::Retry(args) => order(args, "retry", out),
        RolloutCommand::Weight(args) => weight(args, out),
    }
}

/// A service's name needs no escaping in a path.
fn path(service: &ServiceName, below: &str) -> String {
    format!("/v1/rollouts/{service}{below}")
}

fn list(args: &ListArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let body = accepted(Client::locate(&args.admin)?.call(Method::GET, "/v1/rollouts")?)?;
    if args.json {
        return Ok(writeln!(out, "{body:#}")?);
    }
    let views = View::read_all(&body["rollouts"])?;
    if body["kill"] == true {
        writeln!(out, "{}\n", show::KILLED)?;
    }
    let head = ["SERVICE", "STATE", "CANARY", "STABLE", "STEP", "WEIGHT", "FOR"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let now = now();
    for view in views.iter().flat_map(View::with_others) {
        rows.push(show::row(view, now));
    }
    Ok(out.write_all(table::align(rows).as_bytes())?)
}

fn show(args: &ServiceArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let body = accepted(Client::locate(&args.admin)?.call(Method::GET, &path(&args.service, ""))?)?;
    if args.json {
        return Ok(writeln!(out, "{body:#}")?);
    }
    let text = show::page(&View::read(&body)?, now(), show::CHANGES);
    Ok(out.write_all(text.as_bytes())?)
}

fn order(args: &ServiceArgs, command: &str, out: &mut dyn Write) -> Result<(), Failure> {
    let path = path(&args.service, &format!("/{command}"));
    let answer = Client::locate(&args.admin)?.call(Method::POST, &path)?;
    outcome(answer, args.json, out)
}

fn weight(args: &WeightArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let mut body = json!({ "weight": args.weight });
    if let Some(lasts) = &args.lasts {
        body["expires"] = lasts.as_str().into();
    }
    let client = Client::locate(&args.admin)?;
    let answer = client.send(Method::PUT, &path(&args.service, "/weight"), &body)?;
    outcome(answer, args.json, out)
}

fn outcome(answer: Answer, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let body = accepted(answer)?;
    if json {
        return Ok(writeln!(out, "{body:#}")?);
    }
    for view in View::read(&body)?.with_others() {
        writeln!(out, "{}", show::line(view))?;
    }
    Ok(())
}

fn accepted(answer: Answer) -> Result<Value, Failure> {
    if answer.status == StatusCode::OK { Ok(answer.body) } else { Err(answer.refusal()) }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests;
