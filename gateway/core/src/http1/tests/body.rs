use bytes::BytesMut;
use proptest::prelude::*;

use crate::http1::{BadBody, Decoded, Decoder, Encoder, Framing};

/// What was decoded, whether it ended, and what stayed in the inbox.
type Read = Result<(Vec<u8>, bool, Vec<u8>), BadBody>;

/// Decodes pieces as a connection does: each time everything that can be had.
fn decode<'a>(framing: Framing, pieces: impl IntoIterator<Item = &'a [u8]>) -> Read {
    let (mut decoder, mut inbox, mut body) = (Decoder::new(framing), BytesMut::new(), Vec::new());
    for piece in pieces {
        inbox.extend_from_slice(piece);
        while let Decoded::Piece(piece) = decoder.decode(&mut inbox)? {
            assert!(!piece.is_empty());
            body.extend_from_slice(&piece);
        }
    }
    Ok((body, decoder.is_done(), inbox.to_vec()))
}

fn read(body: &[u8], done: bool, rest: &[u8]) -> Read {
    Ok((body.to_vec(), done, rest.to_vec()))
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

const NEXT: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

const CHUNKED: &[(&[u8], &[u8])] = &[
    (b"0\r\n\r\n", b""),
    (b"000\r\n\r\n", b""),
    (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
    (b"0000000000000003\r\nabc\r\n0\r\n\r\n", b"abc"),
    (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"01234567890123456789"),
    (b"2\r\n\r\n\r\n5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"\r\n0\r\n\r\n"),
    (b"3;a=b;c=\"d e\"\r\nabc\r\n0;x\r\n\r\n", b"abc"),
    (b"3 ;a\r\nabc\r\n0\t\r\n\r\n", b"abc"),
    (b"3   \r\nabc\r\n0  \r\n\r\n", b"abc"),
    (b"3;\xff\t\r\nabc\r\n0\r\n\r\n", b"abc"),
    (b"3\r\nabc\r\n0\r\nA: b\r\nx-y:\r\nTransfer-Encoding: chunked\r\n\r\n", b"abc"),
];

#[test]
fn chunked_bodies_do_not_depend_on_how_they_come() {
    for (coded, body) in CHUNKED {
        let all = [*coded, NEXT].concat();
        let whole = read(body, true, NEXT);
        assert_eq!(decode(Framing::Chunked, [&all[..]]), whole, "{}", text(coded));
        assert_eq!(decode(Framing::Chunked, all.chunks(1)), whole, "{}", text(coded));
        for at in 0..=all.len() {
            assert_eq!(decode(Framing::Chunked, [&all[..at], &all[at..]]), whole, "{} at {at}", text(coded));
        }
    }
}

#[test]
fn chunked_bodies_cut_short_are_truncated() {
    for (coded, _) in CHUNKED {
        for at in 0..coded.len() {
            let (mut decoder, mut inbox) = (Decoder::new(Framing::Chunked), BytesMut::from(&coded[..at]));
            while let Decoded::Piece(_) = decoder.decode(&mut inbox).unwrap() {}
            assert!(!decoder.is_done() && inbox.is_empty());
            assert_eq!(decoder.end_of_stream(), Err(BadBody::Truncated), "{} at {at}", text(coded));
        }
    }
}

#[test]
fn bad_chunks_are_refused() {
    use BadBody::{ChunkEnd, ChunkSize, Trailer};
    let cases: &[(&str, &[u8], BadBody)] = &[
        ("no size", b"\r\nabc", ChunkSize),
        ("extension without a size", b";a\r\n", ChunkSize),
        ("blank before a size", b" 3\r\nabc\r\n", ChunkSize),
        ("plus", b"+3\r\nabc\r\n", ChunkSize),
        ("minus", b"-1\r\n", ChunkSize),
        ("prefix 0x", b"0x3\r\nabc\r\n", ChunkSize),
        ("underscore", b"1_0\r\n", ChunkSize),
        ("no hexadecimal digit", b"g\r\n", ChunkSize),
        ("17 digits", b"00000000000000003\r\nabc\r\n", ChunkSize),
        ("overflow", b"10000000000000000\r\n", ChunkSize),
        ("two sizes", b"3 3\r\nabc\r\n", ChunkSize),
        ("bare LF after a size", b"3\nabc\r\n", ChunkSize),
        ("bare CR after a size", b"3\rabc\r\n", ChunkSize),
        ("CR CR LF after a size", b"3\r\r\nabc", ChunkSize),
        ("bare LF after an extension (TERM.EXT)", b"3;a\nabc\r\n", ChunkSize),
        ("bare LF hidden in an extension (EXT.TERM)", b"3;\n\r\nabc\r\n", ChunkSize),
        ("bare CR in an extension", b"3;a\rb\r\n", ChunkSize),
        ("NUL in an extension", b"3;\0\r\n", ChunkSize),
        ("bare LF after blanks", b"3 \nabc\r\n", ChunkSize),
        ("bare LF after the last size", b"0\n\r\n", ChunkSize),
        ("chunk too short", b"4\r\nabc\r\n0\r\n\r\n", ChunkEnd),
        ("chunk too long", b"2\r\nabc\r\n0\r\n\r\n", ChunkEnd),
        ("bare LF after a chunk", b"3\r\nabc\n0\r\n\r\n", ChunkEnd),
        ("bare CR after a chunk", b"3\r\nabc\r0\r\n\r\n", ChunkEnd),
        ("two bytes for CR LF (TERM.SPILL)", b"3\r\nabcXX0\r\n\r\n", ChunkEnd),
        ("no CR LF after a chunk", b"3\r\nabc0\r\n\r\n", ChunkEnd),
        ("bare LF for the end", b"0\r\n\n", Trailer),
        ("bare CR for the end", b"0\r\n\rG", Trailer),
        ("request for a trailer", b"0\r\nGET / HTTP/1.1\r\n\r\n", Trailer),
        ("trailer without a colon", b"0\r\nabc\r\n\r\n", Trailer),
        ("trailer without a name", b"0\r\n: a\r\n\r\n", Trailer),
        ("folded trailer", b"0\r\na: b\r\n c\r\n\r\n", Trailer),
        ("blank before the colon of a trailer", b"0\r\na : b\r\n\r\n", Trailer),
        ("bare LF after a trailer", b"0\r\na: b\n\r\n", Trailer),
        ("bare CR in a trailer", b"0\r\na: b\rc: d\r\n\r\n", Trailer),
        ("NUL in a trailer", b"0\r\na: \0\r\n\r\n", Trailer),
    ];
    for (name, coded, bad) in cases {
        assert_eq!(decode(Framing::Chunked, [*coded]), Err(*bad), "{name}");
        assert_eq!(decode(Framing::Chunked, coded.chunks(1)), Err(*bad), "{name}, byte by byte");
    }
}

#[test]
fn a_refused_body_stays_refused() {
    let (mut decoder, mut inbox) =
        (Decoder::new(Framing::Chunked), BytesMut::from(&b"3\r\nabcX\r\n0\r\n\r\n"[..]));
    assert!(matches!(decoder.decode(&mut inbox), Ok(Decoded::Piece(_))));
    for _ in 0..3 {
        assert_eq!(decoder.decode(&mut inbox), Err(BadBody::ChunkEnd));
        inbox.extend_from_slice(b"\r\n");
    }
    assert_eq!(decoder.end_of_stream(), Err(BadBody::Truncated));
}

#[test]
fn greatest_chunk_is_read_in_parts() {
    let mut inbox = BytesMut::from(&b"ffffffffffffffff\r\nabc"[..]);
    let mut decoder = Decoder::new(Framing::Chunked);
    assert_eq!(decoder.decode(&mut inbox), Ok(Decoded::Piece("abc".into())));
    assert_eq!(decoder.decode(&mut inbox), Ok(Decoded::More));
}

#[test]
fn bytes_around_chunks_are_bounded() {
    let long = |length: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "e".repeat(length - 1));
    assert_eq!(decode(Framing::Chunked, [long(16 * 1024).as_bytes()]), read(b"a", true, b""));
    assert_eq!(decode(Framing::Chunked, [long(16 * 1024 + 1).as_bytes()]), Err(BadBody::TooMuchAround));
    let many = |count: usize| format!("{}0\r\n\r\n", "1;e\r\na\r\n".repeat(count));
    assert!(decode(Framing::Chunked, [many(8 * 1024).as_bytes()]).is_ok());
    assert_eq!(decode(Framing::Chunked, [many(8 * 1024 + 1).as_bytes()]), Err(BadBody::TooMuchAround));
    let blanks = format!("1{}\r\n", " ".repeat(16 * 1024 + 1));
    assert_eq!(decode(Framing::Chunked, [blanks.as_bytes()]), Err(BadBody::TooMuchAround));
    let trailers = |count: usize| format!("1;e\r\na\r\n0\r\n{}\r\n", "a: bcd\r\n".repeat(count));
    assert_eq!(decode(Framing::Chunked, [trailers(2048).as_bytes()]), read(b"a", true, b""));
    assert_eq!(decode(Framing::Chunked, [trailers(2049).as_bytes()]), Err(BadBody::TooMuchAround));
    let name = format!("0\r\n{}", "a".repeat(16 * 1024 + 1));
    assert_eq!(decode(Framing::Chunked, [name.as_bytes()]), Err(BadBody::TooMuchAround));
}

#[test]
fn counted_bodies_leave_the_next_message() {
    let all = [b"hello", NEXT].concat();
    for at in 0..=all.len() {
        let pieces = [&all[..at], &all[at..]];
        assert_eq!(decode(Framing::Length(5), pieces), read(b"hello", true, NEXT), "{at}");
        for none in [Framing::Length(0), Framing::Empty] {
            assert_eq!(decode(none, pieces), read(b"", true, &all), "{at}");
        }
    }
}

#[test]
fn decoder_tells_pieces_more_and_end() {
    let (mut decoder, mut inbox) = (Decoder::new(Framing::Length(5)), BytesMut::from("abc"));
    assert_eq!(decoder.decode(&mut inbox), Ok(Decoded::Piece("abc".into())));
    assert_eq!(decoder.decode(&mut inbox), Ok(Decoded::More));
    assert_eq!(decoder.end_of_stream(), Err(BadBody::Truncated));
    inbox.extend_from_slice(b"defg");
    assert_eq!(decoder.decode(&mut inbox), Ok(Decoded::Piece("de".into())));
    assert!(decoder.is_done(), "with the last byte, not with the next call");
    assert_eq!(decoder.decode(&mut inbox), Ok(Decoded::End));
    assert_eq!((&inbox[..], decoder.end_of_stream()), (&b"fg"[..], Ok(())));
}

#[test]
fn body_until_close_ends_with_the_connection() {
    let (mut decoder, mut inbox) = (Decoder::new(Framing::UntilClose), BytesMut::from("abc"));
    assert_eq!(decoder.decode(&mut inbox), Ok(Decoded::Piece("abc".into())));
    assert_eq!(decoder.decode(&mut inbox), Ok(Decoded::More));
    assert!(!decoder.is_done());
    assert_eq!(decoder.end_of_stream(), Ok(()));
    assert_eq!(decoder.decode(&mut inbox), Ok(Decoded::End));
}

#[test]
fn pieces_are_no_copies() {
    let mut inbox = BytesMut::from(&b"3\r\nabc\r\n0\r\n\r\n"[..]);
    let place = inbox[3..].as_ptr();
    let Ok(Decoded::Piece(piece)) = Decoder::new(Framing::Chunked).decode(&mut inbox) else {
        panic!("a piece was there");
    };
    assert_eq!(piece.as_ptr(), place);
}

#[test]
fn chunks_are_framed_to_the_letter() {
    let mut encoder = Encoder::new(Framing::Chunked);
    for (length, line) in [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (0xabcde, "abcde\r\n"), (0, "")] {
        let (prefix, suffix) = encoder.piece(length).unwrap();
        assert_eq!((&prefix[..], suffix), (line.as_bytes(), if length > 0 { &b"\r\n"[..] } else { b"" }));
    }
    let (prefix, _) = encoder.piece(usize::MAX).unwrap();
    assert_eq!(prefix[..], *format!("{:x}\r\n", usize::MAX).as_bytes());
    assert_eq!(encoder.end(), Ok(&b"0\r\n\r\n"[..]));
    assert_eq!(encoder.end(), Ok(&b""[..]), "an end is said once");
    assert!(matches!(encoder.piece(1), Err(BadBody::TooLong)));
}

#[test]
fn announced_lengths_are_kept() {
    let mut encoder = Encoder::new(Framing::Length(5));
    assert!(encoder.piece(3).unwrap().0.is_empty());
    assert_eq!(encoder.end(), Err(BadBody::Truncated));
    assert!(matches!(encoder.piece(3), Err(BadBody::TooLong)));
    assert_eq!(encoder.piece(2).unwrap().1, b"");
    assert_eq!(encoder.end(), Ok(&b""[..]));
    assert!(matches!(Encoder::new(Framing::Empty).piece(1), Err(BadBody::TooLong)));
    let mut encoder = Encoder::new(Framing::UntilClose);
    assert!(encoder.piece(usize::MAX).unwrap().0.is_empty());
    assert_eq!(encoder.end(), Ok(&b""[..]));
}

fn encode(pieces: &[Vec<u8>]) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::new(Framing::Chunked), Vec::new());
    for piece in pieces {
        let (prefix, suffix) = encoder.piece(piece.len()).unwrap();
        out.extend_from_slice(&prefix);
        out.extend_from_slice(piece);
        out.extend_from_slice(suffix);
    }
    out.extend_from_slice(encoder.end().unwrap());
    out
}

/// Cuts `bytes` into pieces of these lengths, over and over.
fn cut<'a>(mut bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at((*length).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
        lengths in prop::collection::vec(1..64_usize, 1..6),
    ) {
        let all = [&encode(&pieces)[..], NEXT].concat();
        prop_assert_eq!(decode(Framing::Chunked, cut(&all, &lengths)), read(&pieces.concat(), true, NEXT));
    }

    #[test]
    fn mutated_bodies_are_read_the_same_in_any_pieces(
        which in 0..CHUNKED.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        lengths in prop::collection::vec(1..8_usize, 1..6),
    ) {
        let mut coded = CHUNKED[which].0.to_vec();
        for (at, byte) in changes {
            let at = at.index(coded.len());
            coded[at] = byte;
        }
        let all = [&coded[..], NEXT].concat();
        let whole = decode(Framing::Chunked, [&all[..]]);
        prop_assert_eq!(&decode(Framing::Chunked, cut(&all, &lengths)), &whole);
        if let Ok((_, true, rest)) = whole {
            prop_assert!(all.ends_with(&rest));
            prop_assert!(all[..all.len() - rest.len()].ends_with(b"\r\n"), "a body ends with its own CR LF");
        }
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), length in any::<u64>()) {
        for framing in [Framing::Empty, Framing::Length(length), Framing::Chunked, Framing::UntilClose] {
            let _ = decode(framing, [&bytes[..]]);
        }
    }
}
