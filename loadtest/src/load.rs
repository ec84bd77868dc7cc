//! Open-loop load: requests are due at fixed times, whether or not earlier ones were answered, and an answer's time
//! counts from when its request was due. So a stall shows in every request it held up (no coordinated omission).

mod client;
mod record;
mod schedule;
mod series;
mod shape;
mod summary;
mod table;
mod tally;
mod target;

pub use client::Failure;
pub use record::Progress;
pub use series::{Cell, Series, Slice};
pub use shape::{Ask, Shape, Weighted};
pub use summary::{Latency, Part, Summary};
pub use target::Keys;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Uri};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::Instant;

use client::{Client, Jar};
use record::Record;
use schedule::Schedule;
use target::{Target, in_turn};

/// Requests at a time on one HTTP/2 connection.
const STREAMS: usize = 32;

/// What is sent, how fast and for how long.
#[derive(Debug, Clone)]
pub struct Load {
    /// Where to; `http` or `https`.
    pub url: Uri,
    /// The method.
    pub method: Method,
    /// Fields of each request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body of each request.
    pub body: Bytes,
    /// Several kinds of requests, chosen by weight, instead of `url`, `method` and `body`; empty for that one kind.
    pub mix: Vec<Shape>,
    /// Requests a second, above 0.
    pub rate: f64,
    /// How long the rate takes to grow from 0, along a straight line; part of `duration`.
    pub ramp: Duration,
    /// For how long.
    pub duration: Duration,
    /// Connections at most to each server; a connection that fails is replaced.
    pub connections: usize,
    /// HTTP/2 instead of HTTP/1.1, by ALPN or prior knowledge.
    pub http2: bool,
    /// Users whose cookies are kept apart, taking turns; 0 keeps no cookies.
    pub users: usize,
    /// A field whose values take turns.
    pub keys: Option<Keys>,
    /// How long an answer may take, body included.
    pub timeout: Duration,
    /// Whom to trust.
    pub trust: Trust,
    /// Another address than the URL's, `host:port`.
    pub connect_to: Option<String>,
    /// The field in which an answer names its release.
    pub release_header: HeaderName,
    /// How long the slices of the [`Series`] are, above 0.
    pub interval: Duration,
}

/// Which certificates a client believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Those signed by an authority in this PEM file.
    Authority(PathBuf),
    /// Any; for development alone.
    Anything,
}

/// Why a load could not begin.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The URL misses a scheme or a host, or has a strange scheme.
    #[error("`{0}` is not an http or https URL")]
    Url(Uri),
    /// The rate is not a positive number.
    #[error("a rate of {0} requests a second cannot be held")]
    Rate(f64),
    /// Every kind of request in the mix has weight 0.
    #[error("no request of the mix has a weight above 0")]
    Weights,
    /// The authority's file does not hold certificates.
    #[error("{path} does not hold certificates: {reason}", path = path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Everything a load tells in the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What it came to.
    pub summary: Summary,
    /// The same over time.
    pub series: Series,
    /// Why a connection could not be made, the first time that happened.
    pub trouble: Option<String>,
}

impl Load {
    /// GET at `rate` requests a second for `duration`, over HTTP/1.1 and 16 connections.
    pub fn new(url: Uri, rate: f64, duration: Duration) -> Self {
        Self {
            url,
            method: Method::GET,
            headers: Vec::new(),
            body: Bytes::new(),
            mix: Vec::new(),
            rate,
            ramp: Duration::ZERO,
            duration,
            connections: 16,
            http2: false,
            users: 0,
            keys: None,
            timeout: Duration::from_secs(30),
            trust: Trust::Anything,
            connect_to: None,
            release_header: HeaderName::from_static("x-release"),
            interval: Duration::from_secs(1),
        }
    }

    /// Sends it all and waits for the answers.
    ///
    /// # Errors
    /// Only for what is wrong before anything is sent; everything later is counted in the summary.
    pub async fn run(&self) -> Result<Summary, Refused> {
        Ok(self.begin()?.finish().await.summary)
    }

    /// Sends until it is `done`, or all is sent, and waits for the answers.
    ///
    /// # Errors
    /// Only for what is wrong before anything is sent.
    pub async fn run_until(
        &self,
        done: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Result<Summary, Refused> {
        Ok(self.begin_until(done)?.finish().await.summary)
    }

    /// Begins to send, on the current Tokio runtime.
    ///
    /// # Errors
    /// For what is wrong before anything is sent.
    pub fn begin(&self) -> Result<Running, Refused> {
        self.begin_until(|| false)
    }

    fn begin_until(&self, done: impl Fn() -> bool + Send + Sync + 'static) -> Result<Running, Refused> {
        if !self.rate.is_finite() || self.rate <= 0.0 {
            return Err(Refused::Rate(self.rate));
        }
        let target = Arc::new(Target::new(self)?);
        let schedule = Arc::new(Schedule::new(self.rate, self.ramp, self.duration, Box::new(done)));
        let record = Arc::new(Record::new(schedule.start, self.interval));
        let jars: Arc<Vec<Jar>> = Arc::new((0..self.users).map(|_| Jar::default()).collect());
        let mut workers = JoinSet::new();
        for _ in 0..self.connections.max(1) {
            let client = Arc::new(Client::new(Arc::clone(&target)));
            for _ in 0..if self.http2 { STREAMS } else { 1 } {
                let worker = Worker {
                    client: Arc::clone(&client),
                    schedule: Arc::clone(&schedule),
                    record: Arc::clone(&record),
                    jars: Arc::clone(&jars),
                };
                workers.spawn(worker.work());
            }
        }
        Ok(Running { target, schedule, record, workers })
    }
}

/// A load under way; dropping it ends it at once.
pub struct Running {
    target: Arc<Target>,
    schedule: Arc<Schedule>,
    record: Arc<Record>,
    workers: JoinSet<()>,
}

impl Running {
    /// How far it has come, and what ended since this was last asked.
    pub fn progress(&self) -> Progress {
        self.record.progress()
    }

    /// When it began: the 0 of its [`Series`].
    pub fn began(&self) -> Instant {
        self.schedule.start
    }

    /// Sends no more than what is due next on each connection.
    pub fn stop(&self) {
        self.schedule.stop();
    }

    /// Waits until everything was sent and answered.
    pub async fn answered(&mut self) {
        while self.workers.join_next().await.is_some() {}
    }

    /// Waits until everything was sent and answered, and tells what it came to.
    pub async fn finish(mut self) -> Report {
        self.answered().await;
        self.report()
    }

    /// What it has come to so far; what has not been answered is given up.
    pub fn report(self) -> Report {
        let (summary, series) = self.record.close();
        Report { summary, series, trouble: self.target.trouble.get().cloned() }
    }
}

/// Sends requests as they fall due, one at a time.
struct Worker {
    client: Arc<Client>,
    schedule: Arc<Schedule>,
    record: Arc<Record>,
    jars: Arc<Vec<Jar>>,
}

impl Worker {
    async fn work(self) {
        while let Some((number, due)) = self.schedule.take() {
            let waited = due > Instant::now();
            tokio::time::sleep_until(due).await;
            // The timer's own lateness is ours, not the server's; being busy at the due time is the server's.
            let begin = if waited { Instant::now() } else { due };
            let outcome = self.client.send(number, in_turn(&self.jars, number)).await;
            self.record.add(&outcome, begin.elapsed());
        }
    }
}
