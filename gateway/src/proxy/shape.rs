//! What a route changes on requests and answers that pass it; a route that changes nothing pays nothing.

pub(crate) mod compress;
pub(crate) mod headers;
pub(crate) mod rewrite;

use http::HeaderMap;

use super::context::Context;

/// Changes a request for an origin, after everything that reads what the client sent.
pub(super) fn request(upstream: &mut HeaderMap, ctx: &Context) {
    let Some(route) = &ctx.route else { return };
    if let Some(rewrite) = &route.rewrite {
        rewrite.request(upstream, ctx.stripped);
    }
    if let Some(headers) = &route.headers {
        headers.request(upstream, ctx);
    }
}

/// Changes an answer for the client, be it an origin's or the gateway's own.
pub(super) fn response(response: &mut HeaderMap, ctx: &Context) {
    let Some(route) = &ctx.route else { return };
    if let Some(headers) = &route.headers {
        headers.response(response, ctx);
    }
    if let Some(cors) = &route.cors {
        cors.response(response, ctx.origin.as_ref());
    }
}
