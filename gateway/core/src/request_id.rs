//! The id by which a request is found again in logs.

use http::HeaderValue;

use crate::trace_context::write_hex;

/// The longest id taken over from a proxy.
pub const MAX_BYTES: usize = 128;

/// An id the gateway minted: 32 lower-case hexadecimal digits, so that a trace id may serve as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 32]);

impl RequestId {
    /// Writes down 128 random bits.
    pub fn mint(random: u128) -> Self {
        let mut digits = [0; 32];
        write_hex(&mut digits, random);
        Self(digits)
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hexadecimal digits")
    }

    /// The digits as a header's value.
    pub fn to_header_value(self) -> HeaderValue {
        HeaderValue::from_bytes(&self.0).expect("hexadecimal digits")
    }
}

/// The id a trusted proxy sent, if it is one: 1 to [`MAX_BYTES`] letters, digits and `-_.:+/=@`, as UUIDs, Base64 and
/// the ids of the large clouds need, and nothing that could break a log line or a page.
pub fn accept(value: &HeaderValue) -> Option<&str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(&byte);
    let text = value.to_str().ok()?;
    let length_fits = (1..=MAX_BYTES).contains(&text.len());
    (length_fits && text.bytes().all(fits)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_id_is_32_digits_and_acceptable() {
        let id = RequestId::mint(0xabc);
        assert_eq!(id.as_str(), "00000000000000000000000000000abc");
        assert_eq!(accept(&id.to_header_value()), Some(id.as_str()));
        assert_eq!(RequestId::mint(u128::MAX).as_str(), "f".repeat(32));
    }

    #[test]
    fn usual_ids_are_accepted() {
        for id in [
            "7f9c24e8-3b12-4fef-91e0-56a2d5a1e8f4",
            "Root=1-67891233-abcdef012345678912345678",
            "a+/=",
            &"x".repeat(128),
        ] {
            assert_eq!(accept(&HeaderValue::from_str(id).expect("a value")), Some(id));
        }
    }

    #[test]
    fn what_could_break_a_log_or_a_page_is_not() {
        for id in ["", "a b", "<script>", "\"", "a,b", "\\", "ä", "a\tb", "${x}", &"x".repeat(129)] {
            assert_eq!(accept(&HeaderValue::from_str(id).expect("a value")), None, "{id}");
        }
    }
}
