//! Active checks: who is asked, who is believed, and who is used meanwhile.

use std::time::Duration;

use http::Version;

use crate::support::certificates::origin_tls;
use crate::support::{Behaviour, Config, Gateway, ONE_ORIGIN, Origin, one_origin};

/// A service at `{a}` and `{b}` that are checked often.
const PAIR: &str = r#"
services:
  api:
    endpoints: ["{a}", "{b}"]
    balance: round_robin
    health: { path: /ready, interval: 100ms, timeout: 100ms, unhealthy_after: 2, healthy_after: 2 }
routes:
  all: { match: { host: shop.example }, service: api }
"#;

const HANGING: Duration = Duration::from_secs(600);

struct Pair {
    gateway: Gateway,
    a: Origin,
    b: Origin,
    config: Config,
}

impl Pair {
    /// Two origins that serve; what `b` says at `/ready` is given.
    async fn with(ready: Behaviour) -> Self {
        Self::configured(PAIR, ready).await
    }

    async fn configured(yaml: &str, ready: Behaviour) -> Self {
        let a = Origin::always(200).named("a").start().await;
        let b = Origin::always(200).named("b").on("/ready", ready).start().await;
        let config = Config::new(yaml).origin(&a).origin(&b);
        Self { gateway: Gateway::run(&config).await, a, b, config }
    }

    /// How many of 20 requests `b` served; all must be served.
    async fn served_by_b(&self) -> usize {
        let answers = self.gateway.get("/").repeat(20).await;
        assert_eq!(answers.with_status(200), 20, "{answers:?}");
        answers.served_by(&self.b)
    }

    async fn becomes(&self, up: bool) {
        let what = format!("endpoint b is up: {up}");
        self.gateway.eventually(&what, async || is_up(&self.gateway, &self.b).await == up).await;
    }

    /// Waits until `b` has been checked so many more times.
    async fn more_checks(&self, count: usize) {
        let wanted = checks(&self.b) + count;
        self.gateway.eventually("b is checked again", async || checks(&self.b) >= wanted).await;
    }
}

async fn is_up(gateway: &Gateway, origin: &Origin) -> bool {
    let labels = [("service", "api"), ("endpoint", origin.address())];
    gateway.metrics().await.sum("upstream_endpoint_up", &labels) == 1.0
}

fn checks(origin: &Origin) -> usize {
    origin.requests().iter().filter(|request| request.path == "/ready").count()
}

#[tokio::test]
async fn an_endpoint_that_fails_its_checks_is_taken_out_and_comes_back() {
    let pair = Pair::with(Behaviour::status(200)).await;
    assert_eq!(pair.served_by_b().await, 10);
    pair.b.set_behaviour(Behaviour::status(503));
    pair.becomes(false).await;
    assert_eq!(pair.served_by_b().await, 0);
    let services = pair.gateway.admin("GET", "/v1/services").await.json();
    let endpoint = &services["services"][0]["releases"][0]["endpoints"][1];
    assert_eq!((&endpoint["available"], &endpoint["healthy"]), (&false.into(), &false.into()));
    assert!(pair.gateway.log().contains("endpoint is unhealthy"));
    pair.b.set_behaviour(Behaviour::status(200));
    pair.becomes(true).await;
    assert_eq!(pair.served_by_b().await, 10);
}

#[tokio::test]
async fn serving_begins_after_the_first_round_of_checks() {
    let pair = Pair::with(Behaviour::status(500)).await;
    assert!(!is_up(&pair.gateway, &pair.b).await, "one bad check is enough for an endpoint that is new");
    assert_eq!(pair.served_by_b().await, 0);
}

#[tokio::test]
async fn a_check_that_hangs_has_failed_and_holds_up_no_other() {
    let pair = Pair::with(Behaviour::status(200).delay(HANGING)).await;
    pair.becomes(false).await;
    assert_eq!(pair.served_by_b().await, 0);
    let wanted = checks(&pair.a) + 5;
    pair.gateway.eventually("a is checked on", async || checks(&pair.a) >= wanted).await;
    pair.more_checks(3).await;
    assert!(pair.b.open_connections() <= 2, "checks do not pile up: {}", pair.b.open_connections());
}

#[tokio::test]
async fn only_2xx_is_healthy_unless_said() {
    for bad in [302, 404, 503] {
        let pair = Pair::with(Behaviour::status(bad)).await;
        assert!(!is_up(&pair.gateway, &pair.b).await, "{bad}");
        pair.b.set_behaviour(Behaviour::status(204));
        pair.becomes(true).await;
    }
    let said = PAIR.replace("path: /ready", "path: /ready, status: [200, 204, 3xx, 404]");
    for (status, up) in [(204, true), (302, true), (404, true), (201, false), (410, false)] {
        let pair = Pair::configured(&said, Behaviour::status(status)).await;
        pair.becomes(up).await;
    }
}

#[tokio::test]
async fn fewer_failures_than_asked_for_change_nothing() {
    let patient = PAIR.replace("unhealthy_after: 2", "unhealthy_after: 1000");
    let pair = Pair::configured(&patient, Behaviour::status(200)).await;
    pair.b.set_behaviour(Behaviour::status(503));
    pair.more_checks(5).await;
    assert!(is_up(&pair.gateway, &pair.b).await);
}

#[tokio::test]
async fn an_endpoint_that_a_reload_brings_waits_for_its_first_check() {
    let slow = PAIR.replace("interval: 100ms, timeout: 100ms", "interval: 20s, timeout: 20s");
    let alone = slow.replace(r#"["{a}", "{b}"]"#, r#"["{a}"]"#);
    let pair = Pair::configured(&alone, Behaviour::status(200).delay(HANGING)).await;
    pair.gateway.change_config(pair.config.with_yaml(&slow)).await;
    assert_eq!(pair.served_by_b().await, 0);
    assert!(!is_up(&pair.gateway, &pair.b).await);

    let other = Origin::always(200).named("b").start().await;
    let good = pair.config.with_yaml(slow.replace("{b}", other.address()));
    pair.gateway.change_config(good).await;
    let up = async || is_up(&pair.gateway, &other).await;
    pair.gateway.eventually("the good endpoint is up after one check", up).await;
    assert_eq!(checks(&other), 1);
    assert!(pair.gateway.get("/").repeat(10).await.served_by(&other) > 0);
}

#[tokio::test]
async fn what_checks_have_found_survives_a_reload() {
    let stubborn = PAIR.replace("healthy_after: 2", "healthy_after: 1000000");
    let pair = Pair::configured(&stubborn, Behaviour::status(503)).await;
    pair.becomes(false).await;
    pair.b.set_behaviour(Behaviour::status(200));
    pair.gateway.change_config(pair.config.replace("service: api }", "service: api, timeout: 9s }")).await;
    pair.more_checks(5).await;
    assert!(!is_up(&pair.gateway, &pair.b).await, "a forgotten endpoint would need one good check");
}

#[tokio::test]
async fn an_endpoint_is_used_again_and_asked_no_more_when_checks_are_switched_off() {
    let pair = Pair::with(Behaviour::status(503)).await;
    pair.becomes(false).await;
    let line = PAIR.lines().find(|line| line.contains("health:")).unwrap();
    pair.gateway.change_config(pair.config.replace(line, "")).await;
    pair.becomes(true).await;
    assert_eq!(pair.served_by_b().await, 10);
}

#[tokio::test]
async fn checks_of_a_removed_endpoint_end() {
    let pair = Pair::with(Behaviour::status(200)).await;
    pair.gateway.change_config(pair.config.replace(r#"["{a}", "{b}"]"#, r#"["{a}"]"#)).await;
    let shown =
        async || pair.gateway.metrics().await.has("upstream_endpoint_up", &[("endpoint", pair.b.address())]);
    pair.gateway.eventually("its series is gone", async || !shown().await).await;
    let (before, wanted) = (checks(&pair.b), checks(&pair.a) + 10);
    pair.gateway.eventually("a is checked on", async || checks(&pair.a) >= wanted).await;
    assert!(checks(&pair.b) <= before + 1, "at most the one under way");
}

#[tokio::test]
async fn when_every_check_fails_every_endpoint_is_used() {
    let pair = Pair::with(Behaviour::status(200)).await;
    let missing = pair.config.replace("/ready", "/nowhere");
    let (a, b) = (&pair.a, &pair.b);
    for origin in [a, b] {
        origin.set_behaviour(Behaviour::status(404));
    }
    pair.gateway.change_config(missing).await;
    pair.becomes(false).await;
    pair.gateway.eventually("a is down", async || !is_up(&pair.gateway, a).await).await;
    let answers = pair.gateway.get("/").repeat(20).await;
    assert_eq!((answers.served_by(a), answers.served_by(b)), (10, 10));
}

#[tokio::test]
async fn checks_speak_what_the_service_speaks() {
    let checked = |rest: &str| {
        let with = format!("health: {{ path: /ready, interval: 100ms }}, {rest}");
        ONE_ORIGIN.replace("endpoints: [\"{origin}\"]", &format!("endpoints: [\"{{origin}}\"], {with}"))
    };
    let tls = "tls: { ca: certs/ca.pem, sni: shop.example }";
    let directory = tempfile::tempdir().unwrap();
    let always = || Origin::always(200);
    let cases = [
        (always(), checked("protocol: http1"), Version::HTTP_11),
        (always(), checked("protocol: h2c"), Version::HTTP_2),
        (always().tls(origin_tls(&["http/1.1"])), checked(tls), Version::HTTP_11),
        (always().tls(origin_tls(&["h2"])), checked(&format!("protocol: h2, {tls}")), Version::HTTP_2),
        (always().unix(directory.path().join("origin.sock")), checked("protocol: http1"), Version::HTTP_11),
    ];
    for (origin, yaml, version) in cases {
        let origin = origin.start().await;
        let gateway = Gateway::run(one_origin(&origin).with_yaml(yaml.clone())).await;
        assert!(is_up(&gateway, &origin).await, "{yaml}");
        let check = origin.last_request();
        assert_eq!((check.path.as_str(), check.version), ("/ready", version), "{yaml}");
        let host = check.header("host").or(check.header(":authority")).unwrap().to_owned();
        let expected = match origin.port() {
            0 => "localhost".to_owned(),
            port if yaml.contains("sni") => format!("shop.example:{port}"),
            port => format!("127.0.0.1:{port}"),
        };
        assert_eq!(host, expected);
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_be_trusted_is_unhealthy() {
    let pair = Pair::configured(
        &PAIR.replace("    balance", "    tls: { ca: certs/ca.pem, sni: other.example }\n    balance"),
        Behaviour::status(200),
    )
    .await;
    pair.becomes(false).await;
}

#[tokio::test]
async fn a_canary_waits_for_its_first_good_check_and_is_not_rolled_back_meanwhile() {
    const CANARY: &str = r#"
services:
  api:
    releases: { a: { endpoints: ["{a}"] }, b: { endpoints: ["{b}"] } }
    stable: a
    canary: b
    rollout: { weight: 50% }
    health: { path: /ready, interval: 100ms, timeout: 100ms, unhealthy_after: 2, healthy_after: 2 }
routes:
  all: { match: { host: shop.example }, service: api }
"#;
    let pair = Pair::configured(CANARY, Behaviour::status(503)).await;
    let state = async |state| {
        pair.gateway.metrics().await.sum("rollout_state", &[("release", "b"), ("state", state)]) == 1.0
    };
    pair.more_checks(3).await;
    assert!(state("pending").await);
    assert_eq!(pair.served_by_b().await, 0);
    pair.b.set_behaviour(Behaviour::status(200));
    pair.gateway.eventually("the canary has traffic", async || pair.served_by_b().await > 0).await;
    pair.b.set_behaviour(Behaviour::status(503).delay(Duration::from_millis(1)));
    pair.gateway.eventually("rolled back", async || state("rolled_back").await).await;
}
