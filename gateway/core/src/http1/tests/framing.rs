use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};

use crate::http1::{BadHead, Framing, ResponseHead, is_persistent, request_framing, response_framing};

const LENGTH: &str = "content-length";
const CODING: &str = "transfer-encoding";

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    let mut headers = HeaderMap::new();
    for (name, value) in fields.iter().map(field) {
        headers.append(name, value);
    }
    headers
}

#[test]
fn requests_end_where_they_say() {
    type Case = (&'static str, &'static [(&'static str, &'static str)], Framing, bool);
    let cases: &[Case] = &[
        ("nothing", &[], Framing::Empty, false),
        ("length", &[(LENGTH, "5")], Framing::Length(5), false),
        ("length of zero", &[(LENGTH, "0")], Framing::Length(0), false),
        ("greatest length", &[(LENGTH, "18446744073709551615")], Framing::Length(u64::MAX), false),
        ("leading zeros", &[(LENGTH, "0005")], Framing::Length(5), false),
        ("identical lines", &[(LENGTH, "5"), (LENGTH, "5")], Framing::Length(5), false),
        ("identical list", &[(LENGTH, "5, 5 ,5")], Framing::Length(5), false),
        ("identical lists in lines", &[(LENGTH, "5,5"), (LENGTH, "5")], Framing::Length(5), false),
        ("chunked", &[(CODING, "chunked")], Framing::Chunked, false),
        ("chunked in capitals", &[(CODING, "ChUnKeD")], Framing::Chunked, false),
        ("both", &[(CODING, "chunked"), (LENGTH, "5")], Framing::Chunked, true),
        ("both, other order", &[(LENGTH, "5"), (CODING, "chunked")], Framing::Chunked, true),
        ("both, bad length", &[(LENGTH, "x"), (LENGTH, "6"), (CODING, "chunked")], Framing::Chunked, true),
    ];
    for (name, fields, framing, close) in cases {
        let mut headers = headers(fields);
        let found = request_framing(Version::HTTP_11, &mut headers).unwrap();
        assert_eq!((found.framing, found.close), (*framing, *close), "{name}");
        let lengths: Vec<_> = headers.get_all(LENGTH).iter().collect();
        match framing {
            Framing::Length(length) => assert_eq!(lengths, [length.to_string().as_str()], "{name}"),
            _ => assert!(lengths.is_empty(), "{name}"),
        }
    }
}

#[test]
fn ambiguous_requests_are_refused() {
    use BadHead::{ContentLength, TransferEncoding, UnknownCoding};
    type Case = (&'static str, &'static [(&'static str, &'static str)], BadHead);
    let cases: &[Case] = &[
        ("differing lines", &[(LENGTH, "5"), (LENGTH, "6")], ContentLength),
        ("differing list", &[(LENGTH, "5, 6")], ContentLength),
        ("same number, other digits", &[(LENGTH, "5, 05")], ContentLength),
        ("empty element", &[(LENGTH, "5,")], ContentLength),
        ("leading empty element", &[(LENGTH, ",5")], ContentLength),
        ("empty length", &[(LENGTH, "")], ContentLength),
        ("empty beside a number", &[(LENGTH, ""), (LENGTH, "5")], ContentLength),
        ("plus", &[(LENGTH, "+5")], ContentLength),
        ("minus", &[(LENGTH, "-5")], ContentLength),
        ("minus zero", &[(LENGTH, "-0")], ContentLength),
        ("hexadecimal", &[(LENGTH, "0x5")], ContentLength),
        ("fraction", &[(LENGTH, "5.0")], ContentLength),
        ("blank inside", &[(LENGTH, "5 5")], ContentLength),
        ("underscore", &[(LENGTH, "1_0")], ContentLength),
        ("overflow", &[(LENGTH, "18446744073709551616")], ContentLength),
        ("overflow by far", &[(LENGTH, "99999999999999999999999999999999")], ContentLength),
        ("digits of another script", &[(LENGTH, "٥")], ContentLength),
        ("empty coding", &[(CODING, "")], TransferEncoding),
        ("empty coding beside a length", &[(CODING, ""), (LENGTH, "5")], TransferEncoding),
        ("identity", &[(CODING, "identity")], TransferEncoding),
        ("chunked is not last", &[(CODING, "chunked, gzip")], TransferEncoding),
        ("chunked is not last, in lines", &[(CODING, "chunked"), (CODING, "identity")], TransferEncoding),
        ("chunked twice", &[(CODING, "chunked, chunked")], TransferEncoding),
        ("chunked twice, in lines", &[(CODING, "chunked"), (CODING, "Chunked")], TransferEncoding),
        ("chunked twice around", &[(CODING, "chunked, gzip, chunked")], TransferEncoding),
        ("empty element before", &[(CODING, ",chunked")], TransferEncoding),
        ("empty element after", &[(CODING, "chunked,")], TransferEncoding),
        ("alike", &[(CODING, "xchunked")], TransferEncoding),
        ("in quotes", &[(CODING, "\"chunked\"")], TransferEncoding),
        ("with a parameter", &[(CODING, "chunked;a=b")], TransferEncoding),
        ("with a blank inside", &[(CODING, "chun ked")], TransferEncoding),
        ("coding that would be lost", &[(CODING, "gzip, chunked")], UnknownCoding),
        ("coding that would be lost, in lines", &[(CODING, "gzip"), (CODING, "chunked")], UnknownCoding),
        ("identity before", &[(CODING, "identity, chunked")], UnknownCoding),
    ];
    for (name, fields, bad) in cases {
        assert_eq!(request_framing(Version::HTTP_11, &mut headers(fields)), Err(*bad), "{name}");
    }
    for fields in [&[(CODING, "chunked")][..], &[(CODING, "gzip")], &[(CODING, "chunked"), (LENGTH, "5")]] {
        let found = request_framing(Version::HTTP_10, &mut headers(fields));
        assert_eq!(found, Err(BadHead::TransferEncodingInHttp10));
    }
}

fn answer(status: u16, version: Version, fields: &[(&'static str, &str)]) -> ResponseHead {
    let status = StatusCode::from_u16(status).unwrap();
    ResponseHead { status, reason: None, version, headers: headers(fields) }
}

#[test]
fn responses_end_where_they_say() {
    use Framing::{Chunked, Empty, Length, UntilClose};
    type Case = (&'static str, u16, &'static [(&'static str, &'static str)], Framing, bool);
    let cases: &[Case] = &[
        ("nothing", 200, &[], UntilClose, true),
        ("length", 200, &[(LENGTH, "5")], Length(5), false),
        ("length of an error", 500, &[(LENGTH, "5")], Length(5), false),
        ("length of 205", 205, &[(LENGTH, "0")], Length(0), false),
        ("identical lengths", 200, &[(LENGTH, "5, 5"), (LENGTH, "5")], Length(5), false),
        ("chunked", 200, &[(CODING, "chunked")], Chunked, false),
        ("chunked last, empty elements", 200, &[(CODING, ", chunked,")], Chunked, false),
        ("both", 200, &[(CODING, "chunked"), (LENGTH, "5")], Chunked, true),
        ("continue", 100, &[(LENGTH, "5")], Empty, false),
        ("early hints", 103, &[(CODING, "chunked")], Empty, false),
        ("switching protocols", 101, &[], Empty, false),
        ("no content", 204, &[(LENGTH, "5")], Empty, false),
        ("no content, chunked", 204, &[(CODING, "chunked")], Empty, false),
        ("not modified", 304, &[(LENGTH, "5")], Empty, false),
        ("not modified, nothing", 304, &[], Empty, false),
    ];
    for (name, status, fields, framing, close) in cases {
        let mut head = answer(*status, Version::HTTP_11, fields);
        let found = response_framing(false, &mut head).unwrap();
        assert_eq!((found.framing, found.close), (*framing, *close), "{name}");
        let keeps_length = matches!(framing, Length(_)) || (*status == 304 && !fields.is_empty());
        assert_eq!(head.headers.get_all(LENGTH).iter().count(), usize::from(keeps_length), "{name}");
    }
}

/// What they name would be lost on the way, with the field.
#[test]
fn responses_in_codings_nobody_asked_for_are_refused() {
    for coding in ["gzip, chunked", "chunked, gzip", "gzip", "identity"] {
        let mut head = answer(200, Version::HTTP_11, &[(CODING, coding), (LENGTH, "5")]);
        assert_eq!(response_framing(false, &mut head), Err(BadHead::UnknownCoding), "{coding}");
    }
}

#[test]
fn answers_to_head_have_no_body_and_keep_their_length() {
    for fields in [&[(LENGTH, "5")][..], &[(CODING, "chunked")], &[]] {
        let mut head = answer(200, Version::HTTP_11, fields);
        let found = response_framing(true, &mut head).unwrap();
        assert_eq!((found.framing, found.close), (Framing::Empty, false));
        assert_eq!(head.headers, headers(fields));
    }
}

#[test]
fn doubtful_responses_end_their_connection() {
    let mut head = answer(200, Version::HTTP_10, &[(CODING, "chunked"), ("connection", "keep-alive")]);
    let found = response_framing(false, &mut head).unwrap();
    assert_eq!((found.framing, found.close), (Framing::Chunked, true));
    let mut head = answer(200, Version::HTTP_11, &[(CODING, "chunked"), (LENGTH, "5")]);
    let found = response_framing(true, &mut head).unwrap();
    assert_eq!((found.framing, found.close), (Framing::Empty, true));
}

#[test]
fn bad_responses_are_refused() {
    let cases: &[(&[(&str, &str)], BadHead)] = &[
        (&[(LENGTH, "5, 6")], BadHead::ContentLength),
        (&[(LENGTH, "5"), (LENGTH, "6")], BadHead::ContentLength),
        (&[(LENGTH, "-1")], BadHead::ContentLength),
        (&[(LENGTH, "")], BadHead::ContentLength),
        (&[(CODING, "chunked, chunked")], BadHead::TransferEncoding),
    ];
    for (fields, bad) in cases {
        for (is_head, status) in [(false, 200), (true, 200), (false, 304)] {
            let mut head = answer(status, Version::HTTP_11, fields);
            assert_eq!(response_framing(is_head, &mut head), Err(*bad), "{fields:?} {status} {is_head}");
        }
    }
}

#[test]
fn connections_persist_by_version_and_connection() {
    let cases: &[(&[&str], bool, bool)] = &[
        (&[], true, false),
        (&["close"], false, false),
        (&["Close"], false, false),
        (&["keep-alive"], true, true),
        (&["Keep-Alive, Upgrade"], true, true),
        (&["upgrade"], true, false),
        (&["keep-alive, close"], false, false),
        (&["keep-alive", "x ,\tclose"], false, false),
        (&["closed"], true, false),
        (&[""], true, false),
    ];
    for (lines, http11, http10) in cases {
        let fields: Vec<_> = lines.iter().map(|line| ("connection", *line)).collect();
        assert_eq!(is_persistent(Version::HTTP_11, &headers(&fields)), *http11, "{lines:?}");
        assert_eq!(is_persistent(Version::HTTP_10, &headers(&fields)), *http10, "{lines:?}");
    }
}
