//! What is decided and written about one request, without its connection: the header work by itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use futures_util::FutureExt;
use gateway_core::http1::ResponseHead;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use pingora::Result;

use super::admission::{self, Admitted};
use super::context::Context;
use super::forward;
use crate::listener::client::Client;
use crate::listener::connection::Connection;
use crate::listener::http1;
use crate::listener::slots::Slots;
use crate::snapshot::Snapshot;

/// The client that asks.
const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 40_000);

/// A request without a body over HTTP/1.1, and the answer it gets. Each step can be taken as often as one likes, and
/// does what a request of a running gateway has done to it.
pub struct Exchange {
    snapshot: Arc<Snapshot>,
    connection: Arc<Connection>,
    client: Client,
    ctx: Context,
    answer: ResponseHead,
}

impl Exchange {
    /// The header of a request as it came on the first listener, and that of its answer. `None` when it cannot be read.
    pub(crate) fn new(
        snapshot: Snapshot,
        request: &[u8],
        answer: &[(&'static str, &'static str)],
    ) -> Option<Self> {
        let snapshot = Arc::new(snapshot);
        let listener = snapshot.listeners.values().next()?.clone();
        let place = Arc::new(Slots::default()).enter(1)?.of(CLIENT.ip(), 1)?;
        let (open, id) = (listener.metrics.connect(), snapshot.model.request_id.clone());
        let connection =
            Arc::new(Connection::new(listener, CLIENT, false, Vec::new(), id, (place, open), Arc::default()));
        let client = Client::Http1(http1::rehearsed(request, connection.clone())?);
        let fields = answer
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let headers: HeaderMap = fields.collect();
        let answer =
            ResponseHead { status: StatusCode::OK, reason: None, version: Version::HTTP_11, headers };
        let ctx = Context::new(snapshot.clone(), connection.clone());
        Some(Self { snapshot, connection, client, ctx, answer })
    }

    /// Who is asking, what for, whether it may, and of which release: everything up to the choice of an endpoint. True
    /// when it is forwarded.
    pub fn admit(&mut self) -> bool {
        self.ctx = Context::new(self.snapshot.clone(), self.connection.clone());
        let admitted = admission::admit(&mut self.client, &mut self.ctx).now_or_never();
        matches!(admitted, Some(Ok(Admitted::Forward)))
    }

    /// The request's header as an origin gets it, which is made anew for each attempt.
    ///
    /// # Errors
    /// When it cannot be rewritten.
    pub fn to_origin(&self) -> Result<HeaderMap> {
        Ok(forward::request(self.client.request(), &self.ctx, false)?.headers)
    }

    /// The answer's header as the client gets it, from a copy of the origin's.
    pub fn to_client(&mut self) -> HeaderMap {
        let mut answer = self.answer.clone();
        forward::response(&mut answer, &mut self.ctx);
        answer.headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{explain::offline, load};

    const FILE: &str = "version: 1
listeners: { http: { address: \"127.0.0.1:8080\" } }
services: { web: { endpoints: [\"127.0.0.1:1\"] } }
routes: { all: { match: { host: shop.example }, service: web } }
";

    #[test]
    fn a_rehearsed_request_is_dressed_as_a_real_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gateway.yaml");
        std::fs::write(&path, FILE).unwrap();
        let snapshot = offline::compile(load::load(&path).unwrap()).unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: shop.example\r\nx-forwarded-for: 10.0.0.1\r\n\r\n";
        let mut exchange =
            Exchange::new(snapshot, request, &[("connection", "x-hop"), ("x-hop", "1")]).unwrap();
        assert!(exchange.admit());
        let upstream = exchange.to_origin().unwrap();
        assert_eq!(upstream["x-forwarded-for"], "192.0.2.7");
        let id = &upstream["x-request-id"];
        let answer = exchange.to_client();
        assert_eq!(&answer["x-request-id"], id);
        assert!(!answer.contains_key("x-hop"));
    }
}
