//! Origins do what their scripts say, and load counts what they do.

#![allow(clippy::unwrap_used, reason = "what does not work ends the test")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::Uri;
use loadtest::load::{Failure, Load, Refused, Summary, Trust};
use loadtest::origin::{Behaviour, Builder, Events, Fault, Origin, RawOrigin};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

fn load(origin: &Origin, requests: u32) -> Load {
    let url: Uri = format!("http://{}/path?q=1", origin.address()).parse().unwrap();
    Load { connections: 4, ..Load::new(url, 1000.0, Duration::from_millis(requests.into())) }
}

async fn loaded(builder: Builder, requests: u32) -> Summary {
    let origin = builder.start().await;
    load(&origin, requests).run().await.unwrap()
}

/// Sends bytes and takes everything up to the end of the connection.
async fn talk(origin: &str, bytes: &str) -> (String, std::io::Result<()>) {
    let mut stream = TcpStream::connect(origin).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    let ended = stream.read_to_end(&mut received).await.map(|_| ());
    (String::from_utf8_lossy(&received).into_owned(), ended)
}

#[tokio::test]
async fn every_request_is_answered_and_named_over_both_protocols() {
    for http2 in [false, true] {
        let origin = Origin::always(200).named("api-41").start().await;
        let summary = Load { http2, ..load(&origin, 100) }.run().await.unwrap();
        assert_eq!(summary.statuses, [(200, 100)].into());
        assert_eq!(summary.releases["api-41"].statuses, [(200, 100)].into());
        assert_eq!((summary.failed(), origin.hits()), (0, 100));
        assert!(origin.connections() <= 4, "{} connections", origin.connections());
        assert_eq!(origin.last_request().path, "/path?q=1");
    }
}

#[tokio::test]
async fn load_over_tls_believes_its_authority_and_no_other() {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let origin = Origin::always(200).tls(tls).start().await;
    let directory = tempfile::tempdir().unwrap();
    let (good, bad) = (directory.path().join("ca.pem"), directory.path().join("empty.pem"));
    std::fs::write(&good, certificate.pem()).unwrap();
    std::fs::write(&bad, "").unwrap();

    let url: Uri = format!("https://localhost:{}/", origin.port()).parse().unwrap();
    let connect_to = Some(origin.address().to_owned());
    let trusting = |trust, http2| Load {
        trust,
        http2,
        connect_to: connect_to.clone(),
        ..Load::new(url.clone(), 1000.0, Duration::from_millis(20))
    };
    for http2 in [false, true] {
        let summary = trusting(Trust::Authority(good.clone()), http2).run().await.unwrap();
        assert_eq!(summary.statuses, [(200, 20)].into());
    }
    let refused = trusting(Trust::Authority(bad), false).run().await;
    assert!(matches!(refused, Err(Refused::Authority { .. })), "{refused:?}");
    let by_address = Load {
        url: format!("https://{}/", origin.address()).parse().unwrap(),
        ..trusting(Trust::Authority(good), false)
    };
    assert_eq!(by_address.run().await.unwrap().errors, [(Failure::Tls, 20)].into());
}

#[tokio::test]
async fn each_way_to_fail_is_counted_apart() {
    let fails =
        async |fault| loaded(Origin::script(Behaviour::status(200).body_of(100_000).fault(fault)), 10).await;
    assert_eq!(fails(Fault::CloseBeforeHeader).await.errors, [(Failure::Closed, 10)].into());
    assert_eq!(fails(Fault::ResetBeforeHeader).await.errors, [(Failure::Closed, 10)].into());
    assert_eq!(fails(Fault::BreakOffAfter(5000)).await.errors, [(Failure::Truncated, 10)].into());
    assert_eq!(fails(Fault::ResetAfter(5000)).await.errors, [(Failure::Truncated, 10)].into());

    let origin = Origin::always(200).start().await;
    let nobody = load(&origin, 10);
    origin.stop().await;
    assert_eq!(nobody.run().await.unwrap().errors, [(Failure::Connect, 10)].into());

    let slow = Origin::script(Behaviour::status(200).delay(Duration::from_secs(60))).start().await;
    let impatient = Load { timeout: Duration::from_millis(20), ..load(&slow, 4) };
    assert_eq!(impatient.run().await.unwrap().errors, [(Failure::Timeout, 4)].into());
}

#[tokio::test]
async fn a_stall_shows_in_every_request_it_held_up() {
    let origin = Origin::script(Behaviour::status(200).delay(Duration::from_millis(50))).start().await;
    let summary = Load { connections: 1, ..load(&origin, 10) }.run().await.unwrap();
    assert!(summary.latency.max >= 450.0, "ten answers of 50 ms on one connection: {:?}", summary.latency);
}

#[tokio::test]
async fn a_kept_connection_found_closed_is_no_error() {
    let behaviour = Behaviour::status(200).fault(Fault::CloseOnReuse);
    let summary = loaded(Origin::script(behaviour), 20).await;
    assert_eq!(summary.statuses, [(200, 20)].into());
    assert!(summary.retries > 0);
}

#[tokio::test]
async fn users_keep_their_cookies_apart() {
    let origin = Origin::script(Behaviour::status(200).header("set-cookie", "id=1; Path=/")).start().await;
    Load { users: 5, connections: 1, ..load(&origin, 20) }.run().await.unwrap();
    let with_cookie =
        origin.requests().iter().filter(|request| request.header("cookie") == Some("id=1")).count();
    assert_eq!(with_cookie, 15, "each of five users comes once without");
}

#[tokio::test]
async fn a_request_is_described_as_it_arrived() {
    let origin = Origin::script(Behaviour::echo()).start().await;
    let request = "POST /a//b?x=%2F HTTP/1.1\r\nHost: h\r\nX-One: 1\r\nX-One: 2\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
    let (answer, _) = talk(origin.address(), request).await;
    let body: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(
        (&body["method"], &body["path"], &body["body"]),
        (&"POST".into(), &"/a//b?x=%2F".into(), &"abc".into())
    );
    let seen = origin.last_request();
    assert_eq!(seen.header_values("x-one"), ["1", "2"]);
    assert!(seen.complete);
    assert_eq!((seen.text(), seen.body_bytes), ("abc".to_owned(), 3));

    let (answer, _) = talk(origin.address(), &request.replace("/a//b?x=%2F", "/echo")).await;
    assert!(answer.ends_with("\r\n\r\nabc"), "{answer}");
}

#[tokio::test]
async fn faults_end_the_connection_as_they_say() {
    let get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let faulty = async |behaviour: Behaviour| {
        let origin = Origin::script(behaviour).start().await;
        talk(origin.address(), get).await
    };
    let (answer, end) =
        faulty(Behaviour::status(200).body("0123456789").fault(Fault::BreakOffAfter(4))).await;
    assert!(answer.contains("content-length: 10") && answer.ends_with("\r\n\r\n0123"), "{answer}");
    assert!(end.is_ok(), "{end:?}");
    let (answer, _) =
        faulty(Behaviour::status(200).body("0123456789").chunked().fault(Fault::BreakOffAfter(4))).await;
    assert!(answer.ends_with("4\r\n0123\r\n"), "{answer}");
    let (_, end) = faulty(Behaviour::status(200).body("0123456789").fault(Fault::ResetAfter(4))).await;
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let (answer, end) = faulty(Behaviour::status(200).fault(Fault::CloseAfterResponse)).await;
    assert!(answer.ends_with("hello\n") && !answer.contains("connection: close"), "{answer}");
    assert!(end.is_ok(), "{end:?}");
    let (answer, end) = faulty(Behaviour::status(200).idle(Duration::from_millis(10))).await;
    assert!(answer.ends_with("hello\n") && end.is_ok(), "{answer} {end:?}");
}

#[tokio::test]
async fn paths_behave_apart_until_all_is_changed() {
    let slow = Behaviour::status(202).drip("tick ", 3, Duration::from_millis(1));
    let origin = Origin::always(200).on("/slow", slow).start().await;
    let get = async |path: &str| {
        talk(origin.address(), &format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"))
            .await
            .0
    };
    assert!(get("/").await.starts_with("HTTP/1.1 200"));
    let slow = get("/slow").await;
    assert!(slow.starts_with("HTTP/1.1 202") && slow.ends_with("tick tick tick "), "{slow}");
    origin.set_behaviour(Behaviour::status(503));
    assert!(get("/slow").await.starts_with("HTTP/1.1 503"));
}

#[tokio::test]
async fn events_arrive_when_they_are_sent() {
    let events = Events::new();
    let origin = Origin::script(Behaviour::events(&events)).start().await;
    let mut stream = TcpStream::connect(origin.address()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let mut received = String::new();
    for (number, text) in ["one", "two"].into_iter().enumerate() {
        while events.event(text) == 0 {
            tokio::task::yield_now().await;
        }
        while !received.contains(&format!("data: {text}\n\n")) {
            let mut bytes = [0; 1024];
            let count = stream.read(&mut bytes).await.unwrap();
            assert!(count > 0, "ended at event {number}");
            received.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }
}

#[tokio::test]
async fn a_websocket_sends_back_and_ends_with_its_origin() {
    let origin = Origin::script(Behaviour::websocket()).start().await;
    let stream = TcpStream::connect(origin.address()).await.unwrap();
    let url = format!("ws://{}/", origin.address());
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
    origin.stop().await;
    assert!(!matches!(socket.next().await, Some(Ok(_))));
}

#[tokio::test]
async fn other_sockets_serve_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("origin.sock");
    let origin = Origin::always(200).unix(&path).start().await;
    assert_eq!(origin.address(), format!("unix:{}", path.display()));
    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let six = Origin::always(200).ipv6().start().await;
    assert!(
        talk(six.address(), "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            .await
            .0
            .contains("hello")
    );
}

#[tokio::test]
async fn a_raw_origin_says_what_it_was_given() {
    let origin = RawOrigin::answering("HTTP/1.1 nonsense\r\n\r\n").await;
    let (answer, end) = talk(origin.address(), "GET /x HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(answer, "HTTP/1.1 nonsense\r\n\r\n");
    assert!(end.is_ok());
    assert!(origin.received().starts_with("GET /x HTTP/1.1"));
}
