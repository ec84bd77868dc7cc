//! From the configuration as written to the configuration as meant: names resolve, defaults are filled in, and what
//! contradicts itself is reported. One file for each area.
//!
//! Nothing stops at the first problem. A part that cannot be built is left out, and the caller refuses the whole when a
//! problem was an error.

mod health;
mod listeners;
mod mirror;
mod origins;
mod policies;
mod reach;
mod rollouts;
mod routes;
mod services;

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use miette::SourceSpan;

use super::decode::{Leaf, OneOrMany};
use super::leaf::{Cidr, NameServer, Period};
use super::model::{AccessLog, Admin, At, Fleet, Gateway, Runtime, Secret, Socket};
use super::problem::{Code, Problem};
use super::raw;
use super::raw::value::{AccessLogFormat, AccessLogPath, MaxConnections, Threads};
use crate::name::InvalidName;

/// The only version of the grammar.
const VERSION: u32 = 1;

/// What the file means, as far as it could be understood.
pub(crate) fn gateway(file: &raw::File, dir: &Path, problems: &mut Vec<Problem>) -> Gateway {
    let mut meaning = Meaning { dir, problems };
    meaning.version(file.version.as_ref());
    let trusted_proxies = meaning.trusted_proxies(file);
    let admin = meaning.admin(file.admin.as_ref());
    let listeners = meaning.listeners(file.listeners.as_ref(), &admin, &trusted_proxies);
    let services = meaning.services(file.services.as_ref());
    let fleet = file.fleet.as_ref().map(|fleet| meaning.fleet(fleet));
    let rate_limits = meaning.rate_limits(file.rate_limits.as_ref(), fleet.is_some());
    let routes = meaning.routes(file);
    meaning.warn_of_unused(file);
    Gateway {
        admin,
        state_path: meaning.state_path(file),
        fleet,
        runtime: meaning.runtime(file.runtime.as_ref()),
        metrics_namespace: meaning.namespace(file),
        access_log: meaning.access_log(file),
        request_id: request_id(file),
        trusted_proxies,
        via: file.via.unwrap_or(true),
        listeners,
        services,
        rate_limits,
        routes,
    }
}

/// What every area needs: where paths begin, and where problems go.
struct Meaning<'a> {
    dir: &'a Path,
    problems: &'a mut Vec<Problem>,
}

impl Meaning<'_> {
    fn error(&mut self, code: Code, message: impl Into<String>, span: SourceSpan, help: impl Into<String>) {
        self.problems.push(Problem::error(code, message).at(span, "here").help(help));
    }

    fn warning(&mut self, code: Code, message: impl Into<String>, span: SourceSpan, help: impl Into<String>) {
        self.problems.push(Problem::warning(code, message).at(span, "here").help(help));
    }

    /// A name of one of the kinds in [`crate::name`].
    fn name<T>(&mut self, new: fn(&str) -> Result<T, InvalidName>, name: &At<String>) -> Option<T> {
        let fault =
            |error: InvalidName| Problem::error(Code::InvalidName, error.to_string()).at(name.span, "here");
        new(&name.value).map_err(|error| self.problems.push(fault(error))).ok()
    }

    /// A key that is itself a value, such as the name of a header.
    fn key<T: Leaf>(&mut self, key: &At<String>) -> Option<T> {
        match T::parse(&key.value) {
            Ok(value) => Some(value),
            Err(fault) => {
                let problem = Problem::error(fault.code, fault.message).at(key.span, "here");
                self.problems.push(problem.maybe_help(fault.help));
                None
            }
        }
    }

    /// A path in the file system, made absolute if `dir` is; `.` in the middle goes.
    fn path(&self, path: &Path) -> PathBuf {
        self.dir.join(path).components().collect()
    }

    /// A duration that is not zero.
    fn period(&mut self, period: Option<&At<Period>>, default: Duration) -> Duration {
        let Some(At { value: Period(value), span }) = period else {
            return default;
        };
        if value.is_zero() {
            self.error(Code::InvalidValue, "a duration of zero", *span, "leave the key out for the default");
        }
        *value
    }

    /// A count that is not zero.
    fn count(&mut self, count: Option<&At<u32>>, default: u32) -> u32 {
        let Some(At { value, span }) = count else {
            return default;
        };
        if *value == 0 {
            self.error(Code::InvalidValue, "0 is too few", *span, "at least 1");
        }
        *value
    }

    fn version(&mut self, version: Option<&At<u32>>) {
        if let Some(version) = version.filter(|version| version.value != VERSION) {
            let message = format!("version {} of the configuration is not known", version.value);
            self.error(Code::InvalidValue, message, version.span, "write `version: 1`");
        }
    }

    fn admin(&mut self, raw: Option<&raw::Admin>) -> Admin {
        let default = || Socket::Tcp(([127, 0, 0, 1], 9901).into());
        let listen = raw.and_then(|raw| raw.listen.as_ref());
        let token = raw.and_then(|raw| raw.token.as_ref()).filter(|token| !token.value.is_empty());
        if let Some(At { value: Socket::Tcp(address), span }) = listen
            && !address.ip().is_loopback()
            && token.is_none()
        {
            let message =
                format!("the admin listener `{address}` can be reached from outside and asks for no token");
            let help =
                "set `admin.token`, for example to ${env:GATEWAY_ADMIN_TOKEN}, or listen on 127.0.0.1:9901";
            self.error(Code::TokenRequired, message, *span, help);
        }
        let listen = listen.map_or_else(default, |listen| match &listen.value {
            Socket::Unix(path) => Socket::Unix(self.path(path)),
            Socket::Tcp(address) => Socket::Tcp(*address),
        });
        Admin { listen, token: token.map(|token| Secret(token.value.clone())) }
    }

    fn state_path(&self, file: &raw::File) -> PathBuf {
        let path = file.state.as_ref().and_then(|state| state.path.as_ref());
        self.path(path.map_or(Path::new("state"), |path| &path.0))
    }

    fn fleet(&mut self, raw: &raw::Fleet) -> Fleet {
        let url = &raw.redis;
        if !["redis://", "rediss://", "unix://"].iter().any(|scheme| url.value.starts_with(scheme)) {
            let help = "for example redis://redis:6379, rediss:// for TLS, unix:///run/redis.sock";
            self.error(Code::InvalidValue, "this is not the URL of a Redis server", url.span, help);
        }
        Fleet { redis: Secret(url.value.clone()) }
    }

    fn runtime(&mut self, raw: Option<&raw::Runtime>) -> Runtime {
        let threads = raw.and_then(|raw| raw.threads).and_then(|Threads(threads)| threads);
        let drain = raw.and_then(|raw| raw.drain.as_ref()).map_or(Duration::from_secs(30), |drain| drain.0);
        let servers = raw.and_then(|raw| raw.nameservers.as_ref());
        let nameservers =
            servers.map_or_else(Vec::new, |list| list.as_slice().iter().map(|NameServer(at)| *at).collect());
        let connections = raw.and_then(|raw| raw.max_connections.as_ref());
        let max_connections = connections
            .and_then(|At { value: MaxConnections(most), span }| Some(At { value: (*most)?, span: *span }));
        Runtime { threads, max_connections, drain, nameservers }
    }

    fn namespace(&mut self, file: &raw::File) -> String {
        let Some(namespace) = file.metrics.as_ref().and_then(|metrics| metrics.namespace.as_ref()) else {
            return String::new();
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let text = &namespace.value;
        if !text.chars().all(fits) || text.starts_with(|c: char| c.is_ascii_digit()) || text.ends_with('_') {
            let message = format!("`{text}` cannot begin the name of a metric");
            let help = "letters, digits and `_`, beginning with a letter and ending without `_`";
            self.error(Code::InvalidValue, message, namespace.span, help);
        }
        text.clone()
    }

    fn access_log(&self, file: &raw::File) -> Option<AccessLog> {
        let Some(raw::AccessLog { path, format: None | Some(AccessLogFormat::Json) }) = &file.access_log
        else {
            return Some(AccessLog::Stdout);
        };
        match path {
            None | Some(AccessLogPath::Stdout) => Some(AccessLog::Stdout),
            Some(AccessLogPath::Off) => None,
            Some(AccessLogPath::File(path)) => Some(AccessLog::File(self.path(path))),
        }
    }

    fn trusted_proxies(&mut self, file: &raw::File) -> Vec<IpNet> {
        let Some(proxies) = file.client_ip.as_ref().and_then(|client| client.trusted_proxies.as_ref()) else {
            return Vec::new();
        };
        let mut nets = Vec::new();
        for At { value: Cidr(net), span } in proxies.as_slice() {
            if net.prefix_len() == 0 {
                let message = format!("`{net}` lets every client choose its own address");
                let help = "name the proxies in front of the gateway, or leave the list empty";
                self.warning(Code::TrustsEverybody, message, *span, help);
            }
            nets.push(*net);
        }
        nets
    }
}

fn request_id(file: &raw::File) -> HeaderName {
    let header = file.request_id.as_ref().and_then(|id| id.header.as_ref());
    header.map_or(HeaderName::from_static("x-request-id"), |header| header.0.clone())
}

/// The ranges of a list that may be left out.
fn nets(list: Option<&OneOrMany<Cidr>>) -> Vec<IpNet> {
    list.map_or_else(Vec::new, |list| list.as_slice().iter().map(|Cidr(net)| *net).collect())
}
