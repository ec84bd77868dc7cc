//! The body of a request: counted once, and kept as long as it may have to be sent again.

use bytes::Bytes;
use gateway_core::config::model::BUFFERABLE;

/// What is known of a request's body.
#[derive(Debug, Default)]
pub(crate) struct Body {
    /// How many bytes the client announced, or sent in all if that is known.
    pub(crate) length: Option<u64>,
    /// Whether the client has sent all of it.
    pub(crate) done: bool,
    /// Whether it was waited for before anybody was asked.
    pub(crate) buffered: bool,
    /// Bytes that were let through in this try.
    pub(crate) forwarded: u64,
    /// The beginning, for another try: all of it, or nothing once it has become too long.
    kept: Vec<u8>,
    /// Bytes of `kept` that this try was given.
    given: usize,
    dropped: bool,
}

impl Body {
    /// Another try sends it from the beginning.
    pub(crate) fn rewind(&mut self) {
        (self.given, self.forwarded) = (0, 0);
    }

    /// Whether it can be sent again.
    pub(crate) fn is_at_hand(&self) -> bool {
        !self.dropped
    }

    /// Whether this try was given all there is.
    pub(crate) fn is_given(&self) -> bool {
        self.done && self.given == self.kept.len()
    }

    /// What is kept and this try was not given, if there is any.
    pub(crate) fn next_kept(&mut self) -> Option<Bytes> {
        let rest = &self.kept[self.given..];
        if rest.is_empty() {
            return None;
        }
        self.given = self.kept.len();
        Some(Bytes::copy_from_slice(rest))
    }

    /// Takes in a piece that nobody was given, whatever its size.
    pub(crate) fn buffer(&mut self, piece: &[u8]) {
        self.kept.extend_from_slice(piece);
    }

    /// How much was taken in so far.
    pub(crate) fn buffered_bytes(&self) -> u64 {
        self.kept.len() as u64
    }

    /// Remembers a piece that goes out now.
    pub(crate) fn keep(&mut self, piece: &[u8]) {
        if self.dropped {
            return;
        }
        if (self.kept.len() + piece.len()) as u64 > BUFFERABLE.0 {
            self.dropped = true;
            (self.kept, self.given) = (Vec::new(), 0);
        } else {
            self.kept.extend_from_slice(piece);
            self.given = self.kept.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_try_gets_what_the_first_one_got() {
        let mut body = Body::default();
        body.buffer(b"before ");
        assert_eq!(body.next_kept().unwrap(), "before ");
        body.keep(b"meanwhile");
        assert_eq!(body.next_kept(), None);
        body.rewind();
        assert_eq!(body.next_kept().unwrap(), "before meanwhile");
        assert!(body.is_at_hand() && !body.is_given());
        body.done = true;
        assert!(body.is_given());
    }

    #[test]
    fn a_body_that_is_too_long_is_not_kept() {
        let mut body = Body::default();
        body.keep(&vec![0; BUFFERABLE.0 as usize]);
        assert!(body.is_at_hand());
        body.keep(b"x");
        assert!(!body.is_at_hand());
        assert_eq!((body.kept.capacity(), body.next_kept()), (0, None));
    }
}
