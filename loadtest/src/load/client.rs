//! One connection to each server, replaced when it fails.

use std::sync::Arc;

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, MutexGuard};

use super::target::{Ask, Sender, Target};

/// Why a request has no full answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// No TCP connection.
    Connect,
    /// No TLS connection.
    Tls,
    /// The connection ended before the answer's header.
    Closed,
    /// The answer ended before its body did.
    Truncated,
    /// Nothing, or not everything, in time.
    Timeout,
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) release: Option<String>,
    pub(super) body_bytes: u64,
    pub(super) retried: bool,
}

/// What did not.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) failure: Failure,
    /// Known once the answer's header has arrived.
    pub(super) release: Option<String>,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self { failure, release: None }
    }
}

/// One user's cookies: names and values, in the order they were set.
pub(super) type Jar = parking_lot::Mutex<Vec<(String, String)>>;

/// One connection to each server, made when first needed and again when it has ended.
pub(super) struct Client {
    target: Arc<Target>,
    /// By the server's place.
    senders: Vec<Mutex<Option<Sender>>>,
}

/// A request on its way.
#[derive(Clone, Copy)]
struct Turn<'a> {
    ask: &'a Ask,
    number: u64,
    jar: Option<&'a Jar>,
}

impl Client {
    pub(super) fn new(target: Arc<Target>) -> Self {
        let senders = (0..target.peers()).map(|_| Mutex::new(None)).collect();
        Self { target, senders }
    }

    /// Sends request `number` and reads the answer to its end.
    pub(super) async fn send(&self, number: u64, jar: Option<&Jar>) -> Result<Answer, Failed> {
        let exchange = self.exchange(Turn { ask: self.target.ask(number), number, jar });
        let timed = tokio::time::timeout(self.target.load.timeout, exchange).await;
        timed.unwrap_or_else(|_| Err(Failure::Timeout.into()))
    }

    /// A safe request that finds a kept connection closed is sent once more on a new one (RFC 9110 §9.2.2), as
    /// every browser does.
    async fn exchange(&self, turn: Turn<'_>) -> Result<Answer, Failed> {
        match self.attempt(turn, false).await {
            Err((Failed { failure: Failure::Closed, .. }, true)) if turn.ask.method.is_safe() => {
                let answer = self.attempt(turn, true).await.map_err(|(failed, _)| failed)?;
                Ok(Answer { retried: true, ..answer })
            }
            outcome => outcome.map_err(|(failed, _)| failed),
        }
    }

    /// One try, `anew` on a new connection: a kept one that is about to close may not know it yet. A failure tells
    /// whether the connection had been used before.
    async fn attempt(&self, turn: Turn<'_>, anew: bool) -> Result<Answer, (Failed, bool)> {
        let peer = turn.ask.peer;
        let mut slot = self.senders[peer].lock().await;
        let (sender, reused) = match slot.take() {
            Some(sender) if !anew && sender.usable() => (sender, true),
            _ => (self.target.connect(peer).await.map_err(|failure| (failure.into(), false))?, false),
        };
        self.send_on(sender, slot, turn).await.map_err(|failed| (failed, reused))
    }

    async fn send_on(
        &self,
        mut sender: Sender,
        mut slot: MutexGuard<'_, Option<Sender>>,
        turn: Turn<'_>,
    ) -> Result<Answer, Failed> {
        let request = self.target.request(turn.ask, turn.number, turn.jar.and_then(cookies));
        let response = match &mut sender {
            Sender::Http2(shared) => {
                let mut sender = shared.clone();
                *slot = Some(Sender::Http2(shared.clone()));
                drop(slot);
                sender.ready().await.map_err(|_| Failure::Closed)?;
                return self.read(sender.send_request(request).await, turn.jar).await;
            }
            Sender::Http1(sender) => {
                sender.ready().await.map_err(|_| Failure::Closed)?;
                sender.send_request(request).await
            }
        };
        let answer = self.read(response, turn.jar).await;
        if answer.is_ok() {
            *slot = Some(sender);
        }
        answer
    }

    async fn read(
        &self,
        response: hyper::Result<http::Response<hyper::body::Incoming>>,
        jar: Option<&Jar>,
    ) -> Result<Answer, Failed> {
        let (head, mut body) = response.map_err(|_| Failure::Closed)?.into_parts();
        let release = self.target.release(&head.headers);
        let mut body_bytes = 0;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return Err(Failed { failure: Failure::Truncated, release }) };
            body_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        if let Some(jar) = jar {
            remember(jar, &head.headers);
        }
        Ok(Answer { status: head.status, release, body_bytes, retried: false })
    }
}

/// Keeps the cookies of an answer; attributes are of no concern here.
fn remember(jar: &Jar, headers: &HeaderMap) {
    for value in headers.get_all(SET_COOKIE) {
        let pair = value.to_str().ok().and_then(|value| value.split(';').next()?.split_once('='));
        if let Some((name, value)) = pair {
            let mut jar = jar.lock();
            jar.retain(|(known, _)| known != name.trim());
            jar.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
}

fn cookies(jar: &Jar) -> Option<HeaderValue> {
    let pairs: Vec<String> = jar.lock().iter().map(|(name, value)| format!("{name}={value}")).collect();
    if pairs.is_empty() { None } else { HeaderValue::from_str(&pairs.join("; ")).ok() }
}
