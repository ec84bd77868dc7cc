//! Times as people write and read them.

use std::time::Duration;

/// Reads `250ms`, `1.5s`, `2m`, `1m30s`; a bare number is seconds. Units: `us`, `ms`, `s`, `m`, `h`.
///
/// # Errors
/// A sentence that says what is not understood.
pub fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return from_seconds(seconds, text);
    }
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(unit_at);
        let next = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(next);
        let number: f64 = number.parse().map_err(|_| strange(text))?;
        seconds += number * unit_seconds(unit).ok_or_else(|| strange(text))?;
        rest = tail;
    }
    if text.is_empty() { Err(strange(text)) } else { from_seconds(seconds, text) }
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    })
}

fn from_seconds(seconds: f64, text: &str) -> Result<Duration, String> {
    Duration::try_from_secs_f64(seconds).map_err(|_| strange(text))
}

fn strange(text: &str) -> String {
    format!("`{text}` is not a time; write it like 250ms, 1.5s, 2m or 1m30s")
}

/// Milliseconds with about three digits and the unit that suits them: `850 µs`, `4.31 ms`, `1.20 s`.
pub fn milliseconds(value: f64) -> String {
    match value {
        v if v < 1.0 => format!("{:.0} µs", v * 1000.0),
        v if v < 10.0 => format!("{v:.2} ms"),
        v if v < 100.0 => format!("{v:.1} ms"),
        v if v < 1000.0 => format!("{v:.0} ms"),
        v => format!("{:.2} s", v / 1000.0),
    }
}

/// A time in words as short as they can be: `1m30s`, `30s`, `250ms`.
pub fn short(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60, time.subsec_millis()) {
        (0, 0, 0, millis) => format!("{millis}ms"),
        (0, 0, seconds, 0) => format!("{seconds}s"),
        (0, 0, ..) => format!("{}s", time.as_secs_f64()),
        (0, minutes, 0, _) => format!("{minutes}m"),
        (0, minutes, seconds, _) => format!("{minutes}m{seconds}s"),
        (hours, 0, ..) => format!("{hours}h"),
        (hours, minutes, ..) => format!("{hours}h{minutes}m"),
    }
}

/// A whole number with a thin gap between thousands: `1 234 567`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A part of a whole in percent, with the digits that a small part needs: `0 %`, `0.012 %`, `12.3 %`, `100 %`.
pub fn percent(part: u64, whole: u64) -> String {
    let value = part as f64 * 100.0 / whole.max(1) as f64;
    match value {
        0.0 => "0 %".to_owned(),
        v if v < 1.0 => format!("{v:.3} %"),
        v if v < 10.0 => format!("{v:.2} %"),
        v if v < 100.0 => format!("{v:.1} %"),
        _ => "100 %".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let read = |text| duration(text).map(|time| time.as_micros());
        assert_eq!(read("250ms"), Ok(250_000));
        assert_eq!(read("1.5s"), Ok(1_500_000));
        assert_eq!(read("1m30s"), Ok(90_000_000));
        assert_eq!(read("800us"), Ok(800));
        assert_eq!(read("0.25"), Ok(250_000), "a bare number is seconds");
        for bad in ["", "s", "5 parsecs", "-1s", "1e400", "ms5", "1..5s", "nan"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn figures_are_short_and_never_round_a_failure_away() {
        assert_eq!(
            [0.25, 4.312, 43.12, 431.2, 4312.0].map(milliseconds).join(", "),
            "250 µs, 4.31 ms, 43.1 ms, 431 ms, 4.31 s"
        );
        assert_eq!([0, 999, 1000, 1_234_567].map(count).join(", "), "0, 999, 1 000, 1 234 567");
        let short = [250, 1500, 30_000, 60_000, 90_000, 5_400_000].map(|ms| short(Duration::from_millis(ms)));
        assert_eq!(short.join(" "), "250ms 1.5s 30s 1m 1m30s 1h30m");
        assert_eq!(percent(0, 10), "0 %");
        assert_eq!(percent(1, 10_000), "0.010 %");
        assert_eq!(percent(10, 10), "100 %");
    }
}
