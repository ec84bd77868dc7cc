//! A rollout followed until it is over.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::Value;
use tokio::time::sleep;

use super::view::View;
use super::{accepted, now, show};
use crate::cli::Failure;
use crate::cli::client::Client;

/// How often the gateway is asked.
const EVERY: Duration = Duration::from_millis(500);

/// How long a gateway may be silent, as when it is restarted.
const SILENCE: Duration = Duration::from_secs(30);

/// How many of the last changes are shown beside what is going on.
const CHANGES: usize = 5;

/// How what is seen is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// A page that is drawn again in its place.
    Live,
    /// A line for each change.
    Lines,
    /// An object for each change, one a line.
    Json,
}

/// Follows the rollouts at `path` until none is under way.
///
/// # Errors
/// [`Failure::Failed`] when a canary was rolled back or went from the file, [`Failure::Stopped`] on Ctrl-C, and
/// [`Failure::Refused`] when there is nothing to watch, or no gateway for half a minute.
pub(super) fn run(client: &Client, path: &str, style: Style, out: &mut dyn Write) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut screen = Screen::new(style, out);
        let watched = tokio::select! {
            watched = follow(client, path, &mut screen) => watched,
            interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Failure::from).and(Err(Failure::Stopped)),
        };
        screen.leave()?;
        watched
    })
}

async fn follow(client: &Client, path: &str, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let mut heard: Option<Instant> = None;
    loop {
        match client.ask(Method::GET, path, None).await {
            Ok(answer) if answer.status.is_server_error() && heard.is_some() => {}
            Ok(answer) => {
                let body = accepted(answer)?;
                let view = View::read(&body)?;
                let is_first = heard.replace(Instant::now()).is_none();
                screen.show(&view, &body)?;
                if let Some(end) = end(&view, is_first) {
                    return end;
                }
            }
            Err(failure @ Failure::Refused(_)) => match heard {
                Some(heard) if heard.elapsed() < SILENCE => screen.say(&failure.to_string())?,
                _ => return Err(failure),
            },
            Err(failure) => return Err(failure),
        }
        sleep(EVERY).await;
    }
}

/// How it ended, if it did.
fn end(view: &View, is_first: bool) -> Option<Result<(), Failure>> {
    if view.with_others().any(|view| !matches!(view.state.as_str(), "idle" | "completed" | "rolled_back")) {
        return None;
    }
    let failed = |sentence: String| Some(Err(Failure::Failed(sentence)));
    if let Some(fallen) = view.with_others().find(|view| view.state == "rolled_back") {
        return failed(format!("{}: {}", fallen.service, fallen.text));
    }
    match view.state.as_str() {
        "idle" if is_first => {
            let sentence = format!("nothing to watch: service `{}` names no canary", view.service);
            Some(Err(Failure::Refused(sentence)))
        }
        "idle" => failed(format!("{}: the file no longer names the canary", view.service)),
        _ => Some(Ok(())),
    }
}

/// Where it is written.
struct Screen<'a> {
    style: Style,
    out: &'a mut dyn Write,
    /// What was written last: the lines of the page, or what a line is about.
    drawn: usize,
    last: Option<String>,
}

impl<'a> Screen<'a> {
    fn new(style: Style, out: &'a mut dyn Write) -> Self {
        Self { style, out, drawn: 0, last: None }
    }

    fn show(&mut self, view: &View, body: &Value) -> io::Result<()> {
        if self.style == Style::Live {
            let page = show::page(view, now(), CHANGES);
            return self.draw(&page);
        }
        let about: String = view.with_others().map(about).collect();
        if self.last.as_ref() == Some(&about) {
            return Ok(());
        }
        self.last = Some(about);
        if self.style == Style::Json {
            writeln!(self.out, "{body}")?;
        } else {
            for view in view.with_others() {
                writeln!(self.out, "{} {}", show::time(now()), show::line(view))?;
            }
        }
        self.out.flush()
    }

    /// A sentence beside what is shown; what is read by programs gets none.
    fn say(&mut self, sentence: &str) -> io::Result<()> {
        match self.style {
            Style::Live => self.draw(&format!(
                "{sentence}\nasked again until it has been silent for {} s\n",
                SILENCE.as_secs()
            )),
            Style::Lines if self.last.as_deref() != Some(sentence) => {
                self.last = Some(sentence.to_owned());
                writeln!(self.out, "{} {sentence}", show::time(now()))
            }
            Style::Lines | Style::Json => Ok(()),
        }
    }

    /// Draws over the last page. Lines are cut at the edge (`?7l`), so that each takes one row; the cursor is hidden.
    fn draw(&mut self, page: &str) -> io::Result<()> {
        let mut frame = String::from("\x1b[?25l\x1b[?7l\r");
        if self.drawn > 0 {
            frame.push_str(&format!("\x1b[{}A", self.drawn));
        }
        for line in page.lines() {
            frame.push_str(&format!("{line}\x1b[K\n"));
        }
        frame.push_str("\x1b[J");
        self.drawn = page.lines().count();
        self.out.write_all(frame.as_bytes())?;
        self.out.flush()
    }

    /// Gives the terminal back as it was, the last page still on it.
    fn leave(&mut self) -> io::Result<()> {
        if self.drawn > 0 {
            self.out.write_all(b"\r\x1b[K\x1b[?7h\x1b[?25h")?;
            self.out.flush()?;
        }
        Ok(())
    }
}

/// What makes a line worth writing.
fn about(view: &View) -> String {
    format!(
        "{:?} {} {:?} {:?} {} {}\n",
        view.canary, view.state, view.reason, view.step, view.weight, view.kill
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::http::StatusCode;
    use axum::routing::get;
    use axum::{Json, Router};
    use serde_json::json;

    use super::super::tests::{rolled_back, sample};
    use super::*;
    use crate::cli::client::tests::{admin_api, args_for};

    /// What is written while the gateway answers these, the last one for ever.
    fn watched(style: Style, answers: Vec<(StatusCode, Value)>) -> (Result<(), Failure>, String) {
        let answers = std::sync::Arc::new(Mutex::new(answers));
        let answer = move || {
            let answers = answers.clone();
            async move {
                let mut answers = answers.lock().expect("no panic");
                let (status, body) = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
                (status, Json(body))
            }
        };
        let address = admin_api(Router::new().route("/v1/rollouts/api", get(answer)));
        let client = Client::locate(&args_for(address)).expect("an address");
        let mut out = Vec::new();
        let watched = run(&client, "/v1/rollouts/api", style, &mut out);
        (watched, String::from_utf8(out).expect("text"))
    }

    fn completed() -> Value {
        let mut view = sample();
        (view["state"], view["step"], view["weight"]) = (json!("completed"), json!(null), json!(100.0));
        view
    }

    fn ok(view: Value) -> (StatusCode, Value) {
        (StatusCode::OK, view)
    }

    #[test]
    fn a_completed_rollout_ends_it_well_with_a_line_for_each_change() {
        let (watched, out) = watched(Style::Lines, vec![ok(sample()), ok(sample()), ok(completed())]);
        watched.expect("completed");
        let lines: Vec<_> = out.lines().collect();
        assert_eq!(lines.len(), 2, "{out}");
        assert!(lines[0].contains("Z api: ramping, step 1 of 2, 10%: "), "{out}");
        assert!(lines[1].contains("Z api: completed, 100%: ") && !out.contains('\x1b'), "{out}");
    }

    #[test]
    fn a_rolled_back_canary_is_a_failure_that_says_why() {
        let (watched, out) = watched(Style::Json, vec![ok(sample()), ok(rolled_back())]);
        let failure = watched.expect_err("rolled back");
        assert_eq!(failure.exit_code(), std::process::ExitCode::from(1));
        assert!(failure.to_string().contains("5 attempts in a row failed"), "{failure}");
        let objects: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!((&objects[0]["state"], &objects[1]["state"]), (&json!("ramping"), &json!("rolled_back")));
    }

    #[test]
    fn a_terminal_is_drawn_over_and_given_back() {
        let (watched, out) = watched(Style::Live, vec![ok(sample()), ok(completed())]);
        watched.expect("completed");
        let first = show::page(&View::read(&sample()).expect("a view"), now(), CHANGES).lines().count();
        assert!(out.contains(&format!("\x1b[{first}A")), "{out:?}");
        assert!(out.starts_with("\x1b[?25l") && out.ends_with("\x1b[?7h\x1b[?25h"), "{out:?}");
    }

    #[test]
    fn a_silent_moment_is_waited_out_and_an_unknown_service_is_not() {
        let unavailable = (StatusCode::SERVICE_UNAVAILABLE, json!({}));
        let (ended, _) = watched(Style::Lines, vec![ok(sample()), unavailable, ok(completed())]);
        ended.expect("completed");
        let missing = (StatusCode::NOT_FOUND, json!({"detail": "there is no service `api`"}));
        let (ended, _) = watched(Style::Lines, vec![missing]);
        assert_eq!(ended.expect_err("unknown").exit_code(), std::process::ExitCode::from(3));
    }

    #[test]
    fn without_a_canary_there_is_nothing_to_watch_and_one_that_goes_is_a_failure() {
        let mut idle = sample();
        (idle["state"], idle["canary"], idle["step"]) = (json!("idle"), json!(null), json!(null));
        let (ended, _) = watched(Style::Lines, vec![ok(idle.clone())]);
        assert_eq!(ended.expect_err("nothing").exit_code(), std::process::ExitCode::from(3));
        let (ended, _) = watched(Style::Lines, vec![ok(sample()), ok(idle)]);
        assert_eq!(ended.expect_err("gone").exit_code(), std::process::ExitCode::from(1));
    }
}
