mod http2;
mod tls;

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::time::{sleep, timeout};

use super::*;

/// More than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

const LONG: Duration = Duration::from_secs(3600);

/// An origin whose connections the test holds.
struct Origin(TcpListener);

impl Origin {
    async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("a port"))
    }

    fn target(&self) -> Target {
        Target::Ip(self.0.local_addr().expect("an address"))
    }

    async fn accept(&self) -> TcpStream {
        self.0.accept().await.expect("a connection").0
    }

    fn pool(&self, keepalive: Duration) -> Arc<Pool> {
        pool(self.target(), Protocol::Http1, keepalive, 100)
    }

    /// A connection and its other end.
    async fn connection(&self, pool: &Pool) -> (Http1, TcpStream) {
        let (connection, accepted) = tokio::join!(pool.connect(None), self.accept());
        (connection.expect("a connection"), accepted)
    }
}

fn key(target: Target, keepalive: Duration) -> Key {
    Key { target, policy: 0, server_name: None, connect: PATIENCE, keepalive }
}

fn pool(target: Target, protocol: Protocol, keepalive: Duration, most: usize) -> Arc<Pool> {
    let bound = Box::leak(Box::new(Bound::new(most)));
    Pool::bounded(key(target, keepalive), protocol, None, bound)
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "never: {what}");
}

async fn is_closed(socket: &mut (impl AsyncReadExt + Unpin)) -> bool {
    timeout(PATIENCE, socket.read(&mut [0])).await.is_ok_and(|read| matches!(read, Ok(0)))
}

/// Waits without the runtime, which so cannot hear of it, until the socket has something to read.
fn await_readable(socket: RawFd) {
    let mut asked = libc::pollfd { fd: socket, events: libc::POLLIN, revents: 0 };
    // SAFETY: the pointer is to one value that outlives the call.
    let ready = unsafe { libc::poll(&raw mut asked, 1, 20_000) };
    assert_eq!(ready, 1, "something can be read");
}

#[tokio::test]
async fn a_kept_connection_is_taken_again_the_most_recent_first() {
    let origin = Origin::start().await;
    let pool = origin.pool(LONG);
    let (first, _first) = origin.connection(&pool).await;
    let (second, mut accepted) = origin.connection(&pool).await;
    assert!(!first.is_reused() && first.socket() != second.socket());
    let sockets = [second.socket(), first.socket()];
    pool.keep(first, Instant::now());
    pool.keep(second, Instant::now());
    let taken: Vec<Http1> = std::iter::from_fn(|| pool.take(Instant::now(), false)).collect();
    assert_eq!(taken.iter().map(Http1::socket).collect::<Vec<_>>(), sockets);
    assert!(taken.iter().all(Http1::is_reused));

    let mut again = taken.into_iter().next().expect("the most recent");
    again.stream.write_all(b"ping").await.expect("written");
    let mut asked = [0; 4];
    accepted.read_exact(&mut asked).await.expect("read");
    accepted.write_all(b"pong").await.expect("written");
    again.stream.read_exact(&mut asked).await.expect("read");
    assert_eq!(&asked, b"pong");
    pool.keep(again, Instant::now());
    assert!(pool.take(Instant::now(), true).is_some(), "what was asked for and read does not count");
}

#[tokio::test]
async fn one_that_the_origin_has_closed_is_not_given_out() {
    let origin = Origin::start().await;
    let pool = origin.pool(LONG);
    let (connection, accepted) = origin.connection(&pool).await;
    pool.keep(connection, Instant::now());
    drop(accepted);
    eventually("it is not given out", || {
        pool.take(Instant::now(), false).map(|good| pool.keep(good, Instant::now())).is_none()
    })
    .await;
}

#[tokio::test]
async fn to_be_certain_is_to_know_what_the_runtime_has_not_heard_yet() {
    let origin = Origin::start().await;
    let pool = origin.pool(LONG);
    let (connection, accepted) = origin.connection(&pool).await;
    let socket = connection.socket();
    pool.keep(connection, Instant::now());
    drop(accepted);
    await_readable(socket);
    let unheard = pool.take(Instant::now(), false).expect("nothing was asked of the system");
    pool.keep(unheard, Instant::now());
    assert!(pool.take(Instant::now(), true).is_none());
}

#[tokio::test]
async fn bytes_that_nobody_asked_for_disqualify_a_connection() {
    let origin = Origin::start().await;
    let pool = origin.pool(LONG);
    let (connection, mut accepted) = origin.connection(&pool).await;
    pool.keep(connection, Instant::now());
    accepted.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.expect("written");
    eventually("it is not given out", || {
        pool.take(Instant::now(), false).map(|good| pool.keep(good, Instant::now())).is_none()
    })
    .await;

    let (mut connection, mut accepted) = origin.connection(&pool).await;
    connection.inbox.extend_from_slice(b"more than the answer");
    pool.keep(connection, Instant::now());
    assert!(pool.take(Instant::now(), false).is_none() && is_closed(&mut accepted).await);
}

#[tokio::test]
async fn a_connection_is_closed_when_it_has_waited_for_too_long() {
    let origin = Origin::start().await;
    let pool = origin.pool(Duration::from_millis(50));
    let (connection, mut accepted) = origin.connection(&pool).await;
    pool.keep(connection, Instant::now());
    assert!(is_closed(&mut accepted).await);
    assert!(pool.take(Instant::now(), false).is_none() && pool.idle() == 0);

    let (connection, mut accepted) = origin.connection(&pool).await;
    pool.keep(connection, Instant::now());
    assert!(is_closed(&mut accepted).await, "somebody looks after the next one, too");
}

#[tokio::test]
async fn a_connection_that_the_origin_has_closed_does_not_stay_open_here() {
    let origin = Origin::start().await;
    let pool = origin.pool(LONG);
    let (gone, accepted) = origin.connection(&pool).await;
    let (good, _accepted) = origin.connection(&pool).await;
    pool.keep(gone, Instant::now());
    pool.keep(good, Instant::now());
    drop(accepted);
    eventually("only the good one is left", || pool.idle() == 1).await;
    assert!(pool.take(Instant::now(), true).is_some());
}

#[tokio::test]
async fn a_cleared_pool_closes_what_waits_and_keeps_nothing_that_was_out() {
    let origin = Origin::start().await;
    let pool = origin.pool(LONG);
    let (waiting, mut first) = origin.connection(&pool).await;
    let (out, mut second) = origin.connection(&pool).await;
    pool.keep(waiting, Instant::now());
    pool.clear();
    assert!(is_closed(&mut first).await);
    pool.keep(out, Instant::now());
    assert!(pool.take(Instant::now(), false).is_none() && is_closed(&mut second).await);

    let (later, _accepted) = origin.connection(&pool).await;
    pool.keep(later, Instant::now());
    assert!(pool.take(Instant::now(), true).is_some(), "what comes after it is kept again");
}

#[tokio::test]
async fn nothing_stays_open_when_nobody_holds_the_pool() {
    let origin = Origin::start().await;
    let pool = origin.pool(LONG);
    let (connection, mut accepted) = origin.connection(&pool).await;
    pool.keep(connection, Instant::now());
    drop(pool);
    assert!(is_closed(&mut accepted).await);
}

#[tokio::test]
async fn no_more_connections_wait_over_all_pools_than_may() {
    let bound: &'static Bound = Box::leak(Box::new(Bound::new(1)));
    let (one, other) = (Origin::start().await, Origin::start().await);
    let pools =
        [&one, &other].map(|origin| Pool::bounded(key(origin.target(), LONG), Protocol::Http1, None, bound));
    let (first, _first) = one.connection(&pools[0]).await;
    let (second, mut accepted) = other.connection(&pools[1]).await;
    pools[0].keep(first, Instant::now());
    pools[1].keep(second, Instant::now());
    assert!(is_closed(&mut accepted).await, "there is no room for it");
    let taken = pools[0].take(Instant::now(), false).expect("the first");
    let (third, _third) = other.connection(&pools[1]).await;
    pools[1].keep(third, Instant::now());
    pools[0].keep(taken, Instant::now());
    assert_eq!((pools[0].idle(), pools[1].idle()), (0, 1), "room is given back");
}

#[tokio::test]
async fn an_origin_on_a_unix_socket_is_reached_and_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("origin.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let pool = pool(Target::Unix(path.into()), Protocol::Http1, LONG, 1);
    let (connection, accepted) = tokio::join!(pool.connect(None), listener.accept());
    pool.keep(connection.expect("a connection"), Instant::now());
    pool.keep(pool.take(Instant::now(), true).expect("a good one"), Instant::now());
    drop(accepted);
    eventually("it is not given out", || {
        pool.take(Instant::now(), true).map(|good| pool.keep(good, Instant::now())).is_none()
    })
    .await;
}

#[tokio::test]
async fn an_origin_that_refuses_is_told_from_one_that_does_not_answer() {
    let origin = Origin::start().await;
    let pool = origin.pool(LONG);
    drop(origin);
    let error = pool.connect(None).await.expect_err("nobody listens");
    assert_eq!((error.kind, error.timed_out), (ConnectFailure::Connect, false), "{error}");

    // Linux takes no more connections than the backlog plus one, and leaves others without an answer.
    let listener = tokio::net::TcpSocket::new_v4().expect("a socket");
    listener.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let listener = Origin(listener.listen(0).expect("a listener"));
    let pool = listener.pool(LONG);
    let mut held = Vec::new();
    let error = loop {
        match pool.connect(Some(Duration::from_millis(100))).await {
            Ok(connection) => held.push(connection),
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind, error.timed_out), (ConnectFailure::Connect, true), "{error}");
}

#[test]
fn what_the_gateway_lacks_is_its_own_fault() {
    let kind = |code| ConnectError::from(&std::io::Error::from_raw_os_error(code)).kind;
    for own in [libc::EMFILE, libc::ENFILE, libc::EADDRNOTAVAIL, libc::ENOBUFS, libc::ENOMEM, libc::EACCES] {
        assert_eq!(kind(own), ConnectFailure::Local, "{own}");
    }
    assert_eq!(kind(libc::ECONNREFUSED), ConnectFailure::Connect);
    assert_eq!(kind(libc::EHOSTUNREACH), ConnectFailure::Connect);
}
