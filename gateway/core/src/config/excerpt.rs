//! Parts of the source as reports show them: whole lines, cut where a line is longer than anybody reads.

use std::sync::Arc;

use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

/// How many bytes of a line are shown before and after a place.
const MARGIN: usize = 120;

/// A file with the beginnings of its lines, to find a line without reading the file again.
#[derive(Debug)]
pub(super) struct Excerpts {
    name: String,
    source: Arc<str>,
    starts: Vec<usize>,
}

impl Excerpts {
    pub(super) fn new(name: &str, source: &Arc<str>) -> Self {
        let starts = std::iter::once(0).chain(source.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { name: name.into(), source: Arc::clone(source), starts }
    }

    /// Line and column of a character boundary, both from 1; the column counts characters.
    pub(super) fn at(&self, offset: usize) -> (usize, usize) {
        let line = self.line(offset);
        let column = self.source[self.starts[line]..offset].chars().count() + 1;
        (line + 1, column)
    }

    /// The line of an offset, from 0.
    fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|&start| start <= offset).saturating_sub(1)
    }

    /// From the beginning of the line in which `start` lies to the end of the line in which `end` lies.
    fn lines(&self, start: usize, end: usize) -> (usize, usize) {
        let first = self.starts[self.line(start)];
        let last = self.source[end..].find('\n').map_or(self.source.len(), |length| end + length);
        let cut = floor(&self.source, last.min(end + MARGIN));
        (first.max(floor(&self.source, start.saturating_sub(MARGIN))), cut)
    }
}

impl SourceCode for Excerpts {
    /// With lines of context asked for, the lines of the place and no others; without, the place itself.
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        _after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let (start, end) = (span.offset(), span.offset() + span.len());
        let inside = |offset| self.source.is_char_boundary(offset);
        if !inside(start) || !inside(end) || end < start {
            return Err(MietteError::OutOfBounds);
        }
        let (from, to) = if before == 0 { (start, end) } else { self.lines(start, end) };
        let data = &self.source.as_bytes()[from..to];
        let (line, column) = self.at(from);
        let count = self.line(to) - self.line(from) + 1;
        let span = (from, to - from).into();
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            data,
            span,
            line - 1,
            column - 1,
            count,
        )))
    }
}

/// The last character boundary at or before `offset`.
pub(super) fn floor(source: &str, offset: usize) -> usize {
    let offset = offset.min(source.len());
    (0..=offset).rev().find(|&at| source.is_char_boundary(at)).unwrap_or(0)
}
