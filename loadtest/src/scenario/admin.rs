//! The gateway's admin API, over its unix socket: single calls, and the stream of what happens to rollouts.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::Problem;

/// How long one call may take.
const ANSWER: Duration = Duration::from_secs(30);

/// Where the API is.
#[derive(Debug, Clone)]
pub(super) struct Admin {
    socket: PathBuf,
}

/// A change of a rollout, as `GET /v1/events` tells it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Event {
    /// Seconds since 1970.
    pub(super) at: f64,
    /// What it was, in a word.
    pub(super) kind: String,
    /// All that led to it.
    pub(super) change: Change,
}

/// What of a change is told.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Change {
    /// The release that is tried.
    pub(super) canary: Option<String>,
    /// Why it waits, if it does.
    pub(super) reason: Option<String>,
    /// The canary's share from then on, 0 to 100.
    pub(super) weight: f64,
    /// In a sentence.
    pub(super) why: String,
    /// What was seen before.
    pub(super) evidence: Evidence,
}

/// Counts since the step began.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Evidence {
    pub(super) canary: Counts,
}

/// Attempts on a release.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Counts {
    pub(super) attempts: u64,
    pub(super) failures: u64,
    pub(super) slow: u64,
}

impl Event {
    /// When it happened.
    pub(super) fn time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::try_from_secs_f64(self.at).unwrap_or_default()
    }

    /// In a few words.
    pub(super) fn mark(&self) -> String {
        match (self.kind.as_str(), &self.change.canary) {
            ("started" | "promoted", Some(canary)) => format!("{canary} at {} %", self.change.weight),
            (kind, _) => kind.replace('_', " "),
        }
    }
}

impl Admin {
    pub(super) fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    pub(super) async fn get(&self, path: &str) -> Result<(StatusCode, String), Problem> {
        self.call(Method::GET, path).await
    }

    pub(super) async fn post(&self, path: &str) -> Result<(StatusCode, String), Problem> {
        self.call(Method::POST, path).await
    }

    /// What a view says.
    pub(super) async fn view(&self, path: &str) -> Result<Value, Problem> {
        match self.get(path).await? {
            (StatusCode::OK, text) => Ok(serde_json::from_str(&text)?),
            (status, text) => Err(format!("{path} was answered with {status}: {text}").into()),
        }
    }

    /// A counter of `/metrics`, summed over its labels; 0 when there is none.
    pub(super) async fn counter(&self, name: &str) -> Result<u64, Problem> {
        let (_, text) = self.get("/metrics").await?;
        let series = text
            .lines()
            .filter_map(|line| line.strip_prefix(name))
            .filter(|rest| rest.starts_with(['{', ' ']));
        let values = series.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(values.sum::<f64>() as u64)
    }

    /// Everything that has happened and will happen to rollouts.
    pub(super) fn follow(&self) -> Events {
        let (told, heard) = watch::channel(Vec::new());
        let admin = self.clone();
        let reader = tokio::spawn(async move {
            // The stream ends with the gateway; whoever waits learns that from the closed channel.
            let _ = admin.read_events(&told).await;
        });
        Events { heard, taken: 0, reader }
    }

    async fn read_events(&self, told: &watch::Sender<Vec<Event>>) -> Result<(), Problem> {
        let mut stream = self.open(Method::GET, "/v1/events?since=0").await?.into_body();
        let mut text = Vec::new();
        while let Some(frame) = stream.frame().await {
            text.extend_from_slice(&frame?.into_data().unwrap_or_default());
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                let data = line.strip_prefix(b"data:");
                // What is no change of a rollout is not for us.
                let event = data.and_then(|data| serde_json::from_slice(data).ok());
                told.send_modify(|events| events.extend(event));
            }
        }
        Ok(())
    }

    async fn call(&self, method: Method, path: &str) -> Result<(StatusCode, String), Problem> {
        let answer = async {
            let answer = self.open(method, path).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            Ok((status, String::from_utf8_lossy(&body).into_owned()))
        };
        let late = |_| format!("{path} was not answered in {} s", ANSWER.as_secs());
        timeout(ANSWER, answer).await.map_err(late)?
    }

    async fn open(&self, method: Method, path: &str) -> Result<http::Response<Incoming>, Problem> {
        let away = |error| format!("the gateway's admin API is away: {error}");
        let stream = UnixStream::connect(&self.socket).await.map_err(away)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        Ok(sender.send_request(request.body(Empty::<Bytes>::new())?).await?)
    }
}

/// What happened to rollouts so far, and what will.
pub(super) struct Events {
    heard: watch::Receiver<Vec<Event>>,
    /// How many have been taken or passed over.
    taken: usize,
    reader: JoinHandle<()>,
}

impl Events {
    /// The next event of this kind, once there is one; `None` when there is none within `limit`.
    ///
    /// # Errors
    /// When the gateway tells no more.
    pub(super) async fn next(&mut self, kind: &str, limit: Duration) -> Result<Option<Event>, Problem> {
        let taken = self.taken;
        let find = |events: &Vec<Event>| events.iter().skip(taken).position(|event| event.kind == kind);
        match timeout(limit, self.heard.wait_for(|events| find(events).is_some())).await {
            Err(_) => Ok(None),
            Ok(Err(_)) => Err("the gateway tells of no more events".into()),
            Ok(Ok(events)) => {
                let index = taken + find(&events).unwrap_or_default();
                self.taken = index + 1;
                Ok(events.get(index).cloned())
            }
        }
    }

    /// Those of this kind so far.
    pub(super) fn all(&self, kind: &str) -> Vec<Event> {
        self.heard.borrow().iter().filter(|event| event.kind == kind).cloned().collect()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
