//! Reports as the standard error shows them.

use std::env;
use std::io::{self, IsTerminal};

use gateway_core::config::report::Report;

/// Where lines break when the terminal does not say how wide it is, in columns.
const WIDTH: usize = 100;

/// A report for the standard error: colours and underlines when that is a terminal, plain text for files and pipes, and
/// for whoever sets `NO_COLOR` (<https://no-color.org>).
pub(crate) fn rendered(report: &Report) -> String {
    if !wants_colours() || !io::stderr().is_terminal() {
        return report.to_string();
    }
    report.fancy(width(env::var("COLUMNS").ok().as_deref()))
}

/// Whether a terminal may be written to in colours.
pub(crate) fn wants_colours() -> bool {
    env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn width(columns: Option<&str>) -> usize {
    columns.and_then(|text| text.parse().ok()).map_or(WIDTH, |columns: usize| columns.clamp(40, 160))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_widths_stay_readable() {
        let widths = [None, Some("wide"), Some("1"), Some("80"), Some("9999")];
        assert_eq!(widths.map(width), [100, 100, 40, 80, 160]);
    }
}
