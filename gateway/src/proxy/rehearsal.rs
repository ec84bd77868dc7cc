//! What is decided and written about one request, without its connection: the header work by itself.

use std::io::Cursor;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use futures_util::FutureExt;
use http::StatusCode;
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;

use super::admission::{self, Admitted};
use super::context::Context;
use super::forward;
use crate::listener::connection::Connection;
use crate::listener::slots::Slots;
use crate::snapshot::Snapshot;

/// The client that asks.
const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 40_000);

/// A request without a body over HTTP/1.1, and the answer it gets. Each step can be taken as often as one likes, and
/// does what a request of a running gateway has done to it.
pub struct Exchange {
    snapshot: Arc<Snapshot>,
    connection: Arc<Connection>,
    session: Session,
    ctx: Context,
    answer: ResponseHeader,
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
        let connection = Connection::new(listener, CLIENT, false, Vec::new(), id, (place, open));
        let mut session = Session::new_h1(Box::new(Cursor::new(request.to_vec())));
        // It is all there: nothing is waited for.
        let read = session.as_downstream_mut().read_request().now_or_never()?;
        read.ok().filter(|read| *read)?;
        let mut header = ResponseHeader::build(StatusCode::OK, Some(answer.len())).ok()?;
        for (name, value) in answer {
            header.append_header(*name, *value).ok()?;
        }
        let ctx = Context::new(snapshot.clone());
        Some(Self { snapshot, connection: Arc::new(connection), session, ctx, answer: header })
    }

    /// Who is asking, what for, whether it may, and of which release: everything up to the choice of an endpoint. True
    /// when it is forwarded.
    pub fn admit(&mut self) -> bool {
        self.ctx = Context::new(self.snapshot.clone());
        self.ctx.connection = Some(self.connection.clone());
        let admitted = admission::admit(&mut self.session, &mut self.ctx).now_or_never();
        matches!(admitted, Some(Ok(Admitted::Forward)))
    }

    /// The request's header as an origin gets it, from the copy that is made for each attempt.
    ///
    /// # Errors
    /// When it cannot be rewritten.
    pub fn to_origin(&self) -> Result<RequestHeader> {
        let mut upstream = self.session.req_header().clone();
        forward::request(&self.session, &mut upstream, &self.ctx)?;
        Ok(upstream)
    }

    /// The answer's header as the client gets it, from a copy of the origin's.
    pub fn to_client(&mut self) -> ResponseHeader {
        let mut answer = self.answer.clone();
        forward::response(&mut answer, &mut self.ctx);
        answer
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
        assert_eq!(upstream.headers["x-forwarded-for"], "192.0.2.7");
        let id = &upstream.headers["x-request-id"];
        let answer = exchange.to_client();
        assert_eq!(&answer.headers["x-request-id"], id);
        assert!(!answer.headers.contains_key("x-hop"));
    }
}
