//! The header of a request as everything behind the listeners sees it, whatever protocol it came in.

use bytes::Bytes;
use gateway_core::http1::RequestHead;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderValue, Method, Uri, Version, header, request};

/// The header of a request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Over HTTP/1 path and query only: what an absolute form names besides is in `Host`.
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    /// The target as it was sent, where the URI is not the very same.
    raw: Option<Bytes>,
}

impl Request {
    /// From HTTP/1; `None` for a target that is none. An absolute form becomes the origin form it stands for, and its
    /// authority takes the place of `Host` (RFC 9112 §3.2.2).
    pub(crate) fn http1(head: RequestHead) -> Option<Self> {
        let RequestHead { method, target, version, mut headers, .. } = head;
        let target = match absolute(&target) {
            None => target,
            Some((authority, rest)) => {
                headers.insert(header::HOST, HeaderValue::from_bytes(authority).ok()?);
                match rest {
                    b"" if method == Method::OPTIONS => Bytes::from_static(b"*"),
                    b"" => Bytes::from_static(b"/"),
                    [b'/', ..] => target.slice_ref(rest),
                    _ => [b"/", rest].concat().into(),
                }
            }
        };
        let parsed = PathAndQuery::from_maybe_shared(target.clone());
        let same = parsed.as_ref().is_ok_and(|parsed| parsed.as_str().as_bytes() == target);
        let path = match parsed {
            Ok(path) if same => path,
            _ => PathAndQuery::from_maybe_shared(encoded(&target)).ok()?,
        };
        Some(Self { method, uri: path.into(), version, headers, raw: (!same).then_some(target) })
    }

    /// The same request with other fields.
    pub(crate) fn with_headers(&self, headers: HeaderMap) -> Self {
        let Self { method, uri, version, raw, .. } = self;
        Self { method: method.clone(), uri: uri.clone(), version: *version, headers, raw: raw.clone() }
    }

    /// The target as it was sent: bytes of a path and a query, or `*`.
    pub(crate) fn target(&self) -> &[u8] {
        match &self.raw {
            Some(raw) => raw,
            None => self.uri.path_and_query().map_or(b"/", |target| target.as_str().as_bytes()),
        }
    }

    /// Whether the URI says all that was sent.
    pub(crate) fn is_plain(&self) -> bool {
        self.raw.is_none()
    }

    /// Sends another path and query from here on.
    pub(crate) fn set_target(&mut self, target: PathAndQuery) {
        let mut parts = std::mem::take(&mut self.uri).into_parts();
        parts.path_and_query = Some(target);
        // What had a scheme and an authority before has them still.
        self.uri = Uri::from_parts(parts).unwrap_or_default();
        self.raw = None;
    }

    /// Whether the client sends no body before it is told to (RFC 9110 §10.1.1); HTTP/1.0 cannot be told.
    pub(crate) fn awaits_leave(&self) -> bool {
        let expect = self.headers.get(header::EXPECT);
        self.version > Version::HTTP_10
            && expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    }

    /// What it says of the host, in the target or in its field.
    pub(crate) fn authority(&self) -> Option<&Authority> {
        self.uri.authority()
    }
}

/// What Content-Length says, where it says something.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl From<request::Parts> for Request {
    fn from(parts: request::Parts) -> Self {
        let request::Parts { method, uri, version, headers, .. } = parts;
        Self { method, uri, version, headers, raw: None }
    }
}

/// Authority and the rest of an absolute form.
fn absolute(target: &[u8]) -> Option<(&[u8], &[u8])> {
    if target.first() == Some(&b'/') {
        return None;
    }
    let colon = target.windows(3).position(|bytes| bytes == b"://")?;
    let rest = &target[colon + 3..];
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    Some(rest.split_at(end))
}

/// The target with what a URI cannot hold percent-encoded: for those who look at the URI; what is sent on is the target.
fn encoded(target: &[u8]) -> Bytes {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = Vec::with_capacity(target.len() + 16);
    for byte in target {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(byte) {
            text.push(*byte);
        } else {
            let digit = |value: u8| DIGITS[usize::from(value & 15)];
            text.extend([b'%', digit(byte >> 4), digit(*byte)]);
        }
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, target: &'static [u8]) -> Request {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("old.example"));
        let target = Bytes::from_static(target);
        Request::http1(RequestHead { method, target, version: Version::HTTP_11, headers, bytes: 0 }).unwrap()
    }

    #[test]
    fn an_origin_form_stays_as_it_was_sent() {
        for target in ["/", "/a/b?c=d&e=%2F", "//a", "/a?b=?", "/%41/../b"] {
            let request = request(Method::GET, target.as_bytes());
            assert_eq!((request.target(), request.is_plain()), (target.as_bytes(), true), "{target}");
            assert_eq!(request.headers[header::HOST], "old.example");
        }
    }

    #[test]
    fn an_absolute_form_becomes_the_origin_form_it_stands_for() {
        for (method, target, expected) in [
            (Method::GET, &b"http://shop.example/a?b"[..], "/a?b"),
            (Method::GET, b"http://shop.example", "/"),
            (Method::GET, b"http://shop.example?b", "/?b"),
            (Method::OPTIONS, b"http://shop.example", "*"),
        ] {
            let request = request(method, target);
            assert_eq!(request.target(), expected.as_bytes());
            assert_eq!(request.headers[header::HOST], "shop.example");
        }
    }

    #[test]
    fn bytes_a_uri_cannot_hold_are_sent_on_as_they_came() {
        let request = request(Method::GET, b"/<a>|\xff?b=^");
        assert_eq!((request.target(), request.is_plain()), (&b"/<a>|\xff?b=^"[..], false));
        assert_eq!(request.uri.path_and_query().unwrap(), "/%3Ca%3E%7C%FF?b=%5E");
    }

    #[test]
    fn another_target_replaces_the_one_that_was_sent() {
        let mut request = request(Method::GET, b"/<a>?b");
        request.set_target(PathAndQuery::from_static("/c?d"));
        assert_eq!((request.target(), request.is_plain()), (&b"/c?d"[..], true));
    }
}
