//! Times of many lines in a row: the second they share is formatted once.

use std::io::Write;
use std::time::{Duration, SystemTime};

use crate::telemetry::rfc3339::Rfc3339;

/// The second that was written last.
#[derive(Debug, Default)]
pub(super) struct Clock {
    second: Duration,
    /// `2026-03-01T12:34:56`, empty before the first.
    text: Vec<u8>,
}

impl Clock {
    /// Appends `2026-03-01T12:34:56.789Z` (RFC 3339); a time before 1970 is written as 1970.
    pub(super) fn write(&mut self, time: SystemTime, buffer: &mut Vec<u8>) {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let second = Duration::from_secs(since.as_secs());
        if self.text.is_empty() || self.second != second {
            self.text.clear();
            // Writing to a vector cannot fail.
            let _ = write!(self.text, "{}", Rfc3339(SystemTime::UNIX_EPOCH + second));
            self.text.truncate("2026-03-01T12:34:56".len());
            self.second = second;
        }
        buffer.extend_from_slice(&self.text);
        let milli = since.subsec_millis();
        let digits = [milli / 100, milli / 10 % 10, milli % 10].map(|digit| b'0' + digit as u8);
        buffer.push(b'.');
        buffer.extend_from_slice(&digits);
        buffer.push(b'Z');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_written_as_if_it_were_alone() {
        let mut clock = Clock::default();
        let start = Duration::from_millis(1_772_368_496_789);
        for step in [0, 1, 210, 211, 1_211, 60_000, 59_999, 86_400_000] {
            let time = SystemTime::UNIX_EPOCH + start + Duration::from_millis(step);
            let mut buffer = Vec::new();
            clock.write(time, &mut buffer);
            assert_eq!(String::from_utf8(buffer).unwrap(), Rfc3339(time).to_string());
        }
        let mut buffer = Vec::new();
        clock.write(SystemTime::UNIX_EPOCH - Duration::from_secs(1), &mut buffer);
        assert_eq!(buffer, b"1970-01-01T00:00:00.000Z");
    }
}
