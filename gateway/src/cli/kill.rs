//! `gateway kill`: everything to stable, at once.

use std::io::Write;

use clap::{Args, ValueEnum};
use http::{Method, StatusCode};
use serde_json::json;

use super::client::Client;
use super::{AdminArgs, Failure};

/// Send all traffic of all services to stable, or stop doing so
///
/// For the moment when nothing else is sure. Rollouts go on where they were when the switch is thrown back; it outlives
/// reloads and restarts.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  gateway kill on
  gateway kill off")]
pub struct KillArgs {
    /// Whether all traffic goes to stable
    #[arg(value_enum)]
    pub switch: Switch,

    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become the command's help")]
    pub admin: AdminArgs,

    /// Write the gateway's answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// Which way a switch is thrown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// All traffic goes to stable
    On,
    /// Traffic goes where rollouts and splits send it
    Off,
}

/// Throws the switch and says what it does.
///
/// # Errors
/// [`Failure::Refused`] when the gateway refuses or none answers.
pub fn run(args: &KillArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let body = json!({ "on": args.switch == Switch::On });
    let answer = Client::locate(&args.admin)?.send(Method::PUT, "/v1/kill", &body)?;
    match (answer.status, args.switch) {
        (StatusCode::OK, _) if args.json => writeln!(out, "{:#}", answer.body)?,
        (StatusCode::OK, Switch::On) => {
            writeln!(out, "the kill switch is on: all traffic goes to stable until `gateway kill off`")?;
        }
        (StatusCode::OK, Switch::Off) => {
            writeln!(out, "the kill switch is off: rollouts and splits go on where they were")?;
        }
        _ => return Err(answer.refusal()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::routing::put;
    use axum::{Json, Router};
    use serde_json::Value;

    use super::super::client::tests::{admin_api, args_for};
    use super::*;

    fn kill(switch: Switch, json: bool) -> String {
        let echo = |Json(body): Json<Value>| async move { Json(body) };
        let admin = args_for(admin_api(Router::new().route("/v1/kill", put(echo))));
        let mut out = Vec::new();
        run(&KillArgs { switch, admin, json }, &mut out).expect("answered");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_switch_is_thrown_either_way_and_told() {
        assert!(kill(Switch::On, false).starts_with("the kill switch is on: all traffic goes to stable"));
        assert!(kill(Switch::Off, false).starts_with("the kill switch is off"));
        assert_eq!(kill(Switch::On, true), "{\n  \"on\": true\n}\n");
        assert_eq!(kill(Switch::Off, true), "{\n  \"on\": false\n}\n");
    }
}
