//! Header values with `${…}` placeholders, filled in for each request.

use std::ops::Range;

use http::HeaderValue;

/// What can be asked for in a header value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placeholder {
    /// The resolved client address.
    ClientIp,
    /// The request's id.
    RequestId,
    /// The release the request was given to; empty when it was given to none.
    Release,
    /// The host asked for, lower case and without port.
    Host,
    /// The user who logged in by `basic_auth`; empty on a route without it.
    User,
}

impl Placeholder {
    /// All of them, as they are written between `${` and `}`.
    pub const KNOWN: [(&'static str, Self); 5] = [
        ("client_ip", Self::ClientIp),
        ("request_id", Self::RequestId),
        ("release", Self::Release),
        ("host", Self::Host),
        ("user", Self::User),
    ];

    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::KNOWN.iter().find(|(known, _)| *known == name).map(|(_, placeholder)| *placeholder)
    }
}

/// A header value, whole or with gaps.
///
/// Its text holds no line break and no control character, whatever it came from, and what fills a gap is checked again:
/// neither can begin another header field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// The value, or what stands before the first gap.
    first: HeaderValue,
    /// Gaps, each with the text behind it.
    gaps: Vec<(Placeholder, HeaderValue)>,
}

/// A text that cannot stand in a header field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a header value cannot hold line breaks or control characters")]
pub struct NoHeaderValue;

impl Template {
    /// A text with gaps at these byte ranges of it, in order and apart from one another.
    ///
    /// # Errors
    /// [`NoHeaderValue`] when what stands between the gaps cannot be sent.
    pub fn new(text: &str, gaps: &[(Range<usize>, Placeholder)]) -> Result<Self, NoHeaderValue> {
        let part = |from: usize, to: usize| {
            HeaderValue::from_str(text.get(from..to).unwrap_or("")).map_err(|_| NoHeaderValue)
        };
        let mut filled = Vec::with_capacity(gaps.len());
        let mut end = text.len();
        for (range, placeholder) in gaps.iter().rev() {
            filled.push((*placeholder, part(range.end, end)?));
            end = range.start;
        }
        filled.reverse();
        Ok(Self { first: part(0, end)?, gaps: filled })
    }

    /// The value with its gaps filled by `write`. A value without gaps costs the clone of a reference.
    ///
    /// `None` when what was written cannot stand in a header field.
    pub fn fill(&self, mut write: impl FnMut(Placeholder, &mut Vec<u8>)) -> Option<HeaderValue> {
        if self.gaps.is_empty() {
            return Some(self.first.clone());
        }
        let mut value = self.first.as_bytes().to_vec();
        for (placeholder, text) in &self.gaps {
            write(*placeholder, &mut value);
            value.extend_from_slice(text.as_bytes());
        }
        HeaderValue::try_from(value).ok()
    }
}

impl TryFrom<&str> for Template {
    type Error = NoHeaderValue;

    /// A value without gaps.
    fn try_from(text: &str) -> Result<Self, NoHeaderValue> {
        Self::new(text, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &Template, filling: &str) -> Option<HeaderValue> {
        template.fill(|_, value| value.extend_from_slice(filling.as_bytes()))
    }

    #[test]
    fn gaps_are_filled_where_they_stand() {
        let gaps = [(0..2, Placeholder::Host), (2..4, Placeholder::Release), (5..7, Placeholder::ClientIp)];
        let template = Template::new("aabb-cc.", &gaps).expect("a value");
        assert_eq!(filled(&template, "x").expect("a value"), "xx-x.");
        assert_eq!(filled(&Template::try_from("whole").expect("a value"), "x").expect("a value"), "whole");
    }

    #[test]
    fn neither_the_text_nor_a_filling_can_begin_another_field() {
        for text in ["a\nb", "a\r\nb: c", "a\0", "aa\nb"] {
            assert_eq!(Template::new(text, &[(0..1, Placeholder::Host)]), Err(NoHeaderValue), "{text:?}");
        }
        let template = Template::new("aa", &[(0..2, Placeholder::Host)]).expect("a value");
        assert_eq!(filled(&template, "x\r\nset-cookie: y"), None);
    }
}
