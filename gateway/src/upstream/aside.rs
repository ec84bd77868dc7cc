//! Requests that go beside the traffic: over connections of their own, and with answers that nobody reads.

use std::sync::OnceLock;

use bytes::Bytes;
use pingora::Result;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;

/// More of an answer is not read for the sake of its connection.
const DISCARDED: usize = 1 << 20;

/// Connections apart from those of the traffic, and kept for one another as those are.
#[derive(Default)]
pub(crate) struct Aside(OnceLock<Connector>);

impl Aside {
    /// Makes it ready, which the first time reads the system's authorities.
    pub(crate) fn prepare(&self) {
        self.connector();
    }

    fn connector(&self) -> &Connector {
        self.0.get_or_init(|| Connector::new(None))
    }

    /// Sends a request; returns when the header of its answer is there. It waits for as long as that takes.
    ///
    /// # Errors
    /// When no connection can be had, or it breaks before that.
    pub(crate) async fn ask(
        &self,
        peer: &HttpPeer,
        header: Box<RequestHeader>,
        body: Bytes,
    ) -> Result<HttpSession> {
        let (mut session, _) = self.connector().get_http_session(peer).await?;
        session.write_request_header(header).await?;
        if !body.is_empty() {
            session.write_request_body(body, true).await?;
        }
        session.finish_request_body().await?;
        loop {
            session.read_response_header().await?;
            let interim = session.response_header().is_some_and(|header| header.status.is_informational());
            if !interim {
                return Ok(session);
            }
        }
    }

    /// Reads the rest of an answer, so that its connection can carry the next request; a long one ends with it.
    ///
    /// # Errors
    /// When the answer breaks off.
    pub(crate) async fn discard(&self, peer: &HttpPeer, mut session: HttpSession) -> Result<()> {
        let mut read = 0;
        while let Some(piece) = session.read_response_body().await? {
            read += piece.len();
            if read > DISCARDED {
                session.shutdown().await;
                return Ok(());
            }
        }
        let keepalive = peer.options.idle_timeout;
        self.connector().release_http_session(session, peer, keepalive).await;
        Ok(())
    }
}
