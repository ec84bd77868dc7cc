//! Whatever stands in the file, loading it ends with a configuration or with a report that can be shown.

use std::path::Path;

use gateway_core::config::{Options, World, load_with};
use proptest::prelude::*;

/// Every variable is set, to something unpleasant.
struct Hostile;

impl World for Hostile {
    fn env(&self, name: &str) -> Option<String> {
        Some(format!("{name}\u{0}\n${{env:AGAIN}}`é"))
    }

    fn read(&self, _: &Path) -> std::io::Result<String> {
        Ok("\r\n".into())
    }
}

/// Loads, and shows everything there is to show.
fn survive(source: &[u8]) {
    let options = Options { allow_unsupported: source.len().is_multiple_of(2) };
    match load_with("gateway.yaml", source, Path::new("/etc/gateway"), &Hostile, options) {
        Ok(loaded) => assert!(!loaded.warnings.has_errors() && loaded.shown.starts_with('{')),
        Err(report) => {
            assert!(report.has_errors());
            let shown = format!("{report}{}{}", report.fancy(80), report.to_json());
            assert!(!shown.contains("Failed to read contents"), "{shown}");
        }
    }
}

const WHOLE: &str = include_str!("config/good/whole.yaml");
const REFERENCE: &str = include_str!("../../../config/reference.yaml");

/// A good file with one part taken away, doubled, or replaced.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: &[&str] = &[
        "",
        "\n",
        "  ",
        "\t",
        ": ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "'",
        "*a",
        "&a ",
        "!t ",
        "~",
        "0",
        "-1",
        "1e999",
        "%",
        "${",
        "${env:X}",
        "${file:x}",
        "$${",
        "|",
        ">",
        "---\n",
        "\u{feff}",
        "é",
        "\u{0}",
        "#",
        "?",
        "10%",
        "5s",
        "/",
        "::/0",
        "*.x",
        "99999999999999999999",
    ];
    let source = prop_oneof![Just(WHOLE), Just(REFERENCE)];
    (source, any::<prop::sample::Index>(), 0..60_usize, prop::sample::select(PIECES), 0..3_usize).prop_map(
        |(source, at, length, piece, times)| {
            let source = source.as_bytes();
            let start = at.index(source.len());
            let end = (start + length).min(source.len());
            [&source[..start], piece.repeat(times + 1).as_bytes(), &source[end..]].concat()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        survive(&bytes);
    }

    #[test]
    fn any_text_is_survived(text in "[-a-z0-9:{}\\[\\]\"'|>&*!%#\n ${},?~é]{0,300}") {
        survive(text.as_bytes());
    }

    #[test]
    fn a_good_file_with_a_slip_is_survived(source in mutated()) {
        survive(&source);
    }
}
