//! The admin listener: health, metrics, and what the gateway is doing.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use crate::runtime::Runtime;

/// A bound admin socket.
pub(crate) enum AdminListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl AdminListener {
    pub(crate) fn bind_unix(path: &Path) -> io::Result<Self> {
        let socket = UnixListener::bind(path)?;
        socket.set_nonblocking(true)?;
        Ok(Self::Unix(socket))
    }
}

/// Answers until the process ends.
pub(crate) async fn serve(listener: AdminListener, runtime: Arc<Runtime>) {
    let app = Router::new().route("/readyz", get(|| async { "ok\n" })).route(
        "/metrics",
        get(move || {
            let runtime = runtime.clone();
            async move { runtime.metrics.encode(&runtime.snapshot().model.metrics_namespace) }
        }),
    );
    let served = match listener {
        AdminListener::Tcp(socket) => match tokio::net::TcpListener::from_std(socket) {
            Ok(socket) => axum::serve(socket, app).await,
            Err(error) => Err(error),
        },
        AdminListener::Unix(socket) => match tokio::net::UnixListener::from_std(socket) {
            Ok(socket) => axum::serve(socket, app).await,
            Err(error) => Err(error),
        },
    };
    if let Err(error) = served {
        tracing::error!(%error, "the admin listener ended");
    }
}
