//! The YAML document as a tree in which every part knows where it stands in the file.
//!
//! Scalars keep their text: a release called `4e10` or `007` must not become a number on the way. Aliases and tags are
//! refused, so that a small file cannot become a large tree; nesting is bounded by the parser.

use std::collections::HashMap;
use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};
use miette::SourceSpan;

use super::problem::{Code, Problem};
use crate::template::Placeholder;

/// A value in the document.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) span: SourceSpan,
}

/// What a value is.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Nothing was written, or `~` or `null`.
    Null,
    /// A text, which may be meant as a number or a boolean.
    Scalar(Scalar),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys and values, in the order of the file, each key once.
    Mapping(Vec<Entry>),
    /// Something about which a problem was already reported.
    Refused,
}

/// A text.
#[derive(Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Written without quotes.
    pub(crate) plain: bool,
    /// Holds what an environment variable or a file said; never shown.
    pub(crate) expanded: bool,
    /// What is filled in for each request, where the text has room for it: byte ranges of it, in order.
    pub(crate) gaps: Vec<(Range<usize>, Placeholder)>,
}

/// A key and its value.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: SourceSpan,
    pub(crate) value: Node,
}

impl Node {
    /// What it is, for a message: "expected a list, found a mapping".
    pub(crate) fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Null | Kind::Refused => "nothing",
            Kind::Scalar(scalar) if scalar.plain && scalar.text.parse::<f64>().is_ok() => "a number",
            Kind::Scalar(scalar) if scalar.plain && matches!(scalar.text.as_str(), "true" | "false") => {
                "a boolean"
            }
            Kind::Scalar(_) => "a text",
            Kind::Sequence(_) => "a list",
            Kind::Mapping(_) => "a mapping",
        }
    }

    /// The entries of a mapping, else none.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Mapping(entries) => entries,
            _ => &[],
        }
    }
}

/// Reads one document. What is wrong goes to `problems`; after a syntax error there is no tree.
pub(crate) fn parse(text: &str, problems: &mut Vec<Problem>) -> Option<Node> {
    let mut reader = Reader { text, events: Parser::new_from_str(text), problems };
    match reader.document() {
        Ok(root) => root,
        Err(error) => {
            reader.syntax_error(&error);
            None
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    events: Parser<'a, StrInput<'a>>,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, SourceSpan), ScanError> {
        match self.events.next_event() {
            Some(event) => event.map(|(event, span)| (event, source_span(&span))),
            None => Ok((Event::StreamEnd, (self.text.len(), 0).into())),
        }
    }

    fn document(&mut self) -> Result<Option<Node>, ScanError> {
        let mut root = None;
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => break,
                (Event::StreamStart | Event::DocumentEnd, _) => {}
                (Event::DocumentStart(..), span) if root.is_some() => {
                    self.refuse("a second document begins here", span, "one configuration is one document");
                    return Ok(None);
                }
                (Event::DocumentStart(..), _) => {}
                (event, span) => root = Some(self.node(event, span)?),
            }
        }
        if root.is_none() {
            let example = "the smallest configuration has `version`, `listeners` and `routes`";
            self.refuse("the file is empty", (0, 0).into(), example);
        }
        Ok(root)
    }

    fn node(&mut self, event: Event<'a>, mut span: SourceSpan) -> Result<Node, ScanError> {
        let kind = match event {
            Event::Scalar(_, _, _, Some(_)) => self.tag(span),
            Event::Scalar(text, style, _, None) => {
                let plain = style == ScalarStyle::Plain;
                match text.as_ref() {
                    "" | "~" | "null" | "Null" | "NULL" if plain => Kind::Null,
                    _ => Kind::Scalar(Scalar {
                        text: text.into_owned(),
                        plain,
                        expanded: false,
                        gaps: Vec::new(),
                    }),
                }
            }
            Event::SequenceStart(_, _, tag) => {
                let (items, end) = self.sequence()?;
                span = join(span, end);
                if tag.is_some() { self.tag(span) } else { Kind::Sequence(items) }
            }
            Event::MappingStart(_, _, tag) => {
                let (entries, end) = self.mapping()?;
                span = join(span, end);
                if tag.is_some() { self.tag(span) } else { Kind::Mapping(entries) }
            }
            _ => {
                self.refuse(
                    "an alias stands here",
                    span,
                    "aliases are not part of the grammar: write the value out",
                );
                Kind::Refused
            }
        };
        Ok(Node { kind, span })
    }

    /// The items, and where the list ends.
    fn sequence(&mut self) -> Result<(Vec<Node>, SourceSpan), ScanError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd | Event::StreamEnd, end) => return Ok((items, end)),
                (event, span) => items.push(self.node(event, span)?),
            }
        }
    }

    /// The entries, and where the mapping ends.
    fn mapping(&mut self) -> Result<(Vec<Entry>, SourceSpan), ScanError> {
        let mut entries = Vec::new();
        let end = loop {
            let key = match self.next()? {
                (Event::MappingEnd | Event::StreamEnd, end) => break end,
                (event, span) => self.node(event, span)?,
            };
            let (event, span) = self.next()?;
            let value = self.node(event, span)?;
            match key.kind {
                Kind::Scalar(scalar) => entries.push(Entry { key: scalar.text, key_span: key.span, value }),
                Kind::Refused => {}
                _ => self.refuse("a key is a text", key.span, "write `key: value`"),
            }
        };
        self.refuse_duplicates(&mut entries);
        Ok((entries, end))
    }

    /// Reports each repetition beside the first of its key, and keeps the first.
    fn refuse_duplicates(&mut self, entries: &mut Vec<Entry>) {
        // Most mappings are so small that comparing every pair is quicker than hashing.
        const FEW: usize = 16;
        if entries.len() <= FEW {
            let twice =
                |(index, entry): (usize, &Entry)| entries[..index].iter().any(|first| first.key == entry.key);
            if !entries.iter().enumerate().any(twice) {
                return;
            }
        }
        let mut seen: HashMap<&str, SourceSpan> = HashMap::with_capacity(entries.len());
        let mut keep = Vec::with_capacity(entries.len());
        for entry in entries.iter() {
            let first = *seen.entry(&entry.key).or_insert(entry.key_span);
            keep.push(first == entry.key_span);
            if first != entry.key_span {
                let message = format!("the key `{}` appears twice", entry.key);
                let problem = Problem::error(Code::DuplicateKey, message).at(entry.key_span, "again here");
                self.problems.push(problem.at(first, "first here"));
            }
        }
        let mut keep = keep.into_iter();
        entries.retain(|_| keep.next().unwrap_or(true));
    }

    fn tag(&mut self, span: SourceSpan) -> Kind {
        self.refuse(
            "a tag stands before this value",
            span,
            "tags are not part of the grammar: leave `!…` out",
        );
        Kind::Refused
    }

    fn refuse(&mut self, message: &str, span: SourceSpan, help: &str) {
        self.problems.push(Problem::error(Code::Syntax, message).at(span, "here").help(help));
    }

    fn syntax_error(&mut self, error: &ScanError) {
        let offset = error.marker().byte_offset().unwrap_or(self.text.len());
        let length = self.text.get(offset..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        let message = format!("this is not YAML: {}", error.info());
        self.problems.push(Problem::error(Code::Syntax, message).at((offset, length).into(), "here"));
    }
}

/// From the beginning of `start` to the end of `end`.
fn join(start: SourceSpan, end: SourceSpan) -> SourceSpan {
    let end = end.offset() + end.len();
    (start.offset(), end.saturating_sub(start.offset())).into()
}

fn source_span(span: &Span) -> SourceSpan {
    let range = span.byte_range().unwrap_or(0..0);
    (range.start, range.end.saturating_sub(range.start)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        parse(text, &mut problems);
        problems.into_iter().map(|problem| problem.message).collect()
    }

    #[test]
    fn keys_and_values_know_their_bytes() {
        let text = "a: 1\nbé:\n  - \"x y\"\n";
        let root = parse(text, &mut Vec::new()).expect("a tree");
        let entry = &root.entries()[1];
        let slice = |span: SourceSpan| &text[span.offset()..span.offset() + span.len()];
        assert_eq!(slice(entry.key_span), "bé");
        let Kind::Sequence(items) = &entry.value.kind else { panic!("a list") };
        assert_eq!(slice(items[0].span), "\"x y\"");
    }

    #[test]
    fn a_number_keeps_its_text_and_on_stays_a_key() {
        let root = parse("on: 4e10\nrelease: 007\n", &mut Vec::new()).expect("a tree");
        let text = |index: usize| match &root.entries()[index].value.kind {
            Kind::Scalar(scalar) => scalar.text.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(root.entries()[0].key, "on");
        assert_eq!((text(0), text(1)), ("4e10".into(), "007".into()));
    }

    #[test]
    fn every_repeated_key_is_reported_and_the_first_one_stays() {
        let mut problems = Vec::new();
        let root = parse("a: 1\nb: 2\na: 3\na: 4\nb: 5\n", &mut problems).expect("a tree");
        assert_eq!(problems.len(), 3);
        assert_eq!(root.entries().len(), 2);
    }

    #[test]
    fn a_bomb_of_aliases_is_refused_without_growing() {
        let bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n";
        assert_eq!(messages(bomb), vec!["an alias stands here"; 4]);
    }

    #[test]
    fn endless_nesting_is_a_syntax_error() {
        assert_eq!(messages(&"[".repeat(100_000)).len(), 1);
        assert_eq!(messages(&"- ".repeat(100_000)).len(), 1);
    }

    #[test]
    fn only_one_document_and_not_an_empty_one() {
        assert_eq!(messages(""), ["the file is empty"]);
        assert_eq!(messages("# nothing\n"), ["the file is empty"]);
        assert_eq!(messages("a: 1\n---\nb: 2\n"), ["a second document begins here"]);
    }
}
