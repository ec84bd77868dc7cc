//! The far side of a proxy, both ends of it, in one loop on one thread: clients that load it, the origin behind it.
//!
//! One thread, because it has one core: it never waits for itself, and at a fixed rate it can look at the clock instead of
//! sleeping, so that no timer's lateness is taken for the proxy's.

mod client;
mod origin;
mod transport;

pub(super) use client::Speech;
pub(super) use origin::{LONG, RELEASES};
pub(super) use transport::Tls;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};

use super::Trouble;
use client::{Client, Ended, Lost};
use origin::Origin;
use transport::READ_BYTES;

/// Requests that may fail before a job is given up.
const FAILURES: u64 = 1000;
/// How long answers are waited for when a job's time is over.
const GRACE: Duration = Duration::from_secs(1);
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

/// A job under way.
struct Run<'a> {
    job: &'a Job<'a>,
    clients: Vec<Option<Client>>,
    /// How often each client was replaced, so that what is said of an old one is not taken for the new.
    lives: Vec<u32>,
    /// At a rate: who may send next.
    idle: VecDeque<(usize, u32)>,
    ended: Vec<Ended>,
    begin: Instant,
    /// The number of the next request, at a rate.
    next: u64,
    phase: Phase,
    parking: bool,
    /// Good answers, in all phases.
    counted: u64,
    tally: Tally,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    WarmUp,
    Counting { since: Instant, meter: u64 },
    Ending { since: Instant },
}

impl<'a> Run<'a> {
    fn new(job: &'a Job<'a>) -> Self {
        // One microsecond to one minute; the bounds are constants that the histogram takes.
        let latency = Histogram::new_with_bounds(1, 60_000_000, 3)
            .unwrap_or_else(|_| unreachable!("the bounds are in order"));
        Self {
            job,
            clients: Vec::new(),
            lives: Vec::new(),
            idle: VecDeque::new(),
            ended: Vec::new(),
            begin: Instant::now(),
            next: 0,
            phase: Phase::WarmUp,
            parking: false,
            counted: 0,
            tally: Tally {
                answered: 0,
                failed: 0,
                failure: None,
                resumed: 0,
                time: Duration::ZERO,
                metered: 0,
                latency,
            },
        }
    }

    /// Opens the connection with this number, anew if there was one.
    fn open(&mut self, number: usize, registry: &mio::Registry) -> Result<(), Trouble> {
        let job = self.job;
        let tls = job.tls.get(number % job.tls.len().max(1));
        let mut client = Client::connect(job.to, tls, &job.speech, registry, client_token(number))?;
        if self.clients.len() <= number {
            self.clients.resize_with(number + 1, || None);
            self.lives.resize(number + 1, 0);
        }
        self.lives[number] += 1;
        for _ in 0..job.streams {
            match job.pace {
                Pace::Rate(_) => self.idle.push_back((number, self.lives[number])),
                Pace::Closed | Pace::Fresh => client.put(&job.speech, Instant::now()),
            }
        }
        let flushed = client.flush();
        self.clients[number] = Some(client);
        match flushed {
            Ok(()) => Ok(()),
            Err(lost) => self.lose(number, &lost, registry),
        }
    }

    /// What has happened on a connection.
    fn serve(
        &mut self,
        number: usize,
        closed: bool,
        scratch: &mut [u8],
        registry: &mio::Registry,
    ) -> Result<(), Trouble> {
        let Some(Some(client)) = self.clients.get_mut(number) else { return Ok(()) };
        let mut ended = std::mem::take(&mut self.ended);
        let mut outcome = client.receive(closed, scratch, &mut ended);
        let (resumed, finished) = (client.resumed(), ended.len());
        for ended in ended.drain(..) {
            self.record(ended, resumed);
        }
        self.ended = ended;
        if finished > 0 {
            self.go_on(number, finished, registry)?;
        }
        if let Some(Some(client)) = self.clients.get_mut(number) {
            // What was lost stays lost, whatever can still be sent.
            outcome = outcome.and_then(|()| client.flush());
        }
        match outcome {
            // Nothing was lost with a connection that nothing was waited for on, or that was replaced just now.
            Err(Lost::Closed) if self.parking || finished > 0 && self.job.pace == Pace::Fresh => Ok(()),
            Err(lost) => self.lose(number, &lost, registry),
            Ok(()) => Ok(()),
        }
    }

    /// What follows on answers: the next requests.
    fn go_on(&mut self, number: usize, answers: usize, registry: &mio::Registry) -> Result<(), Trouble> {
        let Some(Some(client)) = self.clients.get_mut(number) else { return Ok(()) };
        let sending = !self.parking && !matches!(self.phase, Phase::Ending { .. });
        match self.job.pace {
            Pace::Fresh => {
                if let Some(client) = self.clients[number].take() {
                    client.close();
                }
                return if sending { self.open(number, registry) } else { Ok(()) };
            }
            _ if client.spent() => {
                return if client.waiting() == 0 && sending { self.open(number, registry) } else { Ok(()) };
            }
            Pace::Closed if sending => {
                let now = Instant::now();
                for _ in 0..answers {
                    client.put(&self.job.speech, now);
                }
            }
            Pace::Closed => {}
            Pace::Rate(_) => {
                let life = self.lives[number];
                self.idle.extend(std::iter::repeat_n((number, life), answers));
            }
        }
        Ok(())
    }

    fn record(&mut self, ended: Ended, resumed: bool) {
        if ended.status != 200 {
            self.fail(format!("status {}", ended.status));
            return;
        }
        self.counted += 1;
        let rated = matches!(self.job.pace, Pace::Rate(_));
        let Phase::Counting { since, .. } = self.phase else {
            // At a rate what was due in the counted time counts for the latency, however late it comes.
            if let (Phase::Ending { since }, true) = (self.phase, rated)
                && ended.due + self.tally.time >= since
            {
                self.note(ended.due);
            }
            return;
        };
        self.tally.answered += 1;
        self.tally.resumed += u64::from(resumed);
        if !rated || ended.due >= since {
            self.note(ended.due);
        }
    }

    fn note(&mut self, due: Instant) {
        let micros = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.tally.latency.saturating_record(micros.max(1));
    }

    fn fail(&mut self, reason: String) {
        self.tally.failed += 1;
        self.tally.failure.get_or_insert(reason);
    }

    /// A connection is gone, with what was under way on it.
    fn lose(&mut self, number: usize, lost: &Lost, registry: &mio::Registry) -> Result<(), Trouble> {
        let Some(client) = self.clients[number].take() else { return Ok(()) };
        for _ in 0..client.waiting() {
            self.fail(lost.to_string());
        }
        if self.tally.failed > FAILURES {
            let failure = self.tally.failure.clone().unwrap_or_default();
            return Err(Trouble::Failed(format!(
                "{} requests failed, the first with: {failure}",
                self.tally.failed
            )));
        }
        if self.parking || matches!(self.phase, Phase::Ending { .. }) {
            return Ok(());
        }
        if client.waiting() == 0 {
            // Nothing was asked, so nothing has failed; but who cannot connect at all must not do so for ever.
            self.fail(lost.to_string());
        }
        self.open(number, registry)
    }

    /// Sends what is due.
    fn pump(&mut self, now: Instant, registry: &mio::Registry) -> Result<(), Trouble> {
        let Pace::Rate(rate) = self.job.pace else { return Ok(()) };
        let end = self.begin + self.job.warm_up + self.job.time;
        loop {
            let due = self.begin + Duration::from_secs_f64(self.next as f64 / rate);
            if due > now || due > end {
                return Ok(());
            }
            let Some((number, life)) = self.idle.pop_front() else { return Ok(()) };
            if self.lives[number] != life {
                continue;
            }
            let Some(client) = &mut self.clients[number] else { continue };
            if client.spent() {
                continue;
            }
            client.put(&self.job.speech, due);
            self.next += 1;
            if let Err(lost) = client.flush() {
                self.lose(number, &lost, registry)?;
            }
        }
    }

    /// Goes to the next phase when it is time; true when the job is done.
    fn advance(
        &mut self,
        now: Instant,
        meter: &mut dyn FnMut() -> Result<u64, Trouble>,
    ) -> Result<bool, Trouble> {
        match self.phase {
            Phase::WarmUp if now >= self.begin + self.job.warm_up => {
                self.phase = Phase::Counting { since: now, meter: meter()? };
            }
            Phase::Counting { since, meter: before } if now >= since + self.job.time => {
                self.tally.metered = meter()?.saturating_sub(before);
                self.tally.time = now - since;
                self.phase = Phase::Ending { since: now };
            }
            Phase::Ending { since } => {
                let quiet = self.clients.iter().flatten().all(|client| client.waiting() == 0);
                return Ok(quiet || now > since + GRACE);
            }
            _ => {}
        }
        Ok(false)
    }

    fn finish(mut self) -> Result<Tally, Trouble> {
        let unanswered: usize = self.clients.iter().flatten().map(Client::waiting).sum();
        for _ in 0..unanswered {
            self.fail(format!("no answer within {GRACE:?}"));
        }
        if let Pace::Rate(rate) = self.job.pace {
            let due = ((self.job.warm_up + self.job.time).as_secs_f64() * rate) as u64;
            for _ in self.next..due {
                self.fail("could not be sent, as too many were waiting".to_owned());
            }
        }
        Ok(self.tally)
    }
}
