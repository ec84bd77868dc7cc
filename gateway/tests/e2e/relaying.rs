//! What passes between a client and an origin while one of them is slow, early or wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::certificates::origin_tls;
use crate::support::{BOTH_LISTENERS, Behaviour, Config, Gateway, ONE_ORIGIN, Origin, RawOrigin, one_origin};

/// More than the sockets between two processes hold.
const LARGE: usize = 8 << 20;

const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const SWITCHED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// A gateway before whoever serves connections like this.
async fn before<F>(service: &str, serve: impl Fn(TcpStream) -> F + Send + 'static) -> Gateway
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    let yaml = ONE_ORIGIN.replace("[\"{origin}\"]", &format!("[\"{{origin}}\"]{service}"));
    Gateway::run(Config::new(format!("{BOTH_LISTENERS}{yaml}")).value("origin", &address)).await
}

/// A gateway before an origin over HTTP/2.
async fn before_h2<F>(
    answer: impl Fn(h2::server::SendResponse<Bytes>) -> F + Clone + Send + 'static,
) -> Gateway
where
    F: Future<Output = ()> + Send + 'static,
{
    before(", protocol: h2c", move |stream| {
        let answer = answer.clone();
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, respond))) = connection.accept().await {
                tokio::spawn(answer(respond));
            }
        }
    })
    .await
}

/// Reads up to the end of a header; gives what came with it.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            return read.split_off(end + 4);
        }
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "a header was to come");
    }
}

/// Reads so many bytes, slower than they are sent.
async fn read_slowly(stream: &mut (impl AsyncRead + Unpin), mut left: usize) {
    let mut space = vec![0; 64 << 10];
    while left > 0 {
        let read = stream.read(&mut space).await.unwrap();
        assert_ne!(read, 0, "{left} bytes were to come");
        left -= read;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_slow_client_over_tls_gets_an_answer_to_its_last_byte() {
    let origin = Origin::script(Behaviour::status(200).body_of(LARGE as u64)).start().await;
    let gateway = Gateway::run(one_origin(&origin)).await;
    let mut client = gateway.raw_tls().await;
    client.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    assert_eq!(client.head().await.status, 200);
    for _ in 0..LARGE / (16 << 10) {
        client.read_exact(16 << 10).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_slow_origin_over_tls_gets_a_request_to_its_last_byte() {
    let gateway = before(", tls: { ca: certs/ca.pem, sni: shop.example }", |stream| async move {
        let acceptor = TlsAcceptor::from(Arc::new(origin_tls(&["http/1.1"])));
        let mut stream = acceptor.accept(stream).await.unwrap();
        let begun = read_head(&mut stream).await.len();
        read_slowly(&mut stream, LARGE - begun).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        stream.flush().await.unwrap();
    })
    .await;
    assert_eq!(gateway.post("/", vec![0; LARGE]).await.status, 200);
}

#[tokio::test]
async fn an_origin_that_refuses_streams_is_not_asked_without_end() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let gateway = before_h2(move |mut respond| {
        let first = counted.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            match first {
                true => drop(respond.send_response(Response::new(()), true)),
                false => respond.send_reset(Reason::REFUSED_STREAM),
            }
        }
    })
    .await;
    assert_eq!(gateway.get("/").await.status, 200);
    assert_eq!(gateway.get("/").await.status, 502);
    assert!(asked.load(Ordering::Relaxed) <= 3, "asked {asked:?} times");
}

#[tokio::test]
async fn an_origin_over_http2_is_no_worse_for_a_websocket_it_cannot_have() {
    let gateway =
        before_h2(|mut respond| async move { drop(respond.send_response(Response::new(()), true)) }).await;
    let mut client = gateway.raw_tcp().await;
    client.send(HANDSHAKE).await;
    assert_eq!(client.answer().await.status, 200, "it is an ordinary request");
    gateway.counted("upstream_attempts_total", &[("outcome", "ok")], 1.0).await;
}

#[tokio::test]
async fn what_a_client_sends_behind_its_handshake_passes_once_the_websocket_is_open() {
    let gateway = before("", |mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(SWITCHED.as_bytes()).await.unwrap();
        let mut early = [0; 5];
        stream.read_exact(&mut early).await.unwrap();
        stream.write_all(&early).await.unwrap();
        let _ = stream.read(&mut early).await;
    })
    .await;
    let mut client = gateway.raw_tcp().await;
    client.send(format!("{HANDSHAKE}early")).await;
    assert_eq!(client.head().await.status, 101);
    assert_eq!(client.read_exact(5).await, b"early");
}

/// Whatever the sockets hold, one of these leaves some to wait in the gateway when the client closes.
/// Whatever the sockets hold, one of these leaves some to wait in the gateway when the client closes.
#[tokio::test]
async fn what_a_client_sent_before_it_closed_a_websocket_reaches_the_origin() {
    let (told, mut heard) = tokio::sync::mpsc::channel(1);
    let gateway = before("", move |mut stream| {
        let told = told.clone();
        async move {
            let mut all = read_head(&mut stream).await.len();
            stream.write_all(SWITCHED.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            let mut space = vec![0; 64 << 10];
            while let Ok(read @ 1..) = stream.read(&mut space).await {
                all += read;
            }
            told.send(all).await.unwrap();
        }
    })
    .await;
    for size in (1..120).map(|times| times * (48 << 10)) {
        let mut client = gateway.raw_tcp().await;
        client.send(HANDSHAKE).await;
        assert_eq!(client.head().await.status, 101);
        client.send(vec![0; size]).await;
        client.end().await;
        assert_eq!(heard.recv().await, Some(size));
    }
}

#[tokio::test]
async fn a_client_that_was_answered_before_it_got_leave_to_send_does_not_keep_its_connection() {
    let origin = RawOrigin::answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
    let config = Config::new(format!("{BOTH_LISTENERS}{ONE_ORIGIN}")).raw_origin("origin", &origin);
    let gateway = Gateway::run(config).await;
    let mut client = gateway.raw_tcp().await;
    // Its next request would be taken for the body.
    client
        .send("POST / HTTP/1.1\r\nHost: shop.example\r\nExpect: 100-continue\r\nContent-Length: 50\r\n\r\n")
        .await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (403, Some("close")));
}

#[tokio::test]
async fn an_interim_answer_loses_what_frames_a_message_or_is_for_one_hop() {
    let origin = RawOrigin::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: a\r\nConnection: x-hop, close\r\nX-Hop: 1\r\nContent-Length: 5\r\n\
         Transfer-Encoding: chunked\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let config = Config::new(format!("{BOTH_LISTENERS}{ONE_ORIGIN}")).raw_origin("origin", &origin);
    let gateway = Gateway::run(config).await;
    let mut client = gateway.raw_tcp().await;
    client.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    assert_eq!(client.head().await.head, "HTTP/1.1 103 Early Hints\r\nlink: a");
    assert_eq!(client.answer().await.text(), "ok");
}

#[tokio::test]
async fn a_switch_of_protocols_over_http2_is_no_interim_answer() {
    let gateway = before_h2(|mut respond| async move {
        let mut switch = Response::new(());
        *switch.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let _ = respond.send_informational(switch);
        let _ = respond.send_response(Response::new(()), true);
    })
    .await;
    let mut client = gateway.raw_tcp().await;
    client.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 502);
}

#[tokio::test]
async fn lengths_of_an_answer_over_http2_that_differ_are_not_passed_on() {
    let gateway = before_h2(|mut respond| async move {
        let answer = Response::builder().header("content-length", "2").header("content-length", "50");
        let mut body = respond.send_response(answer.body(()).unwrap(), false).unwrap();
        let _ = body.send_data(Bytes::from_static(b"ok"), true);
    })
    .await;
    let mut client = gateway.raw_tcp().await;
    client.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 502);
}

/// A client that has sent a body kept the buffer it was read into for as long as it was idle.
#[tokio::test]
async fn idle_clients_hold_no_buffer_for_what_they_have_sent() {
    const CLIENTS: u64 = 250;
    const BODY: u64 = 30_000;
    let origin = Origin::always(200).start().await;
    let config = Config::new(format!("{BOTH_LISTENERS}{ONE_ORIGIN}")).value("origin", origin.address());
    let gateway = Gateway::run(config).await;
    let mut idle = Vec::new();
    let mut before = 0;
    for client in 0..CLIENTS {
        let mut raw = gateway.raw_tcp().await;
        raw.send(format!("POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {BODY}\r\n\r\n")).await;
        raw.send(vec![0; BODY as usize]).await;
        assert_eq!(raw.answer().await.status, 200);
        idle.push(raw);
        if client == CLIENTS / 5 {
            before = gateway.rss_bytes();
        }
    }
    let each = gateway.rss_bytes().saturating_sub(before) / (CLIENTS * 4 / 5);
    assert!(each < BODY / 2, "{each} bytes for each");
}

#[tokio::test]
async fn an_upload_over_http2_that_is_given_up_ends_though_the_origin_takes_nothing() {
    for protocol in ["", ", protocol: h2c"] {
        let origin =
            Origin::script(Behaviour::status(200).unread().delay(Duration::from_secs(90))).start().await;
        let yaml = ONE_ORIGIN.replace("[\"{origin}\"]", &format!("[\"{{origin}}\"]{protocol}"));
        let gateway = Gateway::run(Config::new(yaml).value("origin", origin.address())).await;
        let stream = gateway.tls().alpn(&["h2"]).connect().await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = Request::post("https://shop.example/up").body(()).unwrap();
        let (_answer, mut upload) = client.send_request(request, false).unwrap();
        upload.send_data(vec![0; LARGE].into(), false).unwrap();
        gateway.eventually("the origin is asked", async || origin.hits() == 1).await;
        upload.send_reset(Reason::CANCEL);
        assert_eq!(gateway.logged("/up").await["termination"], "client_closed", "{protocol}");
        gateway.counted("upstream_attempts_total", &[("outcome", "client_abort")], 1.0).await;
    }
}

/// Each of them counted as a connection that had been kept too long, so that no release was ever judged by them.
#[tokio::test]
async fn a_request_that_ends_its_kept_connection_and_cannot_be_sent_again_counts_against_the_release() {
    let gateway = before("", |mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        read_head(&mut stream).await;
    })
    .await;
    assert_eq!(gateway.get("/").await.status, 200);
    assert_eq!(gateway.post("/", "once").await.status, 502);
    gateway.counted("upstream_attempts_total", &[("outcome", "reset")], 1.0).await;
}

#[tokio::test]
async fn a_stream_the_origin_has_refused_is_sent_again_whatever_its_method() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let gateway = before_h2(move |mut respond| {
        let refused = counted.fetch_add(1, Ordering::Relaxed) == 1;
        async move {
            match refused {
                true => respond.send_reset(Reason::REFUSED_STREAM),
                false => drop(respond.send_response(Response::new(()), true)),
            }
        }
    })
    .await;
    assert_eq!(gateway.get("/").await.status, 200);
    assert_eq!(gateway.post("/", "once").await.status, 200);
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

/// Four of them used up the window of the connection that all requests to the origin share.
#[tokio::test]
async fn clients_that_do_not_read_hold_up_no_other_request_to_an_http2_origin() {
    let origin = Origin::script(Behaviour::status(200).body_of(1000))
        .on("/large", Behaviour::status(200).body_of(64 << 20))
        .start()
        .await;
    let yaml = ONE_ORIGIN.replace("[\"{origin}\"]", "[\"{origin}\"], protocol: h2c");
    let config = Config::new(format!("{BOTH_LISTENERS}{yaml}")).value("origin", origin.address());
    let gateway = Gateway::run(config).await;
    let mut silent = Vec::new();
    for _ in 0..12 {
        let mut client = gateway.raw_tcp().await;
        client.send("GET /large HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
        client.head().await;
        silent.push(client);
    }
    let mut sent = 0;
    gateway
        .eventually("the origin can send no more", async || {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let before = std::mem::replace(&mut sent, origin.sent_bytes());
            before == sent && sent > 0
        })
        .await;
    let answer = gateway.get("/small");
    let answer = tokio::time::timeout(Duration::from_secs(5), answer.try_send()).await;
    assert_eq!(answer.expect("nobody is held up").unwrap().status, 200);
    assert_eq!(origin.connections(), 1);
}
