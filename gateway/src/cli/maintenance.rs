//! `gateway maintenance`: routes switched off and on by hand.

use std::io::Write;

use clap::{Args, ValueEnum};
use gateway_core::name::{InvalidName, RouteName};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::client::{Answer, Client};
use super::rollout::lasting;
use super::{AdminArgs, Failure, table};

/// Take a route out of service, or see which are
///
/// A route in maintenance answers with what its `maintenance` says, 503 by default; clients in its `allow` pass, and what
/// is under way goes on. The switch outranks the file and outlives reloads and restarts, until it is thrown back or its
/// time is over. Without ROUTE, lists the routes that are in maintenance or were switched by hand.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  gateway maintenance                      which routes, since when, by the file or by hand
  gateway maintenance api on --for 30m
  gateway maintenance api off              whatever the file says
  gateway maintenance api file             as the file says, from now on
  gateway maintenance api                  how it stands")]
pub struct MaintenanceArgs {
    /// The route, by its name in the file
    #[arg(value_name = "ROUTE", value_parser = route)]
    pub route: Option<RouteName>,

    /// Where to put its switch
    #[arg(value_enum, value_name = "SWITCH")]
    pub position: Option<Position>,

    /// For how long, like 30m [default: until it is thrown back]
    #[arg(long = "for", value_name = "TIME", value_parser = lasting, requires = "position")]
    pub lasts: Option<String>,

    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become the command's help")]
    pub admin: AdminArgs,

    /// Write the gateway's answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// Where a switch is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Position {
    /// In maintenance
    On,
    /// Not in maintenance
    Off,
    /// As the file says
    File,
}

impl Position {
    /// As the admin API has it.
    fn on(self) -> Option<bool> {
        match self {
            Self::On => Some(true),
            Self::Off => Some(false),
            Self::File => None,
        }
    }
}

fn route(text: &str) -> Result<RouteName, InvalidName> {
    RouteName::new(text)
}

/// Throws the switch of a route, or says how it stands, or how all stand.
///
/// # Errors
/// [`Failure::Refused`] when there is no such route, or the gateway refuses or none answers.
pub fn run(args: &MaintenanceArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::locate(&args.admin)?;
    let Some(route) = &args.route else {
        return written(client.call(Method::GET, "/v1/switches")?, args.json, listed, out);
    };
    // A route's name needs no escaping in a path.
    let path = format!("/v1/routes/{route}/maintenance");
    let Some(position) = args.position else {
        return written(client.call(Method::GET, &path)?, args.json, sentence, out);
    };
    let mut body = json!({ "on": position.on() });
    if let Some(lasts) = &args.lasts {
        body["expires"] = lasts.as_str().into();
    }
    written(client.send(Method::PUT, &path, &body)?, args.json, sentence, out)
}

fn written(
    answer: Answer,
    as_json: bool,
    text: fn(&Value) -> String,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    match answer.status {
        StatusCode::OK if as_json => writeln!(out, "{:#}", answer.body)?,
        StatusCode::OK => write!(out, "{}", text(&answer.body))?,
        _ => return Err(answer.refusal()),
    }
    Ok(())
}

/// How one route stands, and how to give it back to the file.
fn sentence(line: &Value) -> String {
    let route = line["route"].as_str().unwrap_or_default();
    let is = if line["on"] == true { "is" } else { "is not" };
    let mut text = format!("{route} {is} in maintenance");
    match (line["by"] == "switch", line["until"].as_str()) {
        (false, _) => text.push_str(", as the file says\n"),
        (true, Some(until)) => text.push_str(&format!(" until {until}, then as the file says\n")),
        (true, None) => text.push_str(&format!(" until `gateway maintenance {route} file`\n")),
    }
    if line["saved"] == false {
        text.push_str("this is not on disk yet: a restart now would not know of it\n");
    }
    text
}

/// Every route that is in maintenance or was switched by hand.
fn listed(switches: &Value) -> String {
    let mut text = String::new();
    if switches["kill"] == true {
        text.push_str("the kill switch is on: all traffic goes to stable until `gateway kill off`\n\n");
    }
    let lines = switches["maintenance"].as_array().map_or(&[][..], Vec::as_slice);
    if lines.is_empty() {
        return text + "no route is in maintenance, and none was switched by hand\n";
    }
    let head = ["ROUTE", "MAINTENANCE", "BY", "SINCE", "UNTIL", ""].map(str::to_owned).to_vec();
    text + &table::align(std::iter::once(head).chain(lines.iter().map(row)).collect())
}

fn row(line: &Value) -> Vec<String> {
    let on = if line["on"] == true { "on" } else { "off" };
    let gone = if line["file"].is_null() { "not in the file now" } else { "" };
    let by = table::inline(&line["by"]);
    let [route, since, until] = ["route", "since", "until"].map(|key| table::inline(&line[key]));
    vec![route, on.to_owned(), by, since, until, gone.to_owned()]
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, put};
    use axum::{Json, Router};

    use super::super::client::tests::{admin_api, args_for};
    use super::*;

    /// What is written when the gateway answers every change with what it was sent.
    fn maintenance(position: Option<Position>, lasts: Option<&str>, json: bool) -> String {
        let echo = |Json(mut body): Json<Value>| async move {
            body["route"] = "web".into();
            Json(body)
        };
        let file = || async { Json(json!({"route": "web", "on": true, "by": "file"})) };
        let app = Router::new().route("/v1/routes/web/maintenance", put(echo).get(file));
        let admin = args_for(admin_api(app));
        let (route, lasts) = (RouteName::new("web").ok(), lasts.map(str::to_owned));
        let mut out = Vec::new();
        run(&MaintenanceArgs { route, position, lasts, admin, json }, &mut out).expect("answered");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_switch_is_sent_as_the_api_has_it() {
        let sent = |position, lasts| maintenance(Some(position), lasts, true);
        assert!(sent(Position::On, Some("30m")).contains("\"on\": true,\n  \"expires\": \"30m\""));
        assert!(sent(Position::Off, None).contains("\"on\": false"));
        assert!(sent(Position::File, None).contains("\"on\": null"));
        assert_eq!(maintenance(None, None, false), "web is in maintenance, as the file says\n");
    }

    #[test]
    fn a_switch_that_may_be_forgotten_says_so() {
        let line = |until: Value, saved: bool| {
            sentence(&json!({"route": "web", "on": false, "by": "switch", "until": until, "saved": saved}))
        };
        assert_eq!(
            line(Value::Null, true),
            "web is not in maintenance until `gateway maintenance web file`\n"
        );
        let text = line("2026-01-01T00:00:00.000Z".into(), false);
        assert!(
            text.contains("until 2026-01-01T00:00:00.000Z, then as the file says\nthis is not on disk yet")
        );
    }

    #[test]
    fn the_list_tells_who_switched_and_what_is_gone() {
        let switches = json!({"kill": true, "maintenance": [
            {"route": "api", "on": true, "by": "file", "file": true, "since": null, "until": null},
            {"route": "old", "on": false, "by": "switch", "file": null, "since": "2026-01-01T00:00:00.000Z", "until": null},
        ]});
        assert_eq!(
            listed(&switches),
            "\
the kill switch is on: all traffic goes to stable until `gateway kill off`

ROUTE  MAINTENANCE  BY      SINCE                     UNTIL
api    on           file    -                         -
old    off          switch  2026-01-01T00:00:00.000Z  -      not in the file now
"
        );
        let quiet = json!({"kill": false, "maintenance": []});
        assert_eq!(listed(&quiet), "no route is in maintenance, and none was switched by hand\n");
    }

    #[test]
    fn an_unknown_route_is_refused_with_what_the_gateway_says() {
        let refuse = || async { (StatusCode::NOT_FOUND, Json(json!({"detail": "there is no route `web`"}))) };
        let admin = args_for(admin_api(Router::new().route("/v1/routes/web/maintenance", get(refuse))));
        let route = RouteName::new("web").ok();
        let args = MaintenanceArgs { route, position: None, lasts: None, admin, json: false };
        let failure = run(&args, &mut Vec::new()).expect_err("refused");
        assert!(matches!(&failure, Failure::Refused(text) if text.contains("no route `web`")), "{failure}");
    }
}
