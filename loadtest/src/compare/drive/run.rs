//! One job under way: its connections, who may send next, and what was counted.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::super::Trouble;
use super::client::{Client, Ended, Lost};
use super::{Job, Pace, Tally, client_token};

/// Requests that may fail before a job is given up.
const FAILURES: u64 = 1000;
/// How long answers are waited for when a job's time is over.
const GRACE: Duration = Duration::from_secs(1);

/// A job under way.
pub(super) struct Run<'a> {
    job: &'a Job<'a>,
    pub(super) clients: Vec<Option<Client>>,
    /// How often each client was replaced, so that what is said of an old one is not taken for the new.
    lives: Vec<u32>,
    /// At a rate: who may send next.
    idle: VecDeque<(usize, u32)>,
    ended: Vec<Ended>,
    begin: Instant,
    /// The number of the next request, at a rate.
    next: u64,
    phase: Phase,
    pub(super) parking: bool,
    /// Good answers, in all phases.
    pub(super) counted: u64,
    pub(super) tally: Tally,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    WarmUp,
    Counting { since: Instant, meter: u64 },
    Ending { since: Instant },
}

impl<'a> Run<'a> {
    pub(super) fn new(job: &'a Job<'a>) -> Self {
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
    pub(super) fn open(&mut self, number: usize, registry: &mio::Registry) -> Result<(), Trouble> {
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
    pub(super) fn serve(
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
    pub(super) fn pump(&mut self, now: Instant, registry: &mio::Registry) -> Result<(), Trouble> {
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
    pub(super) fn advance(
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

    pub(super) fn finish(mut self) -> Result<Tally, Trouble> {
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
