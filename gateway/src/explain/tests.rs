use std::path::Path;

use http::{HeaderName, HeaderValue};

use super::*;
use crate::load;

const SHOP: &str = r#"
version: 1
client_ip: { trusted_proxies: [10.0.0.0/8] }
listeners: { web: { address: "127.0.0.1:8080" } }
services:
  api:
    releases: { api-41: { endpoints: ["127.0.0.1:8041"] }, api-42: { endpoints: ["127.0.0.1:8042"] } }
    stable: api-41
    canary: api-42
    rollout: { weight: 10%, sticky: { cookie: gw_id, ttl: 30d }, override: { header: x-canary, from: [192.0.2.0/24] } }
  web: { endpoints: ["web.example:3000"] }
routes:
  login: { match: { host: shop.example, path: /api/login, methods: [POST] }, service: api }
  api: { match: { host: shop.example, prefix: /api }, service: api, body_limit: 1MiB }
  web: { match: { host: shop.example }, service: web }
"#;

fn snapshot() -> Snapshot {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("gateway.yaml");
    std::fs::write(&path, SHOP).expect("written");
    compiled(&path)
}

fn compiled(path: &Path) -> Snapshot {
    offline::compile(load::load(path).expect("a good file")).expect("compiled")
}

fn asked(method: Method, url: &str, headers: &[(&'static str, &'static str)], peer: &str) -> Explanation {
    let pairs =
        headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    let question = Question {
        url: url.parse().expect("a URL"),
        method,
        headers: pairs.collect(),
        peer: peer.parse().expect("an address"),
    };
    explain(&snapshot(), &question)
}

fn get(url: &str, headers: &[(&'static str, &'static str)]) -> Explanation {
    asked(Method::GET, url, headers, "127.0.0.1")
}

#[test]
fn every_candidate_says_why_it_was_chosen_or_not() {
    let answer = get("http://Shop.Example:8080/x/../api//login", &[]);
    assert_eq!((answer.host.as_str(), answer.path.as_str()), ("shop.example", "/api/login"));
    assert_eq!(answer.route.as_deref(), Some("api"));
    let considered: Vec<_> = answer
        .candidates
        .iter()
        .map(|one| (one.route.as_str(), one.path.as_str(), one.result.as_str(), one.why.is_some()))
        .collect();
    let expected = [
        ("login", "= /api/login", "failed", true),
        ("api", "/api/*", "chosen", false),
        ("web", "*", "outranked", false),
    ];
    assert_eq!(considered, expected);
    let posted = asked(Method::POST, "http://shop.example/api/login", &[], "127.0.0.1");
    assert_eq!(posted.route.as_deref(), Some("login"));
}

#[test]
fn a_user_is_told_their_release_and_a_new_one_that_it_is_drawn() {
    let known = get("http://shop.example/api", &[("cookie", "gw_id=user-1")]);
    assert!(known.release.is_some());
    assert_eq!(known.why.as_deref(), Some("the hash of cookie `gw_id`"));
    assert_eq!(get("http://shop.example/api", &[("cookie", "gw_id=user-1")]).release, known.release);

    let new = get("http://shop.example/api", &[]);
    assert_eq!((new.release, new.reason.as_deref()), (None, Some("hashed")));
    let shares: Vec<_> = new.releases.iter().map(|release| (release.role.as_str(), release.weight)).collect();
    assert_eq!(shares, [("stable", 90.0), ("canary", 10.0)]);
}

#[test]
fn an_override_counts_only_from_where_it_is_allowed() {
    let wish = [("x-canary", "always")];
    let allowed = asked(Method::GET, "http://shop.example/api", &wish, "192.0.2.7");
    assert_eq!(allowed.release.as_deref(), Some("api-42"));
    assert_eq!(allowed.reason.as_deref(), Some("override_always"));
    let forwarded = [("x-canary", "always"), ("x-forwarded-for", "192.0.2.7")];
    let trusted = asked(Method::GET, "http://shop.example/api", &forwarded, "10.1.1.1");
    assert_eq!((trusted.client_ip.as_str(), trusted.release.as_deref()), ("192.0.2.7", Some("api-42")));
    let spoofed = asked(Method::GET, "http://shop.example/api", &forwarded, "198.51.100.1");
    assert_eq!(spoofed.reason.as_deref(), Some("hashed"));
}

#[test]
fn the_way_ends_where_it_would_end() {
    let nowhere = get("http://other.example/", &[]);
    assert_eq!((nowhere.outcome, nowhere.status), (Outcome::NoRoute, Some(404)));
    let encoded = get("http://shop.example/a%2Fb", &[]);
    assert_eq!((encoded.outcome, encoded.status), (Outcome::BadRequest, Some(400)));
    let host = get("http://shop.example/", &[("host", "no host")]);
    assert_eq!(host.outcome, Outcome::BadRequest);
}

#[test]
fn the_listener_is_the_one_of_the_port_or_the_only_one_of_the_scheme() {
    let listener = |url| get(url, &[]).listener.map(|found| found.name);
    assert_eq!(listener("http://shop.example:8080/").as_deref(), Some("web"));
    assert_eq!(listener("http://shop.example/").as_deref(), Some("web"));
    assert_eq!(listener("https://shop.example/"), None);
}

#[test]
fn people_read_it_from_top_to_bottom() {
    let text = text::render(&get("http://shop.example/api/login", &[("cookie", "gw_id=user-1")]));
    let arrow = |name: &str| if text.contains(&format!("→ {name}")) { "→" } else { " " };
    let expected = format!(
        "\
GET http://shop.example/api/login

  listener  web  127.0.0.1:8080 (http)
  client    127.0.0.1
  host      shop.example
  path      /api/login
  route       login  shop.example  = /api/login  no: the method is none of those asked for
            → api    shop.example  /api/*
              web    shop.example  *             outranked
  policy    body_limit  a request body of at most 1MiB, else 413
  service   api
  endpoint  retry  one more try after connect, reset, at most 20% of requests; the first byte within 30s of each
  release   {} api-41  stable  90 %  127.0.0.1:8041
            {} api-42  canary  10 %  127.0.0.1:8042
  because   the hash of cookie `gw_id`
",
        arrow("api-41"),
        arrow("api-42")
    );
    assert_eq!(text, expected);
}

/// A route with every policy.
const EVERYTHING: &str = r#"
version: 1
listeners: { web: { address: "127.0.0.1:8080" } }
rate_limits: { few: { key: route, rate: 1/s } }
services:
  api:
    endpoints: ["127.0.0.1:8041", "127.0.0.1:8042"]
    max_in_flight: 9
    health: { path: /ready }
    eject: {}
    retry: { attempts: 2, on: [connect, timeout, reset, 5xx, 404] }
routes:
  all:
    match: { prefix: / }
    service: api
    maintenance: { on: false }
    allow: [127.0.0.0/8]
    deny: [127.0.0.2]
    cors: { origins: "*" }
    limits: [few]
    basic_auth: { users: { ann: $2b$05$/jQrg5sCP.PtZI5ZOfpr1.3vYFueTtRI5dx2SHfDANmH.c7EhWPDi } }
    body_limit: 1MiB
    buffer_request: 1KiB
    max_in_flight: 5
    timeout: 60s
    rewrite: { prefix: /v1 }
    headers: { request: { set: { a: b } }, response: { set: { a: b } } }
    mirror: { service: api }
    security_headers: true
    compress: true
"#;

#[test]
fn policies_stand_in_the_order_they_act_as_the_manual_has_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("gateway.yaml");
    std::fs::write(&path, EVERYTHING).expect("written");
    let question = Question {
        url: "http://shop.example/".parse().expect("a URL"),
        method: Method::GET,
        headers: http::HeaderMap::new(),
        peer: "127.0.0.1".parse().expect("an address"),
    };
    let answer = explain(&compiled(&path), &question);
    let told: Vec<&str> = answer.policies.iter().map(|policy| policy.name.as_str()).collect();
    assert_eq!(told.len(), 17, "{told:?}");
    let manual = include_str!("../../../docs/policies.md");
    let (_, order) = manual.split_once("## The order in which policies act").expect("the section");
    let (order, _) = order.split_once("\n## ").expect("the next section");
    let rows: Vec<&str> =
        order.lines().filter_map(|line| line.strip_prefix("| [`")?.split('`').next()).collect();
    let mut rows = rows.into_iter();
    for name in told.into_iter().collect::<indexmap::IndexSet<_>>() {
        assert!(rows.any(|row| row == name), "{name} is not in its place");
    }
    let judges: Vec<&str> = answer.service_policies.iter().map(|policy| policy.name.as_str()).collect();
    assert_eq!(judges, ["health", "eject", "retry"]);
    let retry = "2 more tries after connect, timeout, reset, 5xx, 404, at most 20% of requests";
    assert!(answer.service_policies[2].does.starts_with(retry), "{:?}", answer.service_policies[2]);
}

#[test]
fn names_that_are_not_looked_up_are_shown_as_written() {
    let answer = get("http://shop.example/", &[]);
    assert_eq!(answer.releases[0].configured, ["web.example:3000"]);
    assert!(answer.releases[0].endpoints.is_empty());
    assert!(text::render(&answer).contains("web.example:3000"));
}
