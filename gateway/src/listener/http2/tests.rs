//! One request and its answer, with the library's own client at the other end.

mod serving;

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use h2::client::{self, SendRequest};
use http::{HeaderValue, Method, Request, Version};
use pingora::ErrorSource;
use tokio::io::{DuplexStream, duplex};
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
    Arc::new(Connection::new(listener, CLIENT, true, Vec::new(), id, (place, open), Arc::default()))
}

/// A connection whose requests come out of a channel.
struct Served {
    requests: mpsc::UnboundedReceiver<Exchange>,
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

    async fn request(&mut self) -> Exchange {
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

fn head(status: StatusCode) -> ResponseHead {
    ResponseHead { status, reason: None, version: Version::HTTP_11, headers: HeaderMap::new() }
}

fn ok() -> ResponseHead {
    let mut head = head(StatusCode::OK);
    head.headers.insert("connection", HeaderValue::from_static("close"));
    head.headers.insert("x-kept", HeaderValue::from_static("yes"));
    head
}

async fn flush(http2: &mut Exchange) -> pingora::Result<()> {
    timeout(SOON, poll_fn(|cx| http2.poll_flush(cx))).await.unwrap()
}

async fn gone(http2: &mut Exchange) -> Box<Error> {
    poll_fn(|cx| http2.poll_gone(cx)).await
}

async fn body(http2: &mut Exchange) -> pingora::Result<Option<Bytes>> {
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
    assert!(http2.is_body_done());
    assert_eq!(http2.request().target(), b"/path?query");
    assert_eq!(http2.request().method, Method::GET);
    http2.request_mut().headers.insert("x-more", HeaderValue::from_static("1"));
    assert_eq!(http2.connection().peer, CLIENT);
    assert_eq!((body(&mut http2).await.unwrap(), body(&mut http2).await.unwrap()), (None, None));

    assert_eq!(http2.answered(), None);
    http2.send_head(ok(), false).unwrap();
    http2.send_body(Bytes::from_static(b"hello"), true).unwrap();
    assert_eq!((http2.queued(), http2.body_sent(), http2.answered()), (0, 5, Some(StatusCode::OK)));
    assert!(http2.send_head(ok(), false).is_err() && http2.send_body(Bytes::new(), true).is_err());
    flush(&mut http2).await.unwrap();
    drop(http2);

    let (head, mut body) = timeout(SOON, answer).await.unwrap().unwrap().into_parts();
    assert_eq!(head.status, 200);
    assert!(head.headers.contains_key("x-kept"));
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
    assert!(!http2.is_body_done());

    upload.send_data(vec![1; PIECE].into(), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("7"));
    upload.send_trailers(trailers.clone()).unwrap();
    let mut read = 0;
    while let Some(piece) = body(&mut http2).await.unwrap() {
        read += piece.len();
    }
    assert_eq!(read, PIECE);

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
            drop(http2);
            let error = timeout(SOON, answer).await.unwrap().unwrap_err();
            assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
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
