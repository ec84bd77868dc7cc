//! `headers` and `security_headers`: fields of requests and answers as a route wants them.

use std::io::Write;

use gateway_core::config::model::{self, HeaderEdits};
use gateway_core::template::{Placeholder, Template};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::proxy::context::Context;

/// What `security_headers` adds to an answer that has no such field of its own.
pub(crate) const SECURITY: [(HeaderName, HeaderValue); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN")),
    (header::REFERRER_POLICY, HeaderValue::from_static("strict-origin-when-cross-origin")),
];

/// A year; only over TLS, where alone it counts (RFC 6797 §7.2). Subdomains are for the operator to decide on.
const STRICT_TRANSPORT: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// The edits of a route.
#[derive(Debug)]
pub(crate) struct Headers {
    request: HeaderEdits,
    response: HeaderEdits,
    security: bool,
}

impl Headers {
    /// `None` when there is nothing to change.
    pub(crate) fn new(route: &model::Route) -> Option<Box<Self>> {
        let (request, response) = (&route.request_headers, &route.response_headers);
        let nothing = HeaderEdits::default();
        let present = *request != nothing || *response != nothing || route.security_headers;
        present.then(|| {
            Box::new(Self {
                request: request.clone(),
                response: response.clone(),
                security: route.security_headers,
            })
        })
    }

    /// Edits a request for an origin.
    pub(crate) fn request(&self, upstream: &mut HeaderMap, ctx: &Context) {
        edit(&self.request, upstream, ctx);
    }

    /// Edits an answer, whoever it is from.
    pub(crate) fn response(&self, response: &mut HeaderMap, ctx: &Context) {
        if self.security {
            secure(response, ctx.client.https);
        }
        edit(&self.response, response, ctx);
    }
}

fn edit(edits: &HeaderEdits, headers: &mut HeaderMap, ctx: &Context) {
    for name in &edits.remove {
        headers.remove(name);
    }
    for (name, value) in filled(&edits.set, ctx) {
        headers.insert(name, value);
    }
    for (name, value) in filled(&edits.add, ctx) {
        headers.append(name, value);
    }
}

fn secure(response: &mut HeaderMap, https: bool) {
    let transport = https.then_some((header::STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT));
    for (name, value) in SECURITY.into_iter().chain(transport) {
        response.entry(name).or_insert(value);
    }
}

/// The fields with their gaps filled. What cannot stand in a header field is left out; nothing a gap is filled with can.
fn filled<'a>(
    fields: &'a [(HeaderName, Template)],
    ctx: &'a Context,
) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    fields.iter().filter_map(|(name, template)| {
        let value = template.fill(|placeholder, value| fill(placeholder, value, ctx))?;
        Some((name.clone(), value))
    })
}

fn fill(placeholder: Placeholder, value: &mut Vec<u8>, ctx: &Context) {
    match placeholder {
        // Writing to a Vec cannot fail.
        Placeholder::ClientIp => drop(write!(value, "{}", ctx.client.ip)),
        Placeholder::RequestId => value.extend_from_slice(ctx.request_id.as_bytes()),
        Placeholder::Host => value.extend_from_slice(ctx.host.as_bytes()),
        Placeholder::User => value.extend_from_slice(ctx.user.as_deref().unwrap_or("").as_bytes()),
        Placeholder::Release => {
            let release = ctx.chosen.as_ref().map_or("", |chosen| chosen.release.name.as_str());
            value.extend_from_slice(release.as_bytes());
        }
    }
}
