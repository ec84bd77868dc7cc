//! What an origin does with a request, as a value that is composed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::broadcast;
use xxhash_rust::xxh3::xxh3_64;

use super::delay::Delay;
use super::ending::{Ending, Mix};

/// What an origin does with each request. Begin with [`Behaviour::status`], [`Behaviour::echo`] and their like, then add.
#[derive(Debug, Clone)]
pub struct Behaviour {
    pub(super) status: Status,
    pub(super) delay: Delay,
    pub(super) content: Content,
    pub(super) chunked: bool,
    pub(super) headers: Vec<(String, String)>,
    pub(super) trailers: Vec<(String, String)>,
    pub(super) fault: Option<Fault>,
    pub(super) reads_body: bool,
    pub(super) idle: Option<Duration>,
    /// From this request on, another ending than `status` says.
    pub(super) later: Option<(u64, Ending)>,
}

/// How the statuses of successive requests are chosen.
#[derive(Debug, Clone)]
pub(super) enum Status {
    /// Always this one.
    Fixed(StatusCode),
    /// The second from request `from` on (the first is 1), then at every `every`-th.
    Counted { usual: StatusCode, other: StatusCode, from: u64, every: u64 },
    /// The second for a share of requests that are spread evenly but not regularly.
    Mixed { usual: StatusCode, other: StatusCode, share: f64 },
    /// By weight, faults among them.
    Drawn(Mix),
}

/// What the body of an answer is.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// These bytes.
    Fixed(Bytes),
    /// So many zero bytes, made as they are sent.
    Sized(u64),
    /// The first text so many times, with a pause before each but the first.
    Drip { chunk: Bytes, times: u32, pause: Duration },
    /// A description of the request as JSON.
    Description,
    /// The request's own body, sent back while it arrives.
    Echo,
    /// What a test sends, when it sends it.
    Events(Events),
    /// A WebSocket that sends back what it gets.
    WebSocket,
}

/// How an exchange goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection is closed once the request's header has arrived.
    CloseBeforeHeader,
    /// The connection is reset (RST, or RST_STREAM on HTTP/2) once the request's header has arrived.
    ResetBeforeHeader,
    /// The connection is closed after so many body bytes, short of what was announced.
    BreakOffAfter(u64),
    /// The connection is reset after so many body bytes.
    ResetAfter(u64),
    /// The connection is closed right after a complete answer that did not announce it.
    CloseAfterResponse,
    /// The second request on a connection finds it closed without an answer: the keep-alive race, made certain.
    CloseOnReuse,
}

/// Events that reach every stream open at the time.
#[derive(Debug, Clone)]
pub struct Events(broadcast::Sender<Bytes>);

impl Events {
    /// A source without listeners yet.
    #[expect(clippy::new_without_default, reason = "a source is only ever made by hand")]
    pub fn new() -> Self {
        Self(broadcast::Sender::new(256))
    }

    /// Sends raw bytes as one chunk to every open stream; says how many there were.
    pub fn send(&self, bytes: impl Into<Bytes>) -> usize {
        self.0.send(bytes.into()).unwrap_or(0)
    }

    /// Sends `data: {text}` as a server-sent event; says how many streams were open.
    pub fn event(&self, text: &str) -> usize {
        self.send(format!("data: {text}\n\n"))
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Bytes> {
        self.0.subscribe()
    }
}

impl Behaviour {
    /// Answers with this status and a short text.
    ///
    /// # Panics
    /// When `status` is not between 100 and 999.
    pub fn status(status: u16) -> Self {
        Self {
            status: Status::Fixed(code(status)),
            delay: Delay::Fixed(Duration::ZERO),
            content: Content::Fixed(Bytes::from_static(b"hello\n")),
            chunked: false,
            headers: Vec::new(),
            trailers: Vec::new(),
            fault: None,
            reads_body: true,
            idle: None,
            later: None,
        }
    }

    /// Answers 200 with a JSON description of the request: `method`, `path` (with query), `version`, `headers`
    /// (pairs in order), `body` (text), `body_bytes`, `body_xxh3`. A path that ends with `/echo` gets its body back.
    pub fn echo() -> Self {
        Self { content: Content::Description, ..Self::status(200) }
    }

    /// Answers 200 with the request's body, sent back while it arrives.
    pub fn echo_body() -> Self {
        Self { content: Content::Echo, chunked: true, ..Self::status(200) }
    }

    /// Answers 200 with a stream of what the test sends through `events`, until the source is dropped.
    pub fn events(events: &Events) -> Self {
        let content = Content::Events(events.clone());
        Self { content, chunked: true, ..Self::status(200) }.header("content-type", "text/event-stream")
    }

    /// Accepts a WebSocket handshake and sends every message back; anything else gets 426.
    pub fn websocket() -> Self {
        Self { content: Content::WebSocket, ..Self::status(426) }
    }

    /// Answers like a gRPC service: the messages come back, `grpc-status` follows in the trailers.
    pub fn grpc(status: u32) -> Self {
        Self::echo_body()
            .header("content-type", "application/grpc")
            .trailer("grpc-status", &status.to_string())
    }

    /// Answers `other` at every `every`-th request.
    pub fn failing_every(mut self, every: u64, other: u16) -> Self {
        self.status =
            Status::Counted { usual: self.usual(), other: code(other), from: 1, every: every.max(1) };
        self
    }

    /// Answers `other` from the `first`-th request on; the first is 1.
    pub fn failing_from(mut self, first: u64, other: u16) -> Self {
        self.status = Status::Counted { usual: self.usual(), other: code(other), from: first, every: 1 };
        self
    }

    /// Answers `other` to about this share of requests, between 0 and 1; which ones is the same in every run.
    pub fn mixed(mut self, share: f64, other: u16) -> Self {
        self.status = Status::Mixed { usual: self.usual(), other: code(other), share };
        self
    }

    /// Waits before the header.
    pub fn delay(self, delay: Duration) -> Self {
        self.delay_between(delay, delay)
    }

    /// Waits before the header, for a time between these that differs from request to request.
    pub fn delay_between(self, least: Duration, most: Duration) -> Self {
        self.delayed(Delay::Uniform(least, most))
    }

    /// Waits before the header, for times from a distribution.
    pub fn delayed(mut self, delay: Delay) -> Self {
        self.delay = delay;
        self
    }

    /// Ends exchanges by weight; which ones how is the same in every run.
    pub fn ending(mut self, mix: Mix) -> Self {
        self.status = Status::Drawn(mix);
        self
    }

    /// Ends every exchange like this from the `first`-th request on; the first is 1.
    pub fn ending_from(mut self, first: u64, ending: Ending) -> Self {
        self.later = Some((first, ending));
        self
    }

    /// Answers with this body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.content = Content::Fixed(body.into());
        self
    }

    /// Answers with so many bytes.
    pub fn body_of(mut self, bytes: u64) -> Self {
        self.content = Content::Sized(bytes);
        self
    }

    /// Sends `chunk` so many times with a pause between.
    pub fn drip(mut self, chunk: impl Into<Bytes>, times: u32, pause: Duration) -> Self {
        self.content = Content::Drip { chunk: chunk.into(), times, pause };
        self
    }

    /// Announces no length.
    pub fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    /// Adds a header field.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a trailer field; the body then announces no length.
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push((name.to_owned(), value.to_owned()));
        self.chunked = true;
        self
    }

    /// Goes wrong.
    pub fn fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    /// Answers without reading the request's body: it stays in the transport.
    pub fn unread(mut self) -> Self {
        self.reads_body = false;
        self
    }

    /// Closes a connection, without a word, that was unused for so long.
    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle = Some(idle);
        self
    }

    fn usual(&self) -> StatusCode {
        match &self.status {
            Status::Fixed(usual) | Status::Counted { usual, .. } | Status::Mixed { usual, .. } => *usual,
            Status::Drawn(mix) => code(mix.usual()),
        }
    }

    /// What an ending means for this behaviour.
    fn turn(&self, ending: Ending, delay: Duration) -> Turn {
        let fault = match ending {
            Ending::Status(status) => return Turn { status: code(status), delay, fault: self.fault, ending },
            Ending::Close => Fault::CloseBeforeHeader,
            Ending::Reset => Fault::ResetBeforeHeader,
            Ending::Truncate => Fault::BreakOffAfter(self.half_a_body()),
        };
        Turn { status: self.usual(), delay, fault: Some(fault), ending }
    }

    fn half_a_body(&self) -> u64 {
        match &self.content {
            Content::Fixed(bytes) => bytes.len() as u64 / 2,
            Content::Sized(bytes) => bytes / 2,
            Content::Drip { chunk, times, .. } => chunk.len() as u64 * u64::from(*times) / 2,
            Content::Description | Content::Echo | Content::Events(_) | Content::WebSocket => 1,
        }
    }
}

/// What happens to one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    pub(super) status: StatusCode,
    pub(super) delay: Duration,
    pub(super) fault: Option<Fault>,
    /// What it is counted as.
    pub(super) ending: Ending,
}

/// A behaviour in use: it knows how many requests it has served.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) behaviour: Behaviour,
    served: AtomicU64,
}

impl Script {
    pub(super) fn new(behaviour: Behaviour) -> Arc<Self> {
        Arc::new(Self { behaviour, served: AtomicU64::new(0) })
    }

    /// What happens to the next request.
    pub(super) fn next(&self) -> Turn {
        let number = self.served.fetch_add(1, Ordering::Relaxed) + 1;
        let delay = self.behaviour.delay.of(number);
        if let Some((first, ending)) = self.behaviour.later
            && number >= first
        {
            return self.behaviour.turn(ending, delay);
        }
        let status = match &self.behaviour.status {
            Status::Fixed(status) => *status,
            Status::Counted { usual, other, from, every } => {
                if number >= *from && number.is_multiple_of(*every) { *other } else { *usual }
            }
            Status::Mixed { usual, other, share } => {
                if fraction(number) < *share {
                    *other
                } else {
                    *usual
                }
            }
            Status::Drawn(mix) => return self.behaviour.turn(mix.pick(fraction(number)), delay),
        };
        self.behaviour.turn(Ending::Status(status.as_u16()), delay)
    }
}

/// A number in [0, 1) that looks random and depends on `number` alone.
pub(super) fn fraction(number: u64) -> f64 {
    (xxh3_64(&number.to_le_bytes()) >> 11) as f64 / (1_u64 << 53) as f64
}

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or_else(|_| panic!("{status} is not a status code"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(behaviour: Behaviour, count: usize) -> Vec<u16> {
        let script = Script::new(behaviour);
        (0..count).map(|_| script.next().status.as_u16()).collect()
    }

    #[test]
    fn every_third_request_fails() {
        let behaviour = Behaviour::status(200).failing_every(3, 500);
        assert_eq!(statuses(behaviour, 6), [200, 200, 500, 200, 200, 500]);
    }

    #[test]
    fn requests_fail_from_the_third_on() {
        assert_eq!(statuses(Behaviour::status(204).failing_from(3, 503), 4), [204, 204, 503, 503]);
    }

    #[test]
    fn a_fault_begins_with_the_third_request_and_breaks_half_a_body_off() {
        let script = Script::new(Behaviour::status(200).body_of(1000).ending_from(3, Ending::Truncate));
        let faults: Vec<_> = (0..4).map(|_| script.next().fault).collect();
        assert_eq!(faults, [None, None, Some(Fault::BreakOffAfter(500)), Some(Fault::BreakOffAfter(500))]);
    }

    #[test]
    fn a_mix_is_close_to_its_share_and_the_same_again() {
        let mixed = || statuses(Behaviour::status(200).mixed(0.25, 500), 4000);
        let failed = mixed().iter().filter(|status| **status == 500).count();
        assert!((900..1100).contains(&failed), "{failed} of 4000 failed");
        assert_eq!(mixed(), mixed());
    }
}
