//! The accept loop of a listener. A client that there is no room for is turned away here, before it costs anything.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora::server::ShutdownWatch;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::edge::Edge;
use crate::wire;

/// How long nobody is accepted once the system has refused a file: somebody who is connected may leave meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a connection that came in last may take to send its request once the listener is closed.
const LAST_REQUESTS: Duration = Duration::from_millis(500);

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
            if prepare(&socket).is_ok() {
                edge.serve(socket, peer, place, &shutdown).await;
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
        let emptied = async {
            while self.slots.taken() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = timeout(LAST_REQUESTS, emptied).await;
        self.closed.send_replace(true);
    }
}

fn nonblocking(socket: std::net::TcpStream) -> io::Result<TcpStream> {
    socket.set_nonblocking(true)?;
    TcpStream::from_std(socket)
}

/// Sets what every client's socket has: also one that takes nothing is gone at last.
fn prepare(socket: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_user_timeout(Some(wire::SILENCE))?;
    wire::prepare(socket)
}
