//! HTTP/1.1: finds the end of a message in a buffer.

use super::{Malformed, Request};

/// More fields than any peer sends.
const FIELDS: usize = 48;

/// A complete answer at the beginning of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::compare) struct Answer {
    /// Its status.
    pub(in crate::compare) status: u16,
    /// Its length with the header, all framing included.
    pub(in crate::compare) length: usize,
    /// Whether the connection can be used again.
    pub(in crate::compare) keep_alive: bool,
}

/// The bytes of a GET.
pub(in crate::compare) fn request(request: &Request) -> Vec<u8> {
    let mut text = format!("GET {} HTTP/1.1\r\nhost: {}\r\n", request.path, request.host);
    for (name, value) in &request.fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// The answer at the beginning of `input`; `None` while it is incomplete.
///
/// # Errors
/// [`Malformed`] for what is no HTTP/1.1 answer, and for one whose end only the connection's end would tell.
pub(in crate::compare) fn answer(input: &[u8]) -> Result<Option<Answer>, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut head = httparse::Response::new(&mut fields);
    let header = match head.parse(input) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Malformed("not an HTTP/1.1 answer")),
    };
    let status = head.code.ok_or(Malformed("an answer without a status"))?;
    let keep_alive =
        !field(head.headers, "connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
    let body = &input[header..];
    let length = match (field(head.headers, "transfer-encoding"), field(head.headers, "content-length")) {
        (Some(coding), _) if coding.eq_ignore_ascii_case(b"chunked") => chunked(body)?,
        (None, Some(digits)) => Some(number(digits)?).filter(|&length| body.len() >= length),
        (None, None) if matches!(status, 204 | 304) => Some(0),
        _ => return Err(Malformed("an answer of unknown length")),
    };
    Ok(length.map(|length| Answer { status, length: header + length, keep_alive }))
}

/// The length of the complete request, without a body, at the beginning of `input`.
pub(in crate::compare) fn request_length(input: &[u8]) -> Option<usize> {
    // One request has arrived, whole: what nearly always happens, as proxies do not pipeline.
    let last = input.len().checked_sub(4)?;
    if input[last..] == *b"\r\n\r\n" && !input[..last].windows(4).any(|window| window == b"\r\n\r\n") {
        return Some(input.len());
    }
    input.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// The value of a field, by its name in lower case.
fn field<'a>(fields: &[httparse::Header<'a>], name: &str) -> Option<&'a [u8]> {
    fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

fn number(digits: &[u8]) -> Result<usize, Malformed> {
    let text = std::str::from_utf8(digits).ok();
    text.and_then(|text| text.trim().parse().ok()).ok_or(Malformed("a length that is no number"))
}

/// The length of a complete chunked body, trailers included.
fn chunked(body: &[u8]) -> Result<Option<usize>, Malformed> {
    let mut at = 0;
    loop {
        let (line, size) = match httparse::parse_chunk_size(&body[at..]) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Malformed("a chunk without a size")),
        };
        at += line;
        if size == 0 {
            return trailers(&body[at..]).map(|length| length.map(|length| at + length));
        }
        let size = usize::try_from(size).map_err(|_| Malformed("a chunk that is too long"))?;
        let Some(rest) = body.get(at..).and_then(|rest| rest.get(size..size + 2)) else { return Ok(None) };
        if rest != b"\r\n" {
            return Err(Malformed("a chunk that is longer than its size"));
        }
        at += size + 2;
    }
}

fn trailers(input: &[u8]) -> Result<Option<usize>, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    match httparse::parse_headers(input, &mut fields) {
        Ok(httparse::Status::Complete((length, _))) => Ok(Some(length)),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err(Malformed("trailers that are no fields")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    const CHUNKED: &[u8] =
        b"HTTP/1.1 502 Bad\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nt: 1\r\n\r\n";

    #[test]
    fn an_answer_is_complete_at_its_last_byte_and_no_sooner() {
        for (whole, status, keep_alive) in [(SIZED, 200, true), (CHUNKED, 502, false)] {
            for end in 0..whole.len() {
                assert_eq!(answer(&whole[..end]), Ok(None), "{end} of {} bytes", whole.len());
            }
            let more = [whole, b"HTTP/1.1 200"].concat();
            assert_eq!(answer(&more), Ok(Some(Answer { status, length: whole.len(), keep_alive })));
        }
    }

    #[test]
    fn an_answer_without_an_end_is_refused() {
        for bad in [
            b"HTTP/1.1 200 OK\r\n\r\n".as_slice(),
            b"HTTP/1.1 200 OK\r\ncontent-length: five\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n",
            b"SSH-2.0-x\r\n\r\n",
        ] {
            assert!(answer(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert_eq!(
            answer(b"HTTP/1.1 204 No Content\r\n\r\n").map(|found| found.map(|found| found.status)),
            Ok(Some(204))
        );
    }

    #[test]
    fn requests_are_told_apart() {
        let one = request(&Request {
            host: "a".into(),
            path: "/b?c".into(),
            fields: vec![("accept", "*/*".into())],
        });
        assert_eq!(one, b"GET /b?c HTTP/1.1\r\nhost: a\r\naccept: */*\r\n\r\n");
        assert_eq!(request_length(&one), Some(one.len()));
        assert_eq!(request_length(&one[..one.len() - 1]), None);
        assert_eq!(request_length(&[one.as_slice(), &one].concat()), Some(one.len()));
        assert_eq!(request_length(b"\r\n"), None);
    }
}
