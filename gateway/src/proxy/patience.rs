//! How long may pass without anything moving, and whose fault it is then.

use std::time::Duration;

use gateway_core::config::model::Timeouts;
use pingora::{Error, ErrorType};

/// Who is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The client, to send more of its request.
    ClientSends,
    /// The client, to take more of the answer.
    ClientTakes,
    /// The origin, to take more of the request.
    OriginTakes,
    /// The origin, to begin its answer: it has all of the request.
    FirstByte,
    /// The origin, to go on with its answer; or the client with its request, when that is still `uploading`.
    Answer {
        /// Whether the request is not complete.
        uploading: bool,
    },
}

impl Wait {
    /// What it is when nobody came in time.
    pub(crate) fn error(self) -> Box<Error> {
        match self {
            Self::ClientSends => Error::new_down(ErrorType::ReadTimedout),
            Self::ClientTakes => Error::new_down(ErrorType::WriteTimedout),
            Self::OriginTakes => Error::new_up(ErrorType::WriteTimedout),
            Self::FirstByte | Self::Answer { .. } => Error::new_up(ErrorType::ReadTimedout),
        }
    }
}

/// What one attempt may wait for at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Patience {
    client: Duration,
    first_byte: Duration,
    idle: Duration,
}

impl Patience {
    /// `client` is how long a client may pause in a body, either way.
    pub(crate) fn new(timeouts: &Timeouts, client: Duration) -> Self {
        Self { client, first_byte: timeouts.first_byte, idle: timeouts.idle }
    }

    /// How long the next sign of life may take.
    pub(crate) fn of(&self, wait: Wait) -> Duration {
        match wait {
            Wait::ClientSends | Wait::ClientTakes => self.client,
            Wait::OriginTakes | Wait::Answer { uploading: false } => self.idle,
            Wait::FirstByte => self.first_byte,
            Wait::Answer { uploading: true } => self.idle.max(self.client),
        }
    }
}

#[cfg(test)]
mod tests {
    use pingora::ErrorSource;

    use super::*;

    #[test]
    fn each_wait_has_its_time_and_its_culprit() {
        let seconds = Duration::from_secs;
        let patience = Patience { client: seconds(30), first_byte: seconds(5), idle: seconds(60) };
        for (wait, time, culprit) in [
            (Wait::ClientSends, 30, ErrorSource::Downstream),
            (Wait::ClientTakes, 30, ErrorSource::Downstream),
            (Wait::OriginTakes, 60, ErrorSource::Upstream),
            (Wait::FirstByte, 5, ErrorSource::Upstream),
            (Wait::Answer { uploading: false }, 60, ErrorSource::Upstream),
        ] {
            assert_eq!(patience.of(wait), seconds(time), "{wait:?}");
            assert_eq!(*wait.error().esource(), culprit, "{wait:?}");
        }
        let impatient = Patience { idle: seconds(1), ..patience };
        assert_eq!(impatient.of(Wait::Answer { uploading: true }), seconds(30));
    }
}
