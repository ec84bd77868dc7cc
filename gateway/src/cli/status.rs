//! `gateway status`: what the running gateway is doing.

use std::io::Write;

use http::{Method, StatusCode};

use super::client::Client;
use super::{Failure, StatusArgs, table};

/// Writes the gateway's status, laid out for reading or as JSON.
///
/// # Errors
/// [`Failure::Refused`] when the gateway refuses or none answers.
pub fn run(args: &StatusArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let answer = Client::locate(&args.admin)?.call(Method::GET, "/v1/status")?;
    match answer.status {
        StatusCode::OK if args.json => writeln!(out, "{:#}", answer.body)?,
        StatusCode::OK => out.write_all(table::render(&answer.body).as_bytes())?,
        _ => return Err(answer.refusal()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use axum::{Json, Router};
    use serde_json::json;

    use super::super::client::tests::{admin_api, args_for};
    use super::*;

    fn status(json: bool) -> String {
        let body = json!({"ready": true, "uptime_seconds": 61});
        let app = Router::new().route("/v1/status", get(|| async { Json(body) }));
        let mut out = Vec::new();
        run(&StatusArgs { admin: args_for(admin_api(app)), json }, &mut out).expect("answered");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn people_get_a_table_and_programs_get_json() {
        assert_eq!(status(false), "ready   yes\nuptime  1m 1s\n");
        assert_eq!(status(true), "{\n  \"ready\": true,\n  \"uptime_seconds\": 61\n}\n");
    }
}
