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
