//! What the cases work on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use gateway::rehearsal::{self, Exchange, Stage};
use gateway::telemetry::metrics::{Metrics, RequestMetrics};
use gateway_core::name::{ReleaseName, RouteName, ServiceName};
use gateway_core::route::rule::{HostPattern, Match, PathRule};
use gateway_core::route::table::Table;
use http::{HeaderMap, HeaderName, HeaderValue};

/// A request as a browser sends it.
const REQUEST: &[u8] = b"GET /api/items?page=2 HTTP/1.1\r\n\
    host: shop.example\r\n\
    user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    accept: application/json, text/plain, */*\r\n\
    accept-language: en-GB,en;q=0.5\r\n\
    accept-encoding: gzip, deflate, br\r\n\
    connection: keep-alive\r\n\
    cookie: session=0190a5f27d3c7b1e9c1a2f4d6b8e0a1c; theme=dark\r\n\r\n";

/// How it is answered.
const ANSWER: [(&str, &str); 6] = [
    ("content-type", "application/json"),
    ("content-length", "5120"),
    ("cache-control", "no-store"),
    ("date", "Sun, 01 Mar 2026 12:34:56 GMT"),
    ("etag", "\"5f3c-61a2\""),
    ("connection", "keep-alive"),
];

/// A route with a limit, and a service with a canary.
const SITE: &str = "version: 1
listeners: { http: { address: \"127.0.0.1:8080\" } }
rate_limits: { per-client: { key: client_ip, rate: 1000000/s } }
services:
  api:
    releases: { a: { endpoints: [\"127.0.0.1:1\"] }, b: { endpoints: [\"127.0.0.1:2\"] } }
    stable: a
    canary: b
    rollout: { weight: 10% }
routes:
  api: { match: { host: [shop.example, \"*.shop.example\"], prefix: /api }, limits: [per-client], service: api }
  web: { match: { host: [shop.example, \"*.shop.example\"] }, service: api }
";

/// A file with `text`, and the directory that it lives in.
pub(crate) fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("gateway.yaml");
    std::fs::write(&path, text).expect("written");
    (directory, path)
}

pub(crate) fn exchange() -> Exchange {
    let (_directory, path) = file(SITE);
    let mut exchange = rehearsal::exchange(&path, REQUEST, &ANSWER).expect("a good file");
    assert!(exchange.admit(), "forwarded");
    exchange
}

pub(crate) fn stage() -> Stage {
    let (_directory, path) = file(SITE);
    Stage::set(&path).expect("a good file")
}

/// Five routes under each of `hosts` hosts, every tenth a wildcard, and as many prefixes under one more host.
pub(crate) fn table(hosts: usize) -> Table<usize> {
    let paths = ["/", "/api", "/api/v1/users", "/media", "/static/assets/images"];
    let by_host = (0..hosts * 5).map(|number| {
        let domain = format!("shop{}.example.com", number / 5);
        let wildcard = number / 5 % 10 == 0;
        let host = if wildcard { HostPattern::Wildcard(domain) } else { HostPattern::Exact(domain) };
        (host, paths[number % 5].to_owned())
    });
    let by_prefix = (0..hosts * 5).map(|number| {
        let path = match number % 3 {
            0 => format!("/team{number}"),
            1 => format!("/team{}/service{number}", number % 100),
            _ => format!("/team{}/service{}/version{number}", number % 100, number % 1_000),
        };
        (HostPattern::Exact("shop.example".into()), path)
    });
    let rules: Vec<_> = by_host.chain(by_prefix).enumerate().map(rule).collect();
    Table::new(rules.iter().enumerate().map(|(number, (name, rule))| (name.clone(), rule, number)))
}

fn rule((number, (host, path)): (usize, (HostPattern, String))) -> (RouteName, Match) {
    let name = RouteName::new(&format!("route-{number}")).expect("a name");
    (name, Match { hosts: vec![host], paths: vec![PathRule::Prefix(path)], ..Match::default() })
}

/// The fields of a request that came through two proxies.
pub(crate) fn proxied() -> HeaderMap {
    let fields = [
        ("host", "shop.example"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
        ("connection", "keep-alive, x-trace"),
        ("x-trace", "1"),
        ("te", "trailers"),
        ("x-forwarded-for", "198.51.100.9, 10.0.0.7"),
        ("x-forwarded-proto", "https"),
    ];
    let field = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    fields.into_iter().map(field).collect()
}

pub(crate) fn request_metrics() -> Arc<RequestMetrics> {
    let route = RouteName::new("api").expect("a name");
    let (service, release) =
        (ServiceName::new("shop").expect("a name"), ReleaseName::new("api-42").expect("a name"));
    Metrics::new(SystemTime::UNIX_EPOCH).requests(Some(&route), Some((&service, &release)))
}
