//! Which route takes a request.

use http::Method;

use crate::support::{Config, Gateway, Origin};

/// Two origins, named `a` and `b`, behind services of the same names.
async fn two(routes: &str) -> (Gateway, Origin, Origin) {
    let a = Origin::always(200).named("a").start().await;
    let b = Origin::always(200).named("b").start().await;
    let services = "services:\n  a: { endpoints: [\"{a}\"] }\n  b: { endpoints: [\"{b}\"] }\n";
    let config = Config::new(format!("{services}routes:\n{routes}")).origin(&a).origin(&b);
    (Gateway::run(config).await, a, b)
}

#[tokio::test]
async fn a_prefix_takes_whole_segments_only() {
    let (gateway, _a, _b) = two(r#"
  api: { match: { host: shop.example, prefix: [/api, /media] }, service: a }
  web: { match: { host: shop.example }, service: b }
"#)
    .await;
    for (path, release) in [
        ("/api", "a"),
        ("/api/", "a"),
        ("/api/x?y=1", "a"),
        ("/media/pic.png", "a"),
        ("/apiary", "b"),
        ("/mediator", "b"),
        ("/", "b"),
        ("/x/api", "b"),
    ] {
        assert_eq!(gateway.get(path).await.release(), release, "{path}");
    }
}

#[tokio::test]
async fn an_exact_path_beats_a_longer_prefix_and_a_regex() {
    let (gateway, _a, _b) = two(r#"
  prefix: { match: { host: shop.example, prefix: /api/login }, service: b }
  regex: { match: { host: shop.example, regex: "^/api/log" }, service: b }
  exact: { match: { host: shop.example, path: /api/login }, service: a }
"#)
    .await;
    assert_eq!(gateway.get("/api/login").await.release(), "a");
    assert_eq!(gateway.get("/api/login/x").await.release(), "b");
    assert_eq!(gateway.get("/api/logout").await.release(), "b");
}

#[tokio::test]
async fn the_longest_prefix_wins_whatever_the_order() {
    let (gateway, _a, _b) = two(r#"
  short: { match: { host: shop.example, prefix: /api }, service: b }
  long: { match: { host: shop.example, prefix: /api/v2 }, service: a }
  all: { match: { host: shop.example }, service: b }
"#)
    .await;
    assert_eq!(gateway.get("/api/v2/x").await.release(), "a");
    assert_eq!(gateway.get("/api/v21").await.release(), "b");
}

#[tokio::test]
async fn a_regex_beats_a_route_without_a_path_only() {
    let (gateway, _a, _b) = two(r#"
  digits: { match: { host: shop.example, regex: "^/item/[0-9]+$" }, service: a }
  rest: { match: { host: shop.example }, service: b }
"#)
    .await;
    assert_eq!(gateway.get("/item/42").await.release(), "a");
    assert_eq!(gateway.get("/item/x").await.release(), "b");
}

#[tokio::test]
async fn a_host_is_exact_before_it_is_a_wildcard() {
    let (gateway, _a, _b) = two(r#"
  exact: { match: { host: admin.shop.example }, service: a }
  wildcard: { match: { host: "*.shop.example" }, service: b }
"#)
    .await;
    let host = async |name: &str| gateway.get("/").host(name).await;
    assert_eq!(host("admin.shop.example").await.release(), "a");
    assert_eq!(host("ADMIN.Shop.Example").await.release(), "a");
    assert_eq!(host("admin.shop.example:443").await.release(), "a");
    assert_eq!(host("www.shop.example").await.release(), "b");
    assert_eq!(host("a.b.shop.example").await.release(), "b");
    assert_eq!(host("shop.example").await.status, 404);
}

#[tokio::test]
async fn a_method_a_header_and_a_query_parameter_each_decide() {
    let (gateway, _a, _b) = two(r#"
  post: { match: { host: shop.example, prefix: /m, methods: [POST] }, service: a }
  header: { match: { host: shop.example, prefix: /h, headers: { x-beta: "1" } }, service: a }
  query: { match: { host: shop.example, prefix: /q, query: { beta: "1" } }, service: a }
  rest: { match: { host: shop.example }, service: b }
"#)
    .await;
    assert_eq!(gateway.request(Method::POST, "/m").await.release(), "a");
    assert_eq!(gateway.get("/m").await.release(), "b");
    assert_eq!(gateway.get("/h").header("x-beta", "1").await.release(), "a");
    assert_eq!(gateway.get("/h").header("x-beta", "2").await.release(), "b");
    assert_eq!(gateway.get("/q?a=0&beta=1").await.release(), "a");
    assert_eq!(gateway.get("/q?beta=10").await.release(), "b");
}

#[tokio::test]
async fn what_no_route_takes_is_404_and_counted_as_unmatched() {
    let (gateway, a, _b) = two("  only: { match: { host: shop.example, prefix: /api }, service: a }\n").await;
    let answer = gateway.get("/elsewhere").await;
    assert_eq!(answer.status, 404);
    assert_eq!(gateway.get("/api").host("nobody.example").await.status, 404);
    assert_eq!(a.hits(), 0);
    let labels = [("route", "unmatched"), ("http_status", "404")];
    gateway.counted("http_requests_total", &labels, 2.0).await;
}

#[tokio::test]
async fn the_path_is_normalised_before_it_is_matched_and_sent_so() {
    let (gateway, a, _b) = two(r#"
  api: { match: { host: shop.example, prefix: /api }, service: a }
  web: { match: { host: shop.example }, service: b }
"#)
    .await;
    for (sent, arrives) in [
        ("/x/../api/y", "/api/y"),
        ("//api///y", "/api/y"),
        ("/./api/./y?q=a//b", "/api/y?q=a//b"),
        ("/%61pi/y", "/api/y"),
        ("/x/%2e%2e/api/y", "/api/y"),
        ("/api/%7Ey", "/api/~y"),
        ("/api/y%20z", "/api/y%20z"),
    ] {
        assert_eq!(gateway.get(sent).await.release(), "a", "{sent}");
        assert_eq!(a.last_request().path, arrives, "{sent}");
    }
    assert_eq!(gateway.get("/api/../web").await.release(), "b");
}

#[tokio::test]
async fn an_encoded_slash_or_nul_and_a_broken_escape_are_400() {
    let (gateway, a, _b) = two("  all: { match: { host: shop.example }, service: a }\n").await;
    for path in ["/a%2Fb", "/a%2fb", "/a%00", "/a%zz", "/a%4"] {
        assert_eq!(gateway.get(path).await.status, 400, "{path}");
        assert_eq!(gateway.get(path).http2().await.status, 400, "{path} over HTTP/2");
    }
    assert_eq!(a.hits(), 0);
}

#[tokio::test]
async fn routes_are_the_same_over_http2() {
    let (gateway, _a, _b) = two(r#"
  api: { match: { host: shop.example, prefix: /api }, service: a }
  web: { match: { host: "*.shop.example" }, service: b }
"#)
    .await;
    assert_eq!(gateway.get("/api/x").http2().await.release(), "a");
    assert_eq!(gateway.get("/x").http2().host("www.shop.example").await.release(), "b");
    assert_eq!(gateway.get("/x").http2().await.status, 404);
}
