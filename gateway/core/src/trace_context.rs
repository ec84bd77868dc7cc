//! The `traceparent` header (W3C Trace Context, level 1 and 2).

use std::fmt;

use http::HeaderValue;

/// Length of a version 00 value.
const BYTES: usize = 55;

/// Where a request belongs in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace_id: u128,
    parent_id: u64,
    flags: u8,
}

impl TraceParent {
    /// Reads a header's value; `None` for one that must be ignored: upper-case digits, all-zero ids, version `ff`, a
    /// version 00 of another length. Of later versions what version 00 defines is read (§3.2.4).
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(BYTES)?;
        let version = hex(&known[..2])?;
        let fits = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.first().is_none_or(|byte| *byte == b'-'),
        };
        let dashes = [known[2], known[35], known[52]] == *b"---";
        let (trace_id, parent_id) = (hex(&known[3..35])?, hex(&known[36..52])?);
        let flags = hex(&known[53..])?;
        let valid = fits && dashes && trace_id != 0 && parent_id != 0;
        valid.then_some(Self { trace_id, parent_id: parent_id as u64, flags: flags as u8 })
    }

    /// Begins a trace with ids drawn at random; the zeros that are no ids become ones. Not sampled: that is for whoever
    /// keeps traces to say.
    pub fn new(trace_id: u128, parent_id: u64) -> Self {
        Self { trace_id: trace_id.max(1), parent_id: parent_id.max(1), flags: 0 }
    }

    /// The id of the whole trace; 32 lower-case hexadecimal digits in text.
    pub fn trace_id(self) -> u128 {
        self.trace_id
    }

    /// Whether the caller may have recorded it.
    pub fn is_sampled(self) -> bool {
        self.flags & 1 == 1
    }

    /// The header's value, in version 00.
    pub fn to_header_value(self) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&mut text[3..35], self.trace_id);
        write_hex(&mut text[36..52], self.parent_id.into());
        write_hex(&mut text[53..], self.flags.into());
        HeaderValue::from_bytes(&text).expect("digits and dashes")
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent_id, self.flags)
    }
}

/// Reads lower-case digits, at most 32.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// Fills `out` with the last digits of `number`, in lower case.
pub(crate) fn write_hex(out: &mut [u8], mut number: u128) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parse(text: &str) -> Option<TraceParent> {
        TraceParent::parse(text.as_bytes())
    }

    #[test]
    fn the_example_of_the_standard_is_read() {
        let parent = parse(EXAMPLE).expect("a good value");
        assert_eq!(parent.trace_id(), 0x4bf92f3577b34da6a3ce929d0e0e4736);
        assert!(parent.is_sampled());
        assert_eq!(parent.to_string(), EXAMPLE);
    }

    #[test]
    fn later_versions_may_go_on_after_a_dash() {
        assert!(parse(&EXAMPLE.replacen("00", "01", 1)).is_some());
        assert!(parse(&format!("{}-what-the-future-brings", EXAMPLE.replacen("00", "cc", 1))).is_some());
        assert_eq!(parse(&format!("{}.x", EXAMPLE.replacen("00", "cc", 1))), None);
    }

    #[test]
    fn what_the_standard_says_to_ignore_is_ignored() {
        for text in [
            "",
            "00",
            &EXAMPLE.to_uppercase(),
            &EXAMPLE.replacen("00", "ff", 1),
            &format!("{EXAMPLE}-extra"),
            &EXAMPLE[..54],
            &EXAMPLE.replace('-', "_"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn zero_is_never_an_id() {
        assert_eq!(parse(&TraceParent::new(0, 0).to_string()), Some(TraceParent::new(1, 1)));
    }

    proptest! {
        #[test]
        fn what_is_made_is_read_again(trace: u128, parent: u64) {
            let made = TraceParent::new(trace, parent);
            prop_assert_eq!(TraceParent::parse(made.to_header_value().as_bytes()), Some(made));
            prop_assert_eq!(made.to_header_value(), made.to_string());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 50..60)) {
            prop_assert_eq!(TraceParent::parse(&bytes), None);
        }
    }
}
