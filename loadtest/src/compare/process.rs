//! A proxy that runs, on its core, until the value is dropped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Trouble;
use super::accounting::Tree;
use super::certificates::Certificates;
use super::machine::{self, Cores};
use super::peer::{Kind, Site};
use super::ports::Port;
use super::proof;

/// How long a proxy may take until it accepts connections.
const START: Duration = Duration::from_secs(15);
/// How long it may take to end when it is asked to.
const STOP: Duration = Duration::from_secs(3);
/// How much of an access log is looked at.
const LOG_BYTES: u64 = 64 << 10;
const PAUSE: Duration = Duration::from_millis(10);

/// What proxies are started with.
pub(super) struct Ground<'a> {
    /// Each gets a directory of its own in here.
    pub(super) directory: &'a Path,
    pub(super) certificates: &'a Certificates,
    pub(super) releases: [SocketAddr; 2],
    pub(super) cores: Cores,
    pub(super) files: u64,
    pub(super) stop: &'a AtomicBool,
    /// What a proxy is run under: its command, and its directory, to another command.
    pub(super) wrap: fn(Command, &Path) -> Command,
}

/// A proxy that accepts connections.
pub(super) struct Running {
    pub(super) kind: Kind,
    child: Child,
    tree: Tree,
    directory: PathBuf,
    http: Port,
    https: Port,
    metrics: Port,
    logged: bool,
}

impl Running {
    /// Starts a proxy on its core and waits until it accepts connections on both ports.
    ///
    /// # Errors
    /// With the end of what it said, when it ends or takes too long.
    pub(super) fn start(kind: Kind, binary: &Path, ground: &Ground<'_>) -> Result<Self, Trouble> {
        let [http, https, metrics] = [Port::reserve()?, Port::reserve()?, Port::reserve()?];
        let directory = ground.directory.join(format!("{kind:?}-{}", http.number).to_lowercase());
        fs::create_dir_all(&directory)?;
        let site = Site {
            directory: &directory,
            http: http.number,
            https: https.number,
            metrics: metrics.number,
            releases: ground.releases,
            certificates: ground.certificates,
            files: ground.files,
        };
        let mut command = (ground.wrap)(kind.command(binary, &site)?, &directory);
        let output = |name: &str| OpenOptions::new().create(true).append(true).open(directory.join(name));
        command.stdin(Stdio::null()).stdout(output("stdout")?).stderr(output("stderr")?);

        // A process inherits the core of the thread that starts it.
        machine::pin(ground.cores.proxy)?;
        let spawned = command.spawn();
        machine::pin(ground.cores.load)?;
        let child = spawned?;
        let tree = Tree::of(child.id())?;
        let mut running = Self { kind, child, tree, directory, http, https, metrics, logged: false };
        running.wait(ground.stop)?;
        Ok(running)
    }

    fn wait(&mut self, stop: &AtomicBool) -> Result<(), Trouble> {
        let begin = Instant::now();
        while !(accepts(self.http()) && accepts(self.https())) {
            if stop.load(Ordering::Relaxed) {
                return Err(Trouble::Stopped);
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(Trouble::Failed(format!("ended at its start with {status}: {}", self.said())));
            }
            if begin.elapsed() > START {
                return Err(Trouble::Failed(format!(
                    "accepts no connections after {START:?}: {}",
                    self.said()
                )));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// The last lines of what it told of its troubles.
    fn said(&self) -> String {
        let files = ["stderr", "error.log", "process.log", "stdout"];
        let text = files.into_iter().filter_map(|name| fs::read_to_string(self.directory.join(name)).ok());
        let text: String = text.collect();
        let lines: Vec<_> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" · ")
    }

    /// Where it takes HTTP in the clear.
    pub(super) fn http(&self) -> SocketAddr {
        local(&self.http)
    }

    /// Where it takes TLS.
    pub(super) fn https(&self) -> SocketAddr {
        local(&self.https)
    }

    /// Where it tells its metrics.
    pub(super) fn metrics(&self) -> SocketAddr {
        local(&self.metrics)
    }

    /// Its first process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its directory.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Looks for its processes anew. Once it has answered, all are there; ports are open before.
    pub(super) fn recount(&mut self) -> io::Result<()> {
        self.tree = Tree::of(self.child.id())?;
        Ok(())
    }

    /// Its processes.
    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Whether its access log has been seen to tell of requests; true without a log.
    pub(super) fn logs(&mut self) -> io::Result<bool> {
        if let Some(path) = self.kind.access_log(&self.directory)
            && !self.logged
        {
            let mut text = Vec::new();
            match File::open(path) {
                Ok(file) => file.take(LOG_BYTES).read_to_end(&mut text)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                Err(error) => return Err(error),
            };
            self.logged = String::from_utf8_lossy(&text).lines().any(proof::logs);
            return Ok(self.logged);
        }
        Ok(true)
    }

    /// Empties its access log, so that a long run fills no disk. Everybody appends.
    pub(super) fn empty_log(&self) -> io::Result<()> {
        match self.kind.access_log(&self.directory) {
            Some(path) if path.exists() => OpenOptions::new().write(true).open(path)?.set_len(0),
            _ => Ok(()),
        }
    }
}

fn local(port: &Port) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port.number))
}

fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
}

impl Drop for Running {
    /// Asks it to end, and ends every process it had if it does not.
    fn drop(&mut self) {
        // The child is ours until it is waited for, so its id means nobody else. Processes it started are looked up while
        // it lives; those that remain when it had to be killed are of the same tree.
        let last = Tree::of(self.child.id()).unwrap_or_else(|_| self.tree.clone());
        signal(self.child.id(), Signal::TERM);
        let begin = Instant::now();
        while begin.elapsed() < STOP {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(PAUSE);
        }
        for pid in last.processes() {
            signal(*pid, Signal::KILL);
        }
        // It was killed; there is nothing to learn from its status.
        let _ = self.child.wait();
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(pid, signal);
    }
}
