//! Numbers and bars for reading.

/// A bar's width in columns.
const WIDTH: usize = 24;

/// A bar filled from 0 to 1, in eighths of a column; what is more than nothing is seen.
pub(super) fn bar(filled: f64) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (filled.clamp(0.0, 1.0) * WIDTH as f64 * 8.0).floor() as usize;
    let eighths = if filled > 0.0 { eighths.max(1) } else { 0 };
    let text = "█".repeat(eighths / 8) + PARTS[eighths % 8];
    let rest = WIDTH - text.chars().count();
    text + &"·".repeat(rest)
}

/// How far evidence has come to what is needed. It multiplies, so the way is measured by logarithms, from 1 on.
pub(super) fn far(evidence: f64, needed: f64) -> f64 {
    share(evidence.max(1.0).ln(), needed.max(1.0).ln())
}

/// `part` of `whole`, 0 to 1; nothing of nothing.
pub(super) fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { (part / whole).clamp(0.0, 1.0) } else { 0.0 }
}

/// `12,345`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `0.3`, `12`, `5,342`, `> 1,000,000`.
pub(super) fn number(number: f64) -> String {
    const MOST: f64 = 1e6;
    match number {
        _ if number > MOST => format!("> {}", count(MOST as u64)),
        _ if number.abs() < 10.0 => trimmed(&format!("{number:.1}")),
        _ if number < 0.0 => format!("-{}", count(number.abs().round() as u64)),
        _ => count(number.round() as u64),
    }
}

/// A rate of 0 to 1 as `0.12%`.
pub(super) fn percent(rate: f64) -> String {
    format!("{}%", trimmed(&format!("{:.2}", rate * 100.0)))
}

/// Without zeros that say nothing.
fn trimmed(text: &str) -> String {
    let short = text.trim_end_matches('0').trim_end_matches('.');
    if matches!(short, "" | "-0" | "0") { "0".into() } else { short.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_what_it_shows() {
        assert_eq!(bar(0.0), "·".repeat(24));
        assert_eq!(bar(1.0), "█".repeat(24));
        assert_eq!(bar(7.5), "█".repeat(24));
        assert_eq!(bar(0.5), format!("{}{}", "█".repeat(12), "·".repeat(12)));
        assert_eq!(bar(1e-9), format!("▏{}", "·".repeat(23)));
        assert_eq!(bar(f64::NAN), "·".repeat(24));
        for eighths in 0..=192 {
            assert_eq!(bar(f64::from(eighths) / 192.0).chars().count(), 24);
        }
    }

    #[test]
    fn evidence_goes_its_way_by_factors() {
        assert_eq!([far(0.0, 1000.0), far(1.0, 1000.0), far(1e9, 1000.0)], [0.0, 0.0, 1.0]);
        assert!((far(10.0, 1000.0) - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!(far(0.0, 0.0), 0.0);
        assert_eq!([share(5.0, 20.0), share(-3.0, 20.0), share(1.0, 0.0)], [0.25, 0.0, 0.0]);
    }

    #[test]
    fn numbers_have_no_more_digits_than_tell_something() {
        assert_eq!(
            [0.0, 0.04, 0.3, 9.0, 12.4, 5342.0, 1e9].map(number),
            ["0", "0", "0.3", "9", "12", "5,342", "> 1,000,000"]
        );
        assert_eq!([-0.01, -2.5, -1234.0].map(number), ["0", "-2.5", "-1,234"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.0, 0.00123, 0.05, 1.0].map(percent), ["0%", "0.12%", "5%", "100%"]);
    }
}
