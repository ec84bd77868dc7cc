//! Which host a request is for (RFC 9112 §3.2): one, and the same wherever it is named.

use std::net::Ipv6Addr;

use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method};

use super::head::BadHead;

/// Checks the form of the target and that the request names one host.
///
/// Stricter than the RFC in three ways, each because another parser may read another host or path: the host in the target
/// has to equal Host byte for byte (§3.2.2 would ignore Host), a host may not be percent-encoded, and a fragment is refused
/// rather than cut off. A request without Host passes, also in HTTP/1.1.
///
/// # Errors
/// [`BadHead::Connect`], [`BadHead::ManyHosts`], [`BadHead::Host`], [`BadHead::Target`] and [`BadHead::HostDiffers`].
pub fn check_authority(method: &Method, target: &[u8], headers: &HeaderMap) -> Result<(), BadHead> {
    if method == Method::CONNECT {
        return Err(BadHead::Connect);
    }
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().map(HeaderValue::as_bytes);
    if hosts.next().is_some() {
        return Err(BadHead::ManyHosts);
    }
    if host.is_some_and(|host| !host.is_empty() && !is_authority(host)) {
        return Err(BadHead::Host);
    }
    let authority = match target {
        _ if target.contains(&b'#') => return Err(BadHead::Target),
        [b'/', ..] => return Ok(()),
        b"*" if method == Method::OPTIONS => return Ok(()),
        _ => authority_of(target).ok_or(BadHead::Target)?,
    };
    if host.is_some_and(|host| host != authority) { Err(BadHead::HostDiffers) } else { Ok(()) }
}

/// The authority of a target in absolute form (RFC 9112 §3.2.2), where it is one for HTTP.
fn authority_of(target: &[u8]) -> Option<&[u8]> {
    let colon = target.iter().position(|byte| *byte == b':')?;
    let scheme = &target[..colon];
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return None;
    }
    let rest = target[colon..].strip_prefix(b"://")?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let authority = &rest[..end];
    is_authority(authority).then_some(authority)
}

/// Whether `text` is a host with a port or without, no userinfo (RFC 9110 §4.2.4).
fn is_authority(text: &[u8]) -> bool {
    let after_host = if let Some(bracketed) = text.strip_prefix(b"[") {
        let Some(end) = bracketed.iter().position(|byte| *byte == b']') else {
            return false;
        };
        if !is_ipv6(&bracketed[..end]) {
            return false;
        }
        &bracketed[end + 1..]
    } else {
        let end = text.iter().position(|byte| *byte == b':').unwrap_or(text.len());
        if end == 0 || !text[..end].iter().all(|byte| NAME_BYTES[usize::from(*byte)]) {
            return false;
        }
        &text[end..]
    };
    match after_host {
        [] => true,
        [b':', port @ ..] => port.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

fn is_ipv6(text: &[u8]) -> bool {
    str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// What a name may consist of (RFC 3986 §3.2.2), without percent-encoding.
static NAME_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"-._~!$&'()*+,;=";
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    table
};
