//! Which release and which endpoint serve a request.

use crate::support::certificates::origin_tls;
use crate::support::request::Answers;
use crate::support::{BOTH_LISTENERS, Behaviour, Config, Gateway, ONE_ORIGIN, Origin, one_origin};

/// Checks a share of `count` requests: within five standard deviations.
#[track_caller]
fn assert_share(served: usize, count: usize, share: f64) {
    let (n, expected) = (count as f64, count as f64 * share);
    let allowed = 5.0 * (share * (1.0 - share) / n).sqrt() * n;
    assert!(
        (served as f64 - expected).abs() <= allowed,
        "{served} of {count}, expected {expected} ± {allowed:.0}"
    );
}

/// A stable and a canary release of one service.
struct Pair {
    gateway: Gateway,
    stable: Origin,
    canary: Origin,
    config: Config,
}

const PAIR: &str = r#"
services:
  api:
    releases:
      api-41: { endpoints: ["{api-41}"] }
      api-42: { endpoints: ["{api-42}"] }
    stable: api-41
    canary: api-42
    rollout: { weight: 10% }
routes:
  all: { match: { host: shop.example }, service: api }
"#;

impl Pair {
    async fn with_rollout(rollout: &str) -> Self {
        let stable = Origin::always(200).named("api-41").start().await;
        let canary = Origin::always(200).named("api-42").start().await;
        let yaml = PAIR.replace("rollout: { weight: 10% }", &format!("rollout: {{ {rollout} }}"));
        let config = Config::new(format!("{BOTH_LISTENERS}{yaml}")).origin(&stable).origin(&canary);
        let gateway = Gateway::run(&config).await;
        Self { gateway, stable, canary, config }
    }

    async fn ask(&self, count: usize) -> Answers {
        let answers = self.gateway.get("/").repeat(count).await;
        assert_eq!(answers.with_status(200), count, "{answers:?}");
        answers
    }
}

#[tokio::test]
async fn the_canary_gets_its_weight() {
    let pair = Pair::with_rollout("weight: 10%").await;
    let answers = pair.ask(2000).await;
    assert_share(answers.served_by(&pair.canary), 2000, 0.1);
    assert_eq!(answers.served_by(&pair.stable) + answers.served_by(&pair.canary), 2000);
    let metrics = pair.gateway.metrics().await;
    assert_eq!(metrics.sum("split_weight", &[("service", "api"), ("release", "api-42")]), 10.0);
    assert_eq!(metrics.sum("split_weight", &[("service", "api"), ("release", "api-41")]), 90.0);
}

#[tokio::test]
async fn a_changed_weight_acts_at_once() {
    let pair = Pair::with_rollout("weight: 0%").await;
    assert_eq!(pair.ask(200).await.served_by(&pair.canary), 0);
    pair.gateway.change_config(pair.config.replace("weight: 0%", "weight: 100%")).await;
    assert_eq!(pair.ask(200).await.served_by(&pair.canary), 200);
    pair.gateway.change_config(pair.config.replace("weight: 0%", "weight: 50%")).await;
    assert_share(pair.ask(1000).await.served_by(&pair.canary), 1000, 0.5);
}

#[tokio::test]
async fn blue_green_is_one_changed_word() {
    let pair = Pair::with_rollout("weight: 0%").await;
    let blue = pair.config.replace("    canary: api-42\n    rollout: { weight: 0% }\n", "");
    pair.gateway.change_config(&blue).await;
    assert_eq!(pair.ask(100).await.served_by(&pair.stable), 100);
    pair.gateway.change_config(blue.replace("stable: api-41", "stable: api-42")).await;
    assert_eq!(pair.ask(100).await.served_by(&pair.canary), 100);
}

#[tokio::test]
async fn a_split_divides_among_many() {
    let origins = [
        Origin::always(200).named("a").start().await,
        Origin::always(200).named("b").start().await,
        Origin::always(200).named("c").start().await,
    ];
    let yaml = r#"
services:
  api:
    releases: { a: { endpoints: ["{a}"] }, b: { endpoints: ["{b}"] }, c: { endpoints: ["{c}"] } }
    stable: a
    split: { a: 80, b: 15, c: 5 }
routes:
  all: { match: { host: shop.example }, service: api }
"#;
    let config = origins.iter().fold(Config::new(yaml), |config, origin| config.origin(origin));
    let gateway = Gateway::run(config).await;
    let answers = gateway.get("/").repeat(2000).await;
    for (origin, share) in origins.iter().zip([0.8, 0.15, 0.05]) {
        assert_share(answers.served_by(origin), 2000, share);
    }
}

#[tokio::test]
async fn a_cookie_keeps_a_user_with_a_release_while_the_weight_grows() {
    let pair = Pair::with_rollout("weight: 30%, sticky: { cookie: gw_id, ttl: 30d }").await;
    let mut users = Vec::new();
    for _ in 0..40 {
        let answer = pair.gateway.get("/").await;
        let set = answer.header("set-cookie").expect("a user without a cookie gets one").to_owned();
        for attribute in ["gw_id=", "HttpOnly", "Secure", "SameSite=Lax", "Max-Age=2592000", "Path=/"] {
            assert!(set.contains(attribute), "{set}");
        }
        assert!(!set.contains("api-4"), "the cookie names the user, never the release: {set}");
        users.push((set.split(';').next().unwrap().to_owned(), answer.release().to_owned()));
    }
    for (cookie, release) in &users {
        let answer = pair.gateway.get("/").header("cookie", &format!("theme=dark; {cookie}")).await;
        assert_eq!((answer.release(), answer.header("set-cookie")), (release.as_str(), None));
    }
    pair.gateway.change_config(pair.config.replace("weight: 30%", "weight: 80%")).await;
    for (cookie, release) in users.iter().filter(|(_, release)| release == "api-42") {
        assert_eq!(pair.gateway.get("/").header("cookie", cookie).await.release(), release, "in stays in");
    }
    let sent = pair.stable.requests().into_iter().chain(pair.canary.requests());
    assert!(
        sent.filter_map(|request| request.header("cookie").map(str::to_owned))
            .all(|cookie| cookie.starts_with("theme=dark") || cookie.starts_with("gw_id="))
    );
}

#[tokio::test]
async fn a_plain_listener_mints_no_secure_cookie_that_would_be_lost() {
    let pair = Pair::with_rollout("weight: 30%, sticky: { cookie: gw_id, ttl: 30d }").await;
    let answer = pair.gateway.get("/").plain().await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("set-cookie").is_none_or(|cookie| cookie.contains("HttpOnly")));
}

#[tokio::test]
async fn a_header_keeps_a_user_with_a_release() {
    let pair = Pair::with_rollout("weight: 50%, sticky: { header: x-user-id }").await;
    let mut canary = 0;
    for user in 0..60 {
        let answers = pair.gateway.get("/").header("x-user-id", &format!("user-{user}")).repeat(4).await;
        assert_eq!(answers.releases.len(), 1, "user {user} went to several: {answers:?}");
        canary += answers.served_by(&pair.canary) / 4;
    }
    assert_share(canary, 60, 0.5);
}

#[tokio::test]
async fn an_address_keeps_a_user_with_a_release() {
    let pair = Pair::with_rollout("weight: 50%, sticky: client_ip").await;
    let mut canary = 0;
    for host in 1..=60 {
        let request = pair.gateway.get("/").source(&format!("127.0.1.{host}"));
        let answers = request.repeat(3).await;
        assert_eq!(answers.releases.len(), 1, "address {host} went to several: {answers:?}");
        canary += answers.served_by(&pair.canary) / 3;
    }
    assert_share(canary, 60, 0.5);
}

#[tokio::test]
async fn an_override_is_taken_from_allowed_sources_alone() {
    let pair = Pair::with_rollout("weight: 0%, override: { header: x-canary, from: [127.0.0.2/32] }").await;
    let ask = async |source: &str, wish: &str| {
        pair.gateway.get("/").source(source).header("x-canary", wish).repeat(20).await.served_by(&pair.canary)
    };
    assert_eq!(ask("127.0.0.2", "always").await, 20);
    assert_eq!(ask("127.0.0.2", "never").await, 0);
    assert_eq!(ask("127.0.0.2", "perhaps").await, 0);
    assert_eq!(ask("127.0.0.1", "always").await, 0);
    pair.gateway.change_config(pair.config.replace("weight: 0%", "weight: 100%")).await;
    assert_eq!(ask("127.0.0.2", "never").await, 0);
    assert_eq!(ask("127.0.0.1", "never").await, 20);
}

#[tokio::test]
async fn endpoints_of_every_kind_serve() {
    let directory = tempfile::tempdir().unwrap();
    let unix = Origin::always(200).named("unix").unix(directory.path().join("origin.sock")).start().await;
    let ipv6 = Origin::always(200).named("ipv6").ipv6().start().await;
    let named = Origin::always(200).named("named").start().await;
    for (origin, address) in [
        (&unix, unix.address().to_owned()),
        (&ipv6, ipv6.address().to_owned()),
        (&named, format!("localhost:{}", named.port())),
    ] {
        let gateway = Gateway::run(Config::new(ONE_ORIGIN).value("origin", &address)).await;
        let answers = gateway.get("/").repeat(5).await;
        assert_eq!(answers.served_by(origin), 5, "{address}: {answers:?}");
        assert_eq!(gateway.get("/").http2().await.status, 200, "{address}");
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_503_and_does_not_keep_the_gateway_from_starting() {
    let gateway = Gateway::run(Config::new(ONE_ORIGIN).value("origin", "nobody.invalid:80")).await;
    let answer = gateway.get("/").await;
    assert_eq!(answer.status, 503, "{answer:?}");
}

#[tokio::test]
async fn every_protocol_is_spoken_to_origins() {
    let h2 = || origin_tls(&["h2"]);
    let ca = "tls: { ca: certs/ca.pem, sni: shop.example }";
    for (service, origin, version) in [
        ("protocol: h2c".to_owned(), Origin::script(Behaviour::echo()), "HTTP/2.0"),
        (format!("protocol: h2, {ca}"), Origin::script(Behaviour::echo()).tls(h2()), "HTTP/2.0"),
        (
            format!("protocol: http1, {ca}"),
            Origin::script(Behaviour::echo()).tls(origin_tls(&["http/1.1"])),
            "HTTP/1.1",
        ),
    ] {
        let origin = origin.start().await;
        let yaml = ONE_ORIGIN.replace("[\"{origin}\"]", &format!("[\"{{origin}}\"], {service}"));
        let gateway = Gateway::run(one_origin(&origin).with_yaml(yaml)).await;
        for request in [gateway.post("/x?y=1", "body"), gateway.post("/x?y=1", "body").http2()] {
            let answer = request.await;
            assert_eq!(answer.status, 200, "{service}: {answer:?}");
            let seen = answer.json();
            assert_eq!(
                (&seen["version"], &seen["body"], &seen["path"]),
                (&version.into(), &"body".into(), &"/x?y=1".into()),
                "{service}"
            );
        }
        let seen = origin.last_request();
        let host = seen.header("host").or(seen.header(":authority"));
        assert_eq!(host, Some("shop.example"), "{service}");
    }
}

#[tokio::test]
async fn an_origin_whose_certificate_does_not_fit_is_502() {
    let origin = Origin::always(200).tls(origin_tls(&["http/1.1"])).start().await;
    for tls in ["ca: certs/clients.pem, sni: shop.example", "ca: certs/ca.pem, sni: other.example"] {
        let yaml = ONE_ORIGIN.replace("[\"{origin}\"]", &format!("[\"{{origin}}\"], tls: {{ {tls} }}"));
        let gateway = Gateway::run(one_origin(&origin).with_yaml(yaml)).await;
        assert_eq!(gateway.get("/").await.status, 502, "{tls}");
    }
    assert_eq!(origin.hits(), 0);
}

#[tokio::test]
async fn a_connection_verified_by_one_authority_is_not_used_under_another() {
    // The proxy library's pool does not know by whom a connection was verified.
    let origin = Origin::always(200).tls(origin_tls(&["http/1.1"])).start().await;
    let yaml = ONE_ORIGIN.replace(
        "[\"{origin}\"]",
        "[\"{origin}\"], timeouts: { keepalive: 60s }, tls: { ca: certs/ca.pem, sni: shop.example }",
    );
    let config = one_origin(&origin).with_yaml(yaml);
    let gateway = Gateway::run(&config).await;
    assert_eq!(gateway.get("/").repeat(3).await.with_status(200), 3);
    assert_eq!(origin.connections(), 1, "the connection is kept");
    gateway.change_config(config.replace("certs/ca.pem", "certs/clients.pem")).await;
    assert_eq!(gateway.get("/").await.status, 502);
}

#[tokio::test]
async fn requests_are_spread_over_endpoints() {
    for balance in ["round_robin", "least_requests"] {
        let a = Origin::always(200).named("a").start().await;
        let b = Origin::always(200).named("b").start().await;
        let yaml =
            ONE_ORIGIN.replace("[\"{origin}\"]", &format!("[\"{{a}}\", \"{{b}}\"], balance: {balance}"));
        let gateway = Gateway::run(Config::new(yaml).origin(&a).origin(&b)).await;
        let answers = gateway.get("/").repeat(400).await;
        assert_share(answers.served_by(&a), 400, 0.5);
        if balance == "round_robin" {
            assert_eq!(answers.served_by(&a), 200);
        }
    }
}

#[tokio::test]
async fn hash_keeps_an_address_at_an_endpoint() {
    let a = Origin::always(200).named("a").start().await;
    let b = Origin::always(200).named("b").start().await;
    let yaml = ONE_ORIGIN.replace("[\"{origin}\"]", "[\"{a}\", \"{b}\"], balance: hash");
    let gateway = Gateway::run(Config::new(yaml).origin(&a).origin(&b)).await;
    for host in 1..=20 {
        let answers = gateway.get("/").source(&format!("127.0.2.{host}")).repeat(3).await;
        assert_eq!(answers.releases.len(), 1, "{answers:?}");
    }
    assert!(a.hits() > 0 && b.hits() > 0);
}
