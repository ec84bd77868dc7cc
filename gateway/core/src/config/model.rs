//! The configuration as meant: names resolve, weights add up, defaults are in. Only legal values can be held.
//!
//! Equality compares meaning, never position, so that a reload can tell what changed.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use indexmap::IndexMap;
use ipnet::IpNet;
use miette::SourceSpan;

use crate::name::{LimitName, ListenerName, ReleaseName, RouteName, ServiceName};
use crate::password::PasswordHash;
use crate::route::rule::Match;
use crate::template::Template;
use crate::unit::{ByteSize, Multiple, Rate, Ratio, Weight};

/// A value and where the file says it; equal when the values are.
#[derive(Debug, Clone)]
pub struct At<T> {
    /// What was meant.
    pub value: T,
    /// Byte offset and length in the configuration file.
    pub span: SourceSpan,
}

impl<T: PartialEq> PartialEq for At<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// One whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Gateway {
    /// The admin listener.
    pub admin: Admin,
    /// Directory in which rollouts and switches are remembered.
    pub state_path: PathBuf,
    /// The store several gateways share, if they act as one.
    pub fleet: Option<Fleet>,
    /// Threads, name servers and the end of the process.
    pub runtime: Runtime,
    /// Prefix of every metric name, without the joining `_`; may be empty.
    pub metrics_namespace: String,
    /// Where requests are logged; `None` when switched off.
    pub access_log: Option<AccessLog>,
    /// The header that carries the request id.
    pub request_id: HeaderName,
    /// Peers whose forwarding headers and PROXY headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether `Via` is added in both directions (RFC 9110 §7.6.3).
    pub via: bool,
    /// Where connections are accepted.
    pub listeners: IndexMap<ListenerName, Listener>,
    /// Applications and their releases.
    pub services: IndexMap<ServiceName, Service>,
    /// Rate limits that routes refer to.
    pub rate_limits: IndexMap<LimitName, RateLimit>,
    /// What goes where.
    pub routes: IndexMap<RouteName, Route>,
}

/// The admin listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// Where it listens.
    pub listen: Socket,
    /// Asked for in `Authorization: Bearer` by calls that change something.
    pub token: Option<Secret>,
}

/// A TCP address or the path of a unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Socket {
    /// An IP address and port.
    Tcp(SocketAddr),
    /// A path in the file system.
    Unix(PathBuf),
}

/// Where the fleet's shared state is.
#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    /// A Redis URL; it may hold a password.
    pub redis: Secret,
}

/// Threads and the end of the process.
#[derive(Debug, Clone, PartialEq)]
pub struct Runtime {
    /// Worker threads; `None` is one for each processor this process may use.
    pub threads: Option<usize>,
    /// Connections of clients at a time; `None` is as many as the limit of open files holds.
    pub max_connections: Option<At<u32>>,
    /// How long requests in flight may take after a SIGTERM.
    pub drain: Duration,
    /// Asked for the host names of endpoints; none: those of the system.
    pub nameservers: Vec<SocketAddr>,
}

/// Where requests are logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// The standard output.
    Stdout,
    /// A file, appended to and opened anew on SIGHUP.
    File(PathBuf),
}

/// An address, protocol and TLS to accept connections on.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Where it listens.
    pub address: At<SocketAddr>,
    /// TLS, or plain HTTP.
    pub tls: Option<Tls>,
    /// Whether every request is answered with a 308 to the https listener.
    pub redirect_https: bool,
    /// Whether a PROXY header (v1 or v2) comes first; only `trusted_proxies` may send it.
    pub proxy_protocol: bool,
    /// What one client may take.
    pub limits: ListenerLimits,
}

/// What one client may take of a listener (DESIGN §5).
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerLimits {
    /// TLS handshake, PROXY header included.
    pub handshake: Duration,
    /// Request headers, from the first byte to the last.
    pub header: Duration,
    /// Size of request line and headers together; more is 431.
    pub header_size: ByteSize,
    /// Number of header fields; more is 431.
    pub header_fields: usize,
    /// Length of the request target in bytes; more is 414.
    pub uri: ByteSize,
    /// Silence in the middle of a request body.
    pub body_idle: Duration,
    /// Silence between requests.
    pub keepalive: Duration,
    /// Requests on one connection.
    pub keepalive_requests: u32,
    /// Connections from one address at a time.
    pub connections_per_ip: u32,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(10),
            header_size: ByteSize(32 << 10),
            header_fields: 100,
            uri: ByteSize(8 << 10),
            body_idle: Duration::from_secs(30),
            keepalive: Duration::from_secs(75),
            keepalive_requests: 1000,
            connections_per_ip: 1000,
        }
    }
}

/// TLS of a listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Tls {
    /// At least one; the first answers unknown and absent server names.
    pub certificates: Vec<Certificate>,
    /// The lowest version accepted.
    pub min_version: TlsVersion,
    /// Whether clients show certificates.
    pub client_auth: Option<ClientAuth>,
    /// Where services are told of them; no client can write these fields, also while none is asked for a certificate.
    pub client_headers: ClientHeaders,
}

/// A certificate chain and its key, as PEM files.
#[derive(Debug, Clone, PartialEq)]
pub struct Certificate {
    /// Leaf first.
    pub cert: At<PathBuf>,
    /// PKCS #8, PKCS #1 or SEC1.
    pub key: At<PathBuf>,
}

/// A TLS version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// Certificates of clients (mTLS).
#[derive(Debug, Clone, PartialEq)]
pub struct ClientAuth {
    /// PEM file of the authorities that may have signed them.
    pub ca: At<PathBuf>,
    /// Whether a client without one is turned away.
    pub required: bool,
}

/// Header fields that tell services of a client's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientHeaders {
    /// Its subject, by RFC 4514.
    pub subject: Option<HeaderName>,
    /// Its SHA-256, in lower-case hexadecimal.
    pub fingerprint: Option<HeaderName>,
}

impl ClientHeaders {
    /// The names that are configured.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.subject.iter().chain(&self.fingerprint)
    }
}

/// One application, with its releases.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// At least one.
    pub releases: IndexMap<ReleaseName, Release>,
    /// The release that serves what nothing else takes.
    pub stable: ReleaseName,
    /// How traffic is divided.
    pub traffic: Traffic,
    /// Who goes where, and what a canary must keep.
    pub rollout: Rollout,
    /// How an endpoint is chosen within a release.
    pub balance: Balance,
    /// Active checks.
    pub health: Option<Health>,
    /// Passive ejection.
    pub eject: Option<Eject>,
    /// Another try after a failed one.
    pub retry: Retry,
    /// How long an origin may take.
    pub timeouts: Timeouts,
    /// What is spoken to origins.
    pub protocol: Protocol,
    /// TLS towards origins.
    pub tls: Option<UpstreamTls>,
    /// How many requests are served at a time, over all routes.
    pub max_in_flight: Option<MaxInFlight>,
}

/// One deployed version of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// At least one.
    pub endpoints: Vec<At<Address>>,
}

/// An address of a release, as written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address and port.
    Ip(SocketAddr),
    /// A host name and port, resolved again by the TTL of its records.
    Name {
        /// Lower case, without a trailing dot.
        host: String,
        /// 1 to 65535.
        port: u16,
    },
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How a service's traffic is divided over its releases.
#[derive(Debug, Clone, PartialEq)]
pub enum Traffic {
    /// All of it to stable.
    Stable {
        /// Its last step tells how a cutover to another stable release is watched.
        plan: Option<Plan>,
    },
    /// A part of it to the canary.
    Canary {
        /// The release that is tried; never the stable one.
        canary: ReleaseName,
        /// How much, and when.
        plan: Plan,
    },
    /// Fixed shares; at least one is not zero, and stable is among them.
    Split(Vec<(ReleaseName, u32)>),
}

/// How much traffic the canary takes.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// One share for good.
    Fixed(Weight),
    /// One step after the other; at least one, weights never falling.
    Steps(Vec<Step>),
}

/// One weight, held for a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The canary's share.
    pub weight: Weight,
    /// How long at least.
    pub hold: Duration,
    /// Attempts on the canary that are needed to go on.
    pub min_requests: u64,
    /// Who lets it go on.
    pub gate: Gate,
}

/// Who lets a rollout leave a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// The guard's verdict.
    Automatic,
    /// A person, with `gateway rollout promote`.
    Manual,
}

/// Who goes where, and what a canary must keep. Present with its defaults even where the file says nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// What makes a user stay with a release.
    pub sticky: Sticky,
    /// Who may choose for themselves.
    pub overrides: Option<Override>,
    /// What a canary must keep.
    pub guard: Guard,
    /// Where a failed canary request goes.
    pub failover: Option<Failover>,
    /// Who is told.
    pub notify: Vec<Notify>,
}

/// The key by which a request is assigned to a release.
#[derive(Debug, Clone, PartialEq)]
pub enum Sticky {
    /// None: each request draws for itself.
    Off,
    /// A cookie that names the user, minted when absent.
    Cookie {
        /// Its name, a token.
        name: String,
        /// Its Max-Age.
        ttl: Duration,
    },
    /// A request header.
    Header(HeaderName),
    /// The resolved client address.
    ClientIp,
}

/// A header with `always` or `never` that chooses the canary or refuses it.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// Its name.
    pub header: HeaderName,
    /// Clients it is taken from; empty takes it from nobody.
    pub from: Vec<IpNet>,
}

/// The limits a canary must keep (DESIGN §3, §4).
#[derive(Debug, Clone, PartialEq)]
pub struct Guard {
    /// Above it the rollout waits.
    pub warn: Ratio,
    /// Above it the canary is rolled back.
    pub max: Ratio,
    /// Failure ratio to stable over the same time.
    pub worse_than_stable: Multiple,
    /// Response times.
    pub latency: Option<LatencyGuard>,
    /// A fuse.
    pub consecutive_failures: u32,
    /// A fuse: failures users saw beyond what stable would have given.
    pub max_failed_requests: u32,
    /// What counts as a failure.
    pub failures: FailureSet,
    /// 1 − α of each test, over the whole step.
    pub confidence: Ratio,
}

/// A share of requests that must be answered in time.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyGuard {
    /// The share.
    pub quantile: Ratio,
    /// The time to the response header.
    pub max: Duration,
}

/// Which ends of an attempt count as failures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureSet {
    /// No connection, or no TLS.
    pub connect: bool,
    /// No answer in time.
    pub timeout: bool,
    /// The connection broke, or the answer is malformed or short.
    pub reset: bool,
    /// Any status from 500 to 599.
    pub server_errors: bool,
    /// Single statuses besides.
    pub statuses: Vec<StatusCode>,
}

/// Where a failed canary request goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Failover {
    /// Which failures.
    pub on: FailureSet,
    /// Which methods; others only when nothing was sent.
    pub methods: Vec<Method>,
    /// At most this share of the service's requests in the last 10 s.
    pub budget: Ratio,
}

/// A webhook.
#[derive(Debug, Clone, PartialEq)]
pub struct Notify {
    /// Where; it may hold a secret.
    pub url: Secret,
    /// The shape of the message.
    pub format: NotifyFormat,
    /// What is told.
    pub on: Vec<NotifyEvent>,
}

/// The shape of a webhook's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotifyFormat {
    /// The event as JSON.
    Json,
    /// `{ "text": … }` as Slack takes it.
    Slack,
}

/// A change of a rollout that can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotifyEvent {
    /// A rollout began.
    Started,
    /// It went to the next step.
    Promoted,
    /// It waits.
    Held,
    /// The canary was rolled back.
    RolledBack,
    /// The canary has everything.
    Completed,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// In turn.
    RoundRobin,
    /// Two at random, the one with fewer requests in flight.
    LeastRequests,
    /// By the sticky key, else by the client address; rendezvous hashing.
    Hash,
}

/// Active checks.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// What is asked.
    pub check: Check,
    /// The host asked for; none takes that of the endpoint.
    pub host: Option<String>,
    /// Where endpoints are asked; none takes the port of the endpoint.
    pub port: Option<u16>,
    /// How often.
    pub interval: Duration,
    /// How long a check may take in all.
    pub timeout: Duration,
    /// Failures in a row that make an endpoint unhealthy.
    pub unhealthy_after: u32,
    /// Successes in a row that make it healthy.
    pub healthy_after: u32,
    /// What it means for the gateway's readiness when no endpoint is healthy.
    pub readiness: Readiness,
}

/// What an active check asks, over what the service speaks.
#[derive(Debug, Clone, PartialEq)]
pub enum Check {
    /// A GET.
    Http {
        /// What is asked for: path and query.
        path: String,
        /// The answers that are healthy.
        status: StatusSet,
    },
    /// A connection, with TLS if the service has it.
    Tcp,
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// The name asked about; empty is the server as a whole.
        service: String,
    },
}

/// Which statuses are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSet(pub Vec<RangeInclusive<u16>>);

impl StatusSet {
    /// Whether a status is meant.
    pub fn contains(&self, status: StatusCode) -> bool {
        self.0.iter().any(|range| range.contains(&status.as_u16()))
    }
}

impl Default for StatusSet {
    /// 2xx.
    fn default() -> Self {
        Self(vec![200..=299])
    }
}

impl fmt::Display for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            match (range.start(), range.end()) {
                (one, last) if one == last => write!(f, "{comma}{one}")?,
                (first, _) => write!(f, "{comma}{}xx", first / 100)?,
            }
        }
        Ok(())
    }
}

/// Whether the gateway is ready only while a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It is ready whatever becomes of the service: other services go on.
    Ignored,
    /// It is not ready while the service has no healthy endpoint.
    Required,
}

/// Passive ejection.
#[derive(Debug, Clone, PartialEq)]
pub struct Eject {
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// For how long the first time.
    pub duration: Duration,
    /// At most this share of a release.
    pub max: Ratio,
}

/// Another try after a failed one, at another endpoint of the same release.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// How many tries beside the first.
    pub attempts: u32,
    /// After which failures.
    pub on: FailureSet,
    /// At most this share of the service's requests in the last 10 s.
    pub budget: Ratio,
}

/// How long an origin may take.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeouts {
    /// TCP and TLS, each.
    pub connect: Duration,
    /// From the request's end to the response's first byte.
    pub first_byte: Duration,
    /// Silence in the middle of a body, either way.
    pub idle: Duration,
    /// How long an unused connection is kept.
    pub keepalive: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            first_byte: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            keepalive: Duration::from_secs(4),
        }
    }
}

/// What is spoken to origins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, with TLS when `tls` is set.
    Http1,
    /// HTTP/2 over TLS.
    H2,
    /// HTTP/2 in the clear, by prior knowledge.
    H2c,
}

/// TLS towards origins.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamTls {
    /// The name asked for and verified; `None` takes the endpoint's host.
    pub sni: Option<String>,
    /// PEM file of authorities; `None` takes the system's.
    pub ca: Option<At<PathBuf>>,
    /// The certificate the gateway shows.
    pub client_cert: Option<Certificate>,
}

/// A rate limit.
#[derive(Debug, Clone, PartialEq)]
pub struct RateLimit {
    /// Whose requests are counted together.
    pub key: LimitKey,
    /// How many in how long.
    pub rate: Rate,
    /// How many at once, at least 1.
    pub burst: u32,
    /// Whether several gateways count together.
    pub scope: LimitScope,
    /// What holds while the shared store is away.
    pub when_store_down: StoreDown,
    /// Count and report, let everything pass.
    pub dry_run: bool,
}

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitKey {
    /// The resolved client address.
    ClientIp,
    /// A request header's value.
    Header(HeaderName),
    /// A cookie's value.
    Cookie(String),
    /// The route.
    Route,
    /// Everything.
    Global,
}

/// Who counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitScope {
    /// This gateway alone.
    Local,
    /// All gateways of the fleet.
    Fleet,
}

/// What holds while the shared store is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreDown {
    /// Each gateway limits alone.
    Local,
    /// Everything passes.
    Allow,
    /// Nothing passes.
    Deny,
}

/// The largest request body that can be kept: what the proxy can send to an origin a second time.
pub const BUFFERABLE: ByteSize = ByteSize(64 << 10);

/// How many requests are served at a time, and how many wait; more are 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxInFlight {
    /// Served at a time, at least 1.
    pub requests: u32,
    /// Waiting at a time; 0 lets none wait.
    pub queue: u32,
    /// How long one may wait.
    pub wait: Duration,
}

/// What goes where.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Which requests.
    pub matches: Match,
    /// What is done with them.
    pub action: Action,
    /// Rate limits, in the order they are asked.
    pub limits: Vec<LimitName>,
    /// The largest request body; more is 413.
    pub body_limit: ByteSize,
    /// Bodies of up to this size, which is at most [`BUFFERABLE`], are read whole before the service is asked.
    pub buffer_request: Option<ByteSize>,
    /// From the request's header to the answer's end; more is 504.
    pub timeout: Option<Duration>,
    /// How many requests are served at a time.
    pub max_in_flight: Option<MaxInFlight>,
    /// Clients that may come; empty lets all.
    pub allow: Vec<IpNet>,
    /// Clients that may not.
    pub deny: Vec<IpNet>,
    /// Who may read the answers from other origins.
    pub cors: Option<Cors>,
    /// Changes to request headers.
    pub request_headers: HeaderEdits,
    /// Changes to response headers.
    pub response_headers: HeaderEdits,
    /// Whether answers get the usual security fields they lack.
    pub security_headers: bool,
    /// Changes to path and Host.
    pub rewrite: Rewrite,
    /// Who gets copies of the requests.
    pub mirror: Option<Mirror>,
    /// Name and password.
    pub basic_auth: Option<BasicAuth>,
    /// Whether answers are compressed.
    pub compress: bool,
    /// What answers while the route is switched off.
    pub maintenance: Option<Maintenance>,
}

/// What is done with a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Send it to a service.
    Forward(ServiceName),
    /// Answer with another place.
    Redirect {
        /// An absolute URL or a path.
        to: String,
        /// 301, 302, 303, 307 or 308.
        status: StatusCode,
    },
    /// Answer with this.
    Respond {
        /// Any final status.
        status: StatusCode,
        /// Besides Content-Length and Date.
        headers: Vec<(HeaderName, HeaderValue)>,
        /// As written, or JSON when the file holds a mapping.
        body: Body,
    },
}

/// A body the gateway answers with itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Body {
    /// Its media type; empty when there is no body.
    pub content_type: String,
    /// Its bytes.
    pub text: String,
}

/// Who may read answers from other origins (WHATWG Fetch).
#[derive(Debug, Clone, PartialEq)]
pub struct Cors {
    /// Origins, or `*`.
    pub origins: Vec<String>,
    /// Methods beside GET, HEAD and POST.
    pub methods: Vec<Method>,
    /// Request headers a page may set.
    pub headers: Vec<HeaderName>,
    /// Response headers a page may read.
    pub expose: Vec<HeaderName>,
    /// Whether cookies come along; never together with `*`.
    pub credentials: bool,
    /// How long a preflight is remembered.
    pub max_age: Duration,
}

/// Changes to headers: removals first, then `set`, then `add`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HeaderEdits {
    /// Taken away.
    pub remove: Vec<HeaderName>,
    /// Put in place of what is there.
    pub set: Vec<(HeaderName, Template)>,
    /// Put beside what is there.
    pub add: Vec<(HeaderName, Template)>,
}

/// Changes to path and Host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rewrite {
    /// What becomes of the path.
    pub path: Option<PathRewrite>,
    /// The Host sent upstream.
    pub host: Option<String>,
}

/// Who gets copies of requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Mirror {
    /// Its stable release gets them.
    pub service: ServiceName,
    /// The share of requests that are copied.
    pub share: Ratio,
    /// Requests with a larger body are not.
    pub body_limit: ByteSize,
}

/// What becomes of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathRewrite {
    /// Take this prefix away.
    StripPrefix(String),
    /// Put this in place of the matched prefix.
    ReplacePrefix(String),
}

/// Name and password (RFC 7617).
#[derive(Debug, Clone, PartialEq)]
pub struct BasicAuth {
    /// What the browser shows.
    pub realm: String,
    /// Those the configuration itself names.
    pub users: IndexMap<String, PasswordHash>,
    /// An htpasswd file with more of them.
    pub users_file: Option<At<PathBuf>>,
}

/// What answers while a route is switched off.
#[derive(Debug, Clone, PartialEq)]
pub struct Maintenance {
    /// What the file says; a switch thrown by command outranks it.
    pub on: bool,
    /// 503 unless said otherwise.
    pub status: StatusCode,
    /// JSON or text; the gateway's own where there is none.
    pub body: Option<Body>,
    /// HTML for clients that prefer it.
    pub page: Option<At<PathBuf>>,
    /// The Retry-After sent along.
    pub retry_after: Option<Duration>,
    /// Clients that pass all the same.
    pub allow: Vec<IpNet>,
}
