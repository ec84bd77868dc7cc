//! The sorted entries of a table by host and path, so that few of them are looked at.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::{ControlFlow, Range};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Entry, PathRank};

/// Entries of one rank class, as a range of `Table::entries`.
type Group = Range<u32>;

/// The routes under one host.
#[derive(Debug, Clone, Default)]
pub(super) struct Paths {
    exact: ByText<Group>,
    prefixes: ByText<Group>,
    /// The lengths among `prefixes`, longest first.
    prefix_lengths: Vec<usize>,
    /// Expressions, then routes without path rule.
    rest: Group,
}

impl Paths {
    /// `entries` are those of one host, sorted; the first one is number `start` of the table.
    pub(super) fn index(entries: &[Entry], mut start: u32) -> Self {
        let mut paths = Self::default();
        for group in entries.chunk_by(|a, b| a.rank.path == b.rank.path) {
            let range = start..start + group.len() as u32;
            match &group[0].rank.path {
                PathRank::Exact(path) => drop(paths.exact.insert(path.clone(), range.clone())),
                PathRank::Prefix(Reverse(length), prefix) => {
                    paths.prefixes.insert(prefix.clone(), range.clone());
                    paths.prefix_lengths.push(*length);
                }
                // They are last and follow one another.
                PathRank::Regex => paths.rest = range.clone(),
                PathRank::Any if paths.rest.is_empty() => paths.rest = range.clone(),
                PathRank::Any => paths.rest.end = range.end,
            }
            start = range.end;
        }
        paths.prefix_lengths.dedup();
        paths
    }

    pub(super) fn visit<'a, B>(
        &self,
        entries: &'a [Entry],
        path: &str,
        see: &mut impl FnMut(&'a Entry) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut see_all =
            |group: &Group| entries[group.start as usize..group.end as usize].iter().try_for_each(&mut *see);
        if let Some(group) = self.exact.get(path) {
            see_all(group)?;
        }
        for &length in &self.prefix_lengths {
            let ends_segment = matches!(path.as_bytes().get(length), None | Some(b'/'));
            if ends_segment
                && let Some(prefix) = path.get(..length)
                && let Some(group) = self.prefixes.get(prefix)
            {
                see_all(group)?;
            }
        }
        see_all(&self.rest)
    }
}

/// Wildcard hosts by the domain they lie below.
#[derive(Debug, Clone, Default)]
pub(super) struct BySuffix {
    domains: ByText<Paths>,
    /// The lengths among `domains`, longest first.
    lengths: Vec<usize>,
}

impl BySuffix {
    /// Domains come longest first.
    pub(super) fn insert(&mut self, domain: Box<str>, paths: Paths) {
        if self.lengths.last() != Some(&domain.len()) {
            self.lengths.push(domain.len());
        }
        self.domains.insert(domain, paths);
    }

    pub(super) fn visit<'a, B>(
        &'a self,
        host: &str,
        mut see: impl FnMut(&'a Paths) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for &length in &self.lengths {
            // At least one byte and a dot stand before the domain.
            if let Some(dot) = host.len().checked_sub(length + 1)
                && dot > 0
                && host.as_bytes()[dot] == b'.'
                && let Some(paths) = self.domains.get(&host[dot + 1..])
            {
                see(paths)?;
            }
        }
        ControlFlow::Continue(())
    }
}

/// Text to anything. Keys come from the configuration alone, so no client can make them collide.
pub(super) type ByText<V> = HashMap<Box<str>, V, BuildHasherDefault<TextHasher>>;

/// XXH3 of a text, several times quicker here than the standard library's hash.
#[derive(Default)]
pub(super) struct TextHasher(u64);

impl Hasher for TextHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    /// `str` ends with one byte that tells it from others in a sequence; here it stands alone.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
