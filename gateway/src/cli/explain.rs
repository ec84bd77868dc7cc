//! `gateway explain`: which route takes a request, and why.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use http::{Method, StatusCode};

use super::client::Client;
use super::{AdminArgs, ExplainArgs, Failure};
use crate::explain::{self, Explanation, Question, offline, text};
use crate::load;
use crate::terminal;

/// Asks the file when one is named, else the running gateway, and writes the answer.
///
/// # Errors
/// [`Failure::Report`] when the file is bad, [`Failure::Refused`] when the gateway refuses or none answers.
pub fn run(args: &ExplainArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let answer = match &args.config {
        Some(path) => from_file(path, args)?,
        None => from_gateway(args)?,
    };
    if args.json {
        let json = serde_json::to_string_pretty(&answer).map_err(std::io::Error::from)?;
        return Ok(writeln!(out, "{json}")?);
    }
    Ok(out.write_all(text::render(&answer).as_bytes())?)
}

fn from_file(path: &Path, args: &ExplainArgs) -> Result<Explanation, Failure> {
    let snapshot = load::load(path)
        .and_then(offline::compile)
        .map_err(|report| Failure::Report(terminal::rendered(&report).trim_end().to_owned()))?;
    let question = Question {
        url: args.url.clone(),
        method: args.method.clone(),
        headers: args.headers.iter().cloned().collect(),
        peer: peer(args),
    };
    Ok(explain::explain(&snapshot, &question))
}

fn peer(args: &ExplainArgs) -> IpAddr {
    args.from.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

fn from_gateway(args: &ExplainArgs) -> Result<Explanation, Failure> {
    let client = Client::locate(&AdminArgs { config: None, admin: args.admin.clone() })?;
    let answer = client.call(Method::GET, &call(args))?;
    if answer.status != StatusCode::OK {
        return Err(answer.refusal());
    }
    serde_json::from_value(answer.body)
        .map_err(|error| Failure::Refused(format!("the gateway's answer is not understood: {error}")))
}

/// The call that asks this question.
fn call(args: &ExplainArgs) -> String {
    let mut call = format!(
        "/v1/explain?url={}&method={}&from={}",
        encoded(args.url.to_string().as_bytes()),
        encoded(args.method.as_str().as_bytes()),
        encoded(peer(args).to_string().as_bytes())
    );
    for (name, value) in &args.headers {
        let field = [name.as_str().as_bytes(), b": ", value.as_bytes()].concat();
        call.push_str(&format!("&header={}", encoded(&field)));
    }
    call
}

/// Percent-encodes all but unreserved characters (RFC 3986 §2.3).
fn encoded(bytes: &[u8]) -> String {
    let encode = |byte: &u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(*byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    bytes.iter().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use axum::extract::RawQuery;
    use axum::routing::get;
    use axum::{Json, Router};
    use serde_json::json;

    use super::super::client::AdminAddress;
    use super::super::client::tests::admin_api;
    use super::*;

    fn args(url: &str) -> ExplainArgs {
        ExplainArgs {
            url: url.parse().expect("a URL"),
            method: Method::POST,
            headers: vec![(http::header::COOKIE, "gw_id=a&b".parse().expect("a value"))],
            from: None,
            config: None,
            admin: None,
            json: true,
        }
    }

    #[test]
    fn a_file_answers_without_a_gateway() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("gateway.yaml");
        std::fs::write(&path, super::super::init::TEMPLATE).expect("written");
        let mut out = Vec::new();
        let asked = ExplainArgs { config: Some(path), ..args("http://localhost:8080/api/x") };
        run(&asked, &mut out).expect("answered");
        let answer: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!((&answer["route"], &answer["release"]), (&json!("api"), &json!("api-1")), "{answer}");
    }

    #[test]
    fn the_running_gateway_is_asked_with_everything_that_was_said() {
        let echo = |RawQuery(query): RawQuery| async move { Json(json!({ "route": query })) };
        let address = admin_api(Router::new().route("/v1/explain", get(echo)));
        let admin = Some(AdminAddress::Tcp(address.to_string()));
        let mut out = Vec::new();
        run(&ExplainArgs { admin, ..args("https://shop.example/a?b=c") }, &mut out).expect("answered");
        let answer: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        let expected = "url=https%3A%2F%2Fshop.example%2Fa%3Fb%3Dc&method=POST&from=127.0.0.1\
                        &header=cookie%3A%20gw_id%3Da%26b";
        assert_eq!(answer["route"], expected);
    }
}
