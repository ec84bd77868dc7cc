//! The demo's users: requests over TLS at a steady rate, whatever becomes of those before them, and a count of every answer.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsConnector;

use super::super::Failure;

/// How many people use the shop; each stays with one release for as long as a step lasts.
const USERS: u32 = 1000;

/// A user who waits longer than this has seen a failure.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where users go: of ten requests eight reach the shop, one the frontend, one the media.
const PATHS: [&str; 10] = [
    "/api/cart",
    "/api/orders",
    "/api/products",
    "/api/search",
    "/",
    "/api/cart",
    "/api/orders",
    "/api/products",
    "/api/search",
    "/media/picture.svg",
];

/// The share of [`PATHS`] that reach the shop.
pub(super) const SHOP_SHARE: f64 = 0.8;

/// What users saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    answered: AtomicU64,
    failed: AtomicU64,
}

impl Seen {
    /// Requests that came to an end.
    pub(super) fn requests(&self) -> u64 {
        self.answered.load(Ordering::Relaxed) + self.failed()
    }

    /// Those whose user saw anything else than a 200 read to its end, in time.
    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    fn count(&self, worked: bool) {
        let counter = if worked { &self.answered } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Users at work until this is dropped.
pub(super) struct Traffic {
    pub(super) seen: Arc<Seen>,
    _sending: JoinSet<()>,
}

impl Traffic {
    /// Sends `rate` requests a second to the gateway at `port`, whose certificate must come from the authority in `ca`.
    ///
    /// # Errors
    /// [`Failure::Failed`] when the authority cannot be read.
    pub(super) fn start(port: u16, ca: &Path, rate: u32) -> Result<Self, Failure> {
        let users = Arc::new(Users {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            host: format!("localhost:{port}"),
            tls: tls(ca)?,
            idle: Mutex::default(),
        });
        let seen = Arc::new(Seen::default());
        let mut sending = JoinSet::new();
        sending.spawn(send(users, seen.clone(), rate));
        Ok(Self { seen, _sending: sending })
    }
}

fn tls(ca: &Path) -> Result<TlsConnector, Failure> {
    let unreadable = |error: &dyn std::fmt::Display| {
        Failure::Failed(format!("cannot trust the authority just made: {error}"))
    };
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(ca).map_err(|error| unreadable(&error))?;
    roots.add(certificate).map_err(|error| unreadable(&error))?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Open loop: a request begins when its time has come, not when an earlier one ends.
async fn send(users: Arc<Users>, seen: Arc<Seen>, rate: u32) {
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut in_flight = JoinSet::new();
    for path in PATHS.into_iter().cycle() {
        ticks.tick().await;
        let (users, seen) = (users.clone(), seen.clone());
        in_flight.spawn(async move {
            let asked = timeout(PATIENCE, users.ask(path, fastrand::u32(..USERS))).await;
            seen.count(matches!(asked, Ok(Ok(StatusCode::OK))));
        });
        while in_flight.try_join_next().is_some() {}
    }
}

type Connection = SendRequest<Empty<Bytes>>;

/// All of them share connections, as behind one proxy.
struct Users {
    address: SocketAddr,
    host: String,
    tls: TlsConnector,
    idle: Mutex<Vec<Connection>>,
}

impl Users {
    /// Asks once and reads the answer to its end.
    async fn ask(
        &self,
        path: &str,
        user: u32,
    ) -> Result<StatusCode, Box<dyn std::error::Error + Send + Sync>> {
        let request = || {
            Request::get(path)
                .header(header::HOST, &self.host)
                .header("x-user-id", format!("user-{user}"))
                .body(Empty::new())
        };
        let (mut connection, reused) = match self.take_idle() {
            Some(idle) => (idle, true),
            None => (self.connect().await?, false),
        };
        let response = match connection.send_request(request()?).await {
            // The gateway closed it before the request was sent: every client asks again then.
            Err(error) if reused && error.is_canceled() => {
                connection = self.connect().await?;
                connection.send_request(request()?).await?
            }
            answered => answered?,
        };
        let status = read_to_end(response).await?;
        self.idle.lock().push(connection);
        Ok(status)
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock();
        while let Some(connection) = idle.pop() {
            if connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    async fn connect(&self) -> Result<Connection, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let stream = self.tls.connect(name, stream).await?;
        let (connection, driver) = handshake(TokioIo::new(stream)).await?;
        // How it ends is told to whoever uses the connection.
        tokio::spawn(async { drop(driver.await) });
        Ok(connection)
    }
}

async fn read_to_end(response: Response<Incoming>) -> Result<StatusCode, hyper::Error> {
    let status = response.status();
    response.into_body().collect().await?;
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_the_shop_is_that_of_its_paths() {
        let shop = PATHS.iter().filter(|path| path.starts_with("/api/")).count();
        assert_eq!(shop as f64 / PATHS.len() as f64, SHOP_SHARE);
    }

    #[test]
    fn failed_requests_are_requests_too() {
        let seen = Seen::default();
        seen.count(true);
        seen.count(true);
        seen.count(false);
        assert_eq!((seen.requests(), seen.failed()), (3, 1));
    }
}
