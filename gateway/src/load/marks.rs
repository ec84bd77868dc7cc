//! What files said, in a number each: so that a change is seen, also one that comes while they are read.

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use gateway_core::config::{Process, World};
use indexmap::IndexMap;

/// The files of one configuration, in the order they were first read.
#[derive(Debug, Default)]
pub(super) struct Marks(RefCell<IndexMap<PathBuf, u64>>);

impl Marks {
    /// Marks a file whose contents are at hand.
    pub(super) fn add(&self, path: &Path, contents: &[u8]) {
        self.0.borrow_mut().insert(path.to_owned(), mark(Some(contents)));
    }

    /// Marks a file that is about to be read. When it changes before it is, what is read is newer than its mark: whoever
    /// watches reads once too often, never once too seldom.
    pub(super) fn note(&self, path: &Path) {
        let mut marks = self.0.borrow_mut();
        if !marks.contains_key(path) {
            marks.insert(path.to_owned(), now(path));
        }
    }

    /// The files, and the fingerprint of what they said.
    pub(super) fn finish(self) -> (Vec<PathBuf>, u64) {
        let marks = self.0.into_inner();
        let fingerprint = combined(marks.values().copied());
        (marks.into_keys().collect(), fingerprint)
    }
}

impl World for Marks {
    fn env(&self, name: &str) -> Option<String> {
        Process.env(name)
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        self.note(path);
        Process.read(path)
    }
}

/// What files say now, in a number. An unreadable file counts as different from any text.
pub(crate) fn fingerprint(files: &[PathBuf]) -> u64 {
    combined(files.iter().map(|file| now(file)))
}

fn now(path: &Path) -> u64 {
    mark(std::fs::read(path).ok().as_deref())
}

fn mark(contents: Option<&[u8]>) -> u64 {
    let mut hasher = DefaultHasher::new();
    contents.hash(&mut hasher);
    hasher.finish()
}

fn combined(marks: impl Iterator<Item = u64>) -> u64 {
    let mut hasher = DefaultHasher::new();
    marks.for_each(|mark| mark.hash(&mut hasher));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_while_it_is_read_looks_changed_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        let (config, secret) = (directory.path().join("gateway.yaml"), directory.path().join("secret"));
        std::fs::write(&secret, "old").unwrap();
        let marks = Marks::default();
        marks.add(&config, b"version: 1");
        marks.note(&secret);
        std::fs::write(&secret, "new").unwrap();
        assert_eq!(marks.read(&secret).unwrap(), "new");
        let (files, loaded) = marks.finish();
        assert_eq!(files, [config.clone(), secret.clone()]);
        std::fs::write(&config, "version: 1").unwrap();
        assert_ne!(fingerprint(&files), loaded);
        std::fs::write(&secret, "old").unwrap();
        assert_eq!(fingerprint(&files), loaded);
        std::fs::remove_file(&config).unwrap();
        assert_ne!(fingerprint(&files), loaded);
    }
}
