//! Every scenario, played quickly with the gateway's own binary: whether what is promised holds, not how fast it is.

#![allow(clippy::unwrap_used, reason = "what does not work ends the test")]

use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

fn loadtest(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(arguments);
    command
}

/// The gateway that a test run leaves beside this one's binary.
fn gateway() -> PathBuf {
    let gateway = Path::new(env!("CARGO_BIN_EXE_loadtest")).with_file_name("gateway");
    assert!(
        gateway.is_file(),
        "{} is not there: `cargo build -p gateway --bin gateway` makes it, or test the whole workspace with `make test`",
        gateway.display()
    );
    gateway
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn promises(outcome: &Value) -> &Vec<Value> {
    outcome["promises"].as_array().unwrap()
}

/// Plays it and gives what it tells: every promise kept, a picture with these marks drawn.
fn kept(name: &str, marks: &[&str]) -> Value {
    let gateway = gateway().display().to_string();
    let pictures = tempfile::tempdir().unwrap();
    let directory = pictures.path().display().to_string();
    let arguments = ["scenario", name, "--quick", "--json", "--picture", &directory, "--gateway", &gateway];
    let output = loadtest(&arguments).output().unwrap();
    let told = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{told}");

    let mut outcomes: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let outcome = outcomes.pop().unwrap();
    assert!(outcomes.is_empty() && outcome["scenario"] == name && outcome["kept"] == true, "{told}");
    assert!(
        promises(&outcome).len() > 2 && promises(&outcome).iter().all(|one| one["kept"] == true),
        "{told}"
    );
    assert!(outcome["requests"].as_u64().unwrap() > 100, "{told}");
    let svg = fs::read_to_string(pictures.path().join(format!("{name}.svg"))).unwrap();
    marks.iter().for_each(|mark| assert!(svg.contains(mark), "{mark} in {svg}"));
    assert!(fs::read(pictures.path().join(format!("{name}.png"))).unwrap().starts_with(b"\x89PNG"));
    outcome
}

#[test]
fn a_bad_canary_is_out_after_five_failures_and_users_see_none() {
    let outcome = kept("bad-canary", &["shop-2 at 10 %", "shop-2 fails", "rolled back"]);
    assert_eq!(outcome["failures_users_saw"], 0);
    assert_eq!(outcome["detection"]["against"], 5);
    assert!(outcome["detection"]["milliseconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_good_canary_is_promoted_step_by_step() {
    kept("good-canary", &["shop-2 at 20 %", "shop-2 at 50 %", "shop-2 at 100 %", "completed"]);
}

#[test]
fn a_slow_canary_is_out_after_five_slow_answers() {
    let outcome = kept("slow-canary", &["the file names shop-2", "rolled back"]);
    assert_eq!(outcome["detection"]["against"], 5);
}

#[test]
fn an_incident_of_both_releases_holds_the_rollout() {
    let outcome = kept("shared-incident", &["both fail", "held", "both mended"]);
    assert!(outcome["failures_users_saw"].as_u64().unwrap() > 0, "{outcome}");
}

#[test]
fn a_cutover_by_one_word_fails_no_request() {
    kept("cutover", &["stable: shop-2", "completed"]);
}

#[test]
fn a_storm_of_reloads_fails_no_request() {
    kept("reload-storm", &["storm begins", "storm ends"]);
}

#[test]
fn a_dying_endpoint_harms_nobody() {
    kept("dying-endpoint", &["it dies", "ejected", "it is back"]);
}

#[test]
fn a_flood_is_refused_and_others_are_served() {
    kept("flood", &["flood begins", "flood ends"]);
}

#[test]
fn a_broken_promise_ends_with_1_and_is_named() {
    let gateway = gateway().display().to_string();
    let arguments = ["scenario", "bad-canary", "--quick", "--without-failover", "--gateway", &gateway];
    let output = loadtest(&arguments).output().unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{stdout}{stderr}");
    assert!(stderr.contains("bad-canary: broken: users see no failure of the canary\n"), "{stderr}");
    assert!(stderr.contains("`shop-2` was rolled back"), "the gateway's log: {stderr}");
    assert!(stdout.contains("\nBROKEN  users see no failure of the canary"), "{stdout}");
    assert!(stdout.contains("\nkept    failures until it is out"), "{stdout}");
}

#[test]
fn the_list_names_every_scenario() {
    let output = loadtest(&["scenario", "list"]).output().unwrap();
    let list = text(&output.stdout);
    let names: Vec<_> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let tested =
        "bad-canary good-canary slow-canary shared-incident cutover reload-storm dying-endpoint flood";
    assert_eq!(names.join(" "), tested);
}

#[test]
fn what_cannot_be_played_ends_with_2_and_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let sulking = script(directory.path(), "echo no config pleases me; exit 1");
    for (arguments, words) in [
        (&["nonsense"][..], "there is no scenario `nonsense`; there are bad-canary, "),
        (
            &["cutover", "--gateway", "/nowhere/gateway"],
            "build it with `cargo build -p gateway --bin gateway`",
        ),
        (&["cutover", "--rate", "0"], "a scenario needs a rate from 10"),
        (
            &["cutover", "--gateway", &sulking],
            "before it served; the end of the gateway's log:\nno config pleases me",
        ),
    ] {
        let output = loadtest(&[&["scenario"], arguments].concat()).output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(words), "{arguments:?}: {stderr}");
    }
}

/// An executable shell script.
fn script(directory: &Path, lines: &str) -> String {
    let path = directory.join("gateway");
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// Killed with its value, should a test end early.
struct Playing(Child);

impl Drop for Playing {
    fn drop(&mut self) {
        // It has ended in all likelihood.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Playing {
    /// A scenario of this length, once its load is on; its gateway lives in `place`.
    fn under_way(length: &str, gateway: &str, place: &Path) -> Self {
        let mut command = loadtest(&["scenario", "bad-canary", "--duration", length, "--gateway", gateway]);
        command.env("TMPDIR", place).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut playing = Self(command.spawn().unwrap());
        let mut told = BufReader::new(playing.0.stdout.take().unwrap()).lines();
        assert!(told.any(|line| line.unwrap().contains("shop-2 at 10 %")), "the load is on by then");
        playing
    }

    /// Waits for its end: the exit code, and standard error.
    fn ended(mut self) -> (Option<i32>, String) {
        let code = self.0.wait().unwrap().code();
        (code, io::read_to_string(self.0.stderr.take().unwrap()).unwrap())
    }
}

#[test]
fn an_interrupt_stops_the_gateway_and_leaves_no_directory() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("place");
    fs::create_dir(&place).unwrap();
    let note = directory.path().join("note");
    // Said before it becomes the gateway, so the id is the gateway's.
    let lines =
        format!("echo $$ > {0}.new; mv {0}.new {0}; exec {1} \"$@\"", note.display(), gateway().display());
    let gateway = script(directory.path(), &lines);
    let playing = Playing::under_way("10m", &gateway, &place);
    let pid = fs::read_to_string(&note).unwrap();

    let sent = Command::new("kill").args(["-INT", &playing.0.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let (code, stderr) = playing.ended();
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("interrupted; the gateway was stopped"), "{stderr}");
    let runs = Command::new("kill").args(["-0", pid.trim()]).stderr(Stdio::null()).status().unwrap();
    assert!(!runs.success(), "the gateway still runs");
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0, "its directory is gone");
}

#[test]
fn a_gateway_that_dies_is_told_with_its_log() {
    let directory = tempfile::tempdir().unwrap();
    let word = directory.path().join("word");
    // Until the word is given, or a minute is over, should the test have ended.
    let wait =
        format!("n=0; until [ -e {} ] || [ $n -gt 600 ]; do n=$((n+1)); sleep 0.1; done", word.display());
    let lines = format!("{} \"$@\" &\n{wait}\nkill -9 $!; echo it is gone", gateway().display());
    let gateway = script(directory.path(), &lines);
    let playing = Playing::under_way("20s", &gateway, directory.path());
    fs::write(&word, "die").unwrap();
    let (code, stderr) = playing.ended();
    assert_eq!(code, Some(2), "{stderr}");
    assert!(
        stderr.contains("the gateway tells of no more events; the end of the gateway's log:"),
        "{stderr}"
    );
    assert!(stderr.ends_with("it is gone\n"), "{stderr}");
}
