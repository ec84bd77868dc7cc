//! When a connection with many streams is asked for a sign of life, and when it is let go.

use std::time::Duration;

use tokio::time::Instant;

/// How often an origin is asked for a sign of life while streams are under way.
const PING_EVERY: Duration = Duration::from_secs(30);

/// How long it has for the answer.
const PONG_WITHIN: Duration = Duration::from_secs(10);

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Wait,
    Ping,
    /// Nothing has been under way for long enough.
    LetGo,
    /// The origin is gone.
    Close,
}

/// The times of one connection.
#[derive(Debug)]
pub(super) struct Upkeep {
    keepalive: Duration,
    ping_at: Instant,
    pong_by: Option<Instant>,
    /// When it may have been idle for too long; `None` once it was let go.
    idle_at: Option<Instant>,
}

impl Upkeep {
    pub(super) fn new(now: Instant, keepalive: Duration) -> Self {
        Self { keepalive, ping_at: now + PING_EVERY, pong_by: None, idle_at: Some(now + keepalive) }
    }

    /// When to look again.
    pub(super) fn next(&self) -> Instant {
        [self.pong_by, self.idle_at].into_iter().flatten().fold(self.ping_at, Instant::min)
    }

    /// Whether a PING has no answer yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.pong_by.is_some()
    }

    /// The answer is there.
    pub(super) fn answered(&mut self) {
        self.pong_by = None;
    }

    /// What to do at [`Self::next`]; `idle_since` when no stream is under way.
    pub(super) fn look(&mut self, now: Instant, idle_since: Option<Instant>) -> Step {
        if self.pong_by.is_some_and(|by| by <= now) {
            return Step::Close;
        }
        if self.idle_at.is_some_and(|at| at <= now) {
            let at = idle_since.unwrap_or(now) + self.keepalive;
            self.idle_at = (idle_since.is_none() || at > now).then_some(at);
            if self.idle_at.is_none() {
                return Step::LetGo;
            }
        }
        if self.ping_at > now {
            return Step::Wait;
        }
        self.ping_at = now + PING_EVERY;
        if idle_since.is_some() || self.is_waiting() {
            return Step::Wait;
        }
        self.pong_by = Some(now + PONG_WITHIN);
        Step::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEPALIVE: Duration = Duration::from_secs(4);

    #[test]
    fn an_idle_connection_is_let_go_when_its_time_is_over_and_not_before() {
        let begun = Instant::now();
        let mut upkeep = Upkeep::new(begun, KEEPALIVE);
        assert_eq!(upkeep.next(), begun + KEEPALIVE);
        assert_eq!(upkeep.look(begun + KEEPALIVE, None), Step::Wait, "a stream is under way");
        let ended = begun + Duration::from_secs(5);
        assert_eq!(upkeep.look(upkeep.next(), Some(ended)), Step::Wait);
        assert_eq!(upkeep.next(), ended + KEEPALIVE);
        assert_eq!(upkeep.look(upkeep.next(), Some(ended)), Step::LetGo);
        assert_eq!(upkeep.next(), begun + PING_EVERY, "no more of that");
    }

    #[test]
    fn an_origin_that_does_not_answer_a_ping_in_time_is_gone() {
        let begun = Instant::now();
        let mut upkeep = Upkeep::new(begun, Duration::from_secs(3600));
        assert_eq!(upkeep.look(upkeep.next(), Some(begun)), Step::Wait, "nothing is under way");
        let asked = upkeep.next();
        assert_eq!((asked, upkeep.look(asked, None)), (begun + 2 * PING_EVERY, Step::Ping));
        upkeep.answered();
        let asked = upkeep.next();
        assert_eq!((asked, upkeep.look(asked, None)), (begun + 3 * PING_EVERY, Step::Ping));
        assert_eq!(upkeep.next(), asked + PONG_WITHIN);
        assert_eq!(upkeep.look(upkeep.next(), None), Step::Close);
    }
}
