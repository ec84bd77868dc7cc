//! The start line and the fields of a message.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use httparse::ParserConfig;

/// The most fields that any head may have, whatever a caller allows: their places are on the stack.
pub const MOST_FIELDS: usize = 256;

/// The most bytes of empty lines that are skipped before a head. One line is what RFC 9112 §2.2 asks for.
const MOST_LEADING_BYTES: usize = 16;

/// Room in a header map for the fields that a proxy adds, so that it need not grow for them.
const ROOM_FOR_MORE: usize = 4;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// As sent; methods are case-sensitive.
    pub method: Method,
    /// As sent, nothing decoded: no blanks and no control characters, but bytes from 0x80 on may be there.
    pub target: Bytes,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The fields, in lower case and in the order in which each name came first.
    pub headers: HeaderMap,
    /// How long the head was, with the blank line, without empty lines before it.
    pub bytes: usize,
}

/// What an origin answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    /// From 100 to 999.
    pub status: StatusCode,
    /// Only when there is one and it is not the canonical one. One with bytes from 0x80 on is dropped.
    pub reason: Option<Bytes>,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The fields, in lower case and in the order in which each name came first.
    pub headers: HeaderMap,
}

/// Why a head is refused. A client gets 400 for it unless something else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHead {
    /// The grammar of RFC 9112 §2.1 is broken: the start line, a field name with blanks, a folded line (§5.2), a control
    /// character, another version than HTTP/1.0 and HTTP/1.1.
    #[error("the head is not one of HTTP/1.1")]
    Syntax,
    /// More fields than are allowed; RFC 6585 §5, status 431.
    #[error("the head has too many fields")]
    TooManyFields,
    /// Not one decimal number that fits in 64 bits, or several that differ (RFC 9112 §6.3, rule 5).
    #[error("Content-Length is not one number")]
    ContentLength,
    /// `chunked` is not the last coding, stands there twice, or has an empty element beside it (RFC 9112 §6.1, §6.3 rule 4).
    #[error("Transfer-Encoding does not end in a single chunked")]
    TransferEncoding,
    /// HTTP/1.0 knows no Transfer-Encoding: the framing is faulty (RFC 9112 §6.1).
    #[error("Transfer-Encoding in HTTP/1.0")]
    TransferEncodingInHttp10,
    /// A coding beside `chunked` in a request, which would be lost on the way; RFC 9112 §6.1, status 501.
    #[error("Transfer-Encoding names a coding besides chunked")]
    UnknownCoding,
    /// More than one Host field (RFC 9112 §3.2).
    #[error("several Host fields")]
    ManyHosts,
    /// Host is not a name or an address with a port or without (RFC 9112 §3.2, RFC 3986 §3.2.2): userinfo is one reason.
    #[error("Host is not a host")]
    Host,
    /// The target names another host than the Host field does (RFC 9112 §3.2.2).
    #[error("Host differs from the host in the request target")]
    HostDiffers,
    /// The target is in none of the forms of RFC 9112 §3.2, or has a fragment, which no form has.
    #[error("the request target has none of the allowed forms")]
    Target,
    /// A tunnel is asked for, which a reverse proxy does not open (RFC 9110 §9.3.6); status 405 or 501.
    #[error("CONNECT is not served")]
    Connect,
}

/// Takes heads off an inbox, and remembers how far one was searched.
///
/// A head is parsed as soon as its first bytes are there, so that nonsense is refused early; while it is not complete, only
/// when a blank line has come or the bytes have doubled. One that comes byte by byte thus costs a logarithm of parses.
/// One reader serves one direction of one connection, head after head.
#[derive(Debug, Default)]
pub struct HeadReader {
    /// Bytes in which no blank line is.
    searched: usize,
    /// With so many bytes a parse is due without a blank line.
    parse_at: usize,
    /// Bytes of empty lines skipped before this head.
    skipped: usize,
}

impl HeadReader {
    /// The next request head, or None while bytes are missing. On success it is split off `inbox`.
    ///
    /// Lines may end in a bare LF (RFC 9112 §2.2 allows it), never in a bare CR. At most `most_fields` fields are taken, and
    /// never more than [`MOST_FIELDS`]. Values are slices of the inbox: whoever keeps one keeps the head in memory.
    ///
    /// # Errors
    /// [`BadHead::Syntax`] and [`BadHead::TooManyFields`]; what fields say is for [`super::request_framing`] and
    /// [`super::check_authority`].
    pub fn request(
        &mut self,
        inbox: &mut BytesMut,
        most_fields: usize,
    ) -> Result<Option<RequestHead>, BadHead> {
        if !self.is_worth_parsing(inbox)? {
            return Ok(None);
        }
        let Some(found) = find_request(inbox, most_fields)? else {
            return Ok(None);
        };
        *self = Self::default();
        let head = inbox.split_to(found.bytes).freeze();
        Ok(Some(RequestHead {
            method: found.method,
            target: head.slice(found.target),
            version: found.version,
            headers: header_map(&head, &found.fields)?,
            bytes: found.bytes,
        }))
    }

    /// The next response head, or None while bytes are missing; interim responses (1xx) are heads of their own.
    ///
    /// As [`Self::request`], but blanks between a field name and its colon are taken away, as a proxy has to
    /// (RFC 9112 §5.1).
    ///
    /// # Errors
    /// [`BadHead::Syntax`] and [`BadHead::TooManyFields`].
    pub fn response(
        &mut self,
        inbox: &mut BytesMut,
        most_fields: usize,
    ) -> Result<Option<ResponseHead>, BadHead> {
        if !self.is_worth_parsing(inbox)? {
            return Ok(None);
        }
        let Some(found) = find_response(inbox, most_fields)? else {
            return Ok(None);
        };
        *self = Self::default();
        let head = inbox.split_to(found.bytes).freeze();
        Ok(Some(ResponseHead {
            status: found.status,
            reason: found.reason.map(|reason| head.slice(reason)),
            version: found.version,
            headers: header_map(&head, &found.fields)?,
        }))
    }

    fn is_worth_parsing(&mut self, inbox: &mut BytesMut) -> Result<bool, BadHead> {
        self.skip_empty_lines(inbox)?;
        let due = !inbox.is_empty() && (inbox.len() >= self.parse_at || has_blank_line(inbox, self.searched));
        if due {
            self.parse_at = inbox.len().saturating_mul(2);
        }
        self.searched = inbox.len();
        Ok(due)
    }

    /// RFC 9112 §2.2: some clients send an empty line after a body.
    fn skip_empty_lines(&mut self, inbox: &mut BytesMut) -> Result<(), BadHead> {
        loop {
            let length = match **inbox {
                [b'\r', b'\n', ..] => 2,
                [b'\n', ..] => 1,
                _ => return Ok(()),
            };
            inbox.advance(length);
            *self = Self { skipped: self.skipped + length, ..Self::default() };
            if self.skipped > MOST_LEADING_BYTES {
                return Err(BadHead::Syntax);
            }
        }
    }
}

/// Whether a blank line ends among the bytes from `searched` on.
fn has_blank_line(text: &[u8], searched: usize) -> bool {
    // The line end before it may be up to two bytes older: LF CR, and now LF.
    let recent = &text[searched.saturating_sub(2).min(text.len())..];
    recent.windows(2).any(|two| two == b"\n\n") || recent.windows(3).any(|three| three == b"\n\r\n")
}

/// A request head by its places in the inbox: while a parser looks at the inbox, nothing can be split off it.
struct FoundRequest {
    method: Method,
    target: Range<usize>,
    version: Version,
    fields: Vec<Field>,
    bytes: usize,
}

struct FoundResponse {
    status: StatusCode,
    reason: Option<Range<usize>>,
    version: Version,
    fields: Vec<Field>,
    bytes: usize,
}

struct Field {
    name: Range<usize>,
    value: Range<usize>,
}

fn find_request(text: &[u8], most_fields: usize) -> Result<Option<FoundRequest>, BadHead> {
    match parse_request(text, most_fields) {
        Err(httparse::Error::Token) => match mask_target(text) {
            Some(masked) => parse_request(&masked, most_fields).map_err(bad_head),
            None => Err(BadHead::Syntax),
        },
        other => other.map_err(bad_head),
    }
}

/// The same head with another letter for each byte of the target that is not ASCII; None where that changes nothing.
///
/// The parser lets those bytes through only where they make UTF-8. Old clients send other charsets, and where things
/// stand in a head does not depend on it.
#[cold]
fn mask_target(text: &[u8]) -> Option<Vec<u8>> {
    let line_end = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
    let method_end = text[..line_end].iter().position(|byte| *byte == b' ')?;
    if text[method_end..line_end].is_ascii() {
        return None;
    }
    let mut masked = text.to_vec();
    for byte in &mut masked[method_end..line_end] {
        if !byte.is_ascii() {
            *byte = b'x';
        }
    }
    Some(masked)
}

fn parse_request(text: &[u8], most_fields: usize) -> Result<Option<FoundRequest>, httparse::Error> {
    let mut places = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let places = &mut places[..most_fields.min(MOST_FIELDS)];
    let mut parsed = httparse::Request::new(&mut []);
    let status = ParserConfig::default().parse_request_with_uninit_headers(&mut parsed, text, places)?;
    let (httparse::Status::Complete(bytes), Some(method), Some(target)) =
        (status, parsed.method, parsed.path)
    else {
        return Ok(None);
    };
    Ok(Some(FoundRequest {
        method: Method::from_bytes(method.as_bytes()).map_err(|_| httparse::Error::Token)?,
        target: place(text, target.as_bytes()),
        version: version(parsed.version),
        fields: fields(text, parsed.headers),
        bytes,
    }))
}

fn find_response(text: &[u8], most_fields: usize) -> Result<Option<FoundResponse>, BadHead> {
    let mut places = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let places = &mut places[..most_fields.min(MOST_FIELDS)];
    let mut parsed = httparse::Response::new(&mut []);
    let mut rules = ParserConfig::default();
    rules.allow_spaces_after_header_name_in_responses(true);
    let status = rules.parse_response_with_uninit_headers(&mut parsed, text, places).map_err(bad_head)?;
    let (httparse::Status::Complete(bytes), Some(code), Some(reason)) = (status, parsed.code, parsed.reason)
    else {
        return Ok(None);
    };
    let status = StatusCode::from_u16(code).map_err(|_| BadHead::Syntax)?;
    let is_special = !reason.is_empty() && status.canonical_reason() != Some(reason);
    Ok(Some(FoundResponse {
        status,
        reason: is_special.then(|| place(text, reason.as_bytes())),
        version: version(parsed.version),
        fields: fields(text, parsed.headers),
        bytes,
    }))
}

fn bad_head(error: httparse::Error) -> BadHead {
    match error {
        httparse::Error::TooManyHeaders => BadHead::TooManyFields,
        _ => BadHead::Syntax,
    }
}

fn version(minor: Option<u8>) -> Version {
    if minor == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 }
}

fn fields(text: &[u8], parsed: &[httparse::Header<'_>]) -> Vec<Field> {
    let field = |field: &httparse::Header<'_>| Field {
        name: place(text, field.name.as_bytes()),
        value: place(text, field.value),
    };
    parsed.iter().map(field).collect()
}

/// Where `part` stands in `text`, a slice of which it is.
fn place(text: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - text.as_ptr().addr();
    start..start + part.len()
}

fn header_map(head: &Bytes, fields: &[Field]) -> Result<HeaderMap, BadHead> {
    let mut headers = HeaderMap::with_capacity(fields.len() + ROOM_FOR_MORE);
    for field in fields {
        let name = header_name(&head[field.name.clone()])?;
        // SAFETY: a value must consist of HTAB, of bytes from 0x20 on without 0x7F, and of nothing else. httparse has just
        // compared each byte of this place with that very set (its HEADER_VALUE_MAP) and refuses a head with another; and
        // splitting the inbox has changed no byte (one whose target was masked has the same bytes in its fields).
        // Debug builds check each value once more.
        let value = unsafe { HeaderValue::from_maybe_shared_unchecked(head.slice(field.value.clone())) };
        headers.append(name, value);
    }
    Ok(headers)
}

/// Names as most peers write them are told by a comparison, without the buffer that others are put into lower case in.
fn header_name(text: &[u8]) -> Result<HeaderName, BadHead> {
    Ok(match text {
        b"Accept" | b"accept" => header::ACCEPT,
        b"Accept-Encoding" | b"accept-encoding" => header::ACCEPT_ENCODING,
        b"Accept-Language" | b"accept-language" => header::ACCEPT_LANGUAGE,
        b"Authorization" | b"authorization" => header::AUTHORIZATION,
        b"Cache-Control" | b"cache-control" => header::CACHE_CONTROL,
        b"Connection" | b"connection" => header::CONNECTION,
        b"Content-Encoding" | b"content-encoding" => header::CONTENT_ENCODING,
        b"Content-Length" | b"content-length" => header::CONTENT_LENGTH,
        b"Content-Type" | b"content-type" => header::CONTENT_TYPE,
        b"Cookie" | b"cookie" => header::COOKIE,
        b"Date" | b"date" => header::DATE,
        b"ETag" | b"etag" => header::ETAG,
        b"Host" | b"host" => header::HOST,
        b"Last-Modified" | b"last-modified" => header::LAST_MODIFIED,
        b"Location" | b"location" => header::LOCATION,
        b"Origin" | b"origin" => header::ORIGIN,
        b"Referer" | b"referer" => header::REFERER,
        b"Server" | b"server" => header::SERVER,
        b"Set-Cookie" | b"set-cookie" => header::SET_COOKIE,
        b"Transfer-Encoding" | b"transfer-encoding" => header::TRANSFER_ENCODING,
        b"User-Agent" | b"user-agent" => header::USER_AGENT,
        b"Vary" | b"vary" => header::VARY,
        _ => HeaderName::from_bytes(text).map_err(|_| BadHead::Syntax)?,
    })
}
