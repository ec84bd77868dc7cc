//! The life of a request: Pingora's phases, each a few lines that call what decides.

mod admission;
mod attempt;
pub(crate) mod context;
mod forward;
pub(crate) mod host;
pub(crate) mod identity;
pub(crate) mod mirror;
mod patience;
pub(crate) mod policy;
mod record;
pub(crate) mod rehearsal;
pub(crate) mod rejection;
pub(crate) mod respond;
pub(crate) mod shape;
mod watchdog;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, Result};

use self::context::Context;
use crate::runtime::Runtime;

/// The one proxy behind every listener.
pub(crate) struct Proxy {
    runtime: Arc<Runtime>,
}

impl Proxy {
    pub(crate) fn new(runtime: Arc<Runtime>) -> Self {
        Self { runtime }
    }
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Context;

    /// Pins one snapshot for the whole request.
    fn new_ctx(&self) -> Context {
        Context::new(self.runtime.snapshot())
    }

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        admission::begin(session, ctx, self.runtime.is_draining());
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        match admission::admit(session, ctx).await {
            Ok(admission::Admitted::Forward) => {
                mirror::begin(session, ctx);
                Ok(false)
            }
            Ok(admission::Admitted::Answer(answer)) => {
                respond::answer(session, ctx, answer).await?;
                Ok(true)
            }
            Ok(admission::Admitted::Broken(error)) => Err(error),
            Err(rejection) => {
                respond::reject(session, ctx, rejection).await?;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Context) -> Result<Box<HttpPeer>> {
        attempt::begin(session, ctx)
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        fd: RawFd,
        _digest: Option<&Digest>,
        ctx: &mut Context,
    ) -> Result<()> {
        attempt::connected(ctx, fd, reused)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream_request: &mut RequestHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        forward::request(session, upstream_request, ctx)
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Context,
    ) -> Result<()> {
        forward::request_body(body, end_of_stream, ctx)?;
        mirror::body(body.as_ref(), end_of_stream, ctx);
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        upstream_response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        attempt::answered(session, upstream_response, ctx)?;
        forward::response(upstream_response, ctx);
        shape::compress::response(session.req_header(), upstream_response, ctx)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        upstream_response: &mut ResponseHeader,
        _ctx: &mut Context,
    ) -> Result<()> {
        forward::unchunk(session.req_header().version, upstream_response);
        Ok(())
    }

    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Context,
    ) -> Result<Option<Duration>> {
        attempt::progressed(body, end_of_stream, ctx)?;
        Ok(None)
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Context,
    ) -> Result<Option<Duration>> {
        shape::compress::body(body, end_of_stream, ctx)?;
        Ok(None)
    }

    async fn response_trailer_filter(
        &self,
        _session: &mut Session,
        _trailers: &mut HeaderMap,
        ctx: &mut Context,
    ) -> Result<Option<Bytes>> {
        shape::compress::trailers(ctx)
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Context,
        e: Box<Error>,
    ) -> Box<Error> {
        attempt::not_connected(session, ctx, e)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        e: Box<Error>,
        ctx: &mut Context,
        client_reused: bool,
    ) -> Box<Error> {
        attempt::broke(session, ctx, e, client_reused)
    }

    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, ctx: &mut Context) -> FailToProxy {
        let error_code = respond::fail(session, ctx, e).await;
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    /// Failures are counted and logged by us; Pingora's line would be a second one without the request id.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Context, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Context,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    async fn logging(&self, session: &mut Session, e: Option<&Error>, ctx: &mut Context) {
        record::finish(&self.runtime, session, e, ctx);
    }
}
