//! Content codings: which one a client wants, and which media types gain from one.

use http::{HeaderMap, header};

/// A content coding an answer can be given (RFC 9110 §8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// `zstd` (RFC 8878).
    Zstd,
    /// `br` (RFC 7932).
    Brotli,
    /// `gzip` (RFC 1952).
    Gzip,
}

impl Coding {
    /// Which goes first where a client likes several the same: Zstandard makes bodies about as small as the others do,
    /// for a third of the time.
    const PREFERENCE: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    /// As `Content-Encoding` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    /// The coding a request's `Accept-Encoding` asks for (RFC 9110 §12.5.3), none when the answer is best left as it is:
    /// without the field, or where nothing we can do is wanted at least as much as `identity`.
    pub fn wanted(request: &HeaderMap) -> Option<Self> {
        let mut weights = Weights::default();
        for field in request.get_all(header::ACCEPT_ENCODING) {
            field.as_bytes().split(|byte| *byte == b',').for_each(|item| weights.note(item.trim_ascii()));
        }
        weights.preferred()
    }
}

/// What a client says of each coding, in thousandths.
#[derive(Debug, Default)]
struct Weights {
    zstd: Option<u16>,
    brotli: Option<u16>,
    gzip: Option<u16>,
    identity: Option<u16>,
    /// `*`: all that are not named.
    others: Option<u16>,
}

impl Weights {
    /// Takes one item of the list; names it does not know say nothing.
    fn note(&mut self, item: &[u8]) {
        let mut parts = item.splitn(2, |byte| *byte == b';');
        let name = parts.next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
        let slot = match name.as_slice() {
            b"zstd" => &mut self.zstd,
            b"br" => &mut self.brotli,
            b"gzip" | b"x-gzip" => &mut self.gzip,
            b"identity" => &mut self.identity,
            b"*" => &mut self.others,
            _ => return,
        };
        // What is not a weight asks for nothing.
        *slot = Some(parts.next().map_or(1000, |weight| thousandths(weight.trim_ascii()).unwrap_or(0)));
    }

    fn of(&self, coding: Coding) -> u16 {
        let named = match coding {
            Coding::Zstd => self.zstd,
            Coding::Brotli => self.brotli,
            Coding::Gzip => self.gzip,
        };
        named.or(self.others).unwrap_or(0)
    }

    fn preferred(&self) -> Option<Coding> {
        let least = self.identity.unwrap_or(0).max(1);
        let mut best: Option<(Coding, u16)> = None;
        for coding in Coding::PREFERENCE {
            let weight = self.of(coding);
            if weight >= least && best.is_none_or(|(_, most)| weight > most) {
                best = Some((coding, weight));
            }
        }
        best.map(|(coding, _)| coding)
    }
}

/// Reads `q=0.5` (RFC 9110 §12.4.2).
fn thousandths(parameter: &[u8]) -> Option<u16> {
    let value = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="))?;
    let (whole, fraction) = match value {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    let mut sum = u16::from(whole - b'0') * 1000;
    for (digit, worth) in fraction.iter().zip([100, 10, 1]) {
        sum += u16::from(digit.is_ascii_digit().then(|| digit - b'0')?) * worth;
    }
    (sum <= 1000).then_some(sum)
}

/// Media types that gain from a coding beside `text/*` and those that end with one of [`SUFFIXES`].
const COMPRESSIBLE: [&str; 25] = [
    "application/ecmascript",
    "application/javascript",
    "application/json",
    "application/json-seq",
    "application/jsonl",
    "application/ndjson",
    "application/rtf",
    "application/sql",
    "application/toml",
    "application/vnd.apple.mpegurl",
    "application/vnd.ms-fontobject",
    "application/wasm",
    "application/x-javascript",
    "application/x-jsonlines",
    "application/x-ndjson",
    "application/x-sh",
    "application/x-yaml",
    "application/xml",
    "application/xml-dtd",
    "application/yaml",
    "font/otf",
    "font/ttf",
    "image/bmp",
    "image/vnd.microsoft.icon",
    "image/x-icon",
];

/// Structured syntaxes (RFC 6839): `application/problem+json`, `image/svg+xml` and their like.
const SUFFIXES: [&str; 4] = ["+json", "+json-seq", "+xml", "+yaml"];

/// Whether a body of this `Content-Type` gets smaller. Streams of events and gRPC do not count: each message of theirs has
/// to leave at once, and gRPC compresses its own.
pub fn is_compressible(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let starts_with =
        |start: &str| essence.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start));
    let ends_with = |end: &&str| {
        let begin = essence.len().saturating_sub(end.len());
        essence.get(begin..).is_some_and(|tail| tail.eq_ignore_ascii_case(end))
    };
    if starts_with("text/") {
        return !essence.eq_ignore_ascii_case("text/event-stream");
    }
    if starts_with("application/grpc") {
        return false;
    }
    COMPRESSIBLE.iter().any(|kind| essence.eq_ignore_ascii_case(kind)) || SUFFIXES.iter().any(ends_with)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::Coding::{Brotli, Gzip, Zstd};
    use super::*;

    fn wanted(fields: &[&str]) -> Option<Coding> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(header::ACCEPT_ENCODING, HeaderValue::from_str(field).expect("a value"));
        }
        Coding::wanted(&headers)
    }

    #[test]
    fn the_client_s_weights_decide_and_our_preference_where_they_are_equal() {
        for (field, coding) in [
            ("gzip", Some(Gzip)),
            ("x-gzip", Some(Gzip)),
            ("GZIP;Q=0.5", Some(Gzip)),
            ("br", Some(Brotli)),
            ("zstd", Some(Zstd)),
            ("gzip, deflate, br", Some(Brotli)),
            ("gzip, deflate, br, zstd", Some(Zstd)),
            ("gzip;q=1.0, br;q=0.9, zstd;q=0.8", Some(Gzip)),
            ("zstd;q=0.001,gzip;q=0.002", Some(Gzip)),
            ("*", Some(Zstd)),
            ("*;q=0.5, gzip", Some(Gzip)),
            ("zstd;q=0, *", Some(Brotli)),
            ("gzip;q=0.5, *;q=0", Some(Gzip)),
            ("identity, gzip", Some(Gzip)),
            ("identity;q=0.5, gzip;q=0.4", None),
            ("identity;q=0, gzip;q=0.1", Some(Gzip)),
            ("gzip , ;q=1, br ; q=0.2", Some(Gzip)),
        ] {
            assert_eq!(wanted(&[field]), coding, "{field}");
        }
        assert_eq!(wanted(&["gzip;q=0.1", "br;q=0.2"]), Some(Brotli), "fields are one list");
    }

    #[test]
    fn nothing_is_done_that_was_not_asked_for() {
        assert_eq!(wanted(&[]), None);
        for field in [
            "",
            "identity",
            "deflate, compress",
            "gzip;q=0",
            "gzip;q=0.000",
            "*;q=0",
            "identity;q=0",
            "gzip;q=2",
            "gzip;q=1.1",
            "gzip;q=-1",
            "gzip;q=",
            "gzip;q=0.1234",
            "gzip;q=0,5",
            "gzip;level=9",
        ] {
            assert_eq!(wanted(&[field]), None, "{field}");
        }
    }

    #[test]
    fn text_and_structured_syntaxes_are_compressible_and_media_are_not() {
        for kind in [
            "text/html; charset=utf-8",
            "TEXT/CSS",
            "application/json",
            "Application/Problem+JSON",
            "application/x-ndjson;x=y",
            "image/svg+xml",
            "application/wasm",
            "font/ttf",
        ] {
            assert!(is_compressible(kind), "{kind}");
        }
        for kind in [
            "",
            "text",
            "text/event-stream; charset=utf-8",
            "application/grpc",
            "application/grpc+json",
            "application/grpc-web-text",
            "application/octet-stream",
            "application/pdf",
            "application/zip",
            "font/woff2",
            "image/png",
            "json",
            "video/mp4",
            "é",
        ] {
            assert!(!is_compressible(kind), "{kind}");
        }
    }
}
