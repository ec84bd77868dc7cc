use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use h2::client::{self, SendRequest};
use http::{HeaderValue, Method, Request};
use pingora::ErrorSource;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::listener::slots::Slots;
use crate::{explain::offline, load};

const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000);
const SOON: Duration = Duration::from_secs(5);

fn connection(limits: &str) -> Arc<Connection> {
    let file = format!(
        "version: 1
listeners: {{ http: {{ address: \"127.0.0.1:8080\", limits: {{ {limits} }} }} }}
services: {{ web: {{ endpoints: [\"127.0.0.1:1\"] }} }}
routes: {{ all: {{ match: {{ host: shop.example }}, service: web }} }}
"
    );
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gateway.yaml");
    std::fs::write(&path, file).unwrap();
    let snapshot = offline::compile(load::load(&path).unwrap()).unwrap();
    let listener = snapshot.listeners.values().next().unwrap().clone();
    let place = Arc::new(Slots::default()).enter(1).unwrap().of(CLIENT.ip(), 1).unwrap();
    let (open, id) = (listener.metrics.connect(), snapshot.model.request_id.clone());
    Arc::new(Connection::new(listener, CLIENT, true, Vec::new(), id, (place, open)))
}

/// A connection whose requests come out of a channel.
struct Served {
    requests: mpsc::UnboundedReceiver<Http2>,
    stop: watch::Sender<bool>,
    done: JoinHandle<()>,
}

impl Served {
    fn begin(stream: DuplexStream, limits: &str) -> Self {
        let (stop, stopped) = watch::channel(false);
        Self::begin_with(stream, limits, stop, stopped)
    }

    fn begin_with(
        stream: DuplexStream,
        limits: &str,
        stop: watch::Sender<bool>,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let (sender, requests) = mpsc::unbounded_channel();
        let handler = move |request| {
            let sender = sender.clone();
            async move { drop(sender.send(request)) }
        };
        let done = tokio::spawn(serve(stream, connection(limits), stopped, handler));
        Self { requests, stop, done }
    }

    async fn request(&mut self) -> Http2 {
        timeout(SOON, self.requests.recv()).await.unwrap().unwrap()
    }

    async fn done(self) {
        timeout(SOON, self.done).await.unwrap().unwrap();
    }
}

/// A client, what became of its connection, and the other side.
async fn pair(builder: &client::Builder, limits: &str) -> (SendRequest<Bytes>, Driver, Served) {
    let (ours, theirs) = duplex(1 << 20);
    let served = Served::begin(theirs, limits);
    let (client, connection) = builder.handshake(ours).await.unwrap();
    (client.ready().await.unwrap(), tokio::spawn(connection), served)
}

type Driver = JoinHandle<Result<(), h2::Error>>;

fn get() -> Request<()> {
    Request::get("https://shop.example/path?query").body(()).unwrap()
}

fn ok() -> Parts {
    let (mut head, ()) = Response::new(()).into_parts();
    head.headers.insert("connection", HeaderValue::from_static("close"));
    head.headers.insert("x-kept", HeaderValue::from_static("yes"));
    head
}

async fn flush(http2: &mut Http2) -> pingora::Result<()> {
    timeout(SOON, poll_fn(|cx| http2.poll_flush(cx))).await.unwrap()
}

async fn gone(http2: &mut Http2) -> Box<Error> {
    poll_fn(|cx| http2.poll_gone(cx)).await
}

async fn body(http2: &mut Http2) -> pingora::Result<Option<Bytes>> {
    timeout(SOON, poll_fn(|cx| http2.poll_body(cx))).await.unwrap()
}

async fn received(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(piece) = timeout(SOON, body.data()).await.unwrap() {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len()).unwrap();
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

#[tokio::test]
async fn a_request_is_answered_with_a_head_and_a_body() {
    let (mut client, _driver, mut served) = pair(&client::Builder::new(), "").await;
    let (answer, _) = client.send_request(get(), true).unwrap();
    let mut http2 = served.request().await;
    assert!(http2.is_body_empty());
    assert_eq!(http2.request().raw_path(), b"/path?query");
    assert_eq!(http2.request().method, Method::GET);
    http2.request_mut().insert_header("x-more", "1").unwrap();
    assert_eq!(http2.connection().peer, CLIENT);
    assert_eq!((body(&mut http2).await.unwrap(), body(&mut http2).await.unwrap()), (None, None));
    assert_eq!(poll_fn(|cx| http2.poll_trailers(cx)).await.unwrap(), None);

    assert_eq!(http2.head_sent(), None);
    http2.send_head(ok(), false).unwrap();
    http2.send_body(Bytes::from_static(b"hello"), true).unwrap();
    assert_eq!((http2.queued(), http2.body_sent(), http2.head_sent()), (0, 5, Some(StatusCode::OK)));
    assert!(http2.send_head(ok(), false).is_err() && http2.send_body(Bytes::new(), true).is_err());
    flush(&mut http2).await.unwrap();
    drop(http2);

    let (head, mut body) = timeout(SOON, answer).await.unwrap().unwrap().into_parts();
    assert_eq!(head.status, 200);
    assert!(head.headers.contains_key("date") && head.headers.contains_key("x-kept"));
    assert!(!head.headers.contains_key("connection"));
    assert_eq!(received(&mut body).await.unwrap(), b"hello");
}

#[tokio::test]
async fn an_answer_without_a_body_is_one_frame_and_keeps_its_date() {
    for two_steps in [false, true] {
        let (mut client, _driver, mut served) = pair(&client::Builder::new(), "").await;
        let (answer, _) = client.send_request(get(), true).unwrap();
        let mut http2 = served.request().await;
        let mut head = ok();
        head.headers.insert("date", HeaderValue::from_static("yesterday"));
        http2.send_head(head, !two_steps).unwrap();
        if two_steps {
            http2.send_body(Bytes::new(), true).unwrap();
        }
        drop(http2);
        let answer = timeout(SOON, answer).await.unwrap().unwrap();
        assert_eq!(answer.headers()["date"], "yesterday");
        assert!(answer.body().is_end_stream());
    }
}

#[tokio::test]
async fn bodies_pass_both_ways_as_fast_as_they_are_read() {
    const PIECE: usize = 10_000;
    let (mut client, _driver, mut served) = pair(client::Builder::new().initial_window_size(1000), "").await;
    let request = Request::post("https://shop.example/").body(()).unwrap();
    let (answer, mut upload) = client.send_request(request, false).unwrap();
    let mut http2 = served.request().await;
    assert!(!http2.is_body_empty());

    upload.send_data(vec![1; PIECE].into(), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("7"));
    upload.send_trailers(trailers.clone()).unwrap();
    let mut read = 0;
    while let Some(piece) = body(&mut http2).await.unwrap() {
        read += piece.len();
    }
    assert_eq!(read, PIECE);
    assert_eq!(poll_fn(|cx| http2.poll_trailers(cx)).await.unwrap(), Some(trailers.clone()));

    http2.send_head(ok(), false).unwrap();
    http2.send_body(vec![2; PIECE].into(), false).unwrap();
    assert_eq!((http2.queued(), http2.body_sent()), (PIECE - 1000, 1000));
    http2.send_body(vec![3; PIECE].into(), false).unwrap();
    http2.send_trailers(trailers.clone()).unwrap();
    assert_eq!(http2.queued(), 2 * PIECE - 1000);
    let sending = tokio::spawn(async move {
        flush(&mut http2).await.unwrap();
        (http2.queued(), http2.body_sent())
    });
    let mut answer = timeout(SOON, answer).await.unwrap().unwrap().into_body();
    let body = received(&mut answer).await.unwrap();
    assert_eq!(body, [vec![2; PIECE], vec![3; PIECE]].concat());
    assert_eq!(answer.trailers().await.unwrap(), Some(trailers));
    assert_eq!(sending.await.unwrap(), (0, 2 * PIECE as u64));
}

#[tokio::test]
async fn a_queued_body_ends_with_its_last_piece() {
    let (mut client, _driver, mut served) = pair(client::Builder::new().initial_window_size(10), "").await;
    let (answer, _) = client.send_request(get(), true).unwrap();
    let mut http2 = served.request().await;
    http2.send_head(ok(), false).unwrap();
    http2.send_body(vec![1; 100].into(), false).unwrap();
    http2.send_body(Bytes::new(), true).unwrap();
    let sending = tokio::spawn(async move { flush(&mut http2).await });
    let mut body = timeout(SOON, answer).await.unwrap().unwrap().into_body();
    assert_eq!(received(&mut body).await.unwrap().len(), 100);
    sending.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_gives_up_is_noticed_before_and_after_the_head() {
    for answered in [false, true] {
        let (mut client, _driver, mut served) =
            pair(client::Builder::new().initial_window_size(10), "").await;
        let (answer, mut upload) = client.send_request(get(), false).unwrap();
        let mut http2 = served.request().await;
        if answered {
            http2.send_head(ok(), false).unwrap();
            http2.send_body(vec![1; 100].into(), false).unwrap();
        }
        upload.send_reset(Reason::CANCEL);
        let error = gone(&mut http2).await;
        assert_eq!(error.etype(), &ErrorType::ConnectionClosed);
        assert_eq!(error.esource(), &ErrorSource::Downstream);
        let unread = body(&mut http2).await.unwrap_err();
        assert_eq!(unread.etype(), &ErrorType::ConnectionClosed);
        if answered {
            assert_eq!(flush(&mut http2).await.unwrap_err().etype(), &ErrorType::ConnectionClosed);
        } else {
            assert!(http2.send_head(ok(), true).is_err());
        }
        drop(answer);
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_noticed_by_its_requests() {
    let (mut client, driver, mut served) = pair(&client::Builder::new(), "").await;
    let (answer, _) = client.send_request(get(), true).unwrap();
    let mut http2 = served.request().await;
    driver.abort();
    drop((client, answer));
    assert_eq!(gone(&mut http2).await.esource(), &ErrorSource::Downstream);
    served.done().await;
}

#[tokio::test]
async fn an_answer_that_is_let_go_never_looks_complete() {
    for headed in [false, true] {
        let (mut client, _driver, mut served) = pair(&client::Builder::new(), "").await;
        let (answer, _) = client.send_request(get(), true).unwrap();
        let mut http2 = served.request().await;
        if headed {
            http2.send_head(ok(), false).unwrap();
            http2.send_body(Bytes::from_static(b"half"), false).unwrap();
            let answer = timeout(SOON, answer).await.unwrap().unwrap();
            drop(http2);
            let error = received(&mut answer.into_body()).await.unwrap_err();
            assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
        } else {
            http2.reset(Reason::REFUSED_STREAM);
            let error = timeout(SOON, answer).await.unwrap().unwrap_err();
            assert_eq!(error.reason(), Some(Reason::REFUSED_STREAM));
        }
    }
}

#[tokio::test]
async fn a_body_shorter_than_announced_is_malformed() {
    let (mut client, _driver, mut served) = pair(&client::Builder::new(), "").await;
    let request = Request::post("https://shop.example/").header("content-length", "9").body(()).unwrap();
    let (_answer, mut upload) = client.send_request(request, false).unwrap();
    let mut http2 = served.request().await;
    upload.send_data(Bytes::from_static(b"four"), true).unwrap();
    let error = loop {
        match body(&mut http2).await {
            Ok(piece) => assert!(piece.is_some(), "the body looks complete"),
            Err(error) => break error,
        }
    };
    assert_eq!((error.etype(), error.esource()), (&ErrorType::H2Error, &ErrorSource::Downstream));
}

#[tokio::test]
async fn interim_answers_come_before_the_head() {
    let (mut client, _driver, mut served) = pair(&client::Builder::new(), "").await;
    let (mut answer, _) = client.send_request(get(), true).unwrap();
    let mut http2 = served.request().await;
    let mut hints = ok();
    hints.status = StatusCode::EARLY_HINTS;
    http2.send_interim(hints).unwrap();
    let mut switching = ok();
    switching.status = StatusCode::SWITCHING_PROTOCOLS;
    assert!(http2.send_interim(switching).is_err());
    let interim = timeout(SOON, poll_fn(|cx| answer.poll_informational(cx))).await.unwrap();
    assert_eq!(interim.unwrap().unwrap().status(), StatusCode::EARLY_HINTS);
    http2.send_head(ok(), true).unwrap();
    assert_eq!(timeout(SOON, answer).await.unwrap().unwrap().status(), 200);
}

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
    let handler = move |mut http2: Http2| {
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
