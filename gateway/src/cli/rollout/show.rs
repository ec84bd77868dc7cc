//! A rollout laid out for reading: where it is and why, the evidence towards its limits, and what led to it.

use std::time::{Duration, SystemTime};

use gateway_core::rollout::{Counts, Evidence};

use super::chart::{bar, count, far, number, percent, share};
use super::view::{Change, View};
use crate::cli::table::{align, duration};
use crate::telemetry::rfc3339::Rfc3339;

/// Stands above everything while the kill switch is thrown.
pub(super) const KILLED: &str =
    "The kill switch is on: all traffic goes to stable, whatever is shown here, until `gateway kill off`.";

/// How many of the last changes `show` lists.
pub(super) const CHANGES: usize = 10;

const AGAINST: &str =
    "AGAINST IT  a full bar takes it out, tests on 5 failures or more; the last bar only holds it";

/// Where sentences break, in columns.
const WIDTH: usize = 96;

/// Evidence at which stable is believed to fail itself (docs/rollouts.md, "Who began?").
const STABLE_NEEDED: f64 = 20.0;

/// Everything about the rollouts of a service, with so many of their last changes; `now` in seconds since 1970.
pub(super) fn page(view: &View, now: f64, changes: usize) -> String {
    let mut text = String::new();
    if view.kill {
        text.push_str(&format!("{KILLED}\n\n"));
    }
    let pages: Vec<_> = view.with_others().map(|view| one(view, now, changes)).collect();
    text + &pages.join("\n")
}

/// One line: `api: held (gate), step 1 of 3, 10%: all is proved; …`.
pub(super) fn line(view: &View) -> String {
    let step = view.step.map_or(String::new(), |_| format!(", step {}", step(view)));
    format!("{}: {}{step}, {}%: {}", view.service, state(view), view.weight, view.text)
}

/// The cells of `gateway rollout list`.
pub(super) fn row(view: &View, now: f64) -> Vec<String> {
    let canary = view.canary.clone().unwrap_or_else(|| "-".into());
    let since = if view.state == "idle" { "-".into() } else { ago(now, view.since) };
    let weight = format!("{}%", view.weight);
    vec![view.service.clone(), state(view), canary, view.stable.clone(), step(view), weight, since]
}

fn one(view: &View, now: f64, changes: usize) -> String {
    let mut sections = vec![head(view), facts(view, now)];
    let fall = view.fall();
    let evidence = fall.map_or(&view.evidence, |fall| &fall.evidence);
    if view.step.is_some() || fall.is_some() {
        let when =
            fall.map_or(String::new(), |fall| format!(", when it was taken out {} ago", ago(now, fall.at)));
        sections.push(format!("ATTEMPTS of this step{when}\n{}", indented(arms(evidence))));
        sections.push(format!("{AGAINST}\n{}", indented(against(view, evidence))));
    }
    if let Some(rows) = view.step.and_then(|step| onward(view, step)) {
        sections.push(format!("FOR IT  full bars let it go on once its time is up\n{rows}"));
    }
    if !view.history.is_empty() {
        sections.push(format!("LAST CHANGES\n{}", history(&view.history, changes)));
    }
    sections.join("\n")
}

/// What is to be known at a glance.
fn head(view: &View) -> String {
    let canary = view.canary.as_ref().map_or(String::new(), |canary| format!(" {canary}"));
    format!("{}:{canary} {}\n{}\n", view.service, state(view), wrapped(&view.text))
}

fn facts(view: &View, now: f64) -> String {
    let mut rows = vec![
        pair("stable", view.stable.clone()),
        pair("canary", view.canary.clone().unwrap_or_else(|| "-".into())),
        pair("state", format!("{} for {}", state(view), ago(now, view.since))),
        pair("weight", format!("{:<5} {}", format!("{}%", view.weight), bar(view.weight / 100.0))),
    ];
    if view.step.is_some() {
        let time = match view.next {
            None => String::new(),
            Some(next) if next > now => format!(", its time is up in {}", ago(next, now)),
            Some(next) => format!(", its time was up {} ago", ago(now, next)),
        };
        rows.insert(3, pair("step", format!("{}{time}", step(view))));
    }
    indented(rows)
}

fn arms(evidence: &Evidence) -> Vec<Vec<String>> {
    let head = ["", "attempts", "failed", "rate", "too slow", "seen by users"];
    let row = |name: &str, counts: Counts| {
        let Counts { attempts, failures, slow, seen } = counts;
        let rate = if attempts == 0 { "-".into() } else { percent(counts.failure_rate()) };
        vec![name.into(), count(attempts), count(failures), rate, count(slow), count(seen)]
    };
    vec![head.map(str::to_owned).to_vec(), row("canary", evidence.canary), row("stable", evidence.stable)]
}

/// What would take the canary's traffic, and in the last row what would hold it.
fn against(view: &View, evidence: &Evidence) -> Vec<Vec<String>> {
    let tests = &evidence.tests;
    let test =
        |name: &str, value: f64, needed: f64| row_of(name, number(value), number(needed), far(value, needed));
    let fuse = |name: &str, value: f64, limit: u64| match limit {
        0 => vec![name.to_owned(), number(value), "off".into(), String::new()],
        _ => row_of(name, number(value), count(limit), share(value, limit as f64)),
    };
    let latency = tests.latency.map(|value| test("too slow (evidence)", value, tests.needed));
    let limits = &view.guard;
    let mut rows = vec![
        test("fails too often (evidence)", tests.error_rate, tests.needed),
        test("worse than stable (evidence)", tests.worse_than_stable, tests.needed),
    ];
    rows.extend(latency);
    rows.push(fuse("failures in a row", tests.consecutive_failures as f64, limits.consecutive_failures));
    rows.push(fuse("failures users saw, beyond stable's", tests.excess.beyond(), limits.max_failed_requests));
    rows.push(test("stable itself fails (holds)", tests.stable_error_rate, STABLE_NEEDED));
    rows
}

/// What the step needs to end; nothing for a weight that is fixed.
fn onward(view: &View, step: usize) -> Option<String> {
    let step = view.plan.get(step).filter(|step| step.hold_seconds.is_some())?;
    let (attempts, tests) = (view.evidence.canary.attempts, &view.evidence.tests);
    let (bound, max) = (tests.upper_bound, view.guard.error_rate.max);
    let enough = if step.min_requests == 0 { 1.0 } else { share(attempts as f64, step.min_requests as f64) };
    let rows = vec![
        row_of("attempts", count(attempts), count(step.min_requests), enough),
        row_of("failure rate at most (95% sure)", percent(bound), percent(max), share(max, bound)),
    ];
    let gate = match step.gate.as_str() {
        "manual" => format!("  and then `gateway rollout promote {}`\n", view.service),
        _ => String::new(),
    };
    Some(indented(rows) + &gate)
}

/// The newest first: what came of it, and why.
fn history(history: &[Change], changes: usize) -> String {
    let rows = history.iter().rev().take(changes).map(|change| {
        let step = change.step.map_or(String::new(), |step| format!("step {}", step + 1));
        let to = named(&change.to, change.reason.as_deref());
        vec![time(change.at), to, step, format!("{}%", change.weight), change.why.clone()]
    });
    indented(rows.collect())
}

fn row_of(name: &str, value: String, limit: String, filled: f64) -> Vec<String> {
    vec![name.to_owned(), value, format!("of {limit}"), bar(filled)]
}

fn pair(name: &str, value: String) -> Vec<String> {
    vec![name.to_owned(), value]
}

fn indented(rows: Vec<Vec<String>>) -> String {
    align(rows).lines().map(|line| format!("  {line}\n")).collect()
}

/// `held (gate)`.
fn state(view: &View) -> String {
    named(&view.state, view.reason.as_deref())
}

fn named(state: &str, reason: Option<&str>) -> String {
    let plain = |word: &str| word.replace('_', " ");
    reason.map_or_else(|| plain(state), |reason| format!("{} ({})", plain(state), plain(reason)))
}

/// `1 of 3`, as people count.
fn step(view: &View) -> String {
    let fixed = view.plan.first().is_some_and(|step| step.hold_seconds.is_none());
    match view.step {
        None => "-".into(),
        Some(_) if fixed => "fixed".into(),
        Some(step) => format!("{} of {}", step + 1, view.plan.len()),
    }
}

/// The time from `earlier` to `later`; clocks of two machines may disagree.
fn ago(later: f64, earlier: f64) -> String {
    duration((later - earlier).max(0.0).round())
}

/// A time since 1970, in seconds, as logs write it.
pub(super) fn time(at: f64) -> String {
    let since = Duration::try_from_secs_f64(at).unwrap_or_default();
    SystemTime::UNIX_EPOCH.checked_add(since).map_or_else(|| "-".into(), |time| Rfc3339(time).to_string())
}

/// Breaks a sentence between words.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().filter(|line| line.chars().count() + word.chars().count() < WIDTH);
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => line.push_str(&format!(" {word}")),
            None => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}
