//! The cases, in the order a request meets them.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gateway::limits::{Limiter, Subject};
use gateway::telemetry::access_log::{AccessLog, Lines};
use gateway::telemetry::metrics::Metrics;
use gateway_core::client_ip::{self, TrustedProxies};
use gateway_core::config::model::{AccessLog as Target, LimitKey, LimitScope, RateLimit, StoreDown};
use gateway_core::config::{Process, load};
use gateway_core::endpoint::{Choice, Pool, Tried};
use gateway_core::hop_by_hop::HopByHop;
use gateway_core::name::{ReleaseName, ServiceName};
use gateway_core::request_id::RequestId;
use gateway_core::route::path::normalise;
use gateway_core::route::table::RequestView;
use gateway_core::split::{Split, Standing};
use gateway_core::trace_context::TraceParent;
use gateway_core::unit::Weight;
use http::{HeaderMap, Method, StatusCode};

use crate::entry::entry;
use crate::routes::configuration;
use crate::site;

/// What is counted: it is made for so many runs, and each call is one.
type Work = Box<dyn FnMut()>;

/// One step.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// How often it runs while it is counted.
    pub(crate) times: u32,
    /// Makes it for so many runs.
    pub(crate) make: fn(u32) -> Work,
}

const fn case(name: &'static str, times: u32, make: fn(u32) -> Work) -> Case {
    Case { name, times, make }
}

pub(crate) const CASES: &[Case] = &[
    case("path: normalise a normal one", 1000, path),
    case("route: exact host of 2 000", 1000, |_| route("shop1234.example.com", "/api/v1/users/17/orders")),
    case("route: wildcard host of 2 000", 1000, |_| {
        route("www.shop1230.example.com", "/api/v1/users/17/orders")
    }),
    case("route: short prefix of 10 000, a deep path", 1000, |_| {
        route("shop.example", "/team3/items/2024/11/05/photos/17/small")
    }),
    case("limit: a known client of 10 000", 1000, known_client),
    case("limit: a client never seen", 1000, new_client),
    case("release: by key", 1000, release_by_key),
    case("release: by lot", 1000, release_by_lot),
    case("endpoint: least requests of 3", 1000, endpoint),
    case("outcome: release chosen, success recorded", 1000, success),
    case("outcome: canary fails until weight 0", 5, rollback),
    case("header: client address through 2 proxies", 1000, client_address),
    case("header: hop-by-hop fields", 1000, hop_by_hop),
    case("header: request id and trace minted", 1000, mint),
    case("header: request admitted", 1000, admit),
    case("header: request to origin", 1000, to_origin),
    case("header: answer to client", 1000, to_client),
    case("record: metrics", 1000, metrics),
    case("record: entry to the log's queue", 1000, hand_over),
    case("record: line of the access log", 1000, line),
    case("config: 1 000 routes read and checked", 1, read),
    case("config: 1 000 routes ready to serve", 1, reload),
];

fn path(_: u32) -> Work {
    // As a slice: with its length known, the compiler would make a function for this path alone.
    let path: &[u8] = b"/api/v1/users/17/orders/2024-11-05";
    Box::new(move || {
        black_box(normalise(black_box(path)).is_ok());
    })
}

fn route(host: &'static str, path: &'static str) -> Work {
    let (table, headers) = (site::table(2_000), HeaderMap::new());
    Box::new(move || {
        let request = RequestView { host, path, method: &Method::GET, headers: &headers, query: None };
        assert!(black_box(table.find(black_box(&request))).is_some());
    })
}

/// A limit that knows 10 000 clients and lets them pass.
fn limiter() -> Limiter {
    let rate = "1000/s".parse().expect("a rate");
    let (scope, when_store_down) = (LimitScope::Local, StoreDown::Local);
    let definition =
        RateLimit { key: LimitKey::ClientIp, rate, burst: 1_000_000, scope, when_store_down, dry_run: false };
    let limiter = Limiter::new(&definition);
    (0..10_000).for_each(|number| assert!(limiter.take(client(number)).is_ok()));
    limiter
}

fn client(number: u32) -> Subject<'static> {
    Subject::client(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number)))
}

fn known_client(_: u32) -> Work {
    let (limiter, mut number) = (limiter(), 0);
    Box::new(move || {
        number = (number + 7919) % 10_000;
        assert!(limiter.take(black_box(client(number))).is_ok());
    })
}

fn new_client(_: u32) -> Work {
    let (limiter, mut number) = (limiter(), 10_000);
    Box::new(move || {
        number += 1;
        assert!(limiter.take(black_box(client(number))).is_ok());
    })
}

fn split() -> Split {
    let release = |name| ReleaseName::new(name).expect("a name");
    let service = ServiceName::new("checkout").expect("a name");
    let weight = Weight::from_percent(10.0).expect("a weight");
    Split::canary(&service, &release("api-41"), &release("api-42"), weight)
}

fn release_by_key(_: u32) -> Work {
    let split = split();
    let standing = Standing { canary_weight: Some(Weight::FULL), ..Standing::default() };
    let key = b"7f9c24e83b124fef91e056a2d5a1e8f4";
    Box::new(move || {
        black_box(split.assign(black_box(standing), black_box(Some(key)), 0));
    })
}

fn release_by_lot(_: u32) -> Work {
    let split = split();
    Box::new(move || {
        black_box(split.pick(None, black_box(0x1234_5678_9abc_def0)));
    })
}

fn endpoint(_: u32) -> Work {
    let addresses = ["10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"];
    let pool = Pool::new(Choice::LeastRequests, addresses.map(|address| (address, Arc::default())));
    Box::new(move || {
        black_box(pool.pick(&mut Tried::default(), None, black_box(0x1234_5678_9abc_def0)));
    })
}

fn success(_: u32) -> Work {
    let (stage, mut ticket) = (site::stage(), 0_u64);
    Box::new(move || {
        ticket = ticket.wrapping_add(0x9e37_79b9_7f4a_7c15);
        stage.serve(ticket);
    })
}

fn rollback(times: u32) -> Work {
    let mut stages: Vec<_> = (0..times).map(|_| site::stage()).collect();
    let mut failed = Vec::with_capacity(stages.len());
    Box::new(move || {
        let stage = stages.pop().expect("one for each run");
        assert!(stage.fail().is_some());
        // To take it down is no part of this.
        failed.push(stage);
    })
}

fn client_address(_: u32) -> Work {
    let (headers, networks) = (site::proxied(), ["10.0.0.0/8".parse().expect("a network")]);
    let trusted = TrustedProxies::new(&networks);
    Box::new(move || {
        black_box(client_ip::resolve([10, 0, 0, 1].into(), &trusted, black_box(&headers)));
    })
}

fn hop_by_hop(_: u32) -> Work {
    let headers = site::proxied();
    Box::new(move || {
        black_box(HopByHop::of(black_box(&headers), false));
    })
}

fn mint(_: u32) -> Work {
    Box::new(|| {
        black_box(RequestId::mint(fastrand::u128(..)).to_header_value());
        black_box(TraceParent::new(fastrand::u128(..), fastrand::u64(..)).to_header_value());
    })
}

fn admit(_: u32) -> Work {
    let mut exchange = site::exchange();
    Box::new(move || assert!(exchange.admit()))
}

fn to_origin(_: u32) -> Work {
    let exchange = site::exchange();
    Box::new(move || assert!(black_box(exchange.to_origin()).is_ok()))
}

fn to_client(_: u32) -> Work {
    let mut exchange = site::exchange();
    Box::new(move || {
        black_box(exchange.to_client());
    })
}

fn metrics(_: u32) -> Work {
    let handle = site::request_metrics();
    Box::new(move || handle.record(&Method::GET, StatusCode::OK, black_box(Duration::from_micros(740))))
}

fn hand_over(times: u32) -> Work {
    let served_by = site::request_metrics();
    let dropped = Metrics::new(SystemTime::UNIX_EPOCH).access_log_dropped();
    let log = AccessLog::start(Some(Target::File("/dev/null".into())), dropped).expect("a sink");
    let mut entries: Vec<_> = (0..times).map(|_| entry(&served_by)).collect();
    Box::new(move || log.log(entries.pop().expect("one for each run")))
}

fn line(_: u32) -> Work {
    let (entry, mut lines) = (entry(&site::request_metrics()), Lines::default());
    Box::new(move || {
        lines.clear();
        lines.add(black_box(&entry));
        black_box(lines.as_bytes());
    })
}

fn read(_: u32) -> Work {
    let text = configuration(1_000);
    Box::new(move || {
        let loaded = load("gateway.yaml", black_box(&text), Path::new("/etc/gateway"), &Process);
        assert!(black_box(loaded).is_ok());
    })
}

fn reload(_: u32) -> Work {
    let (directory, path) = site::file(&configuration(1_000));
    Box::new(move || {
        assert!(directory.path().exists() && gateway::rehearsal::reload(&path).is_ok());
    })
}
