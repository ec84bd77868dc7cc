//! Connections that carry many streams.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response, StatusCode};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;

/// An origin that answers everything.
struct Answering {
    address: std::net::SocketAddr,
    connections: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    /// Says goodbye on all connections.
    goodbye: Arc<Notify>,
    accepting: JoinHandle<()>,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Answering {
    /// One with room for so many streams on each connection.
    async fn start(streams: u32) -> Self {
        let Origin(listener) = Origin::start().await;
        let address = listener.local_addr().expect("an address");
        let (connections, open, goodbye) = (Arc::default(), Arc::default(), Arc::<Notify>::default());
        let counts = (Arc::clone(&connections), Arc::clone(&open), goodbye.clone());
        let accepting = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.expect("a connection");
                tokio::spawn(answer(tcp, streams, counts.clone()));
            }
        });
        Self { address, connections, open, goodbye, accepting }
    }

    fn pool(&self, keepalive: Duration) -> Arc<Pool> {
        pool(Target::Ip(self.address), Protocol::H2c, keepalive, 1)
    }
}

type Counts = (Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<Notify>);

async fn answer(tcp: TcpStream, streams: u32, (connections, open, goodbye): Counts) {
    connections.fetch_add(1, Ordering::Relaxed);
    open.fetch_add(1, Ordering::Relaxed);
    let mut builder = h2::server::Builder::new();
    let handshake = builder.max_concurrent_streams(streams).handshake::<_, Bytes>(tcp);
    let mut connection = handshake.await.expect("HTTP/2");
    loop {
        tokio::select! {
            asked = connection.accept() => match asked {
                Some(Ok((_, mut respond))) => drop(respond.send_response(Response::new(()), true)),
                _ => break,
            },
            () = goodbye.notified() => connection.graceful_shutdown(),
        }
    }
    open.fetch_sub(1, Ordering::Relaxed);
}

async fn exchange(place: &mut Http2) -> StatusCode {
    let request = Request::get("http://shop.example/").body(()).expect("a request");
    let (answer, _) = place.sender.send_request(request, true).expect("a stream");
    answer.await.expect("an answer").status()
}

#[tokio::test]
async fn a_connection_carries_several_streams_and_another_is_opened_when_it_is_full() {
    let origin = Answering::start(2).await;
    let pool = origin.pool(LONG);
    let mut places = Vec::new();
    for _ in 0..3 {
        places.push(pool.stream(None).await.expect("a place"));
    }
    assert_eq!(places.iter().map(|place| place.reused).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(places[0].socket, places[1].socket);
    assert_ne!(places[0].socket, places[2].socket);
    for place in &mut places {
        assert_eq!(exchange(place).await, StatusCode::OK);
    }
    let full = places[0].socket;
    drop(places.remove(0));
    let again = pool.stream(None).await.expect("a place");
    assert_eq!((again.socket, again.reused), (full, true), "a stream that has ended makes room");
    assert_eq!(origin.connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_burst_opens_no_more_connections_than_it_needs() {
    let origin = Answering::start(1000).await;
    let pool = origin.pool(LONG);
    let places = join_all((0..150).map(|_| pool.stream(None))).await;
    assert!(!pool.is_http1() && places.iter().all(Result::is_ok));
    assert_eq!(origin.connections.load(Ordering::Relaxed), 2, "of a hundred streams each");
}

#[tokio::test]
async fn after_goodbye_there_is_a_new_connection() {
    let origin = Answering::start(100).await;
    let pool = origin.pool(LONG);
    let mut first = pool.stream(None).await.expect("a place");
    assert_eq!(exchange(&mut first).await, StatusCode::OK);
    origin.goodbye.notify_waiters();
    drop(first);
    let mut second = None;
    let said = async {
        while second.as_ref().is_none_or(|place: &Http2| place.reused) {
            tokio::task::yield_now().await;
            second = Some(pool.stream(None).await.expect("a place"));
        }
    };
    timeout(PATIENCE, said).await.expect("a new connection");
    let mut second = second.expect("a place");
    assert_eq!(exchange(&mut second).await, StatusCode::OK);
    eventually("the old one is closed", || origin.open.load(Ordering::Relaxed) == 1).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_at_work_is_not() {
    let origin = Answering::start(100).await;
    let pool = origin.pool(Duration::from_millis(50));
    let mut place = pool.stream(None).await.expect("a place");
    sleep(Duration::from_millis(200)).await;
    assert_eq!(exchange(&mut place).await, StatusCode::OK);
    drop(place);
    eventually("it is closed", || origin.open.load(Ordering::Relaxed) == 0).await;
}

#[tokio::test]
async fn a_cleared_pool_closes_what_is_idle_and_lets_streams_end() {
    let origin = Answering::start(100).await;
    let pool = origin.pool(LONG);
    drop(pool.stream(None).await.expect("a place"));
    pool.clear();
    eventually("the idle one is closed", || origin.open.load(Ordering::Relaxed) == 0).await;

    let mut place = pool.stream(None).await.expect("a place");
    pool.clear();
    assert!(!pool.stream(None).await.expect("a place").reused, "the old one is left out");
    assert_eq!(exchange(&mut place).await, StatusCode::OK);
    let Http2 { sender, place, .. } = place;
    drop((sender, place));
    eventually("it is closed with its last stream", || origin.open.load(Ordering::Relaxed) == 1).await;
}

#[tokio::test]
async fn an_origin_that_does_not_speak_http2_is_not_connected_to() {
    let origin = Origin::start().await;
    let pool = pool(origin.target(), Protocol::H2c, LONG, 1);
    let answer = async {
        let mut tcp = origin.accept().await;
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await.expect("written");
        tcp
    };
    let (place, _tcp) = tokio::join!(pool.stream(None), answer);
    assert_eq!(place.expect_err("no HTTP/2").kind, ConnectFailure::Connect);

    let (place, _silent) = tokio::join!(pool.stream(Some(Duration::from_millis(100))), origin.accept());
    let error = place.expect_err("no SETTINGS");
    assert_eq!((error.kind, error.timed_out), (ConnectFailure::Connect, true), "{error}");
}
