//! `compress`: answers of origins in a coding the client can undo, piece by piece as they arrive.
//!
//! Works behind everything that judges an origin: outcomes and failover have seen the answer as it was sent.

mod encoder;

use std::io;

use bytes::Bytes;
use gateway_core::content_coding::{Coding, is_compressible};
use gateway_core::http1::ResponseHead;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use pingora::{ErrorType, OrErr, Result};

use self::encoder::Encoder;
use crate::message::{Request, content_length};
use crate::proxy::context::Context;

/// Shorter bodies, where their length is known, would gain less than the coding's own frame costs.
const SMALLEST: u64 = 256;

/// Fields that tell a digest of the body as it is (RFC 9530), which a coding would make a lie.
const DIGESTS: [&str; 4] = ["content-digest", "content-md5", "digest", "repr-digest"];

/// The body of one answer on its way into a coding.
pub(crate) struct Compression {
    coding: Coding,
    /// Of the body as the origin sends it, in bytes.
    length: Option<u64>,
    /// Set up when the body begins, which it never does for HEAD.
    encoder: Option<Encoder>,
}

impl Compression {
    fn pass(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => none.insert(Encoder::new(self.coding, self.length)?),
        };
        encoder.pass(piece)
    }

    fn finish(self, piece: &[u8]) -> io::Result<Bytes> {
        let encoder = match self.encoder {
            Some(encoder) => encoder,
            None => Encoder::new(self.coding, Some(piece.len() as u64))?,
        };
        encoder.finish(piece)
    }
}

/// Decides about a final answer of an origin, and changes its fields to what will be sent.
pub(crate) fn response(request: &Request, response: &mut ResponseHead, ctx: &mut Context) {
    let on = ctx.route.as_ref().is_some_and(|route| route.compress);
    if !on || ctx.upgrade {
        return;
    }
    // What an attempt before this one left.
    ctx.compression = None;
    if response.status == StatusCode::NOT_MODIFIED {
        return confirm(request, response);
    }
    if !is_eligible(response) {
        return;
    }
    let coding = suitable(request, response);
    let headers = &mut response.headers;
    vary(headers);
    let Some(coding) = coding else { return };
    let length = content_length(headers);
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::ACCEPT_RANGES);
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    weaken(headers);
    ctx.compression = Some(Box::new(Compression { coding, length, encoder: None }));
}

/// Takes a piece of the body, `end` being the last one, and puts what it has become in its place.
///
/// A body that breaks off never gets an end: its coding is as incomplete as the message.
///
/// # Errors
/// When the coding cannot be set up.
pub(crate) fn body(body: &mut Option<Bytes>, end: bool, ctx: &mut Context) -> Result<()> {
    let Some(mut compression) = ctx.compression.take() else { return Ok(()) };
    let piece = body.take().unwrap_or_default();
    let coded = if end {
        compression.finish(&piece)
    } else {
        let coded = if piece.is_empty() { Ok(piece) } else { compression.pass(&piece) };
        ctx.compression = Some(compression);
        coded
    };
    *body = Some(coded.or_err(ErrorType::InternalError, "while coding the body of an answer")?);
    Ok(())
}

/// Whether an answer is sent in a coding to whoever accepts one.
fn is_eligible(response: &ResponseHead) -> bool {
    let headers = &response.headers;
    let bodiless = matches!(response.status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT);
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    !bodiless
        && kind.is_some_and(is_compressible)
        && content_length(headers).is_none_or(|length| length >= SMALLEST)
        && !headers.contains_key(header::CONTENT_ENCODING)
        && !lists(headers, header::CACHE_CONTROL, "no-transform")
        && !DIGESTS.iter().any(|digest| headers.contains_key(*digest))
}

/// The coding for this client, if there is one. Parts of a body are told in bytes of the whole, so they stay as they are;
/// HTTP/1.0 could only be told the end of an unknown length by closing the connection.
fn suitable(request: &Request, response: &ResponseHead) -> Option<Coding> {
    let part = response.status == StatusCode::PARTIAL_CONTENT
        || response.headers.contains_key(header::CONTENT_RANGE);
    if part
        || request.version < Version::HTTP_11
        || lists(&request.headers, header::CACHE_CONTROL, "no-transform")
    {
        return None;
    }
    Coding::wanted(&request.headers)
}

/// A 304 confirms what the client has; a client that has it in a coding knows it by the weak validator (RFC 9111 §4.3.4).
fn confirm(request: &Request, response: &mut ResponseHead) {
    let headers = &mut response.headers;
    let Some(weak) = weakened(headers) else { return };
    let mut asked = request.headers.get_all(header::IF_NONE_MATCH).iter();
    if asked.any(|list| list.as_bytes().windows(weak.len()).any(|etag| etag == weak.as_bytes())) {
        headers.insert(header::ETAG, weak);
        vary(headers);
    }
}

/// The bytes of two codings differ, so the validator can be a weak one only (RFC 9110 §8.8.1).
fn weaken(headers: &mut HeaderMap) {
    if let Some(weak) = weakened(headers) {
        headers.insert(header::ETAG, weak);
    }
}

/// The weak form of a strong validator.
fn weakened(headers: &HeaderMap) -> Option<HeaderValue> {
    let strong = headers.get(header::ETAG).filter(|etag| is_strong(etag))?;
    HeaderValue::from_bytes(&[b"W/", strong.as_bytes()].concat()).ok()
}

fn is_strong(etag: &HeaderValue) -> bool {
    etag.as_bytes().first() == Some(&b'"')
}

/// Tells caches that others may get it otherwise.
fn vary(headers: &mut HeaderMap) {
    let told = |name| lists(headers, header::VARY, name);
    if !told("*") && !told("accept-encoding") {
        headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
}

/// Whether a field that is a list of names has this one.
fn lists(headers: &HeaderMap, field: HeaderName, name: &str) -> bool {
    let mut lists = headers.get_all(field).iter();
    lists.any(|list| {
        let mut items = list.as_bytes().split(|byte| *byte == b',');
        items.any(|item| item.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
    })
}
