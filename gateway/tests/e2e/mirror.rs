//! Copies of requests for another service: what they are, how many, and that nobody ever waits for one.

mod apart;
mod bounds;

use std::time::Duration;

use http::{Method, Version};

use crate::support::certificates::origin_tls;
use crate::support::request::Request;
use crate::support::{Behaviour, Config, Gateway, Origin};

/// Everything to `api`, with copies to `shadow`. `SERVICE`, `ROUTE` and `MIRROR` are put in by tests.
const MIRRORED: &str = r#"
services:
  api: { endpoints: ["{api}"] }
  shadow: { endpoints: ["{shadow}"], SERVICE }
routes:
  all: { match: { host: shop.example }, service: api, ROUTE, mirror: { service: shadow, MIRROR } }
"#;

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// A gateway before `api`, with copies to `shadow`.
struct Mirrored {
    gateway: Gateway,
    api: Origin,
    shadow: Origin,
    config: Config,
}

impl Mirrored {
    /// The usual one: all requests are copied, and both answer 200.
    async fn start() -> Self {
        Self::with("share: 100%", Behaviour::status(200)).await
    }

    /// With this in `mirror`, and a mirror that behaves like this.
    async fn with(mirror: &str, shadow: Behaviour) -> Self {
        let shadow = Origin::script(shadow).named("shadow").start().await;
        Self::before(&MIRRORED.replace("MIRROR }", &format!("{mirror} }}")), shadow).await
    }

    /// With another YAML, in which `SERVICE`, `ROUTE` and `MIRROR` may still stand.
    async fn before(yaml: &str, shadow: Origin) -> Self {
        let api = Origin::always(200).named("api").start().await;
        let yaml = yaml.replace(", SERVICE", "").replace(", ROUTE", "").replace(", MIRROR", "");
        let config = Config::new(yaml).origin(&api).origin(&shadow);
        Self { gateway: Gateway::run(&config).await, api, shadow, config }
    }

    /// Waits until no copy is being made or on its way.
    async fn settled(&self) {
        let idle = async || self.in_flight().await == 0.0;
        self.gateway.eventually("no copy is on its way", idle).await;
    }

    async fn in_flight(&self) -> f64 {
        self.gateway.metrics().await.sum("mirror_requests_in_flight", &[])
    }

    /// Copies that came to this.
    async fn count(&self, result: &str) -> f64 {
        let labels = [("route", "all"), ("result", result)];
        self.gateway.metrics().await.sum("mirror_requests_total", &labels)
    }

    async fn becomes(&self, result: &str, count: usize) {
        let what = format!("{count} copies are {result}");
        self.gateway.eventually(&what, async || self.count(result).await == count as f64).await;
    }

    /// All copies, whatever they came to, once they have.
    async fn copies(&self) -> f64 {
        self.settled().await;
        self.gateway.metrics().await.sum("mirror_requests_total", &[("route", "all")])
    }
}

fn over(http2: bool, request: Request) -> Request {
    if http2 { request.http2() } else { request }
}

/// The fields of a request in order of name: Host by one name, framing and the mark left out.
fn fields(request: &loadtest::origin::Request) -> Vec<(String, String)> {
    let framing = ["content-length", "te", "transfer-encoding", "x-mirrored"];
    let mut fields = request.headers.clone();
    fields.retain(|(name, _)| !framing.contains(&name.as_str()));
    for (name, _) in &mut fields {
        if name == ":authority" {
            *name = "host".to_owned();
        }
    }
    fields.sort();
    fields
}

#[tokio::test]
async fn a_copy_is_the_request_as_the_origin_gets_it() {
    for (protocol, alpn) in [
        ("protocol: http1", None),
        ("protocol: h2c", None),
        ("tls: { ca: certs/ca.pem, sni: shop.example }", Some("http/1.1")),
        ("protocol: h2, tls: { ca: certs/ca.pem, sni: shop.example }", Some("h2")),
    ] {
        let shaping = "rewrite: { strip_prefix: /api, host: app.internal }, headers: { request: { \
                       set: { x-client: \"${client_ip}\", x-on: \"${release}\" }, remove: [x-secret, authorization] } }";
        let yaml = MIRRORED.replace("SERVICE", protocol).replace("ROUTE", shaping);
        let shadow = Origin::always(200).named("shadow");
        let shadow = match alpn {
            Some(alpn) => shadow.tls(origin_tls(&[alpn])),
            None => shadow,
        };
        let mirrored = Mirrored::before(&yaml, shadow.start().await).await;
        let mut sent = 0;
        for http2 in [false, true] {
            for (method, body) in
                [(Method::GET, ""), (Method::DELETE, ""), (Method::POST, "an order"), (Method::PUT, "")]
            {
                let request = mirrored.gateway.request(method, "/api//items/%41?q=1&q=%20").body(body);
                let request =
                    request.header("x-own", "kept").header("x-secret", "gone").header("cookie", "a=b");
                let request = request.header("authorization", "Basic Zm9vOmJhcg==").header("te", "trailers");
                assert_eq!(over(http2, request).await.status, 200);
                sent += 1;
                let arrived = async || {
                    mirrored.shadow.requests().last().is_some_and(|copy| copy.complete)
                        && mirrored.shadow.hits() == sent
                };
                mirrored.gateway.eventually("the copy is there", arrived).await;
                let (original, copy) = (mirrored.api.last_request(), mirrored.shadow.last_request());
                assert_eq!((&copy.method, &copy.path), (&original.method, &original.path));
                assert_eq!(copy.path, "/items/A?q=1&q=%20");
                assert_eq!((copy.text(), copy.text().as_str()), (original.text(), body));
                assert_eq!(fields(&copy), fields(&original), "{protocol}, http2 {http2}");
                let trailers = (copy.version == Version::HTTP_2).then_some("trailers");
                assert_eq!(copy.header("te"), trailers, "gRPC asks for it");
                assert_eq!(copy.header_values("x-mirrored"), ["true"]);
                assert_eq!(original.header("x-mirrored"), None);
                assert_eq!((copy.header("x-own"), copy.header("x-secret")), (Some("kept"), None));
                assert_eq!((copy.header("authorization"), copy.header("x-on")), (None, Some("default")));
            }
        }
        mirrored.becomes("answered", sent).await;
    }
}

#[tokio::test]
async fn a_body_in_pieces_is_copied_whole_when_it_has_ended() {
    let mirrored = Mirrored::start().await;
    for http2 in [false, true] {
        let hits = mirrored.shadow.hits();
        let upload = over(http2, mirrored.gateway.request(Method::POST, "/upload")).upload().await;
        for piece in ["one ", "two ", "three"] {
            assert!(upload.send(piece).await);
            let arrived = async || {
                mirrored.api.requests().get(hits).is_some_and(|request| request.text().ends_with(piece))
            };
            mirrored.gateway.eventually("the origin has the piece", arrived).await;
            assert_eq!(mirrored.shadow.hits(), hits, "the copy waits for the end");
        }
        assert_eq!(upload.finish().await.unwrap().status, 200);
        let arrived = async || mirrored.shadow.requests().get(hits).is_some_and(|copy| copy.complete);
        mirrored.gateway.eventually("the copy is there", arrived).await;
        let copy = mirrored.shadow.last_request();
        assert_eq!((copy.text().as_str(), copy.header("content-length")), ("one two three", Some("13")));
    }
}

#[tokio::test]
async fn the_share_is_kept() {
    for (share, least, most) in [("0%", 0.0, 0.0), ("50%", 150.0, 250.0), ("100%", 400.0, 400.0)] {
        let mirrored = Mirrored::with(&format!("share: {share}"), Behaviour::status(200)).await;
        assert_eq!(mirrored.gateway.get("/").repeat(400).await.with_status(200), 400);
        let copies = mirrored.copies().await;
        assert!((least..=most).contains(&copies), "{copies} of 400 at {share}");
        assert_eq!(mirrored.shadow.hits() as f64, copies);
    }
}

#[tokio::test]
async fn copies_share_a_connection_one_after_the_other() {
    let mirrored = Mirrored::start().await;
    for _ in 0..5 {
        mirrored.gateway.get("/").await;
        mirrored.settled().await;
    }
    assert_eq!((mirrored.shadow.hits(), mirrored.shadow.connections()), (5, 1));
}

#[tokio::test]
async fn a_reload_changes_where_copies_go() {
    let mirrored = Mirrored::start().await;
    let other = Origin::always(200).named("other").start().await;
    mirrored.gateway.get("/").await;
    mirrored.becomes("answered", 1).await;

    let config = mirrored.config.clone().origin(&other);
    let elsewhere = config
        .replace("routes:", "  other: { endpoints: [\"{other}\"] }\nroutes:")
        .replace("service: shadow, share: 100%", "service: other");
    mirrored.gateway.change_config(&elsewhere).await;
    mirrored.gateway.get("/").await;
    let labels = [("route", "all"), ("service", "other"), ("result", "answered")];
    mirrored.gateway.counted("mirror_requests_total", &labels, 1.0).await;
    assert_eq!((mirrored.shadow.hits(), other.hits()), (1, 1));

    mirrored.gateway.change_config(elsewhere.replace(", mirror: { service: other }", "")).await;
    mirrored.gateway.get("/").await;
    assert!(!mirrored.gateway.metrics().await.has("mirror_requests_in_flight", &[("service", "shadow")]));
    assert_eq!((mirrored.shadow.hits(), other.hits(), mirrored.api.hits()), (1, 1, 3));
}

#[tokio::test]
async fn explain_tells_who_gets_copies() {
    let mirrored = Mirrored::with("share: 10%", Behaviour::status(200)).await;
    let explained = mirrored.gateway.command(&["explain", "https://shop.example/"]).await;
    let told = "10% of requests with a body of at most 64KiB are copied to shadow";
    assert!(explained.stdout.contains(told), "{explained:?}");
}
