//! Good files, and what they mean.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway_core::config::model::*;
use gateway_core::config::problem::Code;
use gateway_core::config::{Loaded, Options, Process, World, load, load_with, schema};
use gateway_core::name::{LimitName, ReleaseName};
use gateway_core::route::rule::{HostPattern, PathRule, ValueRule};
use gateway_core::template::Template;
use gateway_core::unit::{ByteSize, Ratio, Weight};
use http::{HeaderName, Method, StatusCode};

/// The variables the examples ask for, and no files.
struct Examples;

impl World for Examples {
    fn env(&self, name: &str) -> Option<String> {
        match name {
            "REDIS_URL" => Some("redis://:hunter2@redis:6379".into()),
            "SLACK_WEBHOOK" => Some("https://hooks.slack.example/hunter2".into()),
            _ => None,
        }
    }

    fn read(&self, _: &Path) -> std::io::Result<String> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn loaded(path: &Path) -> Loaded {
    let text = std::fs::read_to_string(path).expect("an example");
    let options = Options { allow_unsupported: true };
    load_with("gateway.yaml", text, Path::new("/etc/gateway"), &Examples, options)
        .unwrap_or_else(|report| panic!("{}:\n{report}", path.display()))
}

fn good(name: &str) -> Loaded {
    loaded(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/good").join(name))
}

fn percent(value: f64) -> Ratio {
    Ratio::new(value / 100.0).expect("a percentage")
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn the_smallest_file_has_every_default() {
    let Loaded { gateway, warnings, .. } = good("smallest.yaml");
    assert!(warnings.is_empty(), "{warnings}");
    assert_eq!(gateway.admin, Admin { listen: Socket::Tcp(([127, 0, 0, 1], 9901).into()), token: None });
    assert_eq!(gateway.state_path, Path::new("/etc/gateway/state"));
    assert_eq!(
        gateway.runtime,
        Runtime { threads: None, max_connections: None, drain: seconds(30), nameservers: vec![] }
    );
    assert_eq!(gateway.access_log, Some(AccessLog::Stdout));
    assert_eq!(gateway.request_id, HeaderName::from_static("x-request-id"));
    assert!(gateway.via);
    assert_eq!(gateway.listeners["http"].limits, ListenerLimits::default());
    let service = &gateway.services["web"];
    assert_eq!(service.stable, ReleaseName::unnamed());
    assert_eq!(service.traffic, Traffic::Stable { plan: None });
    assert_eq!(service.timeouts, Timeouts::default());
    assert_eq!((service.balance, service.protocol), (Balance::LeastRequests, Protocol::Http1));
    assert_eq!((service.retry.attempts, service.retry.budget), (1, percent(20.0)));
    assert!(service.retry.on.connect && service.retry.on.reset && !service.retry.on.timeout);
    assert_eq!(gateway.routes["web"].body_limit, ByteSize(10 << 20));
}

#[test]
fn listeners_of_the_whole_example() {
    let gateway = good("whole.yaml").gateway;
    let https = &gateway.listeners["https"];
    assert_eq!(https.address.value, "[::]:443".parse::<SocketAddr>().expect("an address"));
    let tls = https.tls.as_ref().expect("TLS");
    assert_eq!(tls.certificates[0].cert.value, Path::new("/etc/gateway/certs/shop.pem"));
    assert_eq!(tls.min_version, TlsVersion::Tls12);
    let client_auth = tls.client_auth.as_ref().expect("mTLS");
    assert_eq!(
        (client_auth.ca.value.as_path(), client_auth.required),
        (Path::new("/etc/gateway/certs/clients.pem"), false)
    );
    assert!(gateway.listeners["http"].redirect_https);
    assert_eq!(gateway.admin.token, None);
    assert_eq!(gateway.fleet, Some(Fleet { redis: Secret("redis://:hunter2@redis:6379".into()) }));
}

#[test]
fn the_rollout_of_the_whole_example() {
    let gateway = good("whole.yaml").gateway;
    let api = &gateway.services["api"];
    assert_eq!(api.stable.as_str(), "api-41");
    assert_eq!(api.releases["api-41"].endpoints[1].value.to_string(), "10.0.0.12:8000");
    let Traffic::Canary { canary, plan: Plan::Steps(steps) } = &api.traffic else {
        panic!("{:?}", api.traffic)
    };
    assert_eq!(canary.as_str(), "api-42");
    let ten = Weight::from_percent(10.0).expect("a weight");
    assert_eq!(steps[0], Step { weight: ten, hold: seconds(600), min_requests: 300, gate: Gate::Automatic });
    assert_eq!((steps[1].gate, steps[1].min_requests, steps[2].weight), (Gate::Manual, 1, Weight::FULL));
    let rollout = &api.rollout;
    assert_eq!(rollout.sticky, Sticky::Cookie { name: "gw_id".into(), ttl: seconds(30 * 86_400) });
    assert_eq!(rollout.overrides.as_ref().expect("an override").from.len(), 1);
    let guard = &rollout.guard;
    assert_eq!((guard.warn, guard.max, guard.confidence), (percent(1.0), percent(5.0), percent(99.9)));
    assert_eq!(guard.latency, Some(LatencyGuard { quantile: percent(95.0), max: seconds(1) }));
    assert_eq!((guard.consecutive_failures, guard.max_failed_requests), (5, 25));
    let failover = rollout.failover.as_ref().expect("failover");
    assert_eq!(failover.methods, [Method::GET, Method::HEAD, Method::OPTIONS]);
    assert_eq!(rollout.notify[0].format, NotifyFormat::Slack);
    assert_eq!(api.health.as_ref().map(|health| health.interval), Some(seconds(5)));
    assert_eq!(api.eject.as_ref().map(|eject| eject.duration), Some(seconds(30)));
}

#[test]
fn health_checks_are_http_tcp_or_grpc() {
    let services = good("health.yaml").gateway.services;
    let health = |name: &str| services[name].health.clone().expect("health");
    let http = health("http");
    let Check::Http { path, status } = &http.check else { panic!("an HTTP check") };
    assert_eq!((path.as_str(), status.to_string().as_str()), ("/ready?full=1", "204, 3xx"));
    for (code, healthy) in [(200, false), (204, true), (302, true), (404, false)] {
        assert_eq!(status.contains(StatusCode::from_u16(code).expect("a status")), healthy, "{code}");
    }
    assert_eq!((http.host.as_deref(), http.port), (Some("app.internal"), Some(9000)));
    assert_eq!(http.readiness, Readiness::Required);
    let tcp = health("tcp");
    assert_eq!((tcp.check, tcp.interval, tcp.timeout), (Check::Tcp, seconds(5), seconds(1)));
    assert_eq!((tcp.unhealthy_after, tcp.healthy_after, tcp.readiness), (3, 2, Readiness::Ignored));
    assert_eq!(health("grpc").check, Check::Grpc { service: "shop.Orders".into() });
    assert_eq!(health("server").check, Check::Grpc { service: String::new() });
}

#[test]
fn routes_of_the_whole_example() {
    let gateway = good("whole.yaml").gateway;
    let names: Vec<_> = gateway.routes.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["login", "api", "concierge", "admin", "web"]);
    let login = &gateway.routes["login"];
    assert_eq!(login.matches.paths, [PathRule::Exact("/api/login".into())]);
    assert_eq!(login.limits, [LimitName::new("login").expect("a name")]);
    assert_eq!(gateway.rate_limits["login"].scope, LimitScope::Fleet);
    let api = &gateway.routes["api"];
    assert_eq!(api.matches.hosts, [HostPattern::Exact("shop.example".into())]);
    assert_eq!(api.matches.paths, [PathRule::Prefix("/api".into()), PathRule::Prefix("/media".into())]);
    assert_eq!(api.cors.as_ref().expect("cors").origins, ["https://app.shop.example"]);
    let maintenance = gateway.routes["concierge"].maintenance.as_ref().expect("maintenance");
    assert_eq!((maintenance.on, maintenance.status), (false, StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(maintenance.body.as_ref().expect("a body").text, r#"{"error":"concierge_unavailable"}"#);
    let admin = &gateway.routes["admin"];
    assert_eq!(admin.allow[0].to_string(), "192.0.2.0/24");
    assert_eq!(admin.response_headers.set[0].1, Template::try_from("default-src 'self'").expect("a value"));
}

#[test]
fn the_whole_example_is_shown_without_its_secrets() {
    let Loaded { gateway, shown, warnings, .. } = good("whole.yaml");
    assert!(!shown.contains("hunter2"), "{shown}");
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert!(!format!("{gateway:?}").contains("hunter2"));
    assert_eq!(shown["fleet"]["redis"], "[redacted]");
    assert_eq!(shown["routes"]["api"]["body_limit"], "10MiB");
    assert!(warnings.is_empty(), "{warnings}");
}

#[test]
fn every_kind_of_match() {
    let gateway = good("matches.yaml").gateway;
    let matches = &gateway.routes["everything"].matches;
    let (exact, wildcard) =
        (HostPattern::Exact("shop.example".into()), HostPattern::Wildcard("shop.example".into()));
    assert_eq!(matches.hosts, [exact, wildcard]);
    let regex = |text: &str| regex::Regex::new(text).expect("an expression");
    let prefix = |text: &str| PathRule::Prefix(text.into());
    assert_eq!(
        matches.paths,
        [
            PathRule::Exact("/login".into()),
            prefix("/api"),
            prefix("/"),
            PathRule::Regex(regex("^/users/[0-9]+$"))
        ]
    );
    assert_eq!(matches.methods, [Method::GET, Method::from_bytes(b"PURGE").expect("a method")]);
    let rules: Vec<_> = matches.headers.iter().map(|(name, rule)| (name.as_str(), rule.clone())).collect();
    let expected = [
        ("x-plain", ValueRule::Exact("text".into())),
        ("x-there", ValueRule::Present),
        ("x-exact", ValueRule::Exact("1".into())),
        ("x-regex", ValueRule::Regex(regex("^a"))),
    ];
    assert_eq!(rules, expected);
    assert_eq!(matches.query, [("page".to_owned(), ValueRule::Exact("1".into()))]);
    let endpoints: Vec<_> =
        gateway.services["web"].releases["default"].endpoints.iter().map(|at| at.value.to_string()).collect();
    assert_eq!(endpoints, ["unix:/run/web.sock", "[2001:db8::7]:80", "web.example:80"]);
}

#[test]
fn maintenance_is_off_and_says_503_unless_the_file_says_otherwise() {
    let gateway = good("maintenance.yaml").gateway;
    let of = |route: &str| gateway.routes[route].maintenance.clone().expect("maintenance");
    let unsaid = Maintenance {
        on: false,
        status: StatusCode::SERVICE_UNAVAILABLE,
        body: None,
        page: None,
        retry_after: None,
        allow: Vec::new(),
    };
    assert_eq!(of("bare"), unsaid);
    let whole = of("whole");
    assert_eq!((whole.on, whole.status), (true, StatusCode::INTERNAL_SERVER_ERROR));
    let body = whole.body.expect("a body");
    assert_eq!((body.content_type.as_str(), body.text.as_str()), ("text/plain; charset=utf-8", "back soon"));
    let page = whole.page.expect("a page").value;
    assert_eq!(page, Path::new("/etc/gateway/pages/maintenance.html"), "relative to the file");
    assert_eq!((whole.retry_after, whole.allow.len()), (Some(seconds(300)), 1));
}

#[test]
fn every_limit_split_and_upstream_tls() {
    let gateway = good("limits.yaml").gateway;
    let limits = ListenerLimits {
        handshake: seconds(1),
        header: seconds(2),
        header_size: ByteSize(64 << 10),
        header_fields: 7,
        uri: ByteSize(4 << 10),
        body_idle: seconds(3),
        keepalive: seconds(4),
        keepalive_requests: 8,
        connections_per_ip: 9,
    };
    assert_eq!(gateway.listeners["http"].limits, limits);
    assert!(gateway.listeners["http"].proxy_protocol && !gateway.via);
    let nameservers =
        ["10.0.0.2:53", "[2001:db8::53]:5353"].map(|at| at.parse().expect("an address")).to_vec();
    let max_connections = Some(At { value: 5000, span: (0, 0).into() });
    assert_eq!(
        gateway.runtime,
        Runtime { threads: Some(3), max_connections, drain: seconds(5), nameservers }
    );
    assert_eq!(gateway.access_log, Some(AccessLog::File("/etc/gateway/log/access.log".into())));
    let service = &gateway.services["shared"];
    let Traffic::Split(shares) = &service.traffic else { panic!("{:?}", service.traffic) };
    assert_eq!(
        shares.iter().map(|(name, share)| (name.as_str(), *share)).collect::<Vec<_>>(),
        [("a", 80), ("b", 15), ("c", 5)]
    );
    let tls = service.tls.as_ref().expect("TLS");
    assert_eq!(tls.sni.as_deref(), Some("app.internal"));
    assert_eq!(tls.ca.as_ref().map(|ca| ca.value.as_path()), Some(Path::new("/etc/ca.pem")));
    assert_eq!(service.max_in_flight, Some(MaxInFlight { requests: 200, queue: 0, wait: seconds(3) }));
    let shared = &gateway.routes["shared"];
    assert_eq!(shared.timeout, Some(seconds(90)));
    assert_eq!(shared.max_in_flight, Some(MaxInFlight { requests: 7, queue: 7, wait: seconds(1) }));
}

#[test]
fn the_reference_loads_and_warns_of_nothing() {
    let Loaded { warnings, .. } = loaded(&repository().join("config/reference.yaml"));
    assert!(warnings.is_empty(), "{warnings}");
}

#[test]
fn the_reference_has_every_key_of_the_grammar() {
    let text = std::fs::read_to_string(repository().join("config/reference.yaml")).expect("the reference");
    let schema = schema();
    let mut keys = Vec::new();
    collect_keys(&schema, &mut keys);
    for key in keys {
        assert!(text.contains(&format!("{key}:")), "config/reference.yaml does not mention `{key}`");
    }
}

#[test]
fn the_reference_marks_what_is_refused_and_nothing_else() {
    let text = std::fs::read_to_string(repository().join("config/reference.yaml")).expect("the reference");
    let report = load("reference.yaml", &text, Path::new("/etc/gateway"), &Examples).err();
    let mut refused = Vec::new();
    for problem in report.iter().flat_map(|report| report.problems()) {
        assert_eq!(problem.code, Code::NotSupportedYet, "{problem}");
        refused.push(text[..problem.labels[0].span.offset()].matches('\n').count() + 1);
    }
    let keys =
        text.lines().enumerate().filter(|(_, line)| line.contains("[later]") && !line.starts_with('#'));
    let marked: Vec<_> = keys.map(|(index, _)| index + 1).collect();
    assert_eq!(refused, marked, "lines that are refused, and lines that say [later]");
}

fn collect_keys(schema: &serde_json::Value, keys: &mut Vec<String>) {
    if let Some(properties) = schema.get("properties").and_then(|properties| properties.as_object()) {
        keys.extend(properties.keys().cloned());
    }
    match schema {
        serde_json::Value::Object(fields) => fields.values().for_each(|value| collect_keys(value, keys)),
        serde_json::Value::Array(items) => items.iter().for_each(|value| collect_keys(value, keys)),
        _ => {}
    }
}

#[test]
fn the_committed_schema_is_current() {
    let path = repository().join("config/gateway.schema.json");
    let current = serde_json::to_string_pretty(&schema()).expect("a schema") + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &current).expect("a writable schema");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == current,
        "config/gateway.schema.json is not current: cargo run -p gateway -- schema > config/gateway.schema.json"
    );
}

#[test]
fn the_process_has_variables_and_files() {
    assert!(Process.env("PATH").is_some());
    assert!(Process.read(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml").as_path()).is_ok());
}
