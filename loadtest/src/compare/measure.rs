//! The course of a comparison: who is there, what is measured, in which order.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Trouble;
use super::accounting;
use super::arguments::Arguments;
use super::certificates::Certificates;
use super::drive::{Drive, Job, Pace, Speech, Tls};
use super::machine::{self, Cores, Machine};
use super::peer::{HOST, Kind};
use super::process::{Ground, Running};
use super::proof;
use super::report::{self, Full, Half, Handshakes, Idle, Missing, Peer, Report, Traffic, TrafficRow};

/// Connections of HTTP/1.1, and connections and streams of HTTP/2.
const HTTP1: (usize, usize) = (64, 1);
const HTTP2: (usize, usize) = (8, 16);
/// New connections at a time.
const FRESH: usize = 16;
/// A proxy that would need more than this share of what it can do for the common rate gets one of its own.
const TOO_MUCH: f64 = 0.8;
/// How long memory may settle.
const SETTLE: Duration = Duration::from_secs(1);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
pub(super) enum Mode {
    /// HTTP/1.1 in the clear.
    #[serde(rename = "h1")]
    #[value(name = "h1")]
    Http1,
    /// HTTP/1.1 over TLS.
    #[serde(rename = "h1-tls")]
    #[value(name = "h1-tls")]
    Http1Tls,
    /// HTTP/2 over TLS.
    #[serde(rename = "h2-tls")]
    #[value(name = "h2-tls")]
    Http2Tls,
    /// 16 KiB bodies, HTTP/1.1 over TLS.
    #[serde(rename = "16k")]
    #[value(name = "16k")]
    Body,
    /// New TLS connections, full and resumed.
    #[serde(rename = "new")]
    New,
    /// Memory with idle TLS connections.
    #[serde(rename = "idle")]
    Idle,
}

impl Mode {
    pub(super) const ALL: [Self; 6] =
        [Self::Http1, Self::Http1Tls, Self::Http2Tls, Self::Body, Self::New, Self::Idle];

    /// As a heading.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http1Tls => "HTTP/1.1 over TLS",
            Self::Http2Tls => "HTTP/2 over TLS",
            Self::Body => "HTTP/1.1 over TLS, 16 KiB bodies",
            Self::New => "New TLS connections",
            Self::Idle => "Idle TLS connections",
        }
    }
}

/// A comparison under way.
struct Course<'a> {
    arguments: &'a Arguments,
    ground: Ground<'a>,
    drive: Drive,
    binaries: Vec<(Kind, PathBuf)>,
    running: Vec<Running>,
    report: Report,
}

/// Measures everything that was asked for.
///
/// # Errors
/// When there is no ground to measure on, or nobody to measure.
pub(super) fn compare(arguments: &Arguments, stop: &Arc<AtomicBool>) -> Result<Report, Trouble> {
    let cores = Cores::choose()?;
    let files = machine::raise_files()?;
    machine::pin(cores.load)?;
    let directory = tempfile::tempdir()?;
    let certificates = Certificates::create(directory.path(), HOST)?;
    let drive = Drive::new(Arc::clone(stop))?;
    let ground = Ground {
        directory: directory.path(),
        certificates: &certificates,
        releases: drive.releases()?,
        cores,
        files,
        stop,
        wrap: |command, _| command,
    };
    let report = Report {
        machine: Machine::here(),
        cores,
        command: command(),
        rounds: arguments.rounds(),
        seconds: arguments.times().0.as_secs_f64(),
        peers: Vec::new(),
        missing: Vec::new(),
        traffic: Vec::new(),
        handshakes: Vec::new(),
        idle: Vec::new(),
    };
    let mut course = Course { arguments, ground, drive, binaries: Vec::new(), running: Vec::new(), report };
    course.gather()?;
    for mode in arguments.modes() {
        match mode {
            Mode::New => course.handshakes()?,
            Mode::Idle => course.idle()?,
            _ => course.traffic(mode)?,
        }
    }
    course.check_logs()?;
    Ok(course.report)
}

/// The command line, without where this binary is.
fn command() -> String {
    let arguments = std::env::args().skip(1);
    std::iter::once("loadtest".to_owned()).chain(arguments).collect::<Vec<_>>().join(" ")
}

impl Course<'_> {
    /// Starts everybody who is there and lets them show that they do the job.
    fn gather(&mut self) -> Result<(), Trouble> {
        for kind in self.arguments.peers() {
            let Some(binary) = kind.binary(self.arguments) else {
                self.report.missing.push(Missing { kind, reason: "not installed".to_owned() });
                continue;
            };
            eprintln!("starting {}", kind.name());
            let started = Running::start(kind, &binary, &self.ground).and_then(|mut running| {
                let lacking = proof::shortcomings(&running, &mut self.drive)?;
                running.recount()?;
                Ok((lacking, running))
            });
            match started {
                Ok((lacking, running)) => {
                    let remarks = kind.lacks().into_iter().chain(lacking).map(str::to_owned).collect();
                    self.report.peers.push(Peer { kind, version: kind.version(&binary), remarks });
                    self.running.push(running);
                    self.binaries.push((kind, binary));
                }
                Err(Trouble::Stopped) => return Err(Trouble::Stopped),
                Err(trouble) => self.report.missing.push(Missing { kind, reason: trouble.to_string() }),
            }
        }
        if self.running.is_empty() {
            let names: Vec<_> = self
                .report
                .missing
                .iter()
                .map(|missing| format!("{}: {}", missing.kind.name(), missing.reason))
                .collect();
            return Err(Trouble::Failed(format!("nobody can be measured: {}", names.join("; "))));
        }
        Ok(())
    }

    /// Requests over connections that stay.
    fn traffic(&mut self, mode: Mode) -> Result<(), Trouble> {
        let kinds: Vec<_> = self.running.iter().map(|running| running.kind).collect();
        let row = |kind| TrafficRow { kind, full: Vec::new(), half: Vec::new(), own_rate: None };
        let mut traffic = Traffic { mode, rate: 0.0, rows: kinds.into_iter().map(row).collect() };
        for round in 1..=self.report.rounds {
            eprintln!("{}: as much as goes, round {round}", mode.title());
            for at in 0..traffic.rows.len() {
                let Some(tally) = self.loaded(at, mode, Pace::Closed)? else { continue };
                traffic.rows[at].full.push(tally.0);
            }
        }
        traffic.rate = common_rate(&traffic.rows);
        for row in &mut traffic.rows {
            row.own_rate = report::full(&row.full)
                .map(|full| full.per_second)
                .filter(|most| traffic.rate > most * TOO_MUCH)
                .map(|most| rounded(most / 2.0));
        }
        for round in 1..=self.report.rounds {
            eprintln!("{}: {:.0} requests a second, round {round}", mode.title(), traffic.rate);
            for at in 0..traffic.rows.len() {
                let rate = traffic.rows[at].own_rate.unwrap_or(traffic.rate);
                if rate > 0.0
                    && let Some(tally) = self.loaded(at, mode, Pace::Rate(rate))?
                {
                    traffic.rows[at].half.push(tally.1);
                }
            }
        }
        self.report.traffic.push(traffic);
        Ok(())
    }

    /// One measurement of one proxy; `None` when it failed, which is remarked.
    fn loaded(&mut self, at: usize, mode: Mode, pace: Pace) -> Result<Option<(Full, Half)>, Trouble> {
        let certificates = self.ground.certificates;
        let running = &self.running[at];
        let (to, alpn) = match mode {
            Mode::Http1 => (running.http(), None),
            Mode::Http2Tls => (running.https(), Some(b"h2".as_slice())),
            _ => (running.https(), Some(b"http/1.1".as_slice())),
        };
        let tls: Vec<_> =
            alpn.map(|alpn| certificates.client(alpn, false)).transpose()?.into_iter().collect();
        let request = if mode == Mode::Body { proof::long() } else { proof::short() };
        let ((connections, streams), speech) = match mode {
            Mode::Http2Tls => (HTTP2, Speech::http2(&request)),
            _ => (HTTP1, Speech::http1(&request)),
        };
        let (time, warm_up) = self.arguments.times();
        let job = Job { to, tls: &tls, speech, connections, streams, pace, warm_up, time };
        Ok(self.measured(at, &job)?.map(|(full, half, _)| (full, half)))
    }

    /// New connections, one after the other on each of a few places.
    fn handshakes(&mut self) -> Result<(), Trouble> {
        let mut rows: Vec<_> = self
            .running
            .iter()
            .map(|running| Handshakes {
                kind: running.kind,
                full: Vec::new(),
                resumed: Vec::new(),
                resumed_share: 1.0,
            })
            .collect();
        let alpn = b"http/1.1";
        let fresh = vec![self.ground.certificates.client(alpn, false)?];
        for round in 1..=self.report.rounds {
            eprintln!("{}: round {round}", Mode::New.title());
            for (at, row) in rows.iter_mut().enumerate() {
                let to = self.running[at].https();
                if let Some((full, _, _)) = self.measured(at, &self.handshaking(to, &fresh))? {
                    row.full.push(full);
                }
                // Each place has tickets of its own, as each client has.
                let keeping: Result<Vec<_>, _> =
                    (0..FRESH).map(|_| self.ground.certificates.client(alpn, true)).collect();
                if let Some((full, _, resumed)) = self.measured(at, &self.handshaking(to, &keeping?))? {
                    row.resumed.push(full);
                    row.resumed_share = row.resumed_share.min(resumed);
                }
            }
        }
        self.report.handshakes = rows;
        Ok(())
    }

    fn handshaking<'t>(&self, to: std::net::SocketAddr, tls: &'t [Tls]) -> Job<'t> {
        let (time, warm_up) = self.arguments.times();
        let speech = Speech::http1(&proof::short());
        Job { to, tls, speech, connections: FRESH, streams: 1, pace: Pace::Fresh, warm_up, time }
    }

    /// A job, measured: figures, and the share of resumed sessions. `None` when it failed, which is remarked.
    fn measured(&mut self, at: usize, job: &Job<'_>) -> Result<Option<(Full, Half, f64)>, Trouble> {
        let running = &mut self.running[at];
        let mut own = [0; 2];
        let mut meter = || {
            own = [own[1], accounting::own_nanoseconds()];
            Ok(running.tree().cpu_nanoseconds()?)
        };
        let outcome = self.drive.run(job, &mut meter);
        // Looked at before it is gone; what is missing is said at the end.
        running.logs()?;
        running.empty_log()?;
        let tally = match outcome {
            Ok(tally) if tally.answered > 0 => tally,
            Ok(tally) => {
                return self.remark(at, tally.failure.unwrap_or_else(|| "no answer at all".to_owned()));
            }
            Err(Trouble::Failed(reason)) => return self.remark(at, reason),
            Err(trouble) => return Err(trouble),
        };
        if let Some(failure) = &tally.failure {
            self.remark::<()>(at, format!("{} requests failed: {failure}", tally.failed))?;
        }
        let (answered, seconds) = (tally.answered as f64, tally.time.as_secs_f64());
        let full = Full {
            per_second: answered / seconds,
            cpu_micros: tally.metered as f64 / 1e3 / answered,
            busy: tally.metered as f64 / 1e9 / seconds,
            load_busy: own[1].saturating_sub(own[0]) as f64 / 1e9 / seconds,
            failed: tally.failed,
        };
        let half = Half {
            p50_micros: tally.latency.value_at_quantile(0.5),
            p99_micros: tally.latency.value_at_quantile(0.99),
            failed: tally.failed,
        };
        Ok(Some((full, half, tally.resumed as f64 / answered)))
    }

    /// Remarks who did not write a log. It may come a second late.
    fn check_logs(&mut self) -> Result<(), Trouble> {
        let begin = Instant::now();
        let mut silent = Vec::new();
        while begin.elapsed() < 2 * SETTLE {
            silent.clear();
            for (at, running) in self.running.iter_mut().enumerate() {
                if !running.logs()? {
                    silent.push(at);
                }
            }
            if silent.is_empty() {
                break;
            }
            std::thread::sleep(SETTLE / 10);
        }
        for at in silent {
            self.remark::<()>(at, "writes no JSON access log".to_owned())?;
        }
        Ok(())
    }

    fn remark<T>(&mut self, at: usize, remark: String) -> Result<Option<T>, Trouble> {
        let kind = self.running[at].kind;
        if let Some(peer) = self.report.peers.iter_mut().find(|peer| peer.kind == kind)
            && !peer.remarks.contains(&remark)
        {
            peer.remarks.push(remark);
        }
        Ok(None)
    }

    /// Memory with idle connections, of fresh processes.
    fn idle(&mut self) -> Result<(), Trouble> {
        // Clients are files of this process, and some of the proxy's that come on top are not.
        let most = usize::try_from(self.ground.files).unwrap_or(usize::MAX).saturating_sub(1000);
        let connections = self.arguments.idle().min(most);
        for (kind, binary) in self.binaries.clone() {
            eprintln!("{}: {}", Mode::Idle.title(), kind.name());
            match self.idle_of(kind, &binary, connections) {
                Ok(idle) => self.report.idle.push(idle),
                Err(Trouble::Stopped) => return Err(Trouble::Stopped),
                Err(trouble) => {
                    if let Some(at) = self.running.iter().position(|running| running.kind == kind) {
                        self.remark::<()>(at, trouble.to_string())?;
                    }
                }
            }
        }
        Ok(())
    }

    fn idle_of(&mut self, kind: Kind, binary: &std::path::Path, connections: usize) -> Result<Idle, Trouble> {
        let mut running = Running::start(kind, binary, &self.ground)?;
        let to = running.https();
        let tls = [self.ground.certificates.client(b"http/1.1", false)?];
        let job = |connections, pace| Job {
            to,
            tls: &tls,
            speech: Speech::http1(&proof::short()),
            connections,
            streams: 1,
            pace,
            warm_up: Duration::ZERO,
            time: SETTLE / 2,
        };
        self.drive.run(&job(4, Pace::Rate(200.0)), &mut || Ok(0))?;
        running.recount()?;
        let before = running.tree().memory()?;
        let parked = self.drive.park(&job(connections, Pace::Closed))?;
        let begin = Instant::now();
        self.drive.serve_while(|| begin.elapsed() < SETTLE)?;
        let after = running.tree().memory()?;
        Ok(Idle {
            kind,
            connections: parked.len(),
            before_bytes: before.proportional,
            after_bytes: after.proportional,
            resident_bytes: after.resident,
        })
    }
}

/// Half of what nginx can do, else half of what the slowest can.
fn common_rate(rows: &[TrafficRow]) -> f64 {
    let most = |row: &TrafficRow| report::full(&row.full).map(|full| full.per_second);
    let nginx = rows.iter().find(|row| row.kind == Kind::Nginx).and_then(most);
    let slowest = || rows.iter().filter_map(most).min_by(f64::total_cmp);
    rounded(nginx.or_else(slowest).unwrap_or(0.0) / 2.0)
}

/// To whole hundreds, if there are any.
fn rounded(rate: f64) -> f64 {
    if rate > 200.0 { (rate / 100.0).round() * 100.0 } else { rate }
}
