//! The table: what a route is told to do, what is asked of it, and what becomes of that.

use http::Method;

/// One policy.
pub(super) struct Case {
    /// Also the last part of its routes' prefix, `/{protocol}/{policy}`.
    pub(super) policy: &'static str,
    /// What stands in its route beside `match`.
    pub(super) route: &'static str,
    /// Of h1 and h2 requests; a handshake is a GET.
    pub(super) method: Method,
    pub(super) fields: Vec<(&'static str, &'static str)>,
    /// Likewise of h1 and h2 requests.
    pub(super) body: &'static str,
    /// Whether the body is sent without its length.
    pub(super) streamed: bool,
    /// Whether the client shows a certificate.
    pub(super) certificate: bool,
    /// Whether another such request is served meanwhile.
    pub(super) held: bool,
    pub(super) rules: Rules,
    pub(super) websocket: WebSocket,
}

/// A metric, its labels, and its least value.
type Counted = (&'static str, Vec<(&'static str, &'static str)>, f64);

/// What becomes of requests.
pub(super) struct Rules {
    /// One for each request, in turn.
    pub(super) in_turn: Vec<Expected>,
    /// Metrics afterwards.
    pub(super) counted: Vec<Counted>,
}

/// What becomes of one request.
pub(super) struct Expected {
    /// Of a WebSocket that is to open, 101 in place of 200.
    pub(super) status: u16,
    /// What the gateway's own answer calls it.
    pub(super) code: Option<&'static str>,
    /// Of the answer: `*` is any value, and nothing is none.
    pub(super) fields: Vec<(&'static str, &'static str)>,
    /// What the origin got, likewise; it must not be asked where this is `None`.
    pub(super) origin: Option<Vec<(&'static str, &'static str)>>,
    /// In the access log.
    pub(super) termination: &'static str,
}

/// How a policy meets the handshake of a WebSocket.
pub(super) enum WebSocket {
    /// As every request.
    Alike,
    /// Not at all, by design.
    LeftAlone { why: &'static str, rules: Rules },
    /// It cannot: no handshake is such a request.
    Never(#[expect(dead_code, reason = "for who reads the table")] &'static str),
}

impl Case {
    fn new(policy: &'static str, route: &'static str, in_turn: impl Into<Vec<Expected>>) -> Self {
        Self {
            policy,
            route,
            method: Method::GET,
            fields: Vec::new(),
            body: "",
            streamed: false,
            certificate: false,
            held: false,
            rules: Rules { in_turn: in_turn.into(), counted: Vec::new() },
            websocket: WebSocket::Alike,
        }
    }

    fn sends(mut self, name: &'static str, value: &'static str) -> Self {
        self.fields.push((name, value));
        self
    }

    fn posts(self, body: &'static str) -> Self {
        Self { method: Method::POST, body, ..self }
    }

    fn counts(mut self, metric: &'static str, labels: &[(&'static str, &'static str)], least: f64) -> Self {
        self.rules.counted.push((metric, labels.to_vec(), least));
        self
    }

    fn leaves_websockets_alone(self, why: &'static str, expected: Expected) -> Self {
        let rules = Rules { in_turn: vec![expected], counted: Vec::new() };
        Self { websocket: WebSocket::LeftAlone { why, rules }, ..self }
    }

    fn never_meets_websockets(self, why: &'static str) -> Self {
        Self { websocket: WebSocket::Never(why), ..self }
    }
}

impl Expected {
    fn tells(mut self, name: &'static str, value: &'static str) -> Self {
        self.fields.push((name, value));
        self
    }

    fn arrives_with(mut self, name: &'static str, value: &'static str) -> Self {
        self.origin.get_or_insert_default().push((name, value));
        self
    }

    fn reaches_the_origin(mut self) -> Self {
        self.origin.get_or_insert_default();
        self
    }
}

/// The origin answers.
fn passes() -> Expected {
    Expected { status: 200, code: None, fields: Vec::new(), origin: Some(Vec::new()), termination: "ok" }
}

/// The gateway answers, and nobody else is asked.
fn answers(status: u16, termination: &'static str) -> Expected {
    Expected { status, code: None, fields: Vec::new(), origin: None, termination }
}

/// The gateway refuses, likewise.
fn refuses(status: u16, code: &'static str, termination: &'static str) -> Expected {
    Expected { code: Some(code), ..answers(status, termination) }
}

const LOGIN: &str = "service: api, basic_auth: { realm: shop, users: { ann: '$2b$05$/jQrg5sCP.PtZI5ZOfpr1.3vYFueTtRI5dx2SHfDANmH.c7EhWPDi' } }, headers: { request: { set: { x-user: \"${user}\" } } }";

/// Every policy there is.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = admitting();
    cases.extend(answering());
    cases.extend(bounding());
    cases.extend(choosing());
    cases.extend(shaping());
    cases
}

/// Policies that say who may come.
fn admitting() -> Vec<Case> {
    let route = [("route", "login-{protocol}")];
    let labels = |decision| [route[0], ("decision", decision)];
    vec![
        Case::new(
            "maintenance",
            "service: api, maintenance: { on: true, retry_after: 90s }",
            [refuses(503, "maintenance", "maintenance")
                .tells("retry-after", "90")
                .tells("cache-control", "no-store")],
        )
        .counts("maintenance", &[("route", "maintenance-{protocol}")], 1.0),
        Case::new(
            "maintenance_allowed",
            "service: api, maintenance: { on: true, allow: [127.0.0.0/8] }",
            [passes()],
        ),
        Case::new("allow", "service: api, allow: [192.0.2.0/24]", [refuses(403, "denied", "denied")]),
        Case::new(
            "deny",
            "service: api, allow: [127.0.0.0/8], deny: [127.0.0.1]",
            [refuses(403, "denied", "denied")],
        ),
        Case::new(
            "login",
            LOGIN,
            [refuses(401, "unauthorized", "denied")
                .tells("www-authenticate", "Basic realm=\"shop\", charset=\"UTF-8\"")],
        )
        .counts("auth_decisions_total", &labels("missing"), 1.0),
        Case::new(
            "logged_in",
            LOGIN,
            [passes().arrives_with("authorization", "").arrives_with("x-user", "ann")],
        )
        .sends("authorization", "Basic YW5uOmh1bnRlcjI="),
        Case {
            certificate: true,
            ..Case::new(
                "certificate",
                "service: api",
                [passes()
                    .arrives_with("x-client-subject", "CN=alice,O=Shop")
                    .arrives_with("x-client-fingerprint", "*")],
            )
        }
        .sends("x-client-subject", "CN=root"),
        Case::new("no_certificate", "service: api", [passes().arrives_with("x-client-subject", "")])
            .sends("x-client-subject", "CN=root"),
    ]
}

/// Routes that answer by themselves.
fn answering() -> Vec<Case> {
    vec![
        Case::new(
            "redirect",
            "redirect: { to: /new, status: 308 }",
            [answers(308, "redirected").tells("location", "/new")],
        ),
        Case::new(
            "respond",
            "respond: { status: 410, body: { error: gone } }",
            [refuses(410, "gone", "responded")],
        ),
        Case {
            method: Method::OPTIONS,
            ..Case::new(
                "preflight",
                "service: api, cors: { origins: [\"https://app.example\"], methods: [PUT] }",
                [answers(204, "responded")
                    .tells("access-control-allow-origin", "https://app.example")
                    .tells("access-control-allow-methods", "GET, HEAD, POST, PUT")],
            )
        }
        .sends("origin", "https://app.example")
        .sends("access-control-request-method", "PUT")
        .never_meets_websockets("a handshake is a GET"),
    ]
}

/// Policies that say how much.
fn bounding() -> Vec<Case> {
    let full = |route, service| [("route", route), ("service", service), ("decision", "full")];
    let policy = "\"few\";q=1;w=3600";
    vec![
        Case::new(
            "limits",
            "service: api, limits: [few]",
            [
                passes()
                    .tells("ratelimit", "\"few\";r=0;t=3600")
                    .tells("ratelimit-policy", policy)
                    .tells("retry-after", ""),
                refuses(429, "rate_limited", "limited")
                    .tells("ratelimit", "*")
                    .tells("ratelimit-policy", policy)
                    .tells("retry-after", "*"),
            ],
        )
        .counts("rate_limit_decisions_total", &[("limit", "few"), ("decision", "limited")], 1.0),
        Case::new("dry_run", "service: api, limits: [none]", [passes(), passes().tells("ratelimit", "")])
            .counts("rate_limit_decisions_total", &[("limit", "none"), ("decision", "dry_run")], 1.0),
        Case::new(
            "body_limit",
            "service: api, body_limit: 4B",
            [refuses(413, "body_too_large", "body_too_large")],
        )
        .posts("hello")
        .leaves_websockets_alone("a handshake has no body, and messages are none", passes()),
        Case {
            streamed: true,
            ..Case::new(
                "body_limit_streamed",
                "service: api, body_limit: 4B",
                [refuses(413, "body_too_large", "body_too_large")],
            )
        }
        .posts("hello")
        .never_meets_websockets("a handshake has no body"),
        Case {
            held: true,
            ..Case::new(
                "max_in_flight",
                "service: api, max_in_flight: { requests: 1, queue: 0, wait: 7s }",
                [refuses(503, "overloaded", "overloaded").tells("retry-after", "7")],
            )
        }
        .posts("")
        .counts("in_flight_decisions_total", &full("max_in_flight-{protocol}", ""), 1.0),
        Case {
            held: true,
            ..Case::new(
                "max_in_flight_of_a_service",
                "service: narrow-{protocol}",
                [refuses(503, "overloaded", "overloaded").tells("retry-after", "1")],
            )
        }
        .posts("")
        .counts("in_flight_decisions_total", &full("", "narrow-{protocol}"), 1.0),
        Case::new(
            "timeout",
            "service: api, timeout: 300ms",
            [refuses(504, "upstream_timeout", "upstream_timeout").reaches_the_origin()],
        ),
        Case::new(
            "first_byte",
            "service: slow-{protocol}",
            [refuses(504, "upstream_timeout", "upstream_timeout").reaches_the_origin()],
        )
        .counts(
            "upstream_attempts_total",
            &[("service", "slow-{protocol}"), ("outcome", "timeout")],
            1.0,
        ),
    ]
}

/// Policies of services, which choose endpoints.
fn choosing() -> Vec<Case> {
    vec![
        Case::new("retry", "service: flaky-{protocol}", [passes(), passes()]).counts(
            "upstream_retries_total",
            &[("service", "flaky-{protocol}"), ("reason", "connect")],
            1.0,
        ),
        Case::new("eject", "service: frail-{protocol}", [passes(), passes(), passes()])
            .counts("upstream_retries_total", &[("service", "frail-{protocol}"), ("reason", "status")], 1.0)
            .counts("upstream_ejections_total", &[("service", "frail-{protocol}")], 1.0),
        Case::new("health", "service: checked-{protocol}", [passes(), passes(), passes()]),
    ]
}

/// Policies that change what passes.
fn shaping() -> Vec<Case> {
    let mirrored = |result| [("route", "mirror-{protocol}"), ("result", result)];
    let page = "https://app.example";
    let mut mirror = Case::new("mirror", "service: api, mirror: { service: shadow }", [passes()])
        .counts("mirror_requests_total", &mirrored("answered"), 1.0)
        .leaves_websockets_alone("nobody could take part in its conversation", passes());
    if let WebSocket::LeftAlone { rules, .. } = &mut mirror.websocket {
        rules.counted.push(("mirror_requests_total", mirrored("skipped").to_vec(), 1.0));
    }
    vec![
        Case::new("rewrite", "service: api, rewrite: { prefix: /{protocol}/elsewhere, host: app.internal }", [passes()
            .arrives_with(":path", "/{protocol}/elsewhere/0")
            .arrives_with("host", "app.internal")
            .arrives_with("x-forwarded-host", "shop.example")]),
        Case::new(
            "headers",
            "service: api, headers: { request: { set: { x-who: \"${client_ip} ${host} ${release}\" }, remove: [x-drop] }, \
             response: { set: { x-from: \"${release} for ${client_ip}\" } } }",
            [passes()
                .arrives_with("x-who", "127.0.0.1 shop.example default")
                .arrives_with("x-drop", "")
                .tells("x-from", "default for 127.0.0.1")],
        )
        .sends("x-who", "root")
        .sends("x-drop", "1"),
        Case::new("security_headers", "service: api, security_headers: true", [passes()
            .tells("strict-transport-security", "max-age=31536000")
            .tells("x-content-type-options", "nosniff")
            .tells("x-frame-options", "SAMEORIGIN")
            .tells("referrer-policy", "strict-origin-when-cross-origin")]),
        Case::new("cors", "service: api, cors: { origins: [\"https://app.example\"], credentials: true }", [passes()
            .tells("access-control-allow-origin", page)
            .tells("access-control-allow-credentials", "true")
            .tells("vary", "origin")])
        .sends("origin", page),
        Case::new("compress", "service: api, compress: true", [passes().tells("content-encoding", "gzip")])
            .sends("accept-encoding", "gzip")
            .leaves_websockets_alone("its messages are its own affair", passes().tells("content-encoding", "")),
        Case {
            streamed: true,
            ..Case::new("buffer_request", "service: api, buffer_request: 1KiB", [passes()
                .arrives_with("content-length", "5")
                .arrives_with("transfer-encoding", "")])
        }
        .posts("hello")
        .leaves_websockets_alone("its client waits for answers while it sends", passes()),
        mirror,
    ]
}
