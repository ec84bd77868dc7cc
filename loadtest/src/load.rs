//! Open-loop load: requests are due at fixed times, whether or not earlier ones were answered, and an answer's time
//! counts from when its request was due. So a stall shows in every request it held up (no coordinated omission).

mod client;
mod summary;

pub use client::Failure;
pub use summary::{Latency, Summary};

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Uri};
use parking_lot::Mutex;
use tokio::time::Instant;

use client::{Client, Target};
use summary::Tally;

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
    /// Requests a second, above 0.
    pub rate: f64,
    /// For how long.
    pub duration: Duration,
    /// Connections at most; a connection that fails is replaced.
    pub connections: usize,
    /// HTTP/2 instead of HTTP/1.1, by ALPN or prior knowledge.
    pub http2: bool,
    /// Users whose cookies are kept apart, taking turns; 0 keeps no cookies.
    pub users: usize,
    /// How long an answer may take, body included.
    pub timeout: Duration,
    /// Whom to trust.
    pub trust: Trust,
    /// Another address than the URL's, `host:port`.
    pub connect_to: Option<String>,
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
    /// The authority's file does not hold certificates.
    #[error("{path} does not hold certificates: {reason}", path = path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl Load {
    /// GET at `rate` requests a second for `duration`, over HTTP/1.1 and 16 connections.
    pub fn new(url: Uri, rate: f64, duration: Duration) -> Self {
        Self {
            url,
            method: Method::GET,
            headers: Vec::new(),
            body: Bytes::new(),
            rate,
            duration,
            connections: 16,
            http2: false,
            users: 0,
            timeout: Duration::from_secs(30),
            trust: Trust::Anything,
            connect_to: None,
        }
    }

    /// Sends it all and waits for the answers.
    ///
    /// # Errors
    /// Only for what is wrong before anything is sent; everything later is counted in the summary.
    pub async fn run(&self) -> Result<Summary, Refused> {
        self.run_until(|| false).await
    }

    /// Sends until it is `done`, or all is sent, and waits for the answers.
    ///
    /// # Errors
    /// Only for what is wrong before anything is sent.
    pub async fn run_until(
        &self,
        done: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Result<Summary, Refused> {
        if !self.rate.is_finite() || self.rate <= 0.0 {
            return Err(Refused::Rate(self.rate));
        }
        let target = Arc::new(Target::new(self)?);
        let schedule = Arc::new(Schedule::new(self.rate, self.duration, Box::new(done)));
        let jars = Arc::new(Jars::new(self.users));
        let mut workers = Vec::new();
        for _ in 0..self.connections.max(1) {
            let client = Arc::new(Client::new(Arc::clone(&target)));
            for _ in 0..if self.http2 { STREAMS } else { 1 } {
                let (client, schedule, jars) =
                    (Arc::clone(&client), Arc::clone(&schedule), Arc::clone(&jars));
                workers.push(tokio::spawn(async move { work(&client, &schedule, &jars).await }));
            }
        }
        let mut total = Tally::new();
        for worker in workers {
            // A worker that was cancelled has nothing to add.
            if let Ok(tally) = worker.await {
                total.merge(&tally);
            }
        }
        Ok(total.summary(schedule.start.elapsed()))
    }
}

/// When requests are due.
struct Schedule {
    start: Instant,
    interval: f64,
    count: u64,
    next: AtomicU64,
    done: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Schedule {
    fn new(rate: f64, duration: Duration, done: Box<dyn Fn() -> bool + Send + Sync>) -> Self {
        let count = (duration.as_secs_f64() * rate).round().max(1.0) as u64;
        Self { start: Instant::now(), interval: 1.0 / rate, count, next: AtomicU64::new(0), done }
    }

    /// The number of the next request that nobody has taken, and when it is due.
    fn take(&self) -> Option<(u64, Instant)> {
        if (self.done)() {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let due = || self.start + Duration::from_secs_f64(number as f64 * self.interval);
        (number < self.count).then(|| (number, due()))
    }
}

/// Cookies of each user: names and values, in the order they were set.
struct Jars(Vec<Mutex<Vec<(String, String)>>>);

impl Jars {
    fn new(users: usize) -> Self {
        Self((0..users).map(|_| Mutex::default()).collect())
    }

    fn of(&self, number: u64) -> Option<&Mutex<Vec<(String, String)>>> {
        let users = self.0.len() as u64;
        number.checked_rem(users).and_then(|user| self.0.get(usize::try_from(user).ok()?))
    }
}

/// Sends requests as they fall due, until there are no more.
async fn work(client: &Client, schedule: &Schedule, jars: &Jars) -> Tally {
    let mut tally = Tally::new();
    while let Some((number, due)) = schedule.take() {
        let waited = due > Instant::now();
        tokio::time::sleep_until(due).await;
        // The timer's own lateness is ours, not the server's; being busy at the due time is the server's.
        let begin = if waited { Instant::now() } else { due };
        let jar = jars.of(number);
        match client.send(jar).await {
            Ok(answer) => tally.answered(&answer, begin.elapsed()),
            Err(failure) => tally.failed(failure),
        }
    }
    tally
}
