//! The parameters of a query, read in place.

use std::borrow::Cow;

/// A name and value of a query, as sent: still percent-encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter<'a> {
    name: &'a str,
    value: &'a str,
}

/// The parameters of `query` (what follows `?`), in order. Allocates nothing.
///
/// They are parted by `&`; one without `=` has an empty value. `+` means itself, as in RFC 3986: only forms read it as
/// a space.
pub fn parameters(query: &str) -> impl Iterator<Item = Parameter<'_>> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Parameter { name, value }
    })
}

impl<'a> Parameter<'a> {
    /// Whether the decoded name is `name`. Allocates nothing.
    pub fn is_named(&self, name: &str) -> bool {
        decoded_is(self.name, name)
    }

    /// Whether the decoded value is `value`. Allocates nothing.
    pub fn has_value(&self, value: &str) -> bool {
        decoded_is(self.value, value)
    }

    /// The decoded value; borrowed unless something was encoded. Bytes that are not UTF-8 become `U+FFFD`.
    pub fn value(&self) -> Cow<'a, str> {
        if !self.value.contains('%') {
            return Cow::Borrowed(self.value);
        }
        let bytes: Vec<u8> = decoded(self.value).collect();
        Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn decoded_is(raw: &str, text: &str) -> bool {
    if raw.contains('%') { decoded(raw).eq(text.bytes()) } else { raw == text }
}

/// Percent-decoding; a `%` that begins no triplet means itself.
fn decoded(raw: &str) -> impl Iterator<Item = u8> {
    let mut rest = raw.as_bytes();
    std::iter::from_fn(move || {
        let (&byte, tail) = rest.split_first()?;
        if let [b'%', high, low, after @ ..] = rest
            && let Some(high) = char::from(*high).to_digit(16)
            && let Some(low) = char::from(*low).to_digit(16)
        {
            rest = after;
            return Some((high * 16 + low) as u8);
        }
        rest = tail;
        Some(byte)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Vec<(String, String)> {
        parameters(query)
            .map(|parameter| {
                (Parameter { name: "", value: parameter.name }.value().into(), parameter.value().into())
            })
            .collect()
    }

    #[test]
    fn names_and_values_are_decoded() {
        let expected = [("a b", "ü"), ("flag", ""), ("e", "x=y"), ("p", "1+1")];
        let expected: Vec<_> = expected.map(|(name, value)| (name.into(), value.into())).into();
        assert_eq!(read("a%20b=%C3%BC&&flag&e=x=y&p=1+1"), expected);
    }

    #[test]
    fn broken_encoding_means_itself() {
        assert_eq!(
            read("a=%&b=%4&c=%zz&d=%ff"),
            [("a", "%"), ("b", "%4"), ("c", "%zz"), ("d", "\u{fffd}")]
                .map(|(name, value)| (name.into(), value.into()))
        );
    }

    #[test]
    fn comparing_decodes_without_copying() {
        let parameter = parameters("%61=b%63").next().expect("one parameter");
        assert!(parameter.is_named("a") && parameter.has_value("bc"));
        assert!(!parameter.is_named("%61") && !parameter.has_value("b"));
    }
}
