//! Fields that are added, removed and believed on the way.

use crate::support::{BOTH_LISTENERS, Behaviour, Config, Gateway, ONE_ORIGIN, Origin, RawOrigin, one_origin};

async fn behind(behaviour: Behaviour) -> (Gateway, Origin) {
    let origin = Origin::script(behaviour).named("api").start().await;
    let config = one_origin(&origin).with_yaml(format!("{BOTH_LISTENERS}{ONE_ORIGIN}"));
    (Gateway::run(config).await, origin)
}

/// The same with the loopback trusted as a proxy.
async fn behind_trusting(trusted: &str) -> (Gateway, Origin) {
    let origin = Origin::always(200).named("api").start().await;
    let client_ip = format!("client_ip: {{ trusted_proxies: [{trusted}] }}\n");
    let config = one_origin(&origin).with_yaml(format!("{client_ip}{BOTH_LISTENERS}{ONE_ORIGIN}"));
    (Gateway::run(config).await, origin)
}

#[tokio::test]
async fn the_origin_learns_who_asked_and_how() {
    let (gateway, origin) = behind(Behaviour::status(200)).await;
    for http2 in [false, true] {
        let request = gateway.get("/");
        if http2 { request.http2() } else { request }.await;
        let seen = origin.last_request();
        assert_eq!(seen.header_values("x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(seen.header_values("x-forwarded-proto"), ["https"]);
        assert_eq!(seen.header_values("x-forwarded-host"), ["shop.example"]);
    }
    gateway.get("/").plain().source("127.0.0.7").await;
    let seen = origin.last_request();
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.7"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
}

#[tokio::test]
async fn forwarding_fields_of_a_stranger_are_dropped() {
    let (gateway, origin) = behind(Behaviour::status(200)).await;
    gateway
        .get("/")
        .header("x-forwarded-for", "203.0.113.9")
        .header("x-forwarded-proto", "http")
        .header("x-forwarded-host", "evil.example")
        .header("forwarded", "for=203.0.113.9")
        .header("x-real-ip", "203.0.113.9")
        .header("x-forwarded-port", "1")
        .await;
    let seen = origin.last_request();
    assert_eq!(seen.header_values("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.header_values("x-forwarded-proto"), ["https"]);
    assert_eq!(seen.header_values("x-forwarded-host"), ["shop.example"]);
    for name in ["forwarded", "x-forwarded-port"] {
        assert!(
            !seen.header(name).is_some_and(|value| value.contains("203.0.113.9") || value == "1"),
            "{name}"
        );
    }
    assert_eq!(gateway.logged("/").await["client_ip"], "127.0.0.1");
}

#[tokio::test]
async fn the_client_is_found_behind_trusted_proxies_only() {
    let (gateway, origin) = behind_trusting("127.0.0.0/8, 198.51.100.0/24").await;
    for (number, (sent, client)) in [
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, 198.51.100.7", "203.0.113.9"),
        ("1.2.3.4, 203.0.113.9, 198.51.100.7", "203.0.113.9"),
        ("1.2.3.4, nonsense, 198.51.100.7", "198.51.100.7"),
        ("2001:db8::1", "2001:db8::1"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/{number}");
        gateway.get(&path).header("x-forwarded-for", sent).header("x-forwarded-proto", "http").await;
        assert_eq!(gateway.logged(&path).await["client_ip"], client, "{sent}");
        let seen = origin.last_request();
        let last = seen.header("x-forwarded-for").unwrap().rsplit(", ").next().unwrap().to_owned();
        assert_eq!(last, "127.0.0.1", "the proxy itself is added to {sent}");
        assert_eq!(seen.header_values("x-forwarded-proto"), ["http"], "a trusted proxy knows the scheme");
    }
}

#[tokio::test]
async fn a_request_id_is_minted_forwarded_returned_and_logged() {
    let (gateway, origin) = behind(Behaviour::status(200)).await;
    let answer = gateway.get("/minted").header("x-request-id", "mine").await;
    let id = answer.header("x-request-id").unwrap().to_owned();
    assert_ne!(id, "mine", "a stranger's id is not believed");
    assert_eq!(origin.last_request().header_values("x-request-id"), [id.as_str()]);
    assert_eq!(gateway.logged("/minted").await["request_id"], id.as_str());
    let other = gateway.get("/").await;
    assert_ne!(other.header("x-request-id"), Some(id.as_str()));
}

#[tokio::test]
async fn a_trusted_proxys_request_id_is_kept_under_the_configured_name() {
    let origin = Origin::always(200).start().await;
    let yaml = format!(
        "request_id: {{ header: x-correlation-id }}\nclient_ip: {{ trusted_proxies: [127.0.0.1/32] }}\n{ONE_ORIGIN}"
    );
    let gateway = Gateway::run(one_origin(&origin).with_yaml(yaml)).await;
    let answer = gateway.get("/").header("x-correlation-id", "abc-123").await;
    assert_eq!(answer.header("x-correlation-id"), Some("abc-123"));
    assert_eq!(origin.last_request().header("x-correlation-id"), Some("abc-123"));
}

#[tokio::test]
async fn traceparent_is_made_when_absent_and_kept_when_there() {
    let (gateway, origin) = behind(Behaviour::status(200)).await;
    gateway.get("/fresh").await;
    let made = origin.last_request().header("traceparent").unwrap().to_owned();
    let parts: Vec<&str> = made.split('-').collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2], "{made}");
    assert_eq!(gateway.logged("/fresh").await["trace_id"], parts[1]);

    let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    gateway.get("/given").header("traceparent", given).await;
    let seen = origin.last_request();
    assert!(seen.header("traceparent").unwrap().contains("4bf92f3577b34da6a3ce929d0e0e4736"));
}

#[tokio::test]
async fn hop_by_hop_fields_go_no_further_towards_the_origin() {
    let (gateway, origin) = behind(Behaviour::status(200)).await;
    gateway
        .get("/")
        .header("connection", "x-hop, keep-alive")
        .header("x-hop", "1")
        .header("keep-alive", "timeout=5")
        .header("proxy-connection", "keep-alive")
        .header("proxy-authorization", "Basic eA==")
        .header("te", "gzip")
        .header("x-end", "1")
        .await;
    let seen = origin.last_request();
    for name in ["x-hop", "keep-alive", "proxy-connection", "te"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!(seen.header("x-end"), Some("1"));
    assert!(!seen.header("connection").is_some_and(|value| value.contains("x-hop")));
}

#[tokio::test]
async fn hop_by_hop_fields_go_no_further_towards_the_client() {
    let answer = "HTTP/1.1 200 OK\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
        Proxy-Connection: keep-alive\r\nX-End: 1\r\nContent-Length: 2\r\n\r\nok";
    let origin = RawOrigin::answering(answer).await;
    let gateway = Gateway::run(Config::new(ONE_ORIGIN).raw_origin("origin", &origin)).await;
    for http2 in [false, true] {
        let request = gateway.get("/");
        let answer = if http2 { request.http2() } else { request }.await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "ok".to_owned()));
        for name in ["x-hop", "keep-alive", "proxy-connection"] {
            assert_eq!(answer.header(name), None, "{name}, http2 {http2}");
        }
        assert_eq!(answer.header("x-end"), Some("1"));
    }
}

#[tokio::test]
async fn via_names_the_gateway_both_ways_and_can_be_switched_off() {
    let (gateway, origin) = behind(Behaviour::status(200)).await;
    let answer = gateway.get("/").header("via", "1.1 first").await;
    let (there, back) =
        (origin.last_request().header_values("via").join(", "), answer.header("via").unwrap().to_owned());
    assert!(there.starts_with("1.1 first, 1.1 "), "{there}");
    assert!(back.starts_with("1.1 "), "{back}");
    gateway.get("/").http2().await;
    assert!(origin.last_request().header("via").unwrap().starts_with("2"), "the version received is named");

    let config = one_origin(&origin).with_yaml(format!("via: false\n{BOTH_LISTENERS}{ONE_ORIGIN}"));
    gateway.change_config(config).await;
    assert_eq!(gateway.get("/").await.header("via"), None);
    assert_eq!(origin.last_request().header("via"), None);
}

#[tokio::test]
async fn an_answer_without_a_date_gets_one() {
    let origin = RawOrigin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let gateway = Gateway::run(Config::new(ONE_ORIGIN).raw_origin("origin", &origin)).await;
    assert!(gateway.get("/").await.header("date").unwrap().ends_with(" GMT"));
    assert!(gateway.get("/").host("nobody.example").await.header("date").unwrap().ends_with(" GMT"));
}

#[tokio::test]
async fn nothing_tells_what_the_gateway_is_made_of() {
    let (gateway, _origin) = behind(Behaviour::status(200)).await;
    let mut raw = gateway.raw_tcp().await;
    raw.send("nonsense\r\n\r\n").await;
    let (bytes, _) = raw.read_to_end().await;
    let malformed = String::from_utf8_lossy(&bytes).to_lowercase();
    let missing = gateway.get("/").host("nobody.example").await;
    assert!(!malformed.contains("pingora"), "{malformed}");
    assert!(!format!("{missing:?}").to_lowercase().contains("pingora"));
}

#[tokio::test]
async fn max_forwards_is_counted_down_and_obeyed() {
    let (gateway, origin) = behind(Behaviour::status(200)).await;
    let options = gateway.request(http::Method::OPTIONS, "/");
    options.clone().header("max-forwards", "5").await;
    assert_eq!(origin.last_request().header("max-forwards"), Some("4"));
    let answer = options.header("max-forwards", "0").await;
    assert_eq!((origin.hits(), answer.release()), (1, ""), "the gateway is the last recipient: {answer:?}");
}
