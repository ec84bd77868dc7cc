use bytes::BytesMut;
use http::{Method, StatusCode, Version};
use proptest::prelude::*;

use crate::http1::{
    BadHead, HeadReader, MOST_FIELDS, RequestHead, ResponseHead, write_request, write_response,
};

fn request(text: impl AsRef<[u8]>) -> Result<Option<RequestHead>, BadHead> {
    HeadReader::default().request(&mut BytesMut::from(text.as_ref()), 64)
}

fn response(text: impl AsRef<[u8]>) -> Result<Option<ResponseHead>, BadHead> {
    HeadReader::default().response(&mut BytesMut::from(text.as_ref()), 64)
}

/// Feeds the pieces one by one, as a connection does, and gives what came and what was left over.
fn request_from<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Result<Option<RequestHead>, BadHead>, BytesMut) {
    let (mut reader, mut inbox) = (HeadReader::default(), BytesMut::new());
    let mut read = Ok(None);
    for piece in pieces {
        inbox.extend_from_slice(piece);
        if read == Ok(None) {
            read = reader.request(&mut inbox, 64);
        }
    }
    (read, inbox)
}

fn response_from<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Result<Option<ResponseHead>, BadHead>, BytesMut) {
    let (mut reader, mut inbox) = (HeadReader::default(), BytesMut::new());
    let mut read = Ok(None);
    for piece in pieces {
        inbox.extend_from_slice(piece);
        if read == Ok(None) {
            read = reader.response(&mut inbox, 64);
        }
    }
    (read, inbox)
}

const REQUESTS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET /a?b=c HTTP/1.0\r\nHost: example.com\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHOST: a\r\nContent-Length: 3\r\nAccept: */*\r\nX-Empty:\r\nX-Blank:  \t \r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
    b"\r\nGET / HTTP/1.1\r\nHost:a\r\n\r\n",
    b"\r\n\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET / HTTP/1.1\r\nHost: a\n\r\nnext",
    b"GET / HTTP/1.1\nHost: a\r\n\nnext",
    b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: a\r\nX: \xff\x80 y\r\n\r\n",
    b"GET /caf\xe9?\xff HTTP/1.1\r\nHost: a\r\nX: \xff\x80 y\r\n\r\n",
    b"M-SEARCH * HTTP/1.1\r\nA: 1\r\na: 2\r\n\r\n",
    b"GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n",
];

const RESPONSES: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 \r\nServer : x\r\nA\t:b\r\n\r\nbody",
    b"HTTP/1.0 404 Nothing Here\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 299 caf\xe9\nA: b\n\n",
];

#[test]
fn request_has_what_was_sent() {
    let text =
        b"POST /x?y HTTP/1.1\r\nHost: a\r\nX-One:  1 \t\r\nCookie: a\r\ncookie: b\r\nx-none:\r\n\r\nbody";
    let mut inbox = BytesMut::from(&text[..]);
    let head = HeadReader::default().request(&mut inbox, 64).unwrap().unwrap();
    assert_eq!(head.method, Method::POST);
    assert_eq!(head.target, "/x?y");
    assert_eq!(head.version, Version::HTTP_11);
    assert_eq!(head.bytes, text.len() - 4);
    assert_eq!(&inbox[..], b"body");
    let fields: Vec<_> = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let expected: [(&str, &[u8]); 5] =
        [("host", b"a"), ("x-one", b"1"), ("cookie", b"a"), ("cookie", b"b"), ("x-none", b"")];
    assert_eq!(fields, expected);
}

#[test]
fn names_are_the_same_however_they_are_written() {
    let names = [
        "Accept",
        "Accept-Encoding",
        "Accept-Language",
        "Authorization",
        "Cache-Control",
        "Connection",
        "Content-Encoding",
        "Content-Length",
        "Content-Type",
        "Cookie",
        "Date",
        "ETag",
        "Host",
        "Last-Modified",
        "Location",
        "Origin",
        "Referer",
        "Server",
        "Set-Cookie",
        "Transfer-Encoding",
        "User-Agent",
        "Vary",
        "X-Own",
        "Hos",
        "Hostt",
    ];
    for name in names {
        for written in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
            let head = request(format!("GET / HTTP/1.1\r\n{written}: a\r\n\r\n")).unwrap().unwrap();
            assert_eq!(head.headers.keys().collect::<Vec<_>>(), [name.to_lowercase().as_str()], "{written}");
            assert_eq!(head.headers[name], "a");
        }
    }
}

#[test]
fn target_is_taken_raw() {
    for target in [&b"/caf\xc3\xa9"[..], b"/caf\xe9", b"/%zz\"<>\\^`{|}", b"/\xff\xfe\x80", b"*", b"x"] {
        let text = [b"GET ", target, b" HTTP/1.1\r\nX: \xe9\r\n\r\n"].concat();
        let head = request(&text).unwrap().unwrap();
        assert_eq!(head.target, target);
        assert_eq!(head.headers["x"].as_bytes(), b"\xe9", "only the target was masked");
        assert_eq!(head.bytes, text.len());
    }
}

#[test]
fn values_are_slices_of_the_inbox() {
    let mut inbox = BytesMut::from(&b"GET /target HTTP/1.1\r\nHost: example.com\r\n\r\n"[..]);
    let places = inbox.as_ptr().addr()..inbox.as_ptr().addr() + inbox.len();
    let head = HeadReader::default().request(&mut inbox, 64).unwrap().unwrap();
    assert!(places.contains(&head.target.as_ptr().addr()));
    assert!(places.contains(&head.headers["host"].as_bytes().as_ptr().addr()));
}

#[test]
fn bad_requests_are_refused() {
    let cases: &[(&str, &[u8])] = &[
        ("HTTP/0.9", b"GET /\r\n\r\n"),
        ("HTTP/2.0 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("higher minor version", b"GET / HTTP/1.2\r\n\r\n"),
        ("version in lower case", b"GET / http/1.1\r\n\r\n"),
        ("version with more digits", b"GET / HTTP/1.10\r\n\r\n"),
        ("no target", b"GET  HTTP/1.1\r\n\r\n"),
        ("two blanks before the target", b"GET  / HTTP/1.1\r\n\r\n"),
        ("two blanks before the version", b"GET /  HTTP/1.1\r\n\r\n"),
        ("blank in the target", b"GET /a b HTTP/1.1\r\n\r\n"),
        ("tab in the target", b"GET /a\tb HTTP/1.1\r\n\r\n"),
        ("tab for a blank", b"GET\t/ HTTP/1.1\r\n\r\n"),
        ("control character in the target", b"GET /\x01 HTTP/1.1\r\n\r\n"),
        ("control character in an obs-text target", b"GET /\xe9\x01 HTTP/1.1\r\n\r\n"),
        ("blank in an obs-text target", b"GET /\xe9 /\xe9 HTTP/1.1\r\n\r\n"),
        ("DEL in the target", b"GET /\x7f HTTP/1.1\r\n\r\n"),
        ("NUL in the target", b"GET /\0 HTTP/1.1\r\n\r\n"),
        ("blank after the version", b"GET / HTTP/1.1 \r\n\r\n"),
        ("leading blank", b" GET / HTTP/1.1\r\n\r\n"),
        ("method not a token", b"G(T / HTTP/1.1\r\n\r\n"),
        ("method not ASCII", b"G\xe9T / HTTP/1.1\r\n\r\n"),
        ("version not ASCII", b"GET / HTTP/1.\xe9\r\n\r\n"),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00"),
        ("bare CR ends the request line", b"GET / HTTP/1.1\rHost: a\r\n\r\n"),
        ("bare CR before the head", b"\rGET / HTTP/1.1\r\n\r\n"),
        ("bare CR ends a field", b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n"),
        ("bare CR in a value", b"GET / HTTP/1.1\r\nHost: a\r \r\n\r\n"),
        ("CR CR LF", b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"),
        ("bare CR for the blank line", b"GET / HTTP/1.1\r\nHost: a\r\n\rX: y\r\n\r\n"),
        ("blank before the colon", b"GET / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n"),
        ("tab before the colon", b"GET / HTTP/1.1\r\nTransfer-Encoding\t: chunked\r\n\r\n"),
        ("vertical tab before a value", b"GET / HTTP/1.1\r\nTransfer-Encoding:\x0bchunked\r\n\r\n"),
        ("folded line", b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n"),
        ("folded Transfer-Encoding", b"GET / HTTP/1.1\r\nTransfer-Encoding:\r\n chunked\r\n\r\n"),
        ("blank before the first field", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
        ("no colon", b"GET / HTTP/1.1\r\nHost\r\n\r\n"),
        ("no name", b"GET / HTTP/1.1\r\n: a\r\n\r\n"),
        ("blank in a name", b"GET / HTTP/1.1\r\nContent Length: 5\r\n\r\n"),
        ("obs-text in a name", b"GET / HTTP/1.1\r\nContent-Length\xff: 5\r\n\r\n"),
        ("NUL in a name", b"GET / HTTP/1.1\r\nHo\0st: 5\r\n\r\n"),
        ("NUL in a value", b"GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n"),
        ("DEL in a value", b"GET / HTTP/1.1\r\nHost: a\x7f\r\n\r\n"),
        (
            "escape in a long value",
            b"GET / HTTP/1.1\r\nX: 0123456789012345678901234567890123456789\x1b\r\n\r\n",
        ),
        ("endless empty lines", b"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
    ];
    for (name, text) in cases {
        assert_eq!(request(text), Err(BadHead::Syntax), "{name}");
        let bytewise = request_from(text.chunks(1)).0;
        assert_eq!(bytewise, Err(BadHead::Syntax), "{name}, byte by byte");
    }
}

#[test]
fn bad_responses_are_refused() {
    let cases: &[(&str, &[u8])] = &[
        ("HTTP/2", b"HTTP/2 200 OK\r\n\r\n"),
        ("higher minor version", b"HTTP/1.2 200 OK\r\n\r\n"),
        ("status below 100", b"HTTP/1.1 099 OK\r\n\r\n"),
        ("status of two digits", b"HTTP/1.1 20 OK\r\n\r\n"),
        ("status of four digits", b"HTTP/1.1 2000 OK\r\n\r\n"),
        ("signed status", b"HTTP/1.1 +20 OK\r\n\r\n"),
        ("two blanks", b"HTTP/1.1  200 OK\r\n\r\n"),
        ("bare CR after the reason", b"HTTP/1.1 200 OK\rA: b\r\n\r\n"),
        ("NUL in the reason", b"HTTP/1.1 200 O\0K\r\n\r\n"),
        ("folded line", b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"),
        ("blank in a name", b"HTTP/1.1 200 OK\r\nA b: c\r\n\r\n"),
        ("no colon", b"HTTP/1.1 200 OK\r\nA\r\n\r\n"),
        ("a body that nobody asked for", b"<html></html>\r\n\r\n"),
    ];
    for (name, text) in cases {
        assert_eq!(response(text), Err(BadHead::Syntax), "{name}");
        assert_eq!(response_from(text.chunks(1)).0, Err(BadHead::Syntax), "{name}, byte by byte");
    }
}

#[test]
fn response_has_what_was_sent() {
    let head = response("HTTP/1.1 200 OK\r\nServer : x\r\n\r\n").unwrap().unwrap();
    assert_eq!((head.status, head.reason, head.version), (StatusCode::OK, None, Version::HTTP_11));
    assert_eq!(head.headers["server"], "x", "blanks before the colon are gone");
    let reasons: &[(&[u8], Option<&[u8]>)] = &[
        (b"HTTP/1.1 200 Fine\r\n\r\n", Some(b"Fine")),
        (b"HTTP/1.1 200 ok\r\n\r\n", Some(b"ok")),
        (b"HTTP/1.1 200 \r\n\r\n", None),
        (b"HTTP/1.1 200\r\n\r\n", None),
        (b"HTTP/1.1 299 Mine\r\n\r\n", Some(b"Mine")),
        (b"HTTP/1.1 299 caf\xe9\r\n\r\n", None),
    ];
    for (text, reason) in reasons {
        assert_eq!(response(text).unwrap().unwrap().reason.as_deref(), *reason);
    }
}

#[test]
fn fields_are_counted() {
    let text = |fields: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(fields));
    let read =
        |fields, most| HeadReader::default().request(&mut BytesMut::from(text(fields).as_bytes()), most);
    assert_eq!(read(8, 8).unwrap().unwrap().headers.len(), 8);
    assert_eq!(read(9, 8), Err(BadHead::TooManyFields));
    assert_eq!(read(1, 0), Err(BadHead::TooManyFields));
    assert_eq!(read(MOST_FIELDS, usize::MAX).unwrap().unwrap().headers.len(), MOST_FIELDS);
    assert_eq!(read(MOST_FIELDS + 1, usize::MAX), Err(BadHead::TooManyFields));
    let response = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(9));
    assert_eq!(
        HeadReader::default().response(&mut BytesMut::from(response.as_bytes()), 8),
        Err(BadHead::TooManyFields)
    );
}

#[test]
fn a_name_of_any_length_is_no_panic() {
    let text = format!("GET / HTTP/1.1\r\n{}: a\r\n\r\n", "a".repeat(70_000));
    assert_eq!(request(text), Err(BadHead::Syntax));
}

#[test]
fn heads_do_not_depend_on_how_they_come() {
    for text in REQUESTS {
        let whole = request_from([*text]);
        assert!(matches!(whole.0, Ok(Some(_))), "{:?}", text.escape_ascii().to_string());
        assert_eq!(request_from(text.chunks(1)), whole);
        for at in 0..=text.len() {
            assert_eq!(request_from([&text[..at], &text[at..]]), whole, "{} at {at}", text.escape_ascii());
        }
    }
    for text in RESPONSES {
        let whole = response_from([*text]);
        assert!(matches!(whole.0, Ok(Some(_))), "{:?}", text.escape_ascii().to_string());
        assert_eq!(response_from(text.chunks(1)), whole);
        for at in 0..=text.len() {
            assert_eq!(response_from([&text[..at], &text[at..]]), whole, "{} at {at}", text.escape_ascii());
        }
    }
}

#[test]
fn every_head_that_is_cut_short_waits() {
    for text in REQUESTS {
        let length = text.len() - request_from([*text]).1.len();
        for at in 0..length {
            assert_eq!(request(&text[..at]), Ok(None), "{} at {at}", text.escape_ascii());
        }
    }
}

#[test]
fn one_reader_reads_head_after_head() {
    let mut inbox = BytesMut::from(&b"GET /1 HTTP/1.1\r\n\r\n\r\nGET /2 HTTP/1.1\r\n\r\nGET /3"[..]);
    let mut reader = HeadReader::default();
    assert_eq!(reader.request(&mut inbox, 64).unwrap().unwrap().target, "/1");
    assert_eq!(reader.request(&mut inbox, 64).unwrap().unwrap().target, "/2");
    assert_eq!(reader.request(&mut inbox, 64), Ok(None));
    inbox.extend_from_slice(b" HTTP/1.1\r\n\r\n");
    assert_eq!(reader.request(&mut inbox, 64).unwrap().unwrap().target, "/3");
    assert!(inbox.is_empty());
}

#[test]
fn what_is_written_reads_the_same() {
    for text in REQUESTS {
        let head = request(text).unwrap().unwrap();
        let mut out = Vec::new();
        write_request(&mut out, &head.method, &head.target, &head.headers);
        let again = request(&out).unwrap().unwrap();
        assert_eq!((again.method, again.target, again.headers), (head.method, head.target, head.headers));
        assert_eq!((again.version, again.bytes), (Version::HTTP_11, out.len()));
    }
    for text in RESPONSES {
        let head = response(text).unwrap().unwrap();
        let mut out = Vec::new();
        write_response(&mut out, head.status, head.reason.as_deref(), &head.headers);
        assert_eq!(response(&out).unwrap().unwrap(), ResponseHead { version: Version::HTTP_11, ..head });
    }
}

#[test]
fn heads_are_written_to_the_letter() {
    let head = request("GET /x HTTP/1.0\r\nHost: a\r\nX-Y: 1\r\nx-y: 2\r\nZ:\r\n\r\n").unwrap().unwrap();
    let mut out = b"before".to_vec();
    write_request(&mut out, &head.method, &head.target, &head.headers);
    assert_eq!(
        out.escape_ascii().to_string(),
        r"beforeGET /x HTTP/1.1\r\nhost: a\r\nx-y: 1\r\nx-y: 2\r\nz: \r\n\r\n"
    );
    for (status, reason, line) in [
        (StatusCode::NOT_FOUND, None, "HTTP/1.1 404 Not Found\r\n\r\n"),
        (StatusCode::OK, Some(&b"Fine"[..]), "HTTP/1.1 200 Fine\r\n\r\n"),
        (StatusCode::from_u16(299).unwrap(), None, "HTTP/1.1 299 \r\n\r\n"),
    ] {
        let mut out = Vec::new();
        write_response(&mut out, status, reason, &Default::default());
        assert_eq!(out, line.as_bytes());
    }
}

proptest! {
    #[test]
    fn mutated_heads_are_never_read_otherwise_in_pieces(
        which in 0..REQUESTS.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut text = REQUESTS[which].to_vec();
        for (at, byte) in changes {
            let at = at.index(text.len());
            text[at] = byte;
        }
        let (whole, rest) = request_from([&text[..]]);
        let (before, after) = text.split_at(cut.index(text.len()));
        let (split, split_rest) = request_from([before, after]);
        // A fault in bytes that come later may be seen only when the bytes have doubled or the head is complete.
        prop_assert!(split == whole || (whole.is_err() && split == Ok(None)), "{:?} and {:?}", split, whole);
        if let Ok(Some(head)) = whole {
            prop_assert_eq!(&rest, &split_rest);
            prop_assert!(text.ends_with(&rest));
            prop_assert!(text[..text.len() - rest.len()].ends_with(b"\n"));
            prop_assert!(head.target.iter().all(|byte| *byte > b' ' && *byte != 0x7f));
            prop_assert!(head.bytes + rest.len() <= text.len());
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = request(&text);
        let _ = response(&text);
        let _ = request_from(text.chunks(1));
        let _ = response_from(text.chunks(3));
    }
}
