//! Keys of the grammar that this version does not act on yet. Each is refused where it stands, never silently ignored.
//!
//! Everything behind them is read and checked all the same. A capability that lands takes its lines out of [`KEYS`].

use super::document::Node;
use super::problem::{Code, Problem};

/// Where the keys stand; `*` is any name or item.
const KEYS: &[&str] = &["fleet"];

/// Reports every key under `root` that is not supported yet.
pub(crate) fn check(root: &Node, problems: &mut Vec<Problem>) {
    for path in KEYS {
        let steps: Vec<&str> = path.split('.').collect();
        refuse(root, &steps, problems);
    }
}

fn refuse(node: &Node, path: &[&str], problems: &mut Vec<Problem>) {
    let [step, rest @ ..] = path else {
        return;
    };
    for entry in node.entries().iter().filter(|entry| *step == "*" || entry.key == *step) {
        if !rest.is_empty() {
            refuse(&entry.value, rest, problems);
            continue;
        }
        let message = format!("`{}` is not supported yet by this version", entry.key);
        problems.push(Problem::error(Code::NotSupportedYet, message).at(entry.key_span, "not supported yet"));
    }
}
