//! The far side of a proxy, both ends of it, in one loop on one thread: clients that load it, the origin behind it.
//!
//! One thread, because it has one core: it never waits for itself, and at a fixed rate it can look at the clock instead of
//! sleeping, so that no timer's lateness is taken for the proxy's.

mod client;
mod origin;
mod run;
mod transport;

pub(super) use client::Speech;
pub(super) use origin::{LONG, RELEASES};
pub(super) use transport::Tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};

use super::Trouble;
use client::Client;
use origin::Origin;
use run::Run;
use transport::READ_BYTES;

/// How long connections may take to be opened when they are to be idle.
const PARKING: Duration = Duration::from_secs(60);
/// Connections that are opened at a time.
const OPENING: usize = 32;
/// How often the loop wakes when nothing happens.
const TICK: Duration = Duration::from_millis(10);

/// What to do to a proxy.
pub(super) struct Job<'a> {
    /// Where it listens.
    pub(super) to: SocketAddr,
    /// By connection, repeated in turn; empty in the clear.
    pub(super) tls: &'a [Tls],
    /// The request.
    pub(super) speech: Speech,
    /// Connections.
    pub(super) connections: usize,
    /// Requests at a time on each of them; 1 on HTTP/1.1.
    pub(super) streams: usize,
    /// When requests are sent.
    pub(super) pace: Pace,
    /// Time before anything is counted.
    pub(super) warm_up: Duration,
    /// Time that is counted.
    pub(super) time: Duration,
}

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pace {
    /// As soon as the one before is answered.
    Closed,
    /// As `Closed`, each on a connection of its own.
    Fresh,
    /// At a rate a second, answered or not.
    Rate(f64),
}

/// What came of it.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    /// Requests answered with 200 in the counted time.
    pub(super) answered: u64,
    /// Requests with another answer, or none.
    pub(super) failed: u64,
    /// How the first of them failed.
    pub(super) failure: Option<String>,
    /// Of the answered, those on a resumed TLS session.
    pub(super) resumed: u64,
    /// The counted time.
    pub(super) time: Duration,
    /// What the meter rose by meanwhile.
    pub(super) metered: u64,
    /// Microseconds from when requests were due to their answer.
    pub(super) latency: Histogram<u64>,
}

/// Idle connections, open until this is dropped.
pub(super) struct Parked(Vec<Option<Client>>);

impl Parked {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.iter().flatten().count()
    }
}

/// Both ends.
pub(super) struct Drive {
    poll: Poll,
    events: Events,
    scratch: Vec<u8>,
    origin: Origin,
    stop: Arc<AtomicBool>,
}

/// Whose event it is.
enum Whose {
    Listener(usize),
    Client(usize),
    Origin(usize),
}

fn client_token(number: usize) -> Token {
    Token(2 + 2 * number)
}

fn origin_token(number: usize) -> Token {
    Token(3 + 2 * number)
}

fn whose(token: Token) -> Whose {
    match token.0 {
        0 | 1 => Whose::Listener(token.0),
        odd if odd % 2 == 1 => Whose::Origin((odd - 3) / 2),
        even => Whose::Client((even - 2) / 2),
    }
}

impl Drive {
    /// Starts the origins. A job ends early when `stop` becomes true.
    pub(super) fn new(stop: Arc<AtomicBool>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let origin = Origin::new(poll.registry())?;
        Ok(Self { poll, events: Events::with_capacity(1024), scratch: vec![0; READ_BYTES], origin, stop })
    }

    /// Where the releases listen.
    pub(super) fn releases(&self) -> io::Result<[SocketAddr; 2]> {
        self.origin.addresses()
    }

    /// How often each release was asked so far.
    pub(super) fn hits(&self) -> [u64; 2] {
        self.origin.hits()
    }

    /// The last request the origin heard since this was last called.
    pub(super) fn heard(&mut self) -> String {
        self.origin.heard.replace(String::new()).unwrap_or_default()
    }

    /// No longer keeps what the origin hears.
    pub(super) fn stop_hearing(&mut self) {
        self.origin.heard = None;
    }

    /// Does a job. The meter is read where the counted time begins and ends.
    ///
    /// # Errors
    /// When too much fails, the meter does, or it is told to stop.
    pub(super) fn run(
        &mut self,
        job: &Job<'_>,
        meter: &mut dyn FnMut() -> Result<u64, Trouble>,
    ) -> Result<Tally, Trouble> {
        let mut run = Run::new(job);
        for number in 0..job.connections {
            run.open(number, self.poll.registry())?;
        }
        let wait = if matches!(job.pace, Pace::Rate(_)) { Duration::ZERO } else { TICK };
        loop {
            self.turn(Some(wait), &mut run)?;
            let now = Instant::now();
            if run.advance(now, meter)? {
                break;
            }
            run.pump(now, self.poll.registry())?;
        }
        run.finish()
    }

    /// Opens `job.connections` connections, has one request answered on each, and leaves them open.
    ///
    /// # Errors
    /// When one of them fails.
    pub(super) fn park(&mut self, job: &Job<'_>) -> Result<Parked, Trouble> {
        let mut run = Run::new(job);
        run.parking = true;
        let begin = Instant::now();
        let mut opened = 0;
        while run.counted < job.connections as u64 {
            while opened < job.connections && (opened as u64) < run.counted + OPENING as u64 {
                run.open(opened, self.poll.registry())?;
                opened += 1;
            }
            self.turn(Some(TICK), &mut run)?;
            if let Some(failure) = &run.tally.failure {
                return Err(Trouble::Failed(format!("after {} idle connections: {failure}", run.counted)));
            }
            if begin.elapsed() > PARKING {
                return Err(Trouble::Failed(format!(
                    "{} of {} connections in {PARKING:?}",
                    run.counted, opened
                )));
            }
        }
        Ok(Parked(run.clients))
    }

    /// Serves the origin alone, as long as it is wanted.
    pub(super) fn serve_while(&mut self, mut wanted: impl FnMut() -> bool) -> Result<(), Trouble> {
        let nobody = Job {
            to: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: &[],
            speech: Speech::Http1(Vec::new()),
            connections: 0,
            streams: 0,
            pace: Pace::Closed,
            warm_up: Duration::ZERO,
            time: Duration::ZERO,
        };
        let mut run = Run::new(&nobody);
        while wanted() {
            self.turn(Some(TICK), &mut run)?;
        }
        Ok(())
    }

    /// One turn of the loop.
    fn turn(&mut self, wait: Option<Duration>, run: &mut Run<'_>) -> Result<(), Trouble> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Trouble::Stopped);
        }
        match self.poll.poll(&mut self.events, wait) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        let registry = self.poll.registry();
        for event in &self.events {
            // An error shows in the read.
            let closed = event.is_read_closed() || event.is_error();
            match whose(event.token()) {
                Whose::Listener(release) => self.origin.accept(release, registry, origin_token)?,
                Whose::Origin(number) => self.origin.serve(number, closed, &mut self.scratch),
                Whose::Client(number) => run.serve(number, closed, &mut self.scratch, registry)?,
            }
        }
        Ok(())
    }
}
