//! How the demo tells what it sees: a line for each change, with its time, the canary's share and the numbers behind it.

use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gateway_core::rollout::Counts;

use super::stage::{Change, Ports, Rollout};
use super::summary::Summary;
use crate::terminal::wants_colours;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";

/// Writes lines; on a terminal with colours, and with one line that shows the numbers of the moment.
pub(super) struct Voice<'a> {
    out: &'a mut dyn Write,
    terminal: bool,
    colours: bool,
    /// Since the Unix epoch, like the times of changes.
    begun: Duration,
    /// How many changes of the rollout have been told.
    told: usize,
    /// The share of the last canary that had one, 0 to 1.
    last_share: f64,
    passing: bool,
}

impl<'a> Voice<'a> {
    pub(super) fn new(out: &'a mut dyn Write, terminal: bool) -> Self {
        let begun = now();
        let colours = terminal && wants_colours();
        Self { out, terminal, colours, begun, told: 0, last_share: 0.0, passing: false }
    }

    /// The share of users that the last canary had while it had any, 0 to 1.
    pub(super) fn last_share(&self) -> f64 {
        self.last_share
    }

    /// Who takes part; `wished` is the port asked for.
    pub(super) fn introduce(&mut self, wished: u16, ports: Ports, rate: u32) -> io::Result<()> {
        let Ports { https, admin } = ports;
        let taken = if wished == 0 || https == wished {
            String::new()
        } else {
            format!("  (port {wished} is taken)")
        };
        writeln!(
            self.out,
            "A gateway and a shop behind it, all on this machine, for half a minute. Ctrl-C ends it and leaves nothing.\n\n\
             \x20 shop   https://localhost:{https}/{taken}\n\
             \x20 admin  http://127.0.0.1:{admin}/\n\
             \x20 users  1000, with {rate} requests a second over TLS"
        )
    }

    /// A new chapter.
    pub(super) fn act(&mut self, title: &str) -> io::Result<()> {
        let title = self.painted(BOLD, title);
        writeln!(self.out, "\n{title}\n")
    }

    /// Tells what changed since the last look, and in passing the numbers of the moment.
    pub(super) fn follow(&mut self, rollout: &Rollout) -> io::Result<()> {
        for change in rollout.history.iter().skip(self.told) {
            self.told += 1;
            if change.weight > 0.0 {
                self.last_share = change.weight / 100.0;
            }
            if let Some((colour, sentence)) = sentence(change) {
                let at = change.time().saturating_sub(self.begun);
                let line = line(at, change.weight, &sentence);
                let line = self.painted(colour, &line);
                self.settle()?;
                writeln!(self.out, "{line}")?;
            }
        }
        match &rollout.canary {
            Some(canary)
                if self.terminal && matches!(rollout.state.as_str(), "ramping" | "verifying" | "held") =>
            {
                let sentence = format!("{canary}: {}", attempts(&rollout.evidence.canary));
                let line =
                    self.painted(DIM, &line(now().saturating_sub(self.begun), rollout.weight, &sentence));
                write!(self.out, "\r\x1b[K{line}")?;
                self.passing = true;
                self.out.flush()
            }
            _ => self.out.flush(),
        }
    }

    /// Says that the gateway did not follow the file.
    pub(super) fn refused(&mut self, release: &str) -> io::Result<()> {
        let sentence =
            format!("{release} stays rolled back; only another name or `gateway rollout retry shop` helps");
        let line = line(now().saturating_sub(self.begun), 0.0, &sentence);
        let line = self.painted(GREEN, &line);
        writeln!(self.out, "{line}")
    }

    /// How quickly that was.
    pub(super) fn rolled_back(&mut self, change: &Change, took: Option<Duration>) -> io::Result<()> {
        let after =
            took.map_or_else(String::new, |took| format!("{} after its first failure, ", seconds(took)));
        self.detail(&format!("{after}on {}", attempts(&change.evidence.canary)))
    }

    /// More about the last line.
    pub(super) fn detail(&mut self, sentence: &str) -> io::Result<()> {
        writeln!(self.out, "{:19}{sentence}", "")?;
        self.out.flush()
    }

    /// The numbers at the end.
    pub(super) fn conclude(&mut self, summary: &Summary) -> io::Result<()> {
        self.act("What it came to")?;
        for (index, (name, sentence)) in summary.lines().into_iter().enumerate() {
            let line = format!("  {name:27}{sentence}");
            let colour = if summary.failed_requests == 0 { GREEN } else { RED };
            let line = if index == 0 { self.painted(colour, &line) } else { line };
            writeln!(self.out, "{line}")?;
        }
        Ok(())
    }

    /// Takes the line of the moment away.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.passing) {
            write!(self.out, "\r\x1b[K")?;
        }
        self.out.flush()
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn line(at: Duration, percent: f64, sentence: &str) -> String {
    format!("  {:>7}  {percent:>4.0} %  {sentence}", format!("{:.1} s", at.as_secs_f64()))
}

/// What a change means to somebody who sees one for the first time; `None` when it means nothing to them.
fn sentence(change: &Change) -> Option<(&'static str, String)> {
    let canary = change.canary.as_ref()?;
    let seen = attempts(&change.evidence.canary);
    let why = &change.why;
    Some(match (change.cause.as_str(), change.to.as_str()) {
        (_, "rolled_back") => (RED, format!("{canary} rolled back: {why}")),
        ("proved", "completed") => (GREEN, format!("{canary} promoted: {seen}")),
        ("ready", _) => (DIM, format!("{canary} gets its first users")),
        ("proved", _) => (DIM, format!("{canary} gets more: {seen}")),
        ("held" | "released", _) => (DIM, format!("{canary} {why} ({seen})")),
        _ => return None,
    })
}

/// Attempts and how many of them failed.
fn attempts(counts: &Counts) -> String {
    format!("{} attempts, {} failed", counts.attempts, counts.failures)
}

/// A time of any size up to a minute.
fn seconds(time: Duration) -> String {
    match time.as_millis() {
        millis @ ..1000 => format!("{millis} ms"),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::summary::tests::kept;
    use super::*;

    fn change(to: &str, weight: f64, (cause, why): (&str, &str), attempts: u64, failures: u64) -> Value {
        let counts = json!({ "attempts": attempts, "failures": failures, "slow": 0, "seen": 0 });
        json!({
            "at": 100.0, "canary": "shop-2", "to": to, "weight": weight, "cause": cause, "why": why,
            "evidence": { "canary": counts },
        })
    }

    fn rollout(state: &str, history: &[Value]) -> Rollout {
        let evidence = gateway_core::rollout::Evidence::default();
        let whole = json!({
            "service": "shop", "stable": "shop-1", "canary": "shop-2", "state": state, "reason": null, "step": 0,
            "weight": 10.0, "since": 100.0, "next": null, "evidence": evidence, "history": history,
        });
        serde_json::from_value(whole).expect("the form of the admin API")
    }

    fn told(looks: &[Rollout], terminal: bool) -> String {
        let mut out = Vec::new();
        let mut voice = Voice::new(&mut out, terminal);
        voice.begun = Duration::from_secs(98);
        looks.iter().for_each(|rollout| voice.follow(rollout).expect("a Vec takes everything"));
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn every_change_is_told_once_and_in_plain_words() {
        let breach = ("breach", "5 attempts in a row failed, 5 are the limit");
        let history = [
            change("pending", 0.0, ("named", "the file names this canary"), 0, 0),
            change("ramping", 10.0, ("ready", "the canary has an endpoint"), 0, 0),
            change("ramping", 50.0, ("proved", "its evidence suffices"), 80, 0),
            change("rolled_back", 0.0, breach, 85, 5),
        ];
        let looks = [rollout("ramping", &history[..2]), rollout("rolled_back", &history)];
        assert_eq!(
            told(&looks, false),
            "    2.0 s    10 %  shop-2 gets its first users\n    2.0 s    50 %  shop-2 gets more: 80 attempts, 0 failed\n\
             \x20   2.0 s     0 %  shop-2 rolled back: 5 attempts in a row failed, 5 are the limit\n"
        );
    }

    #[test]
    fn colours_and_passing_lines_are_for_terminals() {
        let history = [change("ramping", 10.0, ("ready", "the canary has an endpoint"), 0, 0)];
        let look = [rollout("ramping", &history)];
        assert!(told(&look, true).contains("\r\x1b[K"));
        assert!(!told(&look, false).contains(['\x1b', '\r']));
    }

    #[test]
    fn the_end_says_how_many_requests_failed_for_users() {
        let mut out = Vec::new();
        Voice::new(&mut out, false).conclude(&kept()).expect("a Vec takes everything");
        let text = String::from_utf8(out).expect("text");
        assert!(text.contains("  failed requests users saw  0 of 4500\n"), "{text}");
    }

    #[test]
    fn short_times_are_told_in_milliseconds() {
        assert_eq!(seconds(Duration::from_millis(246)), "246 ms");
        assert_eq!(seconds(Duration::from_millis(1_240)), "1.2 s");
    }
}
