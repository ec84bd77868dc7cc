//! `gateway reload`: the running gateway reads its file again.

use std::io::Write;

use http::{Method, StatusCode};
use serde_json::Value;

use super::client::{Answer, Client};
use super::{Failure, ReloadArgs, table};

/// Asks for a reload, waits, and writes what changed.
///
/// # Errors
/// [`Failure::Report`] with all diagnostics when the file is bad, [`Failure::Refused`] when the gateway refuses or none
/// answers.
pub fn run(args: &ReloadArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let answer = Client::locate(&args.admin)?.call(Method::POST, "/v1/reload")?;
    match answer.status {
        StatusCode::OK | StatusCode::UNPROCESSABLE_ENTITY if args.json => {
            writeln!(out, "{:#}", answer.body)?;
            if answer.status.is_success() { Ok(()) } else { Err(Failure::Report(summary(&answer))) }
        }
        StatusCode::OK => Ok(out.write_all(changes(&answer.body).as_bytes())?),
        StatusCode::UNPROCESSABLE_ENTITY => Err(Failure::Report(report(&answer))),
        _ => Err(answer.refusal()),
    }
}

fn changes(body: &Value) -> String {
    let revision = &body["revision"];
    match body["changed"].as_array().map(Vec::as_slice) {
        None | Some([]) => format!("revision {revision}: nothing changed\n"),
        Some(changed) => {
            let lines = changed.iter().map(|change| format!("  {}\n", table::inline(change)));
            format!("revision {revision}:\n{}", lines.collect::<String>())
        }
    }
}

fn report(answer: &Answer) -> String {
    let rendered = answer.body["rendered"].as_str().unwrap_or_default().trim_end();
    let summary = summary(answer);
    if rendered.is_empty() { summary } else { format!("{rendered}\n\n{summary}") }
}

fn summary(answer: &Answer) -> String {
    let diagnostics = answer.body["diagnostics"].as_array().map_or(&[][..], Vec::as_slice);
    let errors = diagnostics.iter().filter(|one| one["severity"] == "error").count();
    let many = match errors {
        0 => "the file cannot be served".to_owned(),
        1 => "1 error".to_owned(),
        many => format!("{many} errors"),
    };
    format!("not reloaded: {many}; the previous configuration serves on")
}

#[cfg(test)]
mod tests {
    use axum::routing::post;
    use axum::{Json, Router};
    use serde_json::json;

    use super::super::client::tests::{admin_api, args_for};
    use super::*;

    fn reload(status: StatusCode, body: Value, json: bool) -> (Result<(), Failure>, String) {
        let answer = move || async move { (status, Json(body)) };
        let admin = args_for(admin_api(Router::new().route("/v1/reload", post(answer))));
        let mut out = Vec::new();
        let outcome = run(&ReloadArgs { admin, json }, &mut out);
        (outcome, String::from_utf8(out).expect("text"))
    }

    #[test]
    fn a_bad_file_is_status_1_in_words_and_in_json() {
        let body = json!({"diagnostics": [{"severity": "error"}], "rendered": "  × no such service"});

        let (outcome, out) = reload(StatusCode::UNPROCESSABLE_ENTITY, body.clone(), false);
        let failure = outcome.expect_err("a bad file");
        assert!(failure.to_string().starts_with("  × no such service\n\nnot reloaded: 1 error"), "{failure}");
        assert_eq!((failure.exit_code(), out.as_str()), (std::process::ExitCode::from(1), ""));

        let (outcome, out) = reload(StatusCode::UNPROCESSABLE_ENTITY, body.clone(), true);
        assert_eq!(outcome.expect_err("a bad file").exit_code(), std::process::ExitCode::from(1));
        assert_eq!(serde_json::from_str::<Value>(&out).expect("JSON"), body);
    }

    #[test]
    fn a_reload_is_status_0_and_a_refusal_3() {
        let (outcome, out) = reload(StatusCode::OK, json!({"revision": 2, "changed": ["route web"]}), false);
        outcome.expect("reloaded");
        assert_eq!(out, "revision 2:\n  route web\n");

        let (outcome, _) = reload(StatusCode::CONFLICT, json!({"title": "Busy"}), false);
        let failure = outcome.expect_err("refused");
        assert_eq!(failure.to_string(), "error: the gateway refused with 409 Conflict: Busy");
        assert_eq!(failure.exit_code(), std::process::ExitCode::from(3));
    }

    #[test]
    fn what_changed_is_listed() {
        let body = json!({"revision": 4, "changed": ["service api: weight 10% → 20%", {"route": "web", "change": "added"}]});
        assert_eq!(
            changes(&body),
            "revision 4:\n  service api: weight 10% → 20%\n  route=web change=added\n"
        );
        assert_eq!(changes(&json!({"revision": 4, "changed": []})), "revision 4: nothing changed\n");
    }

    #[test]
    fn a_bad_file_is_reported_as_the_gateway_rendered_it() {
        let body = json!({"diagnostics": [{"severity": "error"}, {"severity": "warning"}], "rendered": "  × no such service\n"});
        let answer = Answer { status: StatusCode::UNPROCESSABLE_ENTITY, body };
        assert_eq!(
            report(&answer),
            "  × no such service\n\nnot reloaded: 1 error; the previous configuration serves on"
        );
    }
}
