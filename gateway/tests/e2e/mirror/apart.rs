//! A mirror takes part in nothing: not in retries, verdicts, ejections or anybody's turn.

use http::Method;

use super::{MIRRORED, Mirrored, over};
use crate::support::{Behaviour, Config, Fault, Gateway, Origin, RawOrigin};

#[tokio::test]
async fn a_request_that_is_tried_again_is_copied_once_and_whole() {
    for http2 in [false, true] {
        let dying = RawOrigin::steps().read_head().hold().start().await;
        let two = "api: { endpoints: [\"{dying}\", \"{api}\"], balance: round_robin }";
        let yaml =
            MIRRORED.replace("api: { endpoints: [\"{api}\"] }", two).replace("{dying}", dying.address());
        let mirrored = Mirrored::before(&yaml, Origin::always(200).named("shadow").start().await).await;
        let upload = over(http2, mirrored.gateway.request(Method::OPTIONS, "/search")).upload().await;
        assert!(upload.send("one ").await);
        let first = async || dying.received().contains("one ");
        mirrored.gateway.eventually("the first endpoint has a piece", first).await;
        drop(dying);
        let second = async || mirrored.api.requests().last().is_some_and(|last| last.text() == "one ");
        mirrored.gateway.eventually("so has the second", second).await;
        assert!(upload.send("two").await);
        assert_eq!(upload.finish().await.unwrap().status, 200);
        mirrored.becomes("answered", 1).await;
        assert_eq!((mirrored.shadow.last_request().text().as_str(), mirrored.shadow.hits()), ("one two", 1));
    }
}

#[tokio::test]
async fn a_request_whose_own_service_is_down_is_copied_all_the_same() {
    let Mirrored { gateway, api, shadow, .. } = Mirrored::start().await;
    api.stop().await;
    for http2 in [false, true] {
        assert_eq!(over(http2, gateway.get("/")).await.status, 502);
    }
    gateway.counted("mirror_requests_total", &[("result", "answered")], 2.0).await;
    assert_eq!(shadow.hits(), 2);
}

#[tokio::test]
async fn a_request_that_fails_over_is_copied_once() {
    let canary = Origin::always(500).named("canary").start().await;
    let releases = "api: { releases: { old: { endpoints: [\"{api}\"] }, new: { endpoints: [\"{canary}\"] } }, \
                    stable: old, canary: new, rollout: { weight: 100%, failover: { budget: 100% }, guard: { \
                    consecutive_failures: 1000, max_failed_requests: 1000, error_rate: { max: 99% } } } }";
    let yaml =
        MIRRORED.replace("api: { endpoints: [\"{api}\"] }", releases).replace("{canary}", canary.address());
    let mirrored = Mirrored::before(&yaml, Origin::always(200).named("shadow").start().await).await;
    let canary_has_traffic =
        async || mirrored.gateway.metrics().await.sum("split_weight", &[("release", "new")]) > 0.0;
    mirrored.gateway.eventually("the canary has traffic", canary_has_traffic).await;
    assert_eq!(mirrored.gateway.get("/").await.release(), "api");
    assert_eq!(canary.hits(), 1);
    assert_eq!((mirrored.copies().await, mirrored.shadow.hits()), (1.0, 1));
}

/// Copies go to a service in the middle of a rollout, whose endpoints are ejected for their first failure.
const JUDGED: &str = r#"
services:
  web: { endpoints: ["{web}"] }
  api:
    releases:
      old: { endpoints: ["{a}", "{b}"] }
      new: { endpoints: ["{c}", "{d}"] }
    stable: old
    canary: new
    rollout: { weight: 50%, guard: { consecutive_failures: 1, max_failed_requests: 1 } }
    eject: { consecutive_failures: 1, max: 100% }
routes:
  all: { match: { host: shop.example }, service: web, mirror: { service: api } }
  own: { match: { host: shop.example, path: /own }, service: api }
"#;

#[tokio::test]
async fn failing_copies_are_no_attempts_no_evidence_and_eject_nobody() {
    let web = Origin::always(200).named("web").start().await;
    let broken = Behaviour::status(500);
    let mut api = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let origin = Origin::always(200)
            .on("/copied", broken.clone())
            .on("/reset", broken.clone().fault(Fault::ResetBeforeHeader));
        api.push(origin.named(name).start().await);
    }
    let config = api.iter().fold(Config::new(JUDGED).origin(&web), Config::origin);
    let gateway = Gateway::run(config).await;
    gateway.counted("split_weight", &[("release", "new")], 1.0).await;
    for path in ["/copied", "/reset"] {
        assert_eq!(gateway.get(path).repeat(100).await.with_status(200), 100);
    }
    gateway.counted("mirror_requests_total", &[("service", "api"), ("result", "answered")], 100.0).await;
    gateway.counted("mirror_requests_total", &[("service", "api"), ("result", "failed")], 100.0).await;
    let [a, b, c, d] = [0, 1, 2, 3].map(|index: usize| api[index].hits());
    assert_eq!((a + b, c + d), (200, 0), "stable gets the copies");
    assert!(a > 0 && b > 0, "all of its endpoints do");

    let metrics = gateway.metrics().await;
    assert_eq!(metrics.sum("upstream_attempts_total", &[("service", "api")]), 0.0);
    assert_eq!(metrics.sum("http_requests_total", &[("service", "api")]), 0.0);
    assert_eq!(metrics.sum("upstream_ejections_total", &[]), 0.0);
    assert_eq!(metrics.sum("rollbacks_total", &[]), 0.0);
    assert_eq!(metrics.sum("split_weight", &[("service", "api"), ("release", "new")]), 50.0);
    let evidence = &gateway.rollout("api").await["evidence"];
    assert_eq!((&evidence["canary"]["attempts"], &evidence["stable"]["attempts"]), (&0.into(), &0.into()));
    assert_eq!(gateway.get("/own").repeat(20).await.with_status(200), 20);
}

#[tokio::test]
async fn copies_to_the_service_itself_leave_everybody_their_turn() {
    let other = Origin::always(200).named("other").start().await;
    let two = "api: { endpoints: [\"{api}\", \"{other}\"], balance: round_robin }";
    let yaml = MIRRORED.replace("api: { endpoints: [\"{api}\"] }", two).replace("{other}", other.address());
    let yaml = yaml
        .replace("service: shadow", "service: api")
        .replace("  shadow: { endpoints: [\"{shadow}\"], SERVICE }\n", "");
    let mirrored = Mirrored::before(&yaml, Origin::always(200).named("shadow").start().await).await;
    let answers = mirrored.gateway.get("/").repeat(40).await;
    assert_eq!((answers.served_by(&mirrored.api), answers.served_by(&other)), (20, 20));
    mirrored.becomes("answered", 40).await;
    assert_eq!(mirrored.api.hits() + other.hits(), 80);
}

#[tokio::test]
async fn copies_go_to_healthy_endpoints_alone() {
    let sick = Origin::always(200).on("/ready", Behaviour::status(500)).named("sick").start().await;
    let service = "health: { path: /ready, interval: 100ms }";
    let yaml = MIRRORED
        .replace("SERVICE", service)
        .replace("\"{shadow}\"", &format!("\"{{shadow}}\", \"{}\"", sick.address()));
    let shadow = Origin::always(200).named("shadow").start().await;
    let mirrored = Mirrored::before(&yaml, shadow).await;
    let up = async |count: f64| {
        let labels = [("service", "shadow")];
        let up = async || mirrored.gateway.metrics().await.sum("upstream_endpoint_up", &labels) == count;
        mirrored.gateway.eventually("the health checks have said so", up).await;
    };
    let copied = |origin: &Origin| origin.requests().iter().filter(|request| request.path == "/").count();
    up(1.0).await;
    mirrored.gateway.get("/").repeat(20).await;
    mirrored.becomes("answered", 20).await;
    assert_eq!((copied(&mirrored.shadow), copied(&sick)), (20, 0));
    mirrored.shadow.set_behaviour(Behaviour::status(500));
    up(0.0).await;
    assert_eq!(mirrored.gateway.get("/").repeat(20).await.with_status(200), 20);
    mirrored.becomes("failed", 20).await;
    assert_eq!((copied(&mirrored.shadow), copied(&sick)), (20, 0));
}

#[tokio::test]
async fn only_a_trusted_proxy_may_call_a_request_a_copy_and_a_copy_is_not_copied_again() {
    for (trusted, mark) in [("[]", None), ("[127.0.0.1]", Some("true"))] {
        let yaml = format!("client_ip: {{ trusted_proxies: {trusted} }}\n{MIRRORED}");
        let mirrored = Mirrored::before(&yaml, Origin::always(200).named("shadow").start().await).await;
        for http2 in [false, true] {
            assert_eq!(over(http2, mirrored.gateway.get("/")).header("x-mirrored", "true").await.status, 200);
            assert_eq!(mirrored.api.last_request().header("x-mirrored"), mark);
        }
        assert_eq!((mirrored.count("skipped").await, mirrored.shadow.hits()), (2.0, 0));
    }
}
