//! `gateway check`: everything that would keep a file from being served.

use std::io::Write;
use std::path::Path;

use futures_util::future::join_all;
use gateway_core::config::model::{Address, At, Gateway};
use gateway_core::config::problem::{Code, Problem};
use gateway_core::config::report::Report;
use serde_json::json;

use super::{CheckArgs, Failure, Format};
use crate::load;
use crate::terminal;
use crate::upstream::resolve;

/// Loads a file, resolves its names, and writes one line when it is good. Warnings go to the standard error.
///
/// # Errors
/// [`Failure::Report`] with all that is wrong.
pub fn run(args: &CheckArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let (report, good) = match load::load(&args.config.path) {
        Ok(loaded) => {
            let mut report = loaded.warnings;
            report.extend(unresolved(&loaded.gateway)?);
            let line = summary(&args.config.path, &loaded.gateway, report.problems().len());
            (report, Some(line))
        }
        Err(report) => (report, None),
    };
    match args.format {
        Format::Json => as_json(&report, good.is_some(), out),
        Format::Text => as_text(&report, good, out),
    }
}

fn as_json(report: &Report, ok: bool, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "{:#}", json!({ "ok": ok, "diagnostics": report.to_json() }))?;
    if ok { Ok(()) } else { Err(Failure::Report(verdict(report))) }
}

fn as_text(report: &Report, good: Option<String>, out: &mut dyn Write) -> Result<(), Failure> {
    let text = terminal::rendered(report);
    match good {
        Some(line) => {
            eprint!("{text}");
            Ok(writeln!(out, "{line}")?)
        }
        None => Err(Failure::Report(format!("{}\n\n{}", text.trim_end(), verdict(report)))),
    }
}

fn verdict(report: &Report) -> String {
    format!("{}: {}", report.name(), counted(report.errors(), "error"))
}

/// Names among the endpoints that do not resolve; they may by the time the file is served.
fn unresolved(gateway: &Gateway) -> Result<Vec<Problem>, Failure> {
    let addresses = gateway.services.values().flat_map(|service| service.releases.values());
    let named: Vec<(&At<Address>, &str)> = addresses
        .flat_map(|release| &release.endpoints)
        .filter_map(|address| match &address.value {
            Address::Name { host, .. } => Some((address, host.as_str())),
            Address::Ip(_) | Address::Unix(_) => None,
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let looked_up = named.iter().map(|(_, host)| resolve::check(host, &gateway.runtime.nameservers));
    let outcomes = runtime.block_on(join_all(looked_up));
    let problem = |((address, host), outcome): (&(&At<Address>, &str), Result<(), String>)| {
        let reason = outcome.err()?;
        let problem =
            Problem::warning(Code::Resolve, format!("`{host}` does not resolve from here: {reason}"));
        let help =
            "the gateway looks it up again and again; until it resolves, requests for it are answered 503";
        Some(problem.at(address.span, "this name").help(help))
    };
    Ok(named.iter().zip(outcomes).filter_map(problem).collect())
}

fn summary(path: &Path, gateway: &Gateway, warnings: usize) -> String {
    let releases = || gateway.services.values().flat_map(|service| service.releases.values());
    let endpoints = releases().map(|release| release.endpoints.len()).sum();
    let mut counts = vec![
        counted(gateway.listeners.len(), "listener"),
        counted(gateway.routes.len(), "route"),
        counted(gateway.services.len(), "service"),
        counted(releases().count(), "release"),
        counted(endpoints, "endpoint"),
    ];
    if warnings > 0 {
        counts.push(counted(warnings, "warning"));
    }
    format!("{} ok: {}", path.display(), counts.join(", "))
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use std::process::ExitCode;

    use super::super::ConfigArg;
    use super::*;

    const GOOD: &str = "\
version: 1
listeners: { web: { address: '127.0.0.1:8080' } }
services: { api: { endpoints: ['127.0.0.1:1', '127.0.0.1:2'] } }
routes: { all: { match: { prefix: / }, service: api } }
";

    fn check(yaml: &str, format: Format) -> (Result<(), Failure>, String) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("gateway.yaml");
        std::fs::write(&path, yaml).expect("written");
        let mut out = Vec::new();
        let outcome = run(&CheckArgs { config: ConfigArg { path }, format }, &mut out);
        (outcome, String::from_utf8(out).expect("text"))
    }

    #[test]
    fn a_good_file_is_one_line() {
        let (outcome, out) = check(GOOD, Format::Text);
        outcome.expect("good");
        assert!(
            out.ends_with("gateway.yaml ok: 1 listener, 1 route, 1 service, 1 release, 2 endpoints\n"),
            "{out}"
        );
    }

    #[test]
    fn a_bad_file_is_status_1_with_every_error_in_both_formats() {
        let bad = GOOD.replace("service: api", "service: ap").replace("address:", "adress:");
        let (outcome, out) = check(&bad, Format::Text);
        let failure = outcome.expect_err("bad");
        let text = failure.to_string();
        assert!(text.contains("`ap`") && text.contains("adress") && text.ends_with("errors"), "{text}");
        assert_eq!((failure.exit_code(), out.as_str()), (ExitCode::from(1), ""));

        let (outcome, out) = check(&bad, Format::Json);
        assert_eq!(outcome.expect_err("bad").exit_code(), ExitCode::from(1));
        let answer: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(answer["ok"], false);
        assert!(answer["diagnostics"].as_array().expect("a list").len() >= 2, "{answer}");
    }

    #[test]
    fn a_name_that_does_not_resolve_is_a_warning_where_it_stands() {
        let (outcome, out) = check(&GOOD.replace("127.0.0.1:2", "nowhere.invalid:80"), Format::Json);
        outcome.expect("a warning is no error");
        let answer: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        let warning = &answer["diagnostics"][0];
        assert_eq!((&warning["code"], &warning["line"]), (&json!("gateway::resolve"), &json!(3)), "{answer}");
    }
}
