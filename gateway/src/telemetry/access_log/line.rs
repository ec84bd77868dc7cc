//! JSON written straight into a buffer, for a line whose fields are always the same.
//!
//! Field names come with their punctuation, `,"status":`, so that each is one copy.

use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use super::clock::Clock;

const HEXADECIMAL: &[u8; 16] = b"0123456789abcdef";

/// One line being written.
pub(super) struct Line<'a>(pub(super) &'a mut Vec<u8>);

impl Line<'_> {
    /// What is JSON already.
    pub(super) fn raw(&mut self, json: &str) -> &mut Self {
        self.0.extend_from_slice(json.as_bytes());
        self
    }

    /// A string that needs no escaping: a name, a word of ours.
    pub(super) fn word(&mut self, field: &str, word: &str) -> &mut Self {
        self.raw(field).raw("\"").raw(word).raw("\"")
    }

    /// A string of unknown origin; U+FFFD stands for what is not UTF-8.
    pub(super) fn text(&mut self, field: &str, text: &[u8]) -> &mut Self {
        self.raw(field);
        if text.iter().all(|byte| matches!(byte, b' '..=b'~' if *byte != b'"' && *byte != b'\\')) {
            self.0.push(b'"');
            self.0.extend_from_slice(text);
            self.0.push(b'"');
        } else {
            // Neither a vector nor a string can fail to serialise.
            let _ = serde_json::to_writer(&mut *self.0, &String::from_utf8_lossy(text));
        }
        self
    }

    /// A word, or `null`.
    pub(super) fn optional_word(&mut self, field: &str, word: Option<&str>) -> &mut Self {
        match word {
            Some(word) => self.word(field, word),
            None => self.raw(field).raw("null"),
        }
    }

    /// A text, or `null`.
    pub(super) fn optional_text(&mut self, field: &str, text: Option<&[u8]>) -> &mut Self {
        match text {
            Some(text) => self.text(field, text),
            None => self.raw(field).raw("null"),
        }
    }

    /// A whole number.
    pub(super) fn number(&mut self, field: &str, number: u64) -> &mut Self {
        self.raw(field).digits(number)
    }

    /// A whole number, or `null`.
    pub(super) fn optional_number(&mut self, field: &str, number: Option<u64>) -> &mut Self {
        match number {
            Some(number) => self.number(field, number),
            None => self.raw(field).raw("null"),
        }
    }

    /// Milliseconds with up to three decimals, or `null`.
    pub(super) fn milliseconds(&mut self, field: &str, duration: Option<Duration>) -> &mut Self {
        self.raw(field);
        let Some(duration) = duration else { return self.raw("null") };
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.digits(micros / 1000).raw(".");
        let [hundreds, tens, ones] = [micros / 100 % 10, micros / 10 % 10, micros % 10];
        let decimals = if ones > 0 { 3 } else { 1 + usize::from(tens > 0) };
        self.0.extend([hundreds, tens, ones].iter().take(decimals).map(|digit| b'0' + *digit as u8));
        self
    }

    /// 32 hexadecimal digits, or `null`.
    pub(super) fn hexadecimal(&mut self, field: &str, id: Option<u128>) -> &mut Self {
        self.raw(field);
        let Some(id) = id else { return self.raw("null") };
        self.0.push(b'"');
        for byte in id.to_be_bytes() {
            self.0.extend([byte >> 4, byte & 15].map(|digit| HEXADECIMAL[usize::from(digit)]));
        }
        self.0.push(b'"');
        self
    }

    /// An address; one of IPv4 in IPv6 is written as what it stands for.
    pub(super) fn address(&mut self, field: &str, address: IpAddr) -> &mut Self {
        self.raw(field).raw("\"");
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets().map(u64::from);
                self.digits(a).raw(".").digits(b).raw(".").digits(c).raw(".").digits(d);
            }
            // Writing to a vector cannot fail.
            IpAddr::V6(address) => drop(write!(self.0, "{address}")),
        }
        self.raw("\"")
    }

    /// A point in time (RFC 3339).
    pub(super) fn time(&mut self, field: &str, time: SystemTime, clock: &mut Clock) -> &mut Self {
        self.raw(field).raw("\"");
        clock.write(time, self.0);
        self.raw("\"")
    }

    fn digits(&mut self, number: u64) -> &mut Self {
        self.raw(itoa::Buffer::new().format(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl for<'a, 'b> FnOnce(&'a mut Line<'b>) -> &'a mut Line<'b>) -> String {
        let mut buffer = Vec::new();
        write(&mut Line(&mut buffer));
        String::from_utf8(buffer).unwrap()
    }

    #[test]
    fn milliseconds_have_the_decimals_they_need_and_at_least_one() {
        let shown = |micros| written(|line| line.milliseconds("", Some(Duration::from_micros(micros))));
        let cases = [(0, "0.0"), (1, "0.001"), (10, "0.01"), (100, "0.1"), (1_500, "1.5"), (1_005, "1.005")];
        for (micros, text) in cases.into_iter().chain([(2_345_678, "2345.678"), (60_000_000, "60000.0")]) {
            assert_eq!(shown(micros), text);
            assert_eq!(shown(micros).parse::<f64>().unwrap(), micros as f64 / 1000.0);
        }
    }

    #[test]
    fn addresses_are_written_as_people_write_them() {
        for text in ["192.0.2.7", "255.255.255.255", "2001:db8::1", "::1"] {
            let address = text.parse().unwrap();
            assert_eq!(written(|line| line.address("", address)), format!("\"{text}\""));
        }
    }
}
