//! The accept loop of a listener. A client that there is no room for is turned away here, before it costs anything.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora::apps::ServerApp;
use pingora::protocols::TcpKeepalive;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::{GetSocketDigest, SocketDigest, UniqueID};
use pingora::server::ShutdownWatch;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::edge::Edge;

/// How long nobody is accepted once the system has refused a file: somebody who is connected may leave meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a connection that came in last may take to send its request once the listener is closed.
const LAST_REQUESTS: Duration = Duration::from_millis(500);

/// Within this time an accepted connection is counted as open, on a busy machine too.
const COUNTED_WITHIN: Duration = Duration::from_millis(100);

/// A client whose host is gone is noticed within about a minute and a half.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(60),
    interval: Duration::from_secs(10),
    count: 3,
    #[cfg(target_os = "linux")]
    user_timeout: Duration::from_secs(60),
};

impl Edge {
    /// Accepts until the process stops, then closes the listener.
    ///
    /// Whoever is connected by then gets a while for a request; idle connections are closed after it, and this returns.
    pub(crate) async fn listen(self: Arc<Self>, listener: TcpListener, mut stopped: ShutdownWatch) {
        let shutdown = stopped.clone();
        tokio::select! {
            () = self.accept(&listener, &shutdown) => {}
            // An error says that nobody is left to stop it: the process is ending.
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        self.empty_queue(listener);
        self.close_idle().await;
    }

    /// Accepts without end.
    async fn accept(self: &Arc<Self>, listener: &TcpListener, shutdown: &ShutdownWatch) {
        loop {
            match listener.accept().await {
                Ok((socket, peer)) => self.welcome(socket, peer, shutdown.clone()),
                Err(error) => self.not_accepted(&error).await,
            }
        }
    }

    /// Serves a client on a task of its own, if there is room; else the socket closes.
    fn welcome(self: &Arc<Self>, socket: TcpStream, peer: SocketAddr, shutdown: ShutdownWatch) {
        let snapshot = self.runtime.snapshot();
        let Some(place) = self.slots.enter(snapshot.max_connections) else {
            if let Some(listener) = snapshot.listeners.get(&self.name) {
                listener.metrics.refused.add(1);
            }
            return;
        };
        let edge = self.clone();
        tokio::spawn(async move {
            if let Ok(socket) = adopt(socket, peer) {
                edge.serve(socket, place, &shutdown).await;
            }
        });
    }

    /// A client that left while it waited is no trouble; anything else would come again at once.
    async fn not_accepted(&self, error: &io::Error) {
        if !matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) {
            tracing::error!(listener = %self.name, %error, "cannot accept");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Serves what the system had accepted before the socket was closed; closing it would break them off.
    fn empty_queue(self: &Arc<Self>, listener: TcpListener) {
        let Ok(queue) = listener.into_std() else { return };
        // The socket does not block; it is closed as soon as nothing waits in it.
        while let Ok((socket, peer)) = queue.accept() {
            let Ok(socket) = nonblocking(socket) else { continue };
            let (_stopping, shutdown) = watch::channel(true);
            self.welcome(socket, peer, shutdown);
        }
    }

    /// Closes idle connections once nobody is left, or after a while.
    async fn close_idle(&self) {
        tokio::time::sleep(COUNTED_WITHIN).await;
        let emptied = async {
            while self.runtime.open_connections() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = timeout(LAST_REQUESTS, emptied).await;
        ServerApp::cleanup(&*self.proxy).await;
    }
}

fn nonblocking(socket: std::net::TcpStream) -> io::Result<TcpStream> {
    socket.set_nonblocking(true)?;
    TcpStream::from_std(socket)
}

/// Makes of an accepted socket what Pingora's own listener would have made of it.
fn adopt(socket: TcpStream, peer: SocketAddr) -> pingora::Result<L4Stream> {
    let mut stream = L4Stream::from(socket);
    stream.set_nodelay()?;
    stream.set_keepalive(&KEEPALIVE)?;
    let digest = SocketDigest::from_raw_fd(stream.id());
    // A digest that has just been made knows no peer yet.
    let _ = digest.peer_addr.set(Some(peer.into()));
    stream.set_socket_digest(digest);
    Ok(stream)
}
