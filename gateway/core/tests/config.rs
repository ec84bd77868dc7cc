//! Pairs of a bad file and the report it gets, and good files with what they mean.
//!
//! A case is `config/NAME.yaml` with the expected report beside it in `config/NAME.txt`; no Rust is needed to add one.
//! `UPDATE_GOLDEN=1 cargo test -p gateway-core --test config` writes the reports anew: read the difference.

use std::path::{Path, PathBuf};

use gateway_core::config::problem::Code;
use gateway_core::config::{Loaded, Options, Report, World, load_with};

/// A first comment that asks for the loader as users have it, with unsupported keys refused.
const AS_SHIPPED: &str = "# as shipped";

/// A world that is the same on every machine.
struct Fixed;

impl World for Fixed {
    fn env(&self, name: &str) -> Option<String> {
        let value = match name {
            "SET" => "value",
            "EMPTY" => "",
            "PASSWORD" => "hunter2",
            "GATEWAY_ADMIN_TOKEN" => "t0ken",
            "REDIS_URL" => "redis://:hunter2@redis:6379",
            "SLACK_WEBHOOK" => "https://hooks.slack.example/T0/hunter2",
            _ => return None,
        };
        Some(value.into())
    }

    fn read(&self, path: &Path) -> std::io::Result<String> {
        match path.to_str() {
            Some("/run/secrets/token") => Ok("hunter2\n".into()),
            _ => Err(std::io::Error::new(std::io::ErrorKind::NotFound, "no such file")),
        }
    }
}

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn yaml_files(name: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory(name)).expect("the directory of cases");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}

fn read(path: &Path) -> Result<Loaded, Report> {
    let text = std::fs::read_to_string(path).expect("a case");
    let name = path.file_name().expect("a name").to_string_lossy();
    let options = Options { allow_unsupported: !text.contains(AS_SHIPPED) };
    load_with(&name, &text, Path::new("/etc/gateway"), &Fixed, options)
}

fn report(path: &Path) -> Report {
    read(path).map_or_else(|report| report, |loaded| loaded.warnings)
}

#[test]
fn bad_files_get_the_reports_that_are_written_beside_them() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut different = Vec::new();
    for path in yaml_files("config") {
        let (expected, got) = (path.with_extension("txt"), report(&path).to_string());
        if update {
            std::fs::write(&expected, &got).expect("a writable report");
        } else if std::fs::read_to_string(&expected).ok().as_deref() != Some(got.as_str()) {
            different.push(format!("{}:\n{got}", path.display()));
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}

#[test]
fn no_report_tells_what_came_from_the_environment_or_is_secret_by_its_place() {
    for path in yaml_files("config") {
        let report = report(&path);
        let told = format!("{report}{}{}", report.fancy(80), report.to_json());
        assert!(!told.contains("hunter2"), "{}", path.display());
    }
}

#[test]
fn every_code_that_needs_no_files_has_a_case() {
    const MADE_ELSEWHERE: &[Code] = &[
        Code::CertificateHost,
        Code::CertificateExpiry,
        Code::File,
        Code::Resolve,
        Code::RolledBack,
        Code::NeedsRestart,
        Code::TooManyFiles,
    ];
    let reports: Vec<_> = yaml_files("config").iter().map(|path| report(path)).collect();
    let seen: Vec<_> = reports.iter().flat_map(Report::problems).map(|problem| problem.code).collect();
    for code in Code::ALL.iter().filter(|code| !MADE_ELSEWHERE.contains(code)) {
        assert!(seen.contains(code), "{}", code.as_str());
    }
}
