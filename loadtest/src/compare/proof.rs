//! Before a proxy is measured it shows that it does the job, so that nobody wins by doing less.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::Trouble;
use super::drive::{Drive, Job, Pace, RELEASES, Speech};
use super::peer::{HOST, Kind};
use super::process::Running;
use super::wire::Request;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests that show a split.
const SPLIT: u64 = 300;
/// What `ask` reads at most: a page of metrics may be long.
const LONGEST: u64 = 4 << 20;

/// The request for a short answer, on the path with two releases.
pub(super) fn short() -> Request {
    request("/api/items?page=2")
}

/// The request for a long answer.
pub(super) fn long() -> Request {
    request(&format!("{}tea.webp", super::drive::LONG))
}

fn request(path: &str) -> Request {
    Request {
        host: HOST.to_owned(),
        path: path.to_owned(),
        fields: vec![
            (
                "user-agent",
                "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0".to_owned(),
            ),
            ("accept", "application/json, text/plain, */*".to_owned()),
            ("accept-encoding", "gzip, deflate, br".to_owned()),
        ],
    }
}

/// What of the job a proxy does not do. It has answered a few hundred requests when this returns.
///
/// # Errors
/// When it does not even proxy.
pub(super) fn shortcomings(running: &Running, drive: &mut Drive) -> Result<Vec<&'static str>, Trouble> {
    let mut lacking = Vec::new();
    drive.heard();
    let answer = ask(drive, running.http(), HOST, "/api/items?page=2")?.to_ascii_lowercase();
    let heard = drive.heard().to_ascii_lowercase();
    drive.stop_hearing();
    if !answer.starts_with("http/1.1 200") {
        let line = answer.lines().next().unwrap_or_default();
        return Err(Trouble::Failed(format!("answers a plain request with `{line}`")));
    }
    if running.kind == Kind::Pingora {
        return Ok(lacking);
    }
    let mut claim = |holds: bool, what: &'static str| {
        if !holds {
            lacking.push(what);
        }
    };
    let id = value(&answer, "x-request-id");
    claim(id.is_some(), "returns no request id");
    claim(id.is_some() && value(&heard, "x-request-id") == id, "forwards no request id");
    // Envoy names its own address in the place of a loopback one.
    claim(value(&heard, "x-forwarded-for").is_some(), "forwards no client address");
    let strange = ask(drive, running.http(), "elsewhere.example", "/")?;
    claim(strange.starts_with("HTTP/1.1 404"), "serves hosts it has no route for");
    let media = ask(drive, running.http(), &format!("www.{HOST}"), "/media/x")?.to_ascii_lowercase();
    claim(value(&media, "x-release") == Some(RELEASES[0]), "does not route by path");
    let [stable, canary] = split(drive, running)?;
    // 10 %, with room for luck: more than four standard deviations of 300.
    let share = canary as f64 / (stable + canary).max(1) as f64;
    claim((0.02..0.25).contains(&share), "does not split 90/10");
    if let Some(path) = running.kind.metrics() {
        let page = ask(drive, running.metrics(), &running.metrics().to_string(), path)?;
        claim(
            page.starts_with("HTTP/1.1 200") && page.contains(|c: char| c.is_ascii_digit()),
            "tells no metrics",
        );
    }
    Ok(lacking)
}

/// Whether a line of an access log is JSON that tells of a request.
pub(super) fn logs(line: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(line)
        .is_ok_and(|entry| entry.to_string().contains("/api/items"))
}

/// How a few hundred requests are split between the releases.
fn split(drive: &mut Drive, running: &Running) -> Result<[u64; 2], Trouble> {
    let before = drive.hits();
    let job = Job {
        to: running.http(),
        tls: &[],
        speech: Speech::http1(&short()),
        connections: 4,
        streams: 1,
        pace: Pace::Closed,
        warm_up: Duration::ZERO,
        time: Duration::from_millis(50),
    };
    let begin = Instant::now();
    loop {
        let tally = drive.run(&job, &mut || Ok(0))?;
        if let Some(failure) = tally.failure {
            return Err(Trouble::Failed(format!("plain requests fail: {failure}")));
        }
        let after = drive.hits();
        let asked = [after[0] - before[0], after[1] - before[1]];
        if asked[0] + asked[1] >= SPLIT || begin.elapsed() > PATIENCE {
            return Ok(asked);
        }
    }
}

/// One answer, header and body, while the origin is served.
fn ask(drive: &mut Drive, to: SocketAddr, host: &str, path: &str) -> Result<String, Trouble> {
    let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    thread::scope(|scope| {
        let asking = scope.spawn(move || exchange(to, head.as_bytes()));
        drive.serve_while(|| !asking.is_finished())?;
        let answer = asking.join().map_err(|_| Trouble::Failed("a question panicked".to_owned()))?;
        Ok(answer?)
    })
}

fn exchange(to: SocketAddr, request: &[u8]) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The value of a field, in a message in lower case.
fn value<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    let (head, _) = message.split_once("\r\n\r\n")?;
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}
