//! The built binary, running in a directory of its own.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use http::Method;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use super::certificates::certificates;
use super::config::Config;
use super::connection::{Handshake, Raw};
use super::metrics::Metrics;
use super::ports::Port;
use super::request::{Answer, Request, Target};
use super::websocket::WebSocket;

/// How long anything that is waited for may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A directory with certificates and a configuration, and the ports it names.
pub(crate) struct Place {
    directory: TempDir,
    https: Port,
    http: Port,
    admin: Port,
    environment: Vec<(String, String)>,
    open_files: Option<u64>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// The exit status; panics when a signal ended it.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {self:?}"))
    }

    /// Both outputs, for looking for words.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// The standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

impl Place {
    /// A fresh directory with this configuration in `gateway.yaml`.
    pub(crate) fn new(config: impl Into<Config>) -> Self {
        let config = config.into();
        let directory = TempDir::with_prefix("gateway-e2e-").unwrap();
        certificates().write(&directory.path().join("certs"));
        let (https, http, admin) = (Port::reserve(), Port::reserve(), Port::reserve());
        let place =
            Self { directory, https, http, admin, environment: config.environment.clone(), open_files: None };
        place.write_config(&config);
        place
    }

    /// What runs here may have so many files open, soft and hard.
    pub(crate) fn open_files(mut self, most: u64) -> Self {
        self.open_files = Some(most);
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The configuration's text in this place.
    pub(crate) fn render(&self, config: &Config) -> String {
        let directory = self.path().display().to_string();
        let mut reserved = vec![("{dir}".to_owned(), directory)];
        for (name, port) in [("https", &self.https), ("http", &self.http), ("admin", &self.admin)] {
            reserved.push((format!("{{{name}}}"), port.address()));
            reserved.push((format!("{{{name}-port}}"), port.number().to_string()));
        }
        config.render(&reserved)
    }

    /// Puts another configuration in place, as editors do: written aside, then renamed.
    pub(crate) fn write_config(&self, config: &Config) {
        let aside = self.file(".gateway.yaml.new");
        fs::write(&aside, self.render(config)).unwrap();
        fs::rename(aside, self.file("gateway.yaml")).unwrap();
    }

    pub(crate) fn https(&self) -> String {
        self.https.address()
    }

    pub(crate) fn http(&self) -> String {
        self.http.address()
    }

    pub(crate) fn admin(&self) -> String {
        self.admin.address()
    }

    /// The binary, about to run in this directory.
    fn binary(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null()).kill_on_drop(true);
        command.env("NO_COLOR", "1").envs(self.environment.iter().cloned());
        if let Some(most) = self.open_files {
            let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
            let bound = move || {
                // SAFETY: the pointer is to a value that outlives the call.
                match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            };
            // SAFETY: between fork and exec it makes one system call and allocates nothing.
            unsafe { command.pre_exec(bound) };
        }
        command
    }

    /// Starts the gateway. What it says goes to `stdout.log` and `stderr.log`.
    fn spawn(&self) -> Child {
        let output = |name| OpenOptions::new().create(true).append(true).open(self.file(name)).unwrap();
        let mut command = self.binary(&["run", "-c", "gateway.yaml"]);
        command.stdout(output("stdout.log")).stderr(output("stderr.log"));
        command.spawn().unwrap()
    }

    /// Runs a command of the binary to its end.
    pub(crate) async fn command(&self, arguments: &[&str]) -> Finished {
        let output = timeout(PATIENCE, self.binary(arguments).output()).await;
        let output =
            output.unwrap_or_else(|_| panic!("`gateway {}` does not end", arguments.join(" "))).unwrap();
        Finished {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A running gateway; ends with its value. A test that panics prints its configuration and log.
pub(crate) struct Gateway {
    place: Place,
    child: Child,
}

impl Gateway {
    /// Starts the gateway and waits until it is ready.
    pub(crate) async fn run(config: impl Into<Config>) -> Self {
        Self::run_in(Place::new(config)).await
    }

    /// Starts the gateway in a place that is prepared, and waits until it is ready.
    pub(crate) async fn run_in(place: Place) -> Self {
        let mut gateway = Self::run_unready(place);
        gateway.wait_until_ready().await;
        gateway
    }

    /// Starts the gateway and does not wait.
    pub(crate) fn run_unready(place: Place) -> Self {
        let child = place.spawn();
        Self { place, child }
    }

    /// Ends the gateway by a signal and starts it again in the same place. Its log goes on in the same files.
    pub(crate) async fn restart(&mut self, signal: libc::c_int) {
        self.restart_after(signal, |_| ()).await;
    }

    /// Ends the gateway by a signal, does something while there is none, and starts it again.
    pub(crate) async fn restart_after(&mut self, signal: libc::c_int, meanwhile: impl FnOnce(&Place)) {
        self.signal(signal);
        self.wait_exit().await;
        meanwhile(&self.place);
        self.child = self.place.spawn();
        self.wait_until_ready().await;
    }

    async fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the gateway ended with {status} before it was ready");
            }
            let ready = self.admin("GET", "/readyz").try_send().await;
            match ready {
                Ok(answer) if answer.status == 200 => return,
                other => assert!(Instant::now() < deadline, "the gateway is not ready: {other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// A GET for shop.example on the TLS listener, over HTTP/1.1.
    pub(crate) fn get(&self, path: &str) -> Request {
        self.request(Method::GET, path)
    }

    /// A POST for shop.example on the TLS listener, over HTTP/1.1.
    pub(crate) fn post(&self, path: &str, body: impl Into<bytes::Bytes>) -> Request {
        self.request(Method::POST, path).body(body)
    }

    /// A request for shop.example on the TLS listener, over HTTP/1.1.
    pub(crate) fn request(&self, method: Method, path: &str) -> Request {
        Request::new(self.target(), method, path)
    }

    /// A request to the admin listener.
    pub(crate) fn admin(&self, method: &str, path: &str) -> Request {
        Request::new(self.target(), method.parse().unwrap(), path).on_admin()
    }

    fn target(&self) -> Target {
        Target { https: self.place.https(), http: self.place.http(), admin: self.place.admin() }
    }

    /// A TLS handshake with the TLS listener, to be varied.
    pub(crate) fn tls(&self) -> Handshake {
        Handshake::new(self.place.https())
    }

    /// A connection of bytes inside TLS, for shop.example with ALPN http/1.1.
    pub(crate) async fn raw_tls(&self) -> Raw {
        Raw::new(self.tls().connect().await.unwrap())
    }

    /// A connection of bytes to the plain listener.
    pub(crate) async fn raw_tcp(&self) -> Raw {
        Raw::tcp(&self.place.http()).await
    }

    /// An open WebSocket for shop.example over TLS.
    pub(crate) async fn websocket(&self, path: &str) -> WebSocket {
        WebSocket::connect(self.tls(), path, &[]).await.unwrap()
    }

    /// What `/metrics` says now.
    pub(crate) async fn metrics(&self) -> Metrics {
        Metrics::parse(&self.admin("GET", "/metrics").await.text())
    }

    /// Puts another configuration in place, as editors do.
    pub(crate) fn write_config(&self, config: impl Into<Config>) {
        self.place.write_config(&config.into());
    }

    /// Puts another configuration in place and waits until `gateway reload` took it.
    pub(crate) async fn change_config(&self, config: impl Into<Config>) {
        self.write_config(config);
        let reload = self.reload().await;
        assert_eq!(reload.code(), 0, "the configuration was refused: {reload:?}");
    }

    /// What the admin API says of a service's rollout.
    pub(crate) async fn rollout(&self, service: &str) -> Value {
        let answer = self.admin("GET", &format!("/v1/rollouts/{service}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// `gateway reload`.
    pub(crate) async fn reload(&self) -> Finished {
        self.command(&["reload"]).await
    }

    /// Any command of the binary, in the gateway's directory.
    pub(crate) async fn command(&self, arguments: &[&str]) -> Finished {
        self.place.command(arguments).await
    }

    fn pid(&self) -> i32 {
        let id = self.child.id().expect("the gateway has not ended");
        i32::try_from(id).expect("process ids are small")
    }

    /// Sends a signal to the gateway.
    pub(crate) fn signal(&self, signal: libc::c_int) {
        // SAFETY: the process is our own child and has not been waited for, so the id is still its.
        let outcome = unsafe { libc::kill(self.pid(), signal) };
        assert_eq!(outcome, 0, "the gateway cannot be signalled");
    }

    /// Lets the gateway open no further file; those it has open stay.
    pub(crate) fn forbid_more_files(&self) {
        let open: BTreeSet<u64> = fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .unwrap()
            .filter_map(|file| file.unwrap().file_name().to_str()?.parse().ok())
            .collect();
        // A new one would get the lowest number that is free.
        let most = (0..).find(|number| !open.contains(number)).expect("there are more numbers than files");
        let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: the process is our own child; the call reads `limit`, which outlives it, and is asked for no old value.
        let outcome = unsafe { libc::prlimit(self.pid(), libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut()) };
        assert_eq!(outcome, 0, "the gateway's files cannot be limited");
    }

    /// Waits until the gateway has ended.
    pub(crate) async fn wait_exit(&mut self) -> ExitStatus {
        let ended = timeout(PATIENCE, self.child.wait()).await;
        ended.expect("the gateway does not end").unwrap()
    }

    /// The access log so far, one value a line.
    pub(crate) fn access_log(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.place.file("access.log")).unwrap_or_default();
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        complete
            .lines()
            .map(|line| serde_json::from_str(line).expect("a line of the access log is JSON"))
            .collect()
    }

    /// The first line of the access log about this path, once it is there.
    pub(crate) async fn logged(&self, path: &str) -> Value {
        let find = || self.access_log().into_iter().find(|line| line["path"] == path);
        self.eventually(&format!("{path} is in the access log"), async || find().is_some()).await;
        find().expect("it was there a moment ago")
    }

    /// Everything the gateway has said about itself.
    pub(crate) fn log(&self) -> String {
        let read = |name| fs::read_to_string(self.place.file(name)).unwrap_or_default();
        format!("{}{}", read("stdout.log"), read("stderr.log"))
    }

    /// The memory the gateway holds.
    pub(crate) fn rss_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// The descriptors the gateway holds.
    pub(crate) fn open_fds(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Waits until the condition holds.
    pub(crate) async fn eventually(&self, what: &str, condition: impl AsyncFnMut() -> bool) {
        eventually(what, condition).await;
    }

    /// Waits until a metric (the sum over the series with these labels) is at least this.
    pub(crate) async fn counted(&self, name: &str, labels: &[(&str, &str)], least: f64) {
        let what = format!("{name}{labels:?} reaches {least}");
        self.eventually(&what, async || self.metrics().await.sum(name, labels) >= least).await;
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let config = fs::read_to_string(self.place.file("gateway.yaml")).unwrap_or_default();
            let status = self.child.try_wait();
            eprintln!("--- gateway.yaml\n{config}\n--- log\n{}\n--- exit status: {status:?}", self.log());
        }
        // It may have ended by itself.
        let _ = self.child.start_kill();
    }
}

/// Waits until the condition holds, with a bound; the failure tells what was waited for.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A gateway that must not start: how it ended.
pub(crate) async fn refused_start(place: &Place) -> Finished {
    place.command(&["run", "-c", "gateway.yaml"]).await
}

/// The body of an answer of the gateway's own, checked to be one.
pub(crate) fn own_answer(answer: &Answer) -> Value {
    let value = answer.json();
    assert!(answer.header("date").is_some(), "an own answer carries Date: {answer:?}");
    value
}
