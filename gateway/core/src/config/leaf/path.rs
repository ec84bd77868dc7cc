//! Paths in URLs, as routes write them.

use crate::config::decode::Fault;

/// A path as requests have it after normalisation; what no request can have is refused.
pub(super) fn url_path(text: &str) -> Result<String, Fault> {
    let fault = |message: &str| Fault::new(format!("`{text}` {message}"));
    let strange = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '\\');
    match text {
        _ if !text.starts_with('/') => Err(fault("does not begin with `/`").help(format!("write `/{text}`"))),
        _ if text.contains(strange) => Err(fault("is not a path: it holds a space, `?`, `#` or `\\`")),
        _ if text.contains("//") => Err(fault("holds `//`, which no request has after normalisation")),
        _ if text.split('/').any(|segment| matches!(segment, "." | "..")) => {
            Err(fault("holds `.` or `..`, which no request has after normalisation"))
        }
        _ => normal_encoding(text).map_err(fault),
    }
}

/// The path as requests have it after normalisation: characters that need no encoding stand bare, others in capitals
/// (RFC 3986 §6.2.2).
fn normal_encoding(text: &str) -> Result<String, &'static str> {
    let mut path = String::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let (byte, encoded) = match byte {
            b'%' => (
                hex_pair(bytes.next(), bytes.next())
                    .ok_or("has a `%` that is not followed by two hex digits")?,
                true,
            ),
            _ => (byte, !byte.is_ascii()),
        };
        match byte {
            b'/' | 0 if encoded => return Err("holds an encoded `/` or NUL, which is always refused"),
            b if !encoded || b.is_ascii_alphanumeric() || b"-._~".contains(&b) => path.push(char::from(b)),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(path)
}

fn hex_pair(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_as_requests_have_them() {
        assert_eq!(url_path("/%7euser/%c3%bc").ok().as_deref(), Some("/~user/%C3%BC"));
        assert_eq!(url_path("/ü").ok().as_deref(), Some("/%C3%BC"));
        assert_eq!(url_path("/a:b@c;d=1").ok().as_deref(), Some("/a:b@c;d=1"));
        for path in ["/%", "/%4", "/%zz", "/%2f", "/%00", "a", "", "/a/./b"] {
            assert!(url_path(path).is_err(), "{path}");
        }
    }
}
