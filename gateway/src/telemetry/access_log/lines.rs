//! Entries formatted one after another, to be written in one go.

use super::clock::Clock;
use super::entry::Entry;

/// Lines that wait to be written.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    clock: Clock,
}

impl Lines {
    /// Appends the line of an entry, its newline included.
    pub fn add(&mut self, entry: &Entry) {
        entry.write_line(&mut self.bytes, &mut self.clock);
    }

    /// All of them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets them; their memory is kept for the next.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }
}
