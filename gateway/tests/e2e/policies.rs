//! One table of policies over HTTP/1.1, HTTP/2 and the handshake of a WebSocket: each acts alike, or is left alone by design.

mod table;

use std::fmt::Debug;
use std::time::Duration;

use futures_util::future::join_all;
use http::{HeaderMap, HeaderName, HeaderValue};
use loadtest::origin::Request as Arrived;

use self::table::{Case, Expected, Rules, WebSocket, cases};
use crate::support::certificates::certificates;
use crate::support::connection::Raw;
use crate::support::request::{Request, Upload};
use crate::support::{Behaviour, Config, Gateway, Origin};

/// How long the origin takes for a handshake: Pingora ends a tunnel at once when it reads a 101 before it has noted that
/// the handshake has no body, which an origin next door can bring about on a busy machine.
const UNHURRIED: Duration = Duration::from_millis(20);

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
    WebSocket,
}

impl Protocol {
    const ALL: [Self; 3] = [Self::Http1, Self::Http2, Self::WebSocket];

    /// As it stands in paths and names, and in the table as `{protocol}`.
    fn name(self) -> &'static str {
        match self {
            Self::Http1 => "h1",
            Self::Http2 => "h2",
            Self::WebSocket => "websocket",
        }
    }

    fn put_into(self, text: &str) -> String {
        text.replace("{protocol}", self.name())
    }

    /// The case's name in a failure.
    fn tells(self, case: &Case) -> String {
        match &case.websocket {
            WebSocket::LeftAlone { why, .. } if self == Self::WebSocket => {
                format!("{} × websocket (left alone: {why})", case.policy)
            }
            _ => format!("{} × {}", case.policy, self.name()),
        }
    }

    /// What is expected of a policy; nothing where it cannot meet such a request.
    fn rules(self, case: &Case) -> Option<&Rules> {
        match (self, &case.websocket) {
            (Self::Http1 | Self::Http2, _) | (Self::WebSocket, WebSocket::Alike) => Some(&case.rules),
            (Self::WebSocket, WebSocket::LeftAlone { rules, .. }) => Some(rules),
            (Self::WebSocket, WebSocket::Never(_)) => None,
        }
    }
}

/// What came back.
struct Seen {
    status: u16,
    fields: HeaderMap,
    body: String,
    /// Open when a WebSocket is.
    tunnel: Option<Raw>,
}

impl Seen {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Everything a case is run against.
struct World {
    gateway: Gateway,
    origin: Origin,
    shadow: Origin,
    sick: Origin,
}

/// Services of which there is one for each protocol, so that none sees what another did.
const SERVICES: &str = r#"
  narrow-{protocol}: { endpoints: ["{api}"], max_in_flight: { requests: 1, queue: 0 } }
  slow-{protocol}: { endpoints: ["{api}"], timeouts: { first_byte: 300ms } }
  flaky-{protocol}: { endpoints: ["{dead}", "{api}"], balance: round_robin, retry: { budget: 100% } }
  frail-{protocol}:
    endpoints: ["{sick}", "{api}"]
    balance: round_robin
    retry: { on: [5xx], budget: 100% }
    eject: { consecutive_failures: 1, for: 1h, max: 50% }
  checked-{protocol}: { endpoints: ["{sick}", "{api}"], balance: round_robin, health: { path: /ready } }
"#;

const FRAME: &str = r#"
listeners:
  https:
    address: "{https}"
    tls:
      certificates: [ { cert: certs/shop.pem, key: certs/shop.key } ]
      client_auth: { ca: certs/clients.pem, mode: optional, headers: { subject: x-client-subject, fingerprint: x-client-fingerprint } }
rate_limits:
  few: { key: route, rate: 1/h }
  none: { key: route, rate: 1/h, dry_run: true }
services:
  api: { endpoints: ["{api}"] }
  shadow: { endpoints: ["{shadow}"] }
"#;

impl World {
    async fn with(cases: &[Case]) -> Self {
        let text = Behaviour::status(200).body("worth compressing ".repeat(100));
        let mut origin = Origin::script(Behaviour::status(200))
            .named("api")
            .on("/websocket", Behaviour::websocket().delay(UNHURRIED));
        for (prefix, behaviour) in [
            ("/h1/compress", text.clone()),
            ("/h2/compress", text),
            ("/h1/max_in_flight", Behaviour::echo_body()),
            ("/h2/max_in_flight", Behaviour::echo_body()),
        ] {
            origin = origin.on(prefix, behaviour);
        }
        for protocol in Protocol::ALL {
            for policy in ["timeout", "first_byte"] {
                let late = Behaviour::websocket().delay(FOR_EVER);
                origin = origin.on(&format!("/{}/{policy}", protocol.name()), late);
            }
        }
        let (origin, shadow) = (origin.start().await, Origin::always(200).named("shadow").start().await);
        let sick = Origin::always(500).named("sick").start().await;
        let dead = Origin::always(200).start().await;
        let address = dead.address().to_owned();
        dead.stop().await;
        let config =
            Config::new(yaml(cases)).value("dead", &address).origin(&origin).origin(&shadow).origin(&sick);
        Self { gateway: Gateway::run(config).await, origin, shadow, sick }
    }

    /// Runs every case over one protocol; gives what is not as the table says.
    async fn run_all(&self, cases: &[Case], protocol: Protocol) -> Vec<String> {
        let mut failures = Vec::new();
        for case in cases {
            let Some(rules) = protocol.rules(case) else { continue };
            if let Err(error) = self.run(case, protocol, rules).await {
                failures.push(format!("{}: {error}", protocol.tells(case)));
            }
        }
        failures
    }

    /// Runs one case over one protocol to its end.
    async fn run(&self, case: &Case, protocol: Protocol, rules: &Rules) -> Result<(), String> {
        let held = if case.held { Some(self.hold(case, protocol).await) } else { None };
        for (turn, expected) in rules.in_turn.iter().enumerate() {
            let path = format!("/{}/{}/{turn}", protocol.name(), case.policy);
            let seen = self.ask(case, protocol, &path).await;
            self.check(case, protocol, expected, &path, seen)
                .await
                .map_err(|error| format!("request {turn}: {error}"))?;
        }
        drop(held);
        for (metric, labels, least) in &rules.counted {
            let labels: Vec<_> =
                labels.iter().map(|(name, value)| (*name, protocol.put_into(value))).collect();
            let labels: Vec<_> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
            self.gateway.counted(metric, &labels, *least).await;
        }
        Ok(())
    }

    async fn ask(&self, case: &Case, protocol: Protocol, path: &str) -> Seen {
        if protocol == Protocol::WebSocket {
            return self.shake_hands(case, path).await;
        }
        let request = self.request(case, protocol, path);
        let answer = if case.streamed {
            let upload = request.upload().await;
            upload.send(case.body).await;
            upload.finish().await.unwrap()
        } else {
            request.body(case.body).await
        };
        Seen { status: answer.status.as_u16(), body: answer.text(), fields: answer.headers, tunnel: None }
    }

    fn request(&self, case: &Case, protocol: Protocol, path: &str) -> Request {
        let mut request = self.gateway.request(case.method.clone(), path);
        for (name, value) in &case.fields {
            request = request.header(name, value);
        }
        if case.certificate {
            request = request.identity(&certificates().alice);
        }
        if protocol == Protocol::Http2 { request.http2() } else { request }
    }

    /// Asks for a WebSocket; shows that it takes messages if it opens.
    async fn shake_hands(&self, case: &Case, path: &str) -> Seen {
        let handshake = self.gateway.tls();
        let handshake = if case.certificate { handshake.identity(&certificates().alice) } else { handshake };
        let mut raw = Raw::new(handshake.connect().await.unwrap());
        let fields: String = case.fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        raw.send(format!(
            "GET {path} HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
        ))
        .await;
        let mut answer = raw.head().await;
        let mut tunnel = None;
        let lines = answer.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        let fields: HeaderMap = lines
            .map(|(name, value)| (HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap()))
            .collect();
        if answer.status == 101 {
            // "hello", masked with zeroes, and as it comes back.
            raw.send(b"\x81\x85\0\0\0\0hello").await;
            assert_eq!(raw.read_exact(7).await, b"\x81\x05hello", "{path}: messages pass");
            tunnel = Some(raw);
        } else {
            let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
            answer.body = raw.read_exact(length).await;
        }
        Seen { status: answer.status, body: answer.text(), fields, tunnel }
    }

    /// A request that is served until it is dropped; at the origin when this returns.
    async fn hold(&self, case: &Case, protocol: Protocol) -> (Option<Upload>, Option<Raw>) {
        let path = format!("/{}/{}/held", protocol.name(), case.policy);
        if protocol == Protocol::WebSocket {
            return (None, self.shake_hands(case, &path).await.tunnel);
        }
        let upload = self.request(case, protocol, &path).upload().await;
        let arrived = async || self.origin.requests().iter().any(|request| request.path == path);
        self.gateway.eventually("the origin is asked", arrived).await;
        (Some(upload), None)
    }

    async fn check(
        &self,
        case: &Case,
        protocol: Protocol,
        expected: &Expected,
        path: &str,
        seen: Seen,
    ) -> Result<(), String> {
        let opens = protocol == Protocol::WebSocket && expected.status == 200;
        let status = if opens { 101 } else { expected.status };
        same("status", &status, &seen.status).map_err(|error| format!("{error}: {}", seen.body))?;
        if let Some(code) = expected.code {
            let body: serde_json::Value = serde_json::from_str(&seen.body).unwrap_or_default();
            same("code", &Some(code), &body["error"].as_str())?;
        }
        for (name, value) in &expected.fields {
            field(&format!("answer's {name}"), &protocol.put_into(value), seen.field(name))?;
        }
        let id = seen.field("x-request-id").ok_or("the answer has no request id")?.to_owned();
        let arrived =
            self.origin.requests().into_iter().find(|request| request.header("x-request-id") == Some(&*id));
        match (&expected.origin, &arrived) {
            // How much of a body is here before the origin is asked is a matter of packets.
            _ if case.streamed => {}
            (None, Some(_)) => return Err("the origin was asked".to_owned()),
            (Some(_), None) => return Err("the origin was not asked".to_owned()),
            (Some(fields), Some(request)) => arrives(protocol, fields, request)?,
            (None, None) => {}
        }
        if let Some(mut tunnel) = seen.tunnel {
            // A close frame with 1000, masked with zeroes.
            tunnel.send(b"\x88\x82\0\0\0\0\x03\xe8").await;
            tunnel.read_to_end().await;
        }
        let logged = self.gateway.logged(path).await;
        same("termination", &expected.termination, &logged["termination"].as_str().unwrap_or_default())?;
        let route = format!("{}-{}", case.policy, protocol.name());
        same("route in the log", &route.as_str(), &logged["route"].as_str().unwrap_or_default())?;
        let labels = [("route", route.as_str()), ("http_status", &status.to_string())];
        self.gateway.counted("http_requests_total", &labels, 1.0).await;
        Ok(())
    }
}

#[tokio::test]
async fn every_policy_acts_alike_over_every_protocol() {
    let cases = cases();
    let world = World::with(&cases).await;
    let failures = join_all(Protocol::ALL.map(|protocol| world.run_all(&cases, protocol))).await.concat();
    assert!(failures.is_empty(), "not as the table says:\n{}", failures.join("\n"));
    let copies: Vec<String> = world.shadow.requests().into_iter().map(|copy| copy.path).collect();
    assert!(!copies.iter().any(|path| path.starts_with("/websocket")), "{copies:?}");
    assert_eq!(copies.len(), 2, "{copies:?}");
    assert!(!world.sick.requests().iter().any(|request| request.path.contains("/health")), "none but checks");
}

/// A route for each case and protocol, so that no protocol meets what another has used up.
fn yaml(cases: &[Case]) -> String {
    let services = Protocol::ALL.map(|protocol| protocol.put_into(SERVICES)).concat();
    let mut yaml = format!("{FRAME}{services}routes:\n");
    for (case, protocol) in cases.iter().flat_map(|case| Protocol::ALL.map(|protocol| (case, protocol))) {
        let Case { policy, route, .. } = case;
        let name = protocol.name();
        let route = protocol.put_into(route);
        yaml.push_str(&format!("  {policy}-{name}: {{ match: {{ prefix: /{name}/{policy} }}, {route} }}\n"));
    }
    yaml
}

/// What the origin got; `:path` and `:method` beside its fields.
fn arrives(protocol: Protocol, fields: &[(&str, &str)], request: &Arrived) -> Result<(), String> {
    for (name, value) in fields {
        let seen = match *name {
            ":path" => Some(request.path.as_str()),
            ":method" => Some(request.method.as_str()),
            name => request.header(name),
        };
        field(&format!("origin's {name}"), &protocol.put_into(value), seen)?;
    }
    Ok(())
}

/// Whether a field is as the table says: `*` is any value, and nothing is none.
fn field(what: &str, expected: &str, seen: Option<&str>) -> Result<(), String> {
    match (expected, seen) {
        ("*", Some(_)) | ("", None) => Ok(()),
        (expected, Some(seen)) if expected == seen => Ok(()),
        (expected, seen) => Err(format!("{what} is {seen:?}, not {expected:?}")),
    }
}

fn same<T: PartialEq + Debug>(what: &str, expected: &T, seen: &T) -> Result<(), String> {
    if expected == seen { Ok(()) } else { Err(format!("{what} is {seen:?}, not {expected:?}")) }
}
