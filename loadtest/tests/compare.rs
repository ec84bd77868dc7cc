//! A comparison runs with whoever is there, names who is not, and leaves nothing behind. How quick anybody is, is no
//! concern of a test.

#![allow(clippy::unwrap_used, reason = "what does not work ends the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const LOADTEST: &str = env!("CARGO_BIN_EXE_loadtest");

/// A binary of this workspace, if it was built with the tests.
fn built(name: &str) -> Option<PathBuf> {
    let path = Path::new(LOADTEST).with_file_name(name);
    path.is_file().then_some(path)
}

/// Whoever can be compared here, as arguments.
fn present() -> Vec<String> {
    let mut arguments = Vec::new();
    for (option, peer, name) in
        [("--bare", "pingora", "examples/bare_pingora"), ("--gateway", "gateway", "gateway")]
    {
        if let Some(path) = built(name) {
            arguments.extend([format!("{option}={}", path.display()), format!("--peers={peer}")]);
        }
    }
    arguments
}

fn compare(temporary: &Path) -> Command {
    let mut command = Command::new(LOADTEST);
    command.arg("compare").env("TMPDIR", temporary);
    command
}

/// Processes whose command line names a file in this directory.
fn processes_of(directory: &Path) -> Vec<String> {
    let directory = directory.display().to_string();
    let lines = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).into_owned())
    });
    lines.filter(|line| line.contains(&directory)).collect()
}

fn said(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn whoever_is_there_is_measured_in_every_mode_and_stopped() {
    let peers = present();
    assert!(!peers.is_empty(), "nobody is there: cargo build --bin gateway --example bare_pingora");
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("report.json");
    let page = directory.path().join("page.md");
    fs::write(&page, "# Head\n<!-- compare: written by `make compare` -->\n<!-- compare: end -->\nTail\n")
        .unwrap();
    let output = compare(directory.path())
        .args(&peers)
        .args(["--quick", "--idle=20"])
        .args([Path::new("--json"), &json, Path::new("--markdown"), &page])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));

    let report: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let count = peers.len() / 2;
    assert_eq!(report["missing"], Value::Array(Vec::new()), "{}", said(&output));
    assert_eq!(report["peers"].as_array().unwrap().len(), count);
    let traffic = report["traffic"].as_array().unwrap();
    let modes: Vec<_> = traffic.iter().map(|traffic| traffic["mode"].as_str().unwrap()).collect();
    assert_eq!(modes, ["h1", "h1-tls", "h2-tls", "16k"]);
    for row in traffic.iter().flat_map(|traffic| traffic["rows"].as_array().unwrap()) {
        assert!(row["full"][0]["cpu_micros"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["half"][0]["p99_micros"].as_u64() >= row["half"][0]["p50_micros"].as_u64(), "{row}");
    }
    for row in report["handshakes"].as_array().unwrap() {
        assert!(row["full"][0]["per_second"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["resumed_share"].as_f64().unwrap() > 0.0, "{row}");
    }
    for row in report["idle"].as_array().unwrap() {
        assert_eq!(row["connections"], 20, "{row}");
        assert!(row["after_bytes"].as_u64() > Some(0), "{row}");
    }
    let page = fs::read_to_string(&page).unwrap();
    assert!(
        page.starts_with("# Head\n") && page.ends_with("Tail\n") && page.contains("| CPU µs/request |"),
        "{page}"
    );
    assert_eq!(processes_of(directory.path()), Vec::<String>::new());
}

#[test]
fn a_signal_ends_a_comparison_and_all_it_started() {
    let peers = present();
    assert!(!peers.is_empty(), "nobody is there: cargo build --bin gateway --example bare_pingora");
    let directory = tempfile::tempdir().unwrap();
    let mut child = compare(directory.path())
        .args(&peers)
        .args(["--modes=h1", "--seconds=60"])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&child);
    let begin = Instant::now();
    while processes_of(directory.path()).is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(30), "nothing was started");
        assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
        std::thread::sleep(Duration::from_millis(20));
    }
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2));
    assert_eq!(processes_of(directory.path()), Vec::<String>::new());
}

#[test]
fn whoever_is_not_there_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let output = compare(directory.path())
        .args(["--quick", "--peers=gateway,pingora", "--gateway=/nowhere/gateway", "--bare=/nowhere/bare"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = said(&output);
    assert!(said.contains("gateway: not installed; bare Pingora: not installed"), "{said}");
}
