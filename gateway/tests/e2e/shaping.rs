//! What routes answer by themselves, and what they change on the way.

use http::Method;

use crate::support::request::Answer;
use crate::support::{BOTH_LISTENERS, Behaviour, Config, Gateway, Origin};

/// Routes before one origin named `api`, on both listeners.
async fn routes(routes: &str) -> (Gateway, Origin) {
    with_origin(Behaviour::status(200), routes).await
}

async fn with_origin(behaviour: Behaviour, routes: &str) -> (Gateway, Origin) {
    let origin = Origin::script(behaviour).named("api").start().await;
    let services = "services:\n  api: { endpoints: [\"{api}\"] }\nroutes:\n";
    let config = Config::new(format!("{BOTH_LISTENERS}{services}{routes}")).origin(&origin);
    (Gateway::run(config).await, origin)
}

#[tokio::test]
async fn a_redirect_route_sends_clients_elsewhere_with_its_status() {
    let (gateway, origin) = routes(
        r#"
  found: { match: { path: /found }, redirect: { to: /new } }
  r301: { match: { path: /301 }, redirect: { to: "https://new.example/a?b=c", status: 301 } }
  r303: { match: { path: /303 }, redirect: { to: /new, status: 303 } }
  r307: { match: { path: /307 }, redirect: { to: /new, status: 307 } }
  r308: { match: { path: /308 }, redirect: { to: /new, status: 308 } }
  all: { service: api }
"#,
    )
    .await;
    for http2 in [false, true] {
        for (path, status, to) in [
            ("/found", 302, "/new"),
            ("/301", 301, "https://new.example/a?b=c"),
            ("/303", 303, "/new"),
            ("/307", 307, "/new"),
            ("/308", 308, "/new"),
        ] {
            let request = gateway.post(path, "a body nobody reads");
            let answer = if http2 { request.http2() } else { request }.await;
            assert_eq!(answer.status, status, "{path}");
            assert_eq!(answer.header("location"), Some(to), "{path}");
            assert_eq!(answer.header("content-length"), Some("0"), "{path}");
            assert!(answer.header("date").is_some() && answer.header("x-request-id").is_some(), "{answer:?}");
        }
    }
    assert_eq!(origin.hits(), 0);
    let logged = gateway.logged("/308").await;
    assert_eq!(
        (logged["termination"].as_str(), logged["route"].as_str()),
        (Some("redirected"), Some("r308"))
    );
    gateway.counted("http_requests_total", &[("route", "r301"), ("http_status", "301")], 2.0).await;
    let explained = gateway.command(&["explain", "https://shop.example/301"]).await;
    assert!(
        explained.stdout.contains("301: the route sends everybody to https://new.example"),
        "{explained:?}"
    );
}

#[tokio::test]
async fn a_respond_route_answers_by_itself() {
    let (gateway, origin) = routes(
        r#"
  robots: { match: { path: /robots.txt }, respond: { headers: { cache-control: max-age=3600, x-two: "2" }, body: "User-agent: *\n" } }
  json: { match: { path: /json }, respond: { status: 410, body: { gone: true } } }
  typed: { match: { path: /typed }, respond: { headers: { content-type: text/css }, body: "a{}" } }
  empty: { match: { path: /empty }, respond: { status: 204 } }
  bare: { match: { path: /bare }, respond: {} }
  all: { service: api }
"#,
    )
    .await;
    for http2 in [false, true] {
        let get = async |path: &str| {
            let request = gateway.get(path);
            if http2 { request.http2() } else { request }.await
        };
        let robots = get("/robots.txt").await;
        assert_eq!((robots.status.as_u16(), robots.text().as_str()), (200, "User-agent: *\n"));
        assert_eq!(robots.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(robots.header("cache-control"), Some("max-age=3600"));
        assert_eq!((robots.header("x-two"), robots.header("content-length")), (Some("2"), Some("14")));
        assert!(robots.header("date").is_some() && robots.header("x-request-id").is_some(), "{robots:?}");
        let json = get("/json").await;
        assert_eq!((json.status.as_u16(), json.json()["gone"].as_bool()), (410, Some(true)));
        assert_eq!(json.header("content-type"), Some("application/json"));
        let typed = get("/typed").await;
        let kinds: Vec<_> = typed.headers.get_all("content-type").iter().collect();
        assert_eq!(kinds, ["text/css"]);
        let empty = get("/empty").await;
        assert_eq!((empty.status.as_u16(), empty.header("content-length")), (204, None), "RFC 9110 §8.6");
        let bare = get("/bare").await;
        assert_eq!((bare.status.as_u16(), bare.header("content-length")), (200, Some("0")));
        assert_eq!(bare.header("content-type"), None);
    }
    assert_eq!(origin.hits(), 0);
    assert_eq!(gateway.logged("/json").await["termination"], "responded");
}

#[tokio::test]
async fn head_gets_the_header_of_a_respond_route_and_no_body() {
    let (gateway, _origin) =
        routes("  robots: { match: { host: shop.example }, respond: { body: \"text\" } }\n").await;
    for http2 in [false, true] {
        let request = gateway.request(Method::HEAD, "/");
        let answer = if http2 { request.http2() } else { request }.await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
        assert_eq!(answer.header("content-length"), Some("4"));
    }
    let answers = gateway.request(Method::HEAD, "/").repeat(3).await;
    assert_eq!(answers.with_status(200), 3, "the connection is kept in step");
}

#[tokio::test]
async fn a_prefix_is_stripped_and_the_origin_told() {
    let (gateway, origin) = routes(
        "  api: { match: { host: shop.example, prefix: [/api, /media] }, rewrite: { strip_prefix: /api }, service: api }\n",
    )
    .await;
    for http2 in [false, true] {
        for (sent, arrives, prefix) in [
            ("/api", "/", Some("/api")),
            ("/api/", "/", Some("/api")),
            ("/api?q=1", "/?q=1", Some("/api")),
            ("/api/x/y?q=/api", "/x/y?q=/api", Some("/api")),
            ("/x/../%61pi//y", "/y", Some("/api")),
            ("/media/api", "/media/api", None),
        ] {
            let request = gateway.get(sent).header("x-forwarded-prefix", "/evil");
            let answer = if http2 { request.http2() } else { request }.await;
            assert_eq!(answer.status, 200, "{sent}");
            let seen = origin.last_request();
            assert_eq!((seen.path.as_str(), seen.header("x-forwarded-prefix")), (arrives, prefix), "{sent}");
            assert_eq!(seen.header_values("host"), ["shop.example"]);
        }
    }
    assert_eq!(gateway.logged("/api/x/y").await["status"], 200, "the log tells what the client asked for");
}

#[tokio::test]
async fn another_prefix_and_another_host_go_to_the_origin() {
    let (gateway, origin) = routes(
        "  api: { match: { host: shop.example, prefix: /api }, rewrite: { prefix: /v1, host: \"app.internal:8080\" }, service: api }\n",
    )
    .await;
    for http2 in [false, true] {
        for (sent, arrives) in [("/api", "/v1"), ("/api/x?q=1", "/v1/x?q=1")] {
            let request = gateway.get(sent);
            assert_eq!(if http2 { request.http2() } else { request }.await.status, 200);
            let seen = origin.last_request();
            assert_eq!((seen.path.as_str(), seen.header("x-forwarded-prefix")), (arrives, None));
            assert_eq!(seen.header_values("host"), ["app.internal:8080"]);
            assert_eq!(seen.header_values("x-forwarded-host"), ["shop.example"], "the client's is kept");
        }
    }
    let explained = gateway.command(&["explain", "https://shop.example/api/x"]).await;
    assert!(
        explained.stdout.contains("/v1 takes the place of the matched prefix, Host becomes app.internal")
    );
}

#[tokio::test]
async fn headers_are_removed_set_and_added_both_ways() {
    let behaviour = Behaviour::status(200).header("server", "secret/1.0").header("x-twice", "1");
    let (gateway, origin) = with_origin(
        behaviour,
        r#"
  own: { match: { path: /own }, respond: {}, headers: { response: { set: { x-release: "[${release}]" } } } }
  api:
    service: api
    headers:
      request:
        remove: [x-drop]
        set: { x-set: new, x-who: "${client_ip} ${request_id} ${host} ${release}", x-literal: "$${host}" }
        add: { x-add: "2" }
      response:
        remove: [server]
        set: { x-from: "${release} for ${client_ip} at ${host}" }
        add: { x-twice: "2" }
"#,
    )
    .await;
    for http2 in [false, true] {
        let request = gateway.get("/");
        let request = if http2 { request.http2() } else { request };
        let request = request.header("x-drop", "1").header("x-set", "old").header("x-add", "1");
        let answer = request.header("x-who", "forged\tvalue").await;
        let id = answer.header("x-request-id").unwrap();
        let seen = origin.last_request();
        assert_eq!(seen.header("x-drop"), None);
        assert_eq!(seen.header_values("x-set"), ["new"]);
        let who = format!("127.0.0.1 {id} shop.example default");
        assert_eq!(seen.header_values("x-who"), [who.as_str()]);
        assert_eq!(seen.header_values("x-literal"), ["${host}"]);
        assert_eq!(seen.header_values("x-add"), ["1", "2"]);
        assert_eq!(answer.header("server"), None);
        assert_eq!(answer.header("x-from"), Some("default for 127.0.0.1 at shop.example"));
        assert_eq!(answer.headers.get_all("x-twice").iter().collect::<Vec<_>>(), ["1", "2"]);
        let own = gateway.get("/own").await;
        assert_eq!(own.header("x-release"), Some("[]"), "no release has answered");
    }
    let explained = gateway.command(&["explain", "https://shop.example/"]).await;
    assert!(explained.stdout.contains("removes server, sets x-from, adds x-twice"), "{explained:?}");
}

#[tokio::test]
async fn security_headers_fill_in_what_an_answer_lacks() {
    let behaviour = Behaviour::status(200).header("x-frame-options", "DENY");
    let (gateway, origin) = with_origin(
        behaviour,
        r#"
  api: { match: { prefix: /api }, service: api, security_headers: true, body_limit: 1B }
  own: { match: { path: /own }, respond: {}, security_headers: true, headers: { response: { remove: [x-frame-options] } } }
  plain: { service: api }
"#,
    )
    .await;
    let hsts = "strict-transport-security";
    let answer = gateway.get("/api").await;
    assert_eq!(answer.header(hsts), Some("max-age=31536000"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("x-frame-options"), Some("DENY"), "the origin knows better");
    assert_eq!(answer.header("referrer-policy"), Some("strict-origin-when-cross-origin"));
    assert_eq!(gateway.get("/api").plain().await.header(hsts), None, "only over TLS");
    let refused = gateway.post("/api", "too large").await;
    assert_eq!((refused.status.as_u16(), refused.header("x-frame-options")), (413, Some("SAMEORIGIN")));
    let own = gateway.get("/own").await;
    assert_eq!((own.header(hsts), own.header("x-frame-options")), (Some("max-age=31536000"), None));
    assert_eq!(gateway.get("/").await.header("x-content-type-options"), None);
    assert_eq!(origin.hits(), 3);
}

const CORS: &str = r#"
  login: { match: { path: /login, methods: [PUT] }, service: api, cors: { origins: ["https://app.shop.example"], methods: [PUT] } }
  api:
    match: { prefix: /api }
    service: api
    body_limit: 1B
    cors: { origins: ["https://app.shop.example", "http://localhost:5173"], methods: [PUT, DELETE], headers: [content-type, x-csrf], expose: [x-request-id], credentials: true, max_age: 5m }
  open: { match: { prefix: /open }, service: api, cors: { origins: "*" } }
  none: { service: api }
"#;

#[tokio::test]
async fn a_preflight_is_answered_at_the_edge() {
    let (gateway, origin) = routes(CORS).await;
    for http2 in [false, true] {
        let ask = async |path: &str, from: &str, method: &str| {
            let request = gateway.request(Method::OPTIONS, path).header("origin", from);
            let request = request.header("access-control-request-method", method);
            if http2 { request.http2() } else { request }.await
        };
        let answer = ask("/api/x", "https://app.shop.example", "PUT").await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0));
        for (name, value) in [
            ("access-control-allow-origin", "https://app.shop.example"),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", "GET, HEAD, POST, PUT, DELETE"),
            ("access-control-allow-headers", "content-type, x-csrf"),
            ("access-control-max-age", "300"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{name}");
        }
        let vary: Vec<_> =
            answer.headers.get_all("vary").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(vary.join(", "), "access-control-request-method, access-control-request-headers, origin");
        for stranger in ["https://evil.example", "https://app.shop.example.evil.example", "null"] {
            let answer = ask("/api/x", stranger, "PUT").await;
            assert_eq!(answer.status, 204, "{stranger}");
            let leave = answer.headers.keys().any(|name| name.as_str().starts_with("access-control-"));
            assert!(!leave, "{stranger} gets no leave: {answer:?}");
        }
        let open = ask("/open", "https://anybody.example", "GET").await;
        assert_eq!(open.header("access-control-allow-origin"), Some("*"));
        assert_eq!(open.header("access-control-allow-credentials"), None);
        let login = ask("/login", "https://app.shop.example", "PUT").await;
        assert_eq!(login.status, 204, "a preflight finds the route of the method it asks for");
        assert_eq!(login.header("access-control-max-age"), Some("600"));
    }
    assert_eq!(origin.hits(), 0);
    assert_eq!(gateway.logged("/login").await["termination"], "responded");
    gateway.request(Method::OPTIONS, "/api/x").header("origin", "https://app.shop.example").await;
    assert_eq!(origin.hits(), 1, "an OPTIONS that asks no leave is for the origin");
    let forward = gateway.request(Method::OPTIONS, "/").header("origin", "https://app.shop.example");
    forward.header("access-control-request-method", "PUT").await;
    assert_eq!(origin.hits(), 2, "without `cors` preflights are left to the service");
}

#[tokio::test]
async fn only_named_origins_may_read_answers() {
    let behaviour = Behaviour::status(200)
        .header("access-control-allow-origin", "*")
        .header("access-control-allow-credentials", "true")
        .header("vary", "accept-encoding");
    let (gateway, _origin) = with_origin(behaviour, CORS).await;
    for http2 in [false, true] {
        let get = async |path: &str, from: Option<&str>| {
            let mut request = gateway.get(path);
            if let Some(from) = from {
                request = request.header("origin", from);
            }
            if http2 { request.http2() } else { request }.await
        };
        let answer = get("/api", Some("http://localhost:5173")).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some("http://localhost:5173"));
        assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
        assert_eq!(answer.header("access-control-expose-headers"), Some("x-request-id"));
        let vary = |answer: &Answer| {
            let fields = answer.headers.get_all("vary").iter();
            fields.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(vary(&answer), "accept-encoding, origin");
        for stranger in [Some("https://evil.example"), Some("null"), None] {
            let answer = get("/api", stranger).await;
            assert_eq!(answer.status, 200, "CORS is kept by browsers, not by refusing");
            assert_eq!(answer.header("access-control-allow-origin"), None, "{stranger:?}");
            assert_eq!(answer.header("access-control-allow-credentials"), None, "{stranger:?}");
            assert_eq!(vary(&answer), "accept-encoding, origin", "caches must know");
        }
        let open = get("/open", Some("https://anybody.example")).await;
        assert_eq!(open.header("access-control-allow-origin"), Some("*"));
        assert_eq!(
            (open.header("access-control-allow-credentials"), vary(&open).as_str()),
            (None, "accept-encoding")
        );
    }
    let refused = gateway.post("/api", "too large").header("origin", "https://app.shop.example").await;
    assert_eq!(refused.status, 413);
    assert_eq!(
        refused.header("access-control-allow-origin"),
        Some("https://app.shop.example"),
        "pages can read refusals"
    );
    let twice = gateway
        .get("/api")
        .header("origin", "https://app.shop.example")
        .header("origin", "https://evil.example");
    assert_eq!(twice.await.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn what_fills_a_placeholder_cannot_begin_another_field() {
    let origin = Origin::always(200).named("api").start().await;
    let edits = "set: { x-who: \"${host} ${request_id} ${client_ip}\" }";
    let yaml = format!(
        "client_ip: {{ trusted_proxies: [127.0.0.1] }}\n{BOTH_LISTENERS}\
         services: {{ api: {{ endpoints: [\"{{api}}\"] }} }}\n\
         routes: {{ all: {{ service: api, headers: {{ request: {{ {edits} }}, response: {{ {edits} }} }} }} }}\n"
    );
    let gateway = Gateway::run(Config::new(yaml).origin(&origin)).await;
    let usual = "Host: shop.example";
    for fields in [
        format!("{usual}\r\nX-Request-Id: a\rEvil: 1"),
        format!("{usual}\r\nX-Request-Id: a\r\n Evil: 1"),
        format!("{usual}\r\nX-Request-Id: a\nEvil : 1"),
        format!("{usual}\r\nX-Request-Id: a\0Evil: 1"),
        format!("{usual}\r\nX-Request-Id: a%0d%0aEvil: 1"),
        format!("{usual}\r\nX-Request-Id: <b>\u{e4}</b>"),
        format!("{usual}\r\nX-Request-Id: {}", "a".repeat(500)),
        format!("{usual}\r\nX-Forwarded-For: 192.0.2.1\rEvil: 1"),
        format!("{usual}\r\nX-Forwarded-For: 192.0.2.1%0d%0aEvil: 1"),
        "Host: shop.example\rEvil: 1".to_owned(),
        "Host: shop.example\r\n Evil: 1".to_owned(),
        "Host: shop.example%0d%0aEvil:1".to_owned(),
        "Host: sh\u{f6}p.example".to_owned(),
    ] {
        let hits = origin.hits();
        let mut raw = gateway.raw_tcp().await;
        raw.send(format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n")).await;
        let answer = raw.answer().await;
        assert_eq!(answer.header("evil"), None, "{fields:?}: {}", answer.head);
        assert!(answer.status == 400 || answer.status == 200, "{fields:?}: {}", answer.head);
        let who = answer.header("x-who").unwrap_or("shop.example - 127.0.0.1");
        let plain = |c: char| c.is_ascii_alphanumeric() || " .-".contains(c);
        assert!(who.starts_with("shop.example ") && who.chars().all(plain), "{fields:?}: {who:?}");
        if origin.hits() > hits {
            let seen = origin.last_request();
            assert_eq!((seen.header("evil"), seen.header("x-who")), (None, Some(who)), "{fields:?}");
        }
    }
    assert!(origin.hits() > 0, "some are harmless");
}
