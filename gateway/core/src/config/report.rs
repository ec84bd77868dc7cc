//! All problems of one file, and the three ways to show them: for a terminal, as plain text, as JSON.

use std::fmt;
use std::sync::Arc;

use miette::{GraphicalReportHandler, GraphicalTheme, SourceSpan};
use serde_json::{Value, json};

use super::excerpt::{Excerpts, floor};
use super::problem::{Label, Problem, Severity};

/// How many problems are written out as text; the rest are counted.
const SHOWN: usize = 50;

/// How many bytes of a place are underlined at most.
const UNDERLINED: usize = 200;

/// The problems of one configuration file, in the order of the file.
#[derive(Debug, Clone)]
pub struct Report {
    name: String,
    source: Arc<str>,
    /// The source as it may be quoted.
    quotable: Arc<str>,
    problems: Vec<Problem>,
}

impl Report {
    /// A report on the file `name` that says `source`.
    pub fn new(name: &str, source: &str, problems: Vec<Problem>) -> Self {
        let source: Arc<str> = source.into();
        let mut report = Self { name: name.into(), quotable: source.clone(), source, problems: Vec::new() };
        report.extend(problems);
        report
    }

    /// The file's name, as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the file said; empty when it could not be read.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The problems, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether something keeps the configuration from being used.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// How many problems keep the configuration from being used.
    pub fn errors(&self) -> usize {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error).count()
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Adds a problem found elsewhere, for instance in a certificate.
    pub fn push(&mut self, problem: Problem) {
        self.extend([problem]);
    }

    /// Adds problems found elsewhere.
    pub fn extend(&mut self, problems: impl IntoIterator<Item = Problem>) {
        for mut problem in problems {
            for label in &mut problem.labels {
                label.span = self.one_line(label.span);
            }
            self.problems.push(problem);
        }
        self.problems.sort_by_key(|problem| (problem.offset(), problem.severity));
    }

    /// Puts asterisks in the place of what must not be quoted.
    pub(crate) fn hide(&mut self, secrets: &[SourceSpan]) {
        let mut text = self.quotable.as_bytes().to_vec();
        for secret in secrets {
            let end = floor(&self.source, secret.offset() + secret.len());
            let secret = &mut text[floor(&self.source, secret.offset())..end];
            secret.iter_mut().filter(|byte| !byte.is_ascii_whitespace()).for_each(|byte| *byte = b'*');
        }
        // Whole characters have been replaced, so it is still UTF-8.
        self.quotable = String::from_utf8(text).unwrap_or_default().into();
    }

    /// For a terminal: colours, underlines, at most `width` columns wide.
    pub fn fancy(&self, width: usize) -> String {
        self.render(GraphicalReportHandler::new_themed(GraphicalTheme::unicode()).with_width(width))
    }

    /// For scripts: `[{severity, code, message, file, line, column, help, labels}]`. Lines and columns count from 1,
    /// columns in characters; both are null for a problem without a place.
    pub fn to_json(&self) -> Value {
        let lines = Excerpts::new(&self.name, &self.source);
        self.problems.iter().map(|problem| self.problem_json(problem, &lines)).collect()
    }

    fn problem_json(&self, problem: &Problem, lines: &Excerpts) -> Value {
        let place = |label: &Label| {
            let (line, column) = lines.at(label.span.offset());
            json!({ "line": line, "column": column, "offset": label.span.offset(), "length": label.span.len(), "text": label.text })
        };
        let first = problem.labels.first().map(|label| lines.at(label.span.offset()));
        json!({
            "severity": problem.severity.as_str(),
            "code": problem.code.as_str(),
            "message": problem.message,
            "file": self.name,
            "line": first.map(|(line, _)| line),
            "column": first.map(|(_, column)| column),
            "help": problem.help,
            "labels": problem.labels.iter().map(place).collect::<Value>(),
        })
    }

    fn render(&self, handler: GraphicalReportHandler) -> String {
        let handler = handler.with_links(false).with_context_lines(1).without_syntax_highlighting();
        let source = Arc::new(Excerpts::new(&self.name, &self.quotable));
        let mut text = String::new();
        for problem in self.problems.iter().take(SHOWN) {
            let shown = miette::Report::new(problem.clone()).with_source_code(Arc::clone(&source));
            // Writing to a string cannot fail; a span outside the source cannot be, `one_line` keeps them in.
            let _ = handler.render_report(&mut text, shown.as_ref());
            text.push('\n');
        }
        if self.problems.len() > SHOWN {
            text.push_str(&format!("… and {} more\n", self.problems.len() - SHOWN));
        }
        text
    }

    /// The part of `span` on its first line, on character boundaries inside the source.
    fn one_line(&self, span: SourceSpan) -> SourceSpan {
        let source = &*self.source;
        let start = floor(source, span.offset());
        let end = floor(source, (start + span.len().min(UNDERLINED)).max(start));
        let line = source[start..end].lines().next().unwrap_or("").trim_end();
        SourceSpan::new(start.into(), line.len())
    }
}

/// Plain text without colours, for logs and tests.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            &self.render(
                GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(100),
            ),
        )
    }
}

impl std::error::Error for Report {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problem::Code;

    fn report(problem: Problem) -> Report {
        Report::new("gateway.yaml", "version: 1\nroutes: { wéb: 3 }\n", vec![problem])
    }

    #[test]
    fn json_counts_lines_and_characters_from_one() {
        let problem =
            Problem::error(Code::WrongType, "a number").at((27, 1).into(), "here").help("write more");
        assert_eq!(
            report(problem).to_json(),
            json!([{
                "severity": "error", "code": "gateway::wrong_type", "message": "a number", "file": "gateway.yaml",
                "line": 2, "column": 16, "help": "write more",
                "labels": [{ "line": 2, "column": 16, "offset": 27, "length": 1, "text": "here" }],
            }])
        );
    }

    #[test]
    fn a_place_outside_the_source_or_inside_a_character_is_moved_in() {
        for (offset, length) in [(22, 1), (23, 900), (900, 900), (0, usize::MAX)] {
            let shown = report(Problem::error(Code::Syntax, "odd").at((offset, length).into(), "here"));
            assert!(shown.to_string().contains("odd"), "{shown}");
            assert!(shown.to_json()[0]["line"].is_u64());
        }
    }

    #[test]
    fn problems_come_in_the_order_of_the_file_errors_first() {
        let at = |code, offset| Problem::error(code, "x").at((offset, 1).into(), "");
        let mut report = report(at(Code::File, 12));
        report.push(Problem { severity: Severity::Warning, ..at(Code::Unused, 3) });
        report.push(at(Code::Conflict, 3));
        let codes: Vec<_> = report.problems().iter().map(|problem| problem.code).collect();
        assert_eq!(codes, [Code::Conflict, Code::Unused, Code::File]);
    }

    #[test]
    fn a_flood_of_problems_is_counted_not_printed() {
        let many = (0..1000).map(|_| Problem::error(Code::Unused, "again").at((0, 3).into(), ""));
        let text = Report::new("f", "abc", many.collect()).to_string();
        assert_eq!(text.matches("again").count(), SHOWN);
        assert!(text.ends_with("… and 950 more\n"), "{text}");
    }
}
