//! An origin that answers with given bytes, whatever was asked: for answers no well-behaved server can give.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// One thing a raw origin does with a connection.
#[derive(Debug, Clone)]
enum Act {
    /// Reads up to the end of a request's header.
    ReadHead,
    Send(Bytes),
    Pause(Duration),
    /// Keeps the connection open and silent.
    Hold,
}

/// A TCP server that follows the same steps on every connection, then closes it.
#[derive(Debug)]
pub struct RawOrigin {
    address: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    connections: AtomicUsize,
    received: Mutex<Vec<u8>>,
}

/// The steps of a [`RawOrigin`].
#[derive(Debug, Clone, Default)]
pub struct Steps(Vec<Act>);

impl RawOrigin {
    /// One that reads a request's header, answers with these bytes and closes.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn answering(bytes: impl Into<Bytes>) -> Self {
        Self::steps().read_head().send(bytes).start().await
    }

    /// The steps to follow, none yet.
    pub fn steps() -> Steps {
        Steps::default()
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Everything received so far, on all connections, as text.
    pub fn received(&self) -> String {
        String::from_utf8_lossy(&self.shared.received.lock()).into_owned()
    }
}

impl Drop for RawOrigin {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Steps {
    /// Reads up to the empty line that ends a request's header.
    pub fn read_head(mut self) -> Self {
        self.0.push(Act::ReadHead);
        self
    }

    /// Sends these bytes.
    pub fn send(mut self, bytes: impl Into<Bytes>) -> Self {
        self.0.push(Act::Send(bytes.into()));
        self
    }

    /// Waits.
    pub fn pause(mut self, pause: Duration) -> Self {
        self.0.push(Act::Pause(pause));
        self
    }

    /// Says nothing more and keeps the connection open.
    pub fn hold(mut self) -> Self {
        self.0.push(Act::Hold);
        self
    }

    /// Starts on a free port of the loopback.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(self) -> RawOrigin {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.unwrap_or_else(|error| panic!("the origin cannot listen: {error}"));
        let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
        let shared = Arc::new(Shared::default());
        let server = tokio::spawn(serve(listener, self.0, Arc::clone(&shared)));
        RawOrigin { address, shared, server }
    }
}

async fn serve(listener: TcpListener, acts: Vec<Act>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::Relaxed);
        connections.spawn(follow(stream, acts.clone(), Arc::clone(&shared)));
    }
}

async fn follow(mut stream: TcpStream, acts: Vec<Act>, shared: Arc<Shared>) {
    for act in acts {
        match act {
            Act::ReadHead => read_head(&mut stream, &shared).await,
            Act::Send(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Act::Pause(pause) => tokio::time::sleep(pause).await,
            Act::Hold => while receive(&mut stream, &shared).await > 0 {},
        }
    }
    // Both sides are done; a client that has gone already is fine.
    let _ = stream.shutdown().await;
    while receive(&mut stream, &shared).await > 0 {}
}

async fn read_head(stream: &mut TcpStream, shared: &Shared) {
    let begin = shared.received.lock().len();
    while receive(stream, shared).await > 0 {
        let received = shared.received.lock();
        if received[begin..].windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            return;
        }
    }
}

/// Receives once; 0 is the end.
async fn receive(stream: &mut TcpStream, shared: &Shared) -> usize {
    let mut buffer = [0; 16 << 10];
    let count = stream.read(&mut buffer).await.unwrap_or(0);
    shared.received.lock().extend_from_slice(&buffer[..count]);
    count
}
