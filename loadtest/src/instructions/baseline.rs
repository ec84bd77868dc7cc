//! The counts that were committed, and how far new ones may be from them.

use std::fmt::Write;

/// Growth that is a regression: more than 5 %, one part in so many.
const PART: u64 = 20;
/// Instructions that nobody has to answer for: a few in a case of a hundred are the compiler's mood.
const SLACK: u64 = 10;

const HEAD: &str = "\
# Instructions of one run of each case, written by `scripts/instructions --bless`.
# The same binary counts the same within 1 %, whatever else the machine does; compiler, profile and target must be equal.
";
/// What begins the line that names the compiler.
const COMPILER: &str = "# compiler: ";

/// What was counted for a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) case: String,
    pub(super) instructions: u64,
}

/// Counts, and the compiler they were made with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Baseline {
    pub(super) compiler: String,
    pub(super) counts: Vec<Count>,
}

impl Baseline {
    /// Reads a baseline: a case and a number in each line, `#` before remarks.
    ///
    /// # Errors
    /// The line that is neither.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut baseline = Self::default();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            if let Some(compiler) = line.strip_prefix(COMPILER) {
                baseline.compiler = compiler.to_owned();
            } else if !line.starts_with('#') {
                let count = line.rsplit_once(char::is_whitespace).and_then(|(case, instructions)| {
                    let instructions = instructions.parse().ok()?;
                    Some(Count { case: case.trim_end().to_owned(), instructions })
                });
                baseline.counts.push(count.ok_or_else(|| format!("no case and number: `{line}`"))?);
            }
        }
        Ok(baseline)
    }

    /// What was counted for a case.
    pub(super) fn of(&self, case: &str) -> Option<u64> {
        self.counts.iter().find(|count| count.case == case).map(|count| count.instructions)
    }

    /// Takes up new counts, in the order of `cases`. What was not counted anew stays as it was; a case that is no longer
    /// one goes.
    pub(super) fn renew(&mut self, cases: &[&str], counts: &[Count], compiler: &str) {
        let count = |case: &&str| {
            let new = counts.iter().find(|count| count.case == **case).map(|count| count.instructions);
            let instructions = new.or_else(|| self.of(case))?;
            Some(Count { case: (*case).to_owned(), instructions })
        };
        self.counts = cases.iter().filter_map(count).collect();
        self.compiler = compiler.to_owned();
    }

    /// As a file, which [`Self::parse`] reads.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{HEAD}{COMPILER}{}\n\n", self.compiler);
        let width = self.counts.iter().map(|count| count.case.len()).max().unwrap_or(0);
        for Count { case, instructions } in &self.counts {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{case:width$}  {instructions:>11}");
        }
        text
    }
}

/// By how much a count has grown, as a share of what it was.
pub(super) fn growth(before: u64, now: u64) -> f64 {
    now as f64 / before.max(1) as f64 - 1.0
}

/// Whether it has grown by more than chance explains.
pub(super) fn has_grown(before: u64, now: u64) -> bool {
    let more = now.saturating_sub(before);
    more > SLACK && more > before / PART
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(case: &str, instructions: u64) -> Count {
        Count { case: case.to_owned(), instructions }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let counts = vec![count("route: a host among many", 1234), count("release", 9)];
        let baseline = Baseline { compiler: "rustc 1.95.0".to_owned(), counts };
        assert_eq!(Baseline::parse(&baseline.text()), Ok(baseline));
        assert!(Baseline::parse("route many").is_err());
    }

    #[test]
    fn only_what_was_counted_is_renewed() {
        let mut baseline = Baseline::parse("one 1\ntwo 2\ngone 3\n").unwrap();
        baseline.renew(&["two", "one", "new"], &[count("one", 10), count("new", 4)], "rustc");
        assert_eq!(baseline.counts, [count("two", 2), count("one", 10), count("new", 4)]);
    }

    #[test]
    fn more_than_five_percent_is_growth_and_a_few_instructions_are_not() {
        assert!(!has_grown(1000, 1050));
        assert!(has_grown(1000, 1051));
        assert!(!has_grown(1000, 500));
        assert!(!has_grown(50, 60));
        assert!(has_grown(50, 61));
    }
}
