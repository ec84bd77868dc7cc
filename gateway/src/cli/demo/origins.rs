//! The applications behind the demo's gateway, inside this process: real sockets on loopback, on ports of the system's choice.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::super::Failure;
use super::super::demo_origin::{Kind, router};

/// Where each of them listens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    pub(super) shop_1: SocketAddr,
    pub(super) shop_2: SocketAddr,
    pub(super) shop_3: SocketAddr,
    pub(super) media: SocketAddr,
    pub(super) web: SocketAddr,
}

/// All of them; they end when this is dropped.
pub(super) struct Origins {
    pub(super) addresses: Addresses,
    pub(super) shop_3: Arc<Faulty>,
    _serving: JoinSet<io::Result<()>>,
}

/// A release that answers a share of its requests with 500, and what came of it.
#[derive(Debug)]
pub(super) struct Faulty {
    failing: f64,
    requests: AtomicU64,
    failures: AtomicU64,
    first_failure: OnceLock<SystemTime>,
}

impl Origins {
    /// Starts them; `failing` is the share of requests, 0 to 1, that `shop-3` answers with 500.
    ///
    /// # Errors
    /// [`Failure::Output`] when the system gives no port.
    pub(super) async fn start(failing: f64) -> Result<Self, Failure> {
        let mut serving = JoinSet::new();
        let app = |release, kind| {
            router(release, kind).map_err(|_| Failure::Failed(format!("`{release}` is no header value")))
        };
        let shop_3 = Arc::new(Faulty::new(failing));
        let broken = middleware::from_fn_with_state(shop_3.clone(), fail);
        let addresses = Addresses {
            shop_1: serve(&mut serving, app("shop-1", Kind::Api)?).await?,
            shop_2: serve(&mut serving, app("shop-2", Kind::Api)?).await?,
            shop_3: serve(&mut serving, app("shop-3", Kind::Api)?.layer(broken)).await?,
            media: serve(&mut serving, app("media", Kind::Media)?).await?,
            web: serve(&mut serving, app("web", Kind::Frontend)?).await?,
        };
        Ok(Self { addresses, shop_3, _serving: serving })
    }
}

async fn serve(serving: &mut JoinSet<io::Result<()>>, app: Router) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    serving.spawn(axum::serve(listener, app).into_future());
    Ok(address)
}

impl Faulty {
    fn new(failing: f64) -> Self {
        let (requests, failures) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { failing, requests, failures, first_failure: OnceLock::new() }
    }

    /// Requests that arrived.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Requests that were answered with 500.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// When the first of them was.
    pub(super) fn first_failure(&self) -> Option<SystemTime> {
        self.first_failure.get().copied()
    }

    /// Counts a request; whether it is one of those that fail, for a `draw` from 0 to 1.
    fn fails(&self, draw: f64) -> bool {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let failed = draw < self.failing;
        if failed {
            self.failures.fetch_add(1, Ordering::Relaxed);
            self.first_failure.get_or_init(SystemTime::now);
        }
        failed
    }
}

async fn fail(State(faulty): State<Arc<Faulty>>, request: Request, next: Next) -> Response {
    if faulty.fails(fastrand::f64()) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_faulty_release_counts_what_it_fails_and_remembers_the_first() {
        let half = Faulty::new(0.5);
        assert!(!half.fails(0.5));
        assert_eq!((half.requests(), half.failures(), half.first_failure()), (1, 0, None));
        assert!(half.fails(0.49));
        let first = half.first_failure().expect("it failed");
        assert!(half.fails(0.0));
        assert_eq!((half.requests(), half.failures(), half.first_failure()), (3, 2, Some(first)));
    }

    #[test]
    fn a_release_that_fails_everything_spares_no_draw() {
        assert!((0..100).all(|draw| Faulty::new(1.0).fails(f64::from(draw) / 100.0)));
    }
}
