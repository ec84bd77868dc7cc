//! Which requests over HTTP/2 are not served at all: framed ambiguously, or naming more than one host.

use gateway_core::http1::content_length;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use pingora::protocols::http::authority::{RawTargetAuthority, raw_target_authority};

use crate::telemetry::labels::BadRequest;

/// What is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A tunnel is asked for: this is no forward proxy.
    Connect,
    /// Bytes that no target may have, and that would end a line of HTTP/1.
    Target,
    /// Its lengths differ, or are none (RFC 9113 §8.1.1).
    Length,
    /// No host, several, or one with user information (RFC 9113 §8.3.1).
    Authority,
    /// The path is, or may be taken for, an address of its own.
    Path,
}

impl Fault {
    /// What the client is told; nothing where the stream is broken off.
    pub(super) fn status(self) -> Option<StatusCode> {
        match self {
            Self::Connect => Some(StatusCode::METHOD_NOT_ALLOWED),
            Self::Authority | Self::Path => Some(StatusCode::BAD_REQUEST),
            Self::Target | Self::Length => None,
        }
    }

    /// What it is counted as.
    pub(super) fn reason(self) -> BadRequest {
        match self {
            Self::Connect => BadRequest::Method,
            Self::Authority => BadRequest::Host,
            Self::Path | Self::Target | Self::Length => BadRequest::Malformed,
        }
    }

    /// Whether no client would send it in good faith.
    pub(super) fn is_malformed(self) -> bool {
        self != Self::Connect
    }
}

/// Looks at what the library lets through. Lengths that are repeated become one.
pub(super) fn judge(request: &mut Parts) -> Result<(), Fault> {
    if request.method == Method::CONNECT {
        return Err(Fault::Connect);
    }
    let path = request.uri.path_and_query().map_or("", |path| path.as_str()).as_bytes();
    if path.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
        return Err(Fault::Target);
    }
    if raw_target_authority(path) != RawTargetAuthority::None {
        return Err(Fault::Path);
    }
    if !has_one_host(request) {
        return Err(Fault::Authority);
    }
    content_length(&mut request.headers).map(drop).map_err(|_| Fault::Length)
}

fn has_one_host(request: &Parts) -> bool {
    let authority = request.uri.authority().map(|authority| authority.as_str().as_bytes());
    let mut hosts = request.headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes);
    let named = match (authority, hosts.next(), hosts.next()) {
        (Some(authority), None, None) => authority,
        (None, Some(host), None) => host,
        (Some(authority), Some(host), None) if authority == host => host,
        _ => return false,
    };
    !named.contains(&b'@')
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn judged(method: &str, uri: &str, fields: &[(&str, &str)]) -> (Result<(), Fault>, Parts) {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        (judge(&mut parts), parts)
    }

    #[test]
    fn one_host_is_named_in_one_place_or_alike_in_both() {
        for (uri, hosts, served) in [
            ("https://shop.example/", &[][..], true),
            ("https://shop.example/", &[("host", "shop.example")], true),
            ("/", &[("host", "shop.example")], true),
            ("https://shop.example/", &[("host", "other.example")], false),
            ("https://shop.example/", &[("host", "shop.example"), ("host", "shop.example")], false),
            ("/", &[("host", "shop.example"), ("host", "shop.example")], false),
            ("/", &[], false),
            ("https://user@shop.example/", &[], false),
            ("/", &[("host", "user@shop.example")], false),
        ] {
            let expected = if served { Ok(()) } else { Err(Fault::Authority) };
            assert_eq!(judged("GET", uri, hosts).0, expected, "{uri} {hosts:?}");
        }
    }

    #[test]
    fn lengths_that_agree_become_one_and_others_are_refused() {
        for (values, settled) in [
            (&["5"][..], Some("5")),
            (&["5", "5"], Some("5")),
            (&["5, 5"], Some("5")),
            (&["5", "6"], None),
            (&["5,6"], None),
            (&["+5"], None),
            (&["-1"], None),
            (&[""], None),
            (&["5", ""], None),
            (&["99999999999999999999"], None),
        ] {
            let fields: Vec<_> = values.iter().map(|value| ("content-length", *value)).collect();
            let (result, parts) = judged("POST", "https://shop.example/", &fields);
            assert_eq!(result.is_ok(), settled.is_some(), "{values:?}: {result:?}");
            if let Some(settled) = settled {
                let lengths: Vec<_> = parts.headers.get_all("content-length").iter().collect();
                assert_eq!(lengths, [settled]);
            }
        }
    }

    #[test]
    fn tunnels_are_not_for_us_and_asking_for_one_is_no_malformed_request() {
        let (result, _) = judged("CONNECT", "other.example:443", &[]);
        assert_eq!(result, Err(Fault::Connect));
        assert!(!Fault::Connect.is_malformed());
    }
}
