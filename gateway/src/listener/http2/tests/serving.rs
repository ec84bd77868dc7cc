//! What a connection does by itself: refuse, close, stop, and send.

use std::pin::Pin;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

#[tokio::test]
async fn what_is_no_request_is_answered_without_serving_it() {
    let (mut client, _driver, mut served) = pair(&client::Builder::new(), "").await;
    let two_hosts = Request::get("https://shop.example/").header("host", "other.example").body(()).unwrap();
    let connect = Request::builder().method(Method::CONNECT).uri("other.example:443").body(()).unwrap();
    for (request, status) in [(two_hosts, 400), (connect, 405)] {
        let (answer, _) = client.send_request(request, true).unwrap();
        let answer = timeout(SOON, answer).await.unwrap().unwrap();
        assert_eq!(answer.status(), status);
        assert!(answer.body().is_end_stream());
    }
    // The connection goes on.
    let (answer, _) = client.send_request(get(), true).unwrap();
    served.request().await.send_head(ok(), true).unwrap();
    assert_eq!(timeout(SOON, answer).await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_connection_has_so_many_malformed_requests() {
    let (mut client, driver, served) = pair(&client::Builder::new(), "").await;
    for sent in 1.. {
        let request = Request::get("https://shop.example/").header("host", "other.example").body(()).unwrap();
        let (answer, _) = client.send_request(request, true).unwrap();
        if timeout(SOON, answer).await.unwrap().is_err() {
            assert_eq!(sent, 32);
            break;
        }
        client = client.ready().await.unwrap();
    }
    let error = timeout(SOON, driver).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM));
    served.done().await;
}

/// Frames as they are on the wire: type, stream, payload.
async fn next_frame(from: &mut DuplexStream) -> (u8, u32, Vec<u8>) {
    let mut head = [0; 9];
    timeout(SOON, from.read_exact(&mut head)).await.unwrap().unwrap();
    let [a, b, c, kind, _, stream @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    from.read_exact(&mut payload).await.unwrap();
    (kind, u32::from_be_bytes(stream), payload)
}

/// The first frame of stream 1 in answer to a request that no client library would send.
async fn answer_to(path: &str, more: &[(&str, &str)]) -> (u8, Vec<u8>) {
    let (mut client, theirs) = duplex(1 << 16);
    let mut served = Served::begin(theirs, "");
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00").await.unwrap();
    // GET, https, and two literals of the static table: `:authority` and `:path`.
    let mut block = vec![0x82, 0x87];
    let mut literal = |index: u8, texts: &[&str]| {
        block.push(index);
        for text in texts {
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    };
    literal(1, &["shop.example"]);
    literal(4, &[path]);
    more.iter().for_each(|(name, value)| literal(0, &[name, value]));
    let mut frame = vec![0, 0, block.len() as u8, 1, 5, 0, 0, 0, 1];
    frame.append(&mut block);
    client.write_all(&frame).await.unwrap();
    let answer = loop {
        let (kind, stream, payload) = next_frame(&mut client).await;
        if stream == 1 {
            break (kind, payload);
        }
    };
    assert!(served.requests.try_recv().is_err(), "served");
    answer
}

#[tokio::test]
async fn bytes_that_no_target_has_and_lengths_that_differ_break_the_stream_off() {
    const RST_STREAM: u8 = 3;
    let protocol_error = 1_u32.to_be_bytes().to_vec();
    for (path, fields) in [
        ("/a b", &[][..]),
        ("/a\r\nb", &[]),
        ("/a\0", &[]),
        ("/", &[("content-length", "1"), ("content-length", "2")]),
        ("/", &[("content-length", "-1")]),
    ] {
        assert_eq!(
            answer_to(path, fields).await,
            (RST_STREAM, protocol_error.clone()),
            "{path:?} {fields:?}"
        );
    }
}

#[tokio::test]
async fn a_path_that_is_an_address_is_refused() {
    for path in ["http://other.example/", "http:/\\other.example", "://other.example"] {
        let (kind, payload) = answer_to(path, &[]).await;
        // HEADERS that begin with `:status: 400` of the static table, or a reset by the library.
        assert!(kind == 3 || (kind, payload[0]) == (1, 0x8c), "{path}: {kind} {payload:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unused_connection_is_closed_and_one_in_use_is_not() {
    let (mut client, mut driver, mut served) = pair(&client::Builder::new(), "keepalive: 60s").await;
    let (answer, _) = client.send_request(get(), true).unwrap();
    let mut http2 = served.request().await;
    assert!(timeout(Duration::from_secs(600), gone(&mut http2)).await.is_err(), "closed in use");
    http2.send_head(ok(), true).unwrap();
    drop(http2);
    assert_eq!(timeout(SOON, answer).await.unwrap().unwrap().status(), 200);
    assert!(timeout(Duration::from_secs(59), &mut driver).await.is_err(), "closed too early");
    timeout(Duration::from_secs(17), driver).await.unwrap().unwrap().unwrap();
    served.done().await;
}

#[tokio::test]
async fn a_stop_lets_requests_finish_and_takes_no_more() {
    let (mut client, driver, mut served) = pair(&client::Builder::new(), "").await;
    let (answer, _) = client.send_request(get(), true).unwrap();
    let mut http2 = served.request().await;
    served.stop.send_replace(true);
    timeout(SOON, async {
        // Until the farewell is there.
        while poll_fn(|cx| client.poll_ready(cx)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    http2.send_head(ok(), false).unwrap();
    http2.send_body(Bytes::from_static(b"done"), true).unwrap();
    drop(http2);
    let mut body = timeout(SOON, answer).await.unwrap().unwrap().into_body();
    assert_eq!(received(&mut body).await.unwrap(), b"done");
    drop(client);
    timeout(SOON, driver).await.unwrap().unwrap().unwrap();
    served.done().await;
}

#[tokio::test]
async fn a_connection_that_comes_in_while_the_process_stops_is_served_once() {
    let (stop, stopped) = watch::channel(true);
    let (ours, theirs) = duplex(1 << 16);
    let (mut client, connection) = client::handshake(ours).await.unwrap();
    let (answer, _) = client.send_request(get(), true).unwrap();
    let driver = tokio::spawn(connection);
    // The request is on its way when somebody looks at the connection.
    tokio::task::yield_now().await;
    let mut served = Served::begin_with(theirs, "", stop, stopped);
    served.request().await.send_head(ok(), true).unwrap();
    assert_eq!(timeout(SOON, answer).await.unwrap().unwrap().status(), 200);
    timeout(SOON, driver).await.unwrap().unwrap().unwrap();
    served.done().await;
}

#[tokio::test]
async fn answers_given_in_one_turn_leave_together() {
    let (ours, theirs) = duplex(1 << 20);
    let writes = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let counted = Counted { stream: theirs, writes: writes.clone() };
    let (_stop, stopped) = watch::channel(false);
    let all = Arc::new(tokio::sync::Barrier::new(8));
    let handler = move |mut http2: Exchange| {
        let all = all.clone();
        async move {
            all.wait().await;
            http2.send_head(ok(), false).unwrap();
            http2.send_body(vec![0; 1500].into(), true).unwrap();
        }
    };
    tokio::spawn(serve(counted, connection(""), stopped, handler));
    let (mut client, driver) = client::handshake::<_>(ours).await.unwrap();
    let answers: Vec<_> = (0..8).map(|_| client.send_request(get(), true).unwrap().0).collect();
    tokio::spawn(driver);
    for answer in answers {
        let mut body = timeout(SOON, answer).await.unwrap().unwrap().into_body();
        assert_eq!(received(&mut body).await.unwrap().len(), 1500);
    }
    // The first may be under way before the others are woken.
    let writes = writes.lock();
    assert!(writes.iter().any(|bytes| *bytes > 7 * 1500), "{writes:?}");
}

/// Remembers how much each write took.
struct Counted {
    stream: DuplexStream,
    writes: Arc<parking_lot::Mutex<Vec<usize>>>,
}

impl tokio::io::AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl tokio::io::AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = &written {
            self.writes.lock().push(*bytes);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
