//! Where a message ends (RFC 9112 §6.3), and whether another can follow it (§9.3).

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};

use super::head::{BadHead, ResponseHead};

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// After so many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection; only a response can have it.
    UntilClose,
}

/// How the body of a request ends, and what becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestFraming {
    /// How the body ends; never [`Framing::UntilClose`].
    pub framing: Framing,
    /// The connection ends after the answer, whatever Connection says: the request had Transfer-Encoding and
    /// Content-Length, so somebody before us may have seen another end (RFC 9112 §6.1).
    pub close: bool,
}

/// How the body of a response ends, and what becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseFraming {
    /// How the body ends.
    pub framing: Framing,
    /// The connection must not be used again, whatever Connection says: the body lasts until it closes, or the framing was
    /// doubtful (Transfer-Encoding beside Content-Length, or in HTTP/1.0).
    pub close: bool,
}

/// How the body of a request ends.
///
/// Takes Content-Length away where Transfer-Encoding is there; else it leaves at most one, in canonical digits.
///
/// # Errors
/// [`BadHead::ContentLength`], [`BadHead::TransferEncoding`], [`BadHead::TransferEncodingInHttp10`] and
/// [`BadHead::UnknownCoding`].
pub fn request_framing(version: Version, headers: &mut HeaderMap) -> Result<RequestFraming, BadHead> {
    let Some(codings) = Codings::of(headers) else {
        let framing = content_length(headers)?.map_or(Framing::Empty, Framing::Length);
        return Ok(RequestFraming { framing, close: false });
    };
    if version == Version::HTTP_10 {
        return Err(BadHead::TransferEncodingInHttp10);
    }
    if !codings.ends_in_single_chunked() || codings.has_empty {
        return Err(BadHead::TransferEncoding);
    }
    if codings.has_other {
        return Err(BadHead::UnknownCoding);
    }
    Ok(RequestFraming { framing: Framing::Chunked, close: headers.remove(CONTENT_LENGTH).is_some() })
}

/// How the body of a response ends.
///
/// Takes Content-Length away where Transfer-Encoding is there, and both from responses that can have neither (1xx and 204,
/// RFC 9110 §8.6, RFC 9112 §6.1). For 101 the framing is [`Framing::Empty`]: what follows is no HTTP/1.1.
///
/// # Errors
/// [`BadHead::ContentLength`], also where no body follows, since the field would be passed on; and
/// [`BadHead::TransferEncoding`] for a body that is chunked twice; and [`BadHead::UnknownCoding`] for any other coding.
pub fn response_framing(request_is_head: bool, head: &mut ResponseHead) -> Result<ResponseFraming, BadHead> {
    let headers = &mut head.headers;
    if head.status.is_informational() || head.status == StatusCode::NO_CONTENT {
        headers.remove(CONTENT_LENGTH);
        headers.remove(TRANSFER_ENCODING);
        return Ok(ResponseFraming { framing: Framing::Empty, close: false });
    }
    let (framing, doubtful) = match Codings::of(headers) {
        Some(codings) if codings.chunked > 1 => return Err(BadHead::TransferEncoding),
        // Nobody asked for another one, and its name would not be passed on.
        Some(codings) if codings.has_other => return Err(BadHead::UnknownCoding),
        Some(codings) => {
            let had_length = headers.remove(CONTENT_LENGTH).is_some();
            let framing = if codings.last_is_chunked { Framing::Chunked } else { Framing::UntilClose };
            (framing, had_length || head.version == Version::HTTP_10)
        }
        None => (content_length(headers)?.map_or(Framing::UntilClose, Framing::Length), false),
    };
    if request_is_head || head.status == StatusCode::NOT_MODIFIED {
        return Ok(ResponseFraming { framing: Framing::Empty, close: doubtful });
    }
    Ok(ResponseFraming { framing, close: doubtful || framing == Framing::UntilClose })
}

/// Whether the peer keeps the connection after this message (RFC 9112 §9.3): in HTTP/1.1 unless Connection has `close`, in
/// HTTP/1.0 only where it has `keep-alive` and no `close`.
pub fn is_persistent(version: Version, headers: &HeaderMap) -> bool {
    let mut keeps = version != Version::HTTP_10;
    for token in elements(headers, &CONNECTION) {
        if token.eq_ignore_ascii_case(b"close") {
            return false;
        }
        keeps |= token.eq_ignore_ascii_case(b"keep-alive");
    }
    keeps
}

/// What Transfer-Encoding says, over all its lines.
#[derive(Default)]
struct Codings {
    chunked: usize,
    last_is_chunked: bool,
    has_other: bool,
    has_empty: bool,
}

impl Codings {
    /// None where the field is missing; an empty one is there.
    fn of(headers: &HeaderMap) -> Option<Self> {
        if !headers.contains_key(TRANSFER_ENCODING) {
            return None;
        }
        let mut codings = Self::default();
        for coding in elements(headers, &TRANSFER_ENCODING) {
            if coding.is_empty() {
                codings.has_empty = true;
                continue;
            }
            codings.last_is_chunked = coding.eq_ignore_ascii_case(b"chunked");
            codings.chunked += usize::from(codings.last_is_chunked);
            codings.has_other |= !codings.last_is_chunked;
        }
        Some(codings)
    }

    fn ends_in_single_chunked(&self) -> bool {
        self.last_is_chunked && self.chunked == 1
    }
}

/// The one number that Content-Length says. Several identical ones become one field (RFC 9112 §6.3, rule 5).
///
/// # Errors
/// [`BadHead::ContentLength`] for what is no number, and for several that are not written alike.
pub fn content_length(headers: &mut HeaderMap) -> Result<Option<u64>, BadHead> {
    let mut lines = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lines.next().map(HeaderValue::as_bytes) else {
        return Ok(None);
    };
    let is_canonical = first.len() == 1 || first.first() != Some(&b'0');
    if let (None, true, Some(length)) = (lines.next(), is_canonical, decimal(first)) {
        return Ok(Some(length));
    }
    let length = reconciled(headers).ok_or(BadHead::ContentLength)?;
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    Ok(Some(length))
}

fn reconciled(headers: &HeaderMap) -> Option<u64> {
    let mut numbers = elements(headers, &CONTENT_LENGTH);
    let first = numbers.next()?;
    if numbers.all(|number| number == first) { decimal(first) } else { None }
}

/// RFC 9110 §8.6: one digit at least and nothing but digits.
fn decimal(text: &[u8]) -> Option<u64> {
    let add = |number: u64, byte: &u8| match byte {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    };
    if text.is_empty() { None } else { text.iter().try_fold(0, add) }
}

/// The elements of a list over all lines of a field, without the blanks around them; empty ones too.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).into_iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii))
}
