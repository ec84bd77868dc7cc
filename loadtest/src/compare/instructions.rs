//! The instructions of a plain request over HTTP/1.1, all threads of the proxy together, under Callgrind.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use super::Trouble;
use super::certificates::Certificates;
use super::drive::Drive;
use super::machine::{self, Cores};
use super::peer::{HOST, Kind};
use super::process::{Ground, Running};
use super::proof;
use super::wire::http1;
use crate::instructions::callgrind;

/// Requests that are counted.
const COUNTED: u64 = 1000;
/// Requests before, which make what is made once.
const WARM_UP: u64 = 200;
/// How long it takes until what a request leaves to do, such as its line of the log, is done.
const SETTLE: Duration = Duration::from_millis(300);
/// How long one answer may take under Callgrind.
const PATIENCE: Duration = Duration::from_secs(20);
const OUT: &str = "callgrind.out";

/// The instructions of one request of the gateway, with the configuration of the comparison.
///
/// # Errors
/// When it does not run under Callgrind, or does not answer.
pub fn instructions_of_gateway(binary: &Path) -> Result<u64, Trouble> {
    per_request(Kind::Gateway, binary)
}

/// The instructions of one request of the bare Pingora proxy.
///
/// # Errors
/// As for the gateway.
pub fn instructions_of_bare(binary: &Path) -> Result<u64, Trouble> {
    per_request(Kind::Pingora, binary)
}

fn per_request(kind: Kind, binary: &Path) -> Result<u64, Trouble> {
    let stop = Arc::new(AtomicBool::new(false));
    let directory = tempfile::tempdir()?;
    let certificates = Certificates::create(directory.path(), HOST)?;
    let mut drive = Drive::new(Arc::clone(&stop))?;
    drive.stop_hearing();
    let ground = Ground {
        directory: directory.path(),
        certificates: &certificates,
        releases: drive.releases()?,
        cores: Cores::choose()?,
        files: machine::raise_files()?,
        stop: &stop,
        wrap: under_callgrind,
    };
    let running = Running::start(kind, binary, &ground)?;
    let mut client = Client::connect(&running)?;
    client.ask(WARM_UP, &mut drive)?;
    callgrind::control(running.pid(), &["-i", "on"])?;
    client.ask(COUNTED, &mut drive)?;
    callgrind::control(running.pid(), &["-i", "off"])?;
    callgrind::control(running.pid(), &["-d"])?;
    Ok(callgrind::total(&running.directory().join([OUT, ".1"].concat()))? / COUNTED)
}

fn under_callgrind(command: Command, directory: &Path) -> Command {
    callgrind::under(&command, &["--instr-atstart=no"], &directory.join(OUT))
}

/// One connection, on which one request follows the other.
struct Client {
    stream: TcpStream,
    request: Vec<u8>,
}

impl Client {
    fn connect(running: &Running) -> io::Result<Self> {
        let stream = TcpStream::connect(running.http())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, request: http1::request(&proof::short()) })
    }

    /// Asks so many times while the origin is served, and until what follows is over.
    fn ask(&mut self, times: u64, drive: &mut Drive) -> Result<(), Trouble> {
        thread::scope(|scope| {
            let asking = scope.spawn(|| {
                (0..times).try_for_each(|_| self.exchange())?;
                thread::sleep(SETTLE);
                Ok(())
            });
            drive.serve_while(|| !asking.is_finished())?;
            asking.join().map_err(|_| Trouble::Failed("a client panicked".to_owned()))?
        })
    }

    fn exchange(&mut self) -> Result<(), Trouble> {
        self.stream.write_all(&self.request)?;
        let (mut answer, mut chunk) = (Vec::new(), [0; 4096]);
        loop {
            let bytes = self.stream.read(&mut chunk)?;
            answer.extend_from_slice(&chunk[..bytes]);
            let found = http1::answer(&answer).map_err(|error| Trouble::Failed(error.to_string()))?;
            match found {
                Some(found) if found.status == 200 && found.keep_alive => return Ok(()),
                Some(found) => return Err(Trouble::Failed(format!("status {}", found.status))),
                None if bytes == 0 => {
                    return Err(Trouble::Failed("the proxy closed the connection".to_owned()));
                }
                None => {}
            }
        }
    }
}
