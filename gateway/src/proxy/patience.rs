//! How long an origin may be silent, stage by stage: while the request is on its way to it, until its first byte, and
//! between the pieces of its answer.

use std::time::Duration;

use gateway_core::config::model::Timeouts;

/// The slowest line an announced body is expected to come over, in bytes a second.
const SLOW_LINE: u64 = 32 << 10;

/// What one attempt may wait for at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// Between two pieces of the request's body; nothing once all of it is there.
    upload: Option<Duration>,
    first_byte: Duration,
    idle: Duration,
}

impl Patience {
    /// `upload` is how long a client may pause in a body that is still to come.
    pub(crate) fn new(timeouts: &Timeouts, upload: Option<Duration>) -> Self {
        Self { upload, first_byte: timeouts.first_byte, idle: timeouts.idle }
    }

    /// How long the next sign of life may take.
    pub(crate) fn at(&self, body_done: bool, answering: bool) -> Duration {
        let upload = self.upload.filter(|_| !body_done);
        match (upload, answering) {
            (None, false) => self.first_byte,
            (None, true) => self.idle,
            (Some(upload), false) => upload,
            (Some(upload), true) => upload.max(self.idle),
        }
    }

    /// The one time Pingora is told, which is the longest of all.
    pub(crate) fn longest(&self) -> Duration {
        self.first_byte.max(self.idle).max(self.upload.unwrap_or_default())
    }

    /// Whether one time says it all.
    pub(crate) fn is_uniform(&self) -> bool {
        self.first_byte == self.idle && self.upload.is_none_or(|upload| upload == self.idle)
    }

    /// The longest for an HTTP/2 origin, whose first byte Pingora awaits from the request's header on and not from its
    /// end: a body of `length` bytes may take as long as it does over a slow line.
    pub(crate) fn longest_from_header(&self, length: Option<u64>) -> Duration {
        let sending = Duration::from_secs(length.unwrap_or_default() / SLOW_LINE);
        self.longest() + self.upload.map_or(Duration::ZERO, |_| sending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience(upload: Option<u64>, first_byte: u64, idle: u64) -> Patience {
        let seconds = Duration::from_secs;
        Patience { upload: upload.map(seconds), first_byte: seconds(first_byte), idle: seconds(idle) }
    }

    #[test]
    fn the_first_byte_is_due_only_when_the_request_is_there() {
        let patience = patience(Some(30), 5, 60);
        let stages = [(false, false), (true, false), (false, true), (true, true)];
        let seconds = stages.map(|(body_done, answering)| patience.at(body_done, answering).as_secs());
        assert_eq!(seconds, [30, 5, 60, 60]);
        assert_eq!((patience.longest().as_secs(), patience.is_uniform()), (60, false));
    }

    #[test]
    fn the_defaults_need_one_time_only() {
        assert!(patience(Some(30), 30, 30).is_uniform());
        assert!(patience(None, 30, 30).is_uniform());
        assert!(!patience(Some(10), 30, 30).is_uniform());
        assert!(!patience(None, 30, 60).is_uniform());
    }

    #[test]
    fn an_http2_origin_waits_for_what_was_announced() {
        let waits = |upload, length| patience(upload, 30, 30).longest_from_header(length).as_secs();
        assert_eq!(waits(Some(30), Some(10 << 20)), 30 + 320);
        assert_eq!(waits(Some(30), None), 30);
        assert_eq!(waits(None, Some(10 << 20)), 30);
    }
}
