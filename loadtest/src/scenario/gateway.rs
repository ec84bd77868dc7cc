//! A gateway as a process of its own: found, started in a directory that goes with it, and told to stop.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::sleep;

use super::admin::{Admin, Events};
use crate::Problem;

/// How long it may take until it serves, and until it has ended.
const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(5);

/// How often its state is asked for.
const LOOK: Duration = Duration::from_millis(10);

/// How often another port is tried when somebody took the one that was free.
const TRIES: usize = 5;

/// How many lines of its log are told when something went wrong.
const TAIL: usize = 10;

/// A running gateway; ends with its value.
pub(super) struct Gateway {
    admin: Admin,
    port: u16,
    child: Child,
    // After the child, which lives in it.
    directory: TempDir,
}

/// The gateway's binary: the one that was named, else beside this one, in `target`, or on the path.
///
/// # Errors
/// When there is none; says what to do.
pub(crate) fn find(named: Option<PathBuf>) -> Result<PathBuf, Problem> {
    let remedy =
        "build it with `cargo build -p gateway --bin gateway`, or say where it is with --gateway PATH";
    if let Some(named) = named {
        let missing = || format!("there is no gateway at {}: {remedy}", named.display());
        // It runs in a directory of its own, where a relative path would mean something else.
        return Ok(fs::canonicalize(&named).map_err(|_| missing())?);
    }
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.to_owned()));
    let mut places: Vec<PathBuf> = beside.into_iter().collect();
    places.extend(["target/release", "target/debug"].map(PathBuf::from));
    places.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let found = places.into_iter().map(|place| place.join("gateway")).find(|path| path.is_file());
    Ok(fs::canonicalize(found.ok_or_else(|| format!("no gateway was found: {remedy}"))?)?)
}

impl Gateway {
    /// Starts one with this body of a configuration, and waits until it serves.
    ///
    /// # Errors
    /// With the end of its log when it does not serve.
    pub(super) async fn start(binary: &Path, body: &str) -> Result<Self, Problem> {
        let mut tried = 1;
        loop {
            let mut gateway = Self::spawn(binary, body)?;
            match gateway.serves().await {
                Err(_) if tried < TRIES && gateway.log_says("in use") => tried += 1,
                Err(problem) => return Err(gateway.broken(&problem.to_string())),
                Ok(()) => return Ok(gateway),
            }
        }
    }

    fn spawn(binary: &Path, body: &str) -> Result<Self, Problem> {
        let directory = TempDir::with_prefix("loadtest-scenario-")?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        write(directory.path(), port, body)?;
        let log = File::create(directory.path().join("gateway.log"))?;
        let mut command = Command::new(binary);
        command.args(["run", "-c", "gateway.yaml"]).current_dir(directory.path());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).env("NO_COLOR", "1");
        // A Ctrl-C in the terminal is for this process, which then stops the gateway.
        let child = command.process_group(0).spawn();
        let child = child.map_err(|error| format!("{}: {error}", binary.display()))?;
        Ok(Self { admin: Admin::at(directory.path().join("admin.sock")), port, child, directory })
    }

    async fn serves(&mut self) -> Result<(), Problem> {
        let begun = Instant::now();
        while begun.elapsed() < START {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the gateway ended with {status} before it served").into());
            }
            if self.admin.get("/readyz").await.is_ok_and(|(status, _)| status == StatusCode::OK) {
                return Ok(());
            }
            sleep(LOOK).await;
        }
        Err(format!("the gateway is not ready after {} s", START.as_secs()).into())
    }

    /// Where it serves.
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Puts another configuration in place and waits until it is in force.
    ///
    /// # Errors
    /// When it is refused, with the reason.
    pub(super) async fn reload(&self, body: &str) -> Result<(), Problem> {
        write(self.directory.path(), self.port, body)?;
        let answer = self.admin.post("/v1/reload").await;
        let (status, answer) = answer.map_err(|problem| self.broken(&problem.to_string()))?;
        if status == StatusCode::OK {
            return Ok(());
        }
        Err(self.broken(&format!("a reload was answered with {status}: {answer}")))
    }

    /// What a view of the admin API says.
    ///
    /// # Errors
    /// When it does not say.
    pub(super) async fn view(&self, path: &str) -> Result<Value, Problem> {
        self.admin.view(path).await.map_err(|problem| self.broken(&problem.to_string()))
    }

    /// A counter of its metrics, summed over the labels; 0 when there is none.
    ///
    /// # Errors
    /// When it does not say.
    pub(super) async fn counter(&self, name: &str) -> Result<u64, Problem> {
        self.admin.counter(name).await.map_err(|problem| self.broken(&problem.to_string()))
    }

    /// Everything that has happened and will happen to rollouts.
    pub(super) fn follow(&self) -> Events {
        self.admin.follow()
    }

    /// A problem, with the end of the gateway's log.
    pub(super) fn broken(&self, reason: &str) -> Problem {
        format!("{reason}; the end of the gateway's log:\n{}", self.log_tail()).into()
    }

    /// The last lines of what it has said about itself.
    pub(super) fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }

    fn log_says(&self, words: &str) -> bool {
        self.log().contains(words)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("gateway.log")).unwrap_or_default()
    }
}

/// Written aside and renamed, as editors do. The admin API is on a unix socket, so that nobody else can answer in its place.
fn write(directory: &Path, port: u16, body: &str) -> io::Result<()> {
    let text = format!(
        "version: 1\n\
         admin: {{ listen: \"unix:admin.sock\" }}\n\
         state: {{ path: state }}\n\
         runtime: {{ drain: 1s }}\n\
         access_log: {{ path: off }}\n\
         listeners:\n\
         \x20 http: {{ address: \"127.0.0.1:{port}\" }}\n\
         {body}"
    );
    let aside = directory.join("gateway.yaml.new");
    fs::write(&aside, text)?;
    fs::rename(aside, directory.join("gateway.yaml"))
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // It may end by itself at this moment; it has not been waited for, so the id is still nobody else's.
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        }
        let asked = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && asked.elapsed() < STOP {
            std::thread::sleep(LOOK);
        }
        // It has ended in all likelihood, and then this does nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
