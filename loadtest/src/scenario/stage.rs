//! A scenario under way: the gateway, users who send requests through it, and what is told meanwhile.

use std::time::{Duration, SystemTime};

use http::{HeaderName, Uri};
use loadtest::load::{Keys, Load, Running, Series};
use loadtest::origin::Origin;
use loadtest::picture::{Mark, Picture};
use tokio::time::{Instant, sleep};

use super::admin::{Event, Events};
use super::gateway::Gateway;
use super::outcome::{Moment, Outcome, Phase, told};
use super::{Setting, say};
use crate::Problem;

/// How long anything that is waited for may take before its promise counts as broken.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The field that names the user; as many take turns as there are.
pub(super) const USER: HeaderName = HeaderName::from_static("x-user");
pub(super) const USERS: usize = 20;

/// Longer than any scenario: the last act ends the load.
const ENDLESS: Duration = Duration::from_secs(3600);

/// How long requests under way may take before what they came to counts for the next phase.
const UNDER_WAY: Duration = Duration::from_millis(300);

/// The gateway and its users; everything ends with this value.
pub(super) struct Stage {
    // What asks the gateway ends before it, so that it has nothing to wait for.
    running: Running,
    pub(super) events: Events,
    pub(super) gateway: Gateway,
    setting: Setting,
    began: SystemTime,
    phases: Vec<Phase>,
    moments: Vec<Moment>,
}

impl Stage {
    /// Starts the gateway with this body of a configuration, then the load.
    ///
    /// # Errors
    /// When the gateway does not serve.
    pub(super) async fn set(setting: &Setting, body: &str) -> Result<Self, Problem> {
        let gateway = Gateway::start(&setting.gateway, body).await?;
        let events = gateway.follow();
        let keys = Some(Keys { header: USER, count: USERS });
        let running = Load { keys, ..load(&gateway, setting, setting.rate)? }.begin()?;
        let began = SystemTime::now() - running.began().elapsed();
        let (phases, moments) = (Vec::new(), Vec::new());
        Ok(Self { gateway, events, setting: setting.clone(), running, began, phases, moments })
    }

    /// Begins a load of one more user, who sends `rate` requests a second and calls himself `name`.
    ///
    /// # Errors
    /// When it cannot begin.
    pub(super) fn joined_by(&self, name: &'static str, rate: f64) -> Result<Running, Problem> {
        let headers = vec![(USER, http::HeaderValue::from_static(name))];
        Ok(Load { headers, ..load(&self.gateway, &self.setting, rate)? }.begin()?)
    }

    /// Lets users go on for a share of the scenario's length.
    pub(super) async fn rest(&self, share: f64) {
        sleep(self.setting.length.mul_f64(share)).await;
    }

    /// As [`Self::rest`]; how many requests reach this origin meanwhile.
    pub(super) async fn rest_watching(&self, origin: &Origin, share: f64) -> u64 {
        let before = origin.hits();
        self.rest(share).await;
        (origin.hits() - before) as u64
    }

    /// Ends a phase: what ended since the last one belongs to it.
    pub(super) fn phase(&mut self, name: &'static str) {
        self.phases.push(Phase { name, seen: self.running.progress().recent });
    }

    /// As [`Self::phase`], with the requests that are under way.
    pub(super) async fn phase_to_its_end(&mut self, name: &'static str) {
        sleep(UNDER_WAY).await;
        self.phase(name);
    }

    /// Tells what happens now; `mark` is the same in a few words, for the picture.
    pub(super) fn tell(&mut self, mark: &str, text: impl Into<String>) {
        self.told_at(SystemTime::now(), mark, text.into());
    }

    fn told_at(&mut self, at: SystemTime, mark: &str, text: String) {
        let at = at.duration_since(self.began).unwrap_or_default();
        if self.setting.aloud {
            say(&format!("{:>7.1} s  {text}\n", at.as_secs_f64()));
        }
        self.moments.push(Moment { at, mark: mark.to_owned(), text });
    }

    /// Waits for the next change of this kind in the rollout, and tells it; nothing if it does not happen in time.
    ///
    /// # Errors
    /// When the gateway has ended.
    pub(super) async fn event(&mut self, kind: &str) -> Result<Option<Event>, Problem> {
        let event = self.events.next(kind, PATIENCE).await;
        let event = event.map_err(|problem| self.gateway.broken(&problem.to_string()))?;
        match &event {
            Some(event) => {
                let mark = event.mark();
                self.told_at(event.time(), &mark, format!("{mark}: {}", event.change.why));
            }
            None => self.tell("", format!("not {kind} within {} s", PATIENCE.as_secs())),
        }
        Ok(event)
    }

    /// Puts another configuration in place and tells it, with how long that took.
    ///
    /// # Errors
    /// When it is refused.
    pub(super) async fn reload(&mut self, body: &str, mark: &str) -> Result<Duration, Problem> {
        let asked = Instant::now();
        self.gateway.reload(body).await?;
        let took = asked.elapsed();
        self.tell(mark, format!("{mark}: in force after {}", told(took)));
        Ok(took)
    }

    /// Ends the load, and then the gateway; what it came to, without promises.
    pub(super) async fn end(mut self, name: &'static str) -> Outcome {
        self.running.stop();
        self.running.answered().await;
        self.phase("after");
        let log_tail = self.gateway.log_tail();
        let report = self.running.report();
        let lasted = Duration::from_secs(report.summary.seconds.round() as u64);
        let marked = self.moments.iter().filter(|moment| !moment.mark.is_empty());
        let marks = marked.map(|moment| Mark { at: moment.at, label: moment.mark.clone() }).collect();
        let picture = Picture { marks, ..Picture::of(name, self.setting.rate, lasted, &report) };
        Outcome {
            scenario: name,
            phases: self.phases,
            moments: self.moments,
            detection: None,
            figures: Vec::new(),
            promises: Vec::new(),
            summary: report.summary,
            pictures: vec![(name.to_owned(), picture)],
            log_tail,
        }
    }
}

fn load(gateway: &Gateway, setting: &Setting, rate: f64) -> Result<Load, Problem> {
    let url: Uri = gateway.url().parse()?;
    let interval = Series::interval_for(setting.length);
    // Enough for every answer that is waited for at a time, where a tenth of them takes seconds.
    let connections = (rate / 2.0).clamp(64.0, 1024.0) as usize;
    Ok(Load { connections, interval, ..Load::new(url, rate, ENDLESS) })
}
