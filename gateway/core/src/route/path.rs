//! One spelling for each path, so that what is matched, allowed and limited is what the backend receives.

use std::borrow::Cow;

/// Why a path is answered with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum InvalidPath {
    /// It does not begin with `/`.
    #[error("the path does not begin with `/`")]
    NotAbsolute,
    /// `%` without two hexadecimal digits (RFC 3986 §2.1).
    #[error("`%` is not followed by two hexadecimal digits")]
    PercentEncoding,
    /// `%2F`, `%5C` or `\`: some backends would read another path than the one that was matched.
    #[error("the path holds an encoded slash or a backslash")]
    EncodedSlash,
    /// A control character, NUL included, plain or encoded.
    #[error("the path holds a control character")]
    Control,
}

/// Brings a path into its one normal spelling. Borrowed, after one scan, when it already has it.
///
/// `path` is the raw path of a request target, without query. Encoded unreserved characters are decoded and hexadecimal
/// digits upper-cased (RFC 3986 §6.2.2), `//` is merged, then `.` and `..` are resolved (§5.2.4), `..` above the root
/// staying there; what a path may not hold plainly (spaces, quotes, bytes above ASCII) is encoded. The empty path is
/// `/`. The result is ASCII, begins with `/`, and is its own normal spelling.
///
/// Targets that are no path (`*` of OPTIONS, the authority of CONNECT) are for the caller to tell apart beforehand; here
/// they are [`InvalidPath::NotAbsolute`].
///
/// # Errors
/// [`InvalidPath`] for what has no safe reading.
pub fn normalise(path: &[u8]) -> Result<Cow<'_, str>, InvalidPath> {
    match path {
        [] => return Ok(Cow::Borrowed("/")),
        [b'/', ..] => {}
        _ => return Err(InvalidPath::NotAbsolute),
    }
    let normal = normal_bytes(path);
    if normal == path.len()
        && let Ok(path) = std::str::from_utf8(path)
    {
        return Ok(Cow::Borrowed(path));
    }
    rewrite(path, normal).map(Cow::Owned)
}

/// What a byte is in a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Byte {
    /// Unreserved (RFC 3986 §2.3): never needs encoding.
    Unreserved,
    /// Allowed plainly, and not the same when encoded.
    Reserved,
    Slash,
    Backslash,
    Percent,
    Control,
    /// Allowed only in its encoded form.
    Other,
}

const BYTES: [Byte; 256] = {
    let mut table = [Byte::Other; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => Byte::Unreserved,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@' => {
                Byte::Reserved
            }
            b'/' => Byte::Slash,
            b'\\' => Byte::Backslash,
            b'%' => Byte::Percent,
            0..=0x1f | 0x7f => Byte::Control,
            _ => Byte::Other,
        };
        byte += 1;
    }
    table
};

fn kind(byte: u8) -> Byte {
    BYTES[usize::from(byte)]
}

/// How many leading bytes are already spelled normally; all of them for a normal path.
fn normal_bytes(path: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        at += match kind(byte) {
            Byte::Unreserved | Byte::Reserved => 1,
            Byte::Slash if !is_empty_or_dots(&path[at + 1..]) => 1,
            Byte::Percent if is_normal_triplet(&path[at..]) => 3,
            _ => return at,
        };
    }
    at
}

/// Whether the first segment of `rest` is empty, though not the last, or `.`, or `..`.
fn is_empty_or_dots(rest: &[u8]) -> bool {
    matches!(rest, [b'/', ..] | [b'.'] | [b'.', b'/', ..] | [b'.', b'.'] | [b'.', b'.', b'/', ..])
}

fn is_normal_triplet(rest: &[u8]) -> bool {
    let upper = |digit: u8| matches!(digit, b'0'..=b'9' | b'A'..=b'F');
    match *rest {
        [b'%', high, low, ..] if upper(high) && upper(low) => {
            matches!(decode(high, low).map(kind), Ok(Byte::Reserved | Byte::Other | Byte::Percent))
        }
        _ => false,
    }
}

/// The rest of the work, once `normal` leading bytes are known to be right.
fn rewrite(path: &[u8], normal: usize) -> Result<String, InvalidPath> {
    let mut out = String::with_capacity(path.len() + 8);
    // The first byte is `/`, so there is one to go back to.
    out.push('/');
    out.extend(path[1..normal.max(1)].iter().map(|&byte| char::from(byte)));
    let mut rest = &path[normal.max(1)..];
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match kind(*byte) {
            Byte::Unreserved | Byte::Reserved => out.push(char::from(*byte)),
            Byte::Slash => end_segment(&mut out, true),
            Byte::Backslash => return Err(InvalidPath::EncodedSlash),
            Byte::Control => return Err(InvalidPath::Control),
            Byte::Other => encode(&mut out, *byte),
            Byte::Percent => {
                let [high, low, tail @ ..] = tail else { return Err(InvalidPath::PercentEncoding) };
                push_decoded(&mut out, decode(*high, *low)?)?;
                rest = tail;
            }
        }
    }
    end_segment(&mut out, false);
    Ok(out)
}

fn push_decoded(out: &mut String, byte: u8) -> Result<(), InvalidPath> {
    match kind(byte) {
        Byte::Unreserved => out.push(char::from(byte)),
        Byte::Slash | Byte::Backslash => return Err(InvalidPath::EncodedSlash),
        Byte::Control => return Err(InvalidPath::Control),
        Byte::Reserved | Byte::Percent | Byte::Other => encode(out, byte),
    }
    Ok(())
}

/// Resolves the last segment of `out` if it is made of dots; with `slash`, begins the next one.
fn end_segment(out: &mut String, slash: bool) {
    let start = out.rfind('/').map_or(0, |slash| slash + 1);
    match &out[start..] {
        "." => out.truncate(start),
        ".." => {
            let parent = out[..start - 1].rfind('/').map_or(start, |slash| slash + 1);
            out.truncate(parent);
        }
        "" => {}
        _ if slash => out.push('/'),
        _ => {}
    }
}

fn encode(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

fn decode(high: u8, low: u8) -> Result<u8, InvalidPath> {
    match (char::from(high).to_digit(16), char::from(low).to_digit(16)) {
        (Some(high), Some(low)) => Ok((high * 16 + low) as u8),
        _ => Err(InvalidPath::PercentEncoding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normal(path: &str) -> String {
        normalise(path.as_bytes()).expect("a good path").into_owned()
    }

    #[test]
    fn a_normal_path_is_borrowed() {
        for path in ["/", "/api/x", "/a%20b/%C3%BC", "/.well-known/..x", "/a/", "/a;b=c,d@e:f", "/%25"] {
            assert!(matches!(normalise(path.as_bytes()), Ok(Cow::Borrowed(same)) if same == path), "{path}");
        }
    }

    #[test]
    fn dots_are_resolved_and_never_leave_the_root() {
        for (path, expected) in [
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/..", "/"),
            ("/../../etc", "/etc"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/mid/content=5/../6", "/mid/6"),
        ] {
            assert_eq!(normal(path), expected, "{path}");
        }
    }

    #[test]
    fn slashes_are_merged_before_dots_are_resolved() {
        assert_eq!(normal("//a///b//"), "/a/b/");
        assert_eq!(normal("/a//../b"), "/b");
    }

    #[test]
    fn each_character_has_one_spelling() {
        assert_eq!(normal("/%61%7e%5f"), "/a~_");
        assert_eq!(normal("/%3a%c3%bc"), "/%3A%C3%BC");
        assert_eq!(normal("/straße {x}"), "/stra%C3%9Fe%20%7Bx%7D");
        assert_eq!(normal("/%252e"), "/%252e");
        assert_eq!(normal(""), "/");
    }

    #[test]
    fn what_backends_read_differently_is_refused() {
        for (path, why) in [
            ("*", InvalidPath::NotAbsolute),
            ("a/b", InvalidPath::NotAbsolute),
            ("/a%2Fb", InvalidPath::EncodedSlash),
            ("/a%2f..%2fb", InvalidPath::EncodedSlash),
            ("/a%5Cb", InvalidPath::EncodedSlash),
            ("/a\\b", InvalidPath::EncodedSlash),
            ("/a%00", InvalidPath::Control),
            ("/a%0d%0ab", InvalidPath::Control),
            ("/a\0", InvalidPath::Control),
            ("/a\u{7f}", InvalidPath::Control),
            ("/a%", InvalidPath::PercentEncoding),
            ("/a%4", InvalidPath::PercentEncoding),
            ("/a%zz", InvalidPath::PercentEncoding),
            ("/a%+1", InvalidPath::PercentEncoding),
        ] {
            assert_eq!(normalise(path.as_bytes()), Err(why), "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_normal_path_or_an_error(path in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(once) = normalise(&path) {
                prop_assert!(once.starts_with('/') && once.is_ascii());
            }
        }

        #[test]
        fn normalising_twice_changes_nothing(path in "/([./%2eEfF5cC0-9aä ]|%2[eE]|%[4-7][0-9a-fA-F]){0,24}") {
            if let Ok(once) = normalise(path.as_bytes()) {
                prop_assert!(!once.contains("//"));
                prop_assert!(!once.split('/').any(|segment| segment == "." || segment == ".."));
                prop_assert!(matches!(normalise(once.as_bytes()), Ok(Cow::Borrowed(twice)) if twice == once));
            }
        }
    }
}
