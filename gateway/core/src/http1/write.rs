//! Heads as they go out.

use http::{HeaderMap, Method, StatusCode};

/// Appends the head of a request, in HTTP/1.1, names in lower case.
///
/// `target` goes out as it is: one from a [`super::RequestHead`] has no blank and no line end, and one that was made
/// otherwise must not have them either.
pub fn write_request(out: &mut Vec<u8>, method: &Method, target: &[u8], headers: &HeaderMap) {
    debug_assert!(
        target.iter().all(|byte| *byte > b' ' && *byte != 0x7f),
        "a target would break the request line"
    );
    out.reserve(method.as_str().len() + target.len() + 14 + length(headers));
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_fields(out, headers);
}

/// Appends the head of a response, names in lower case, the canonical reason where there is no other.
///
/// It always is HTTP/1.1: a server answers with its own version (RFC 9110 §6.2). `reason` goes out as it is: one from a
/// [`super::ResponseHead`] has no line end.
pub fn write_response(out: &mut Vec<u8>, status: StatusCode, reason: Option<&[u8]>, headers: &HeaderMap) {
    let canonical = || status.canonical_reason().unwrap_or_default().as_bytes();
    let reason = reason.unwrap_or_else(canonical);
    debug_assert!(
        reason.iter().all(|byte| !matches!(byte, b'\r' | b'\n')),
        "a reason would break the status line"
    );
    out.reserve(reason.len() + 17 + length(headers));
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
    write_fields(out, headers);
}

fn length(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

fn write_fields(out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}
