//! Label values that come from closed sets, so that no request can make a series.

use gateway_core::outcome::{Failure, Outcome};
use gateway_core::rollout::{Breach, Cause, Stage, State};

/// A closed set of label values.
pub trait Label: Copy {
    /// The label's name.
    const NAME: &'static str;

    /// Every value, in the order of [`Self::slot`].
    const LABELS: &'static [&'static str];

    /// The index of this value in [`Self::LABELS`].
    fn slot(self) -> usize;
}

impl Label for Outcome {
    const NAME: &'static str = "outcome";
    const LABELS: &'static [&'static str] = &Self::LABELS;

    fn slot(self) -> usize {
        self.slot()
    }
}

impl Label for Failure {
    const NAME: &'static str = "reason";
    const LABELS: &'static [&'static str] = &Self::LABELS;

    fn slot(self) -> usize {
        self.slot()
    }
}

impl Label for State {
    const NAME: &'static str = "state";
    const LABELS: &'static [&'static str] =
        &["idle", "pending", "ramping", "verifying", "held", "completed", "rolled_back"];

    fn slot(self) -> usize {
        match self {
            Self::Idle => 0,
            Self::Pending => 1,
            Self::Running(Stage::Ramping(_)) => 2,
            Self::Running(Stage::Verifying(_)) => 3,
            Self::Held(..) => 4,
            Self::Completed => 5,
            Self::RolledBack => 6,
        }
    }
}

/// Declares a closed set of label values: its type, its label, its values.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident = $label:literal { $($(#[$value_doc:meta])* $value:ident = $shown:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$value_doc])* $value,)+
        }

        impl Label for $name {
            const NAME: &'static str = $label;
            const LABELS: &'static [&'static str] = &[$($shown),+];

            fn slot(self) -> usize {
                self as usize
            }
        }
    };
}

labels!(
    /// How a reload ended.
    Reload = "result" {
        /// The new configuration serves.
        Success = "success",
        /// It was refused; the old one serves on.
        Failure = "failure",
    }
);
labels!(
    /// How a client's TLS handshake ended.
    Handshake = "result" {
        /// A session was made.
        Ok = "ok",
        /// The client spoke no acceptable TLS, or showed no acceptable certificate.
        Failed = "failed",
        /// It took longer than the listener allows.
        Timeout = "timeout",
    }
);
labels!(
    /// Why a connection or request was refused for its form, before any route was asked.
    BadRequest = "reason" {
        /// Not HTTP, or framed ambiguously (RFC 9112 §6.3).
        Malformed = "malformed",
        /// Host or `:authority` is missing, repeated or not a host.
        Host = "host",
        /// The path has an encoded `/` or NUL, or a broken percent-encoding.
        Path = "path",
        /// The method is not proxied (CONNECT).
        Method = "method",
        /// The request target is longer than allowed.
        UriTooLong = "uri_too_long",
        /// The header fields are larger or more than allowed.
        HeaderTooLarge = "header_too_large",
        /// The header took longer than allowed.
        HeaderTimeout = "header_timeout",
        /// The PROXY header is missing, malformed, or from an address that is not trusted.
        ProxyHeader = "proxy_header",
        /// The client has as many connections as it may have.
        TooManyConnections = "too_many_connections",
    }
);
labels!(
    /// What a rate limit said to a request.
    LimitDecision = "decision" {
        /// It may go on.
        Passed = "passed",
        /// It was refused.
        Limited = "limited",
        /// It would have been refused, were the limit not a dry run.
        DryRun = "dry_run",
    }
);
labels!(
    /// What became of a request on a route that asks for credentials.
    AuthDecision = "decision" {
        /// They are right.
        Passed = "passed",
        /// There were none, or none that could be read: how every browser begins.
        Missing = "missing",
        /// They are wrong.
        Refused = "refused",
        /// Too many were waiting to have theirs checked.
        Overloaded = "overloaded",
    }
);
labels!(
    /// What a limit on the requests in flight said to a request.
    InFlightDecision = "decision" {
        /// There was room.
        Passed = "passed",
        /// It waited, and then there was room.
        Queued = "queued",
        /// It was refused: as many waited as may.
        Full = "full",
        /// It was refused: it had waited for as long as it may.
        TimedOut = "timed_out",
    }
);
labels!(
    /// Why a canary was rolled back.
    Rollback = "reason" {
        /// [`Breach::ErrorRate`].
        ErrorRate = "error_rate",
        /// [`Breach::WorseThanStable`].
        WorseThanStable = "worse_than_stable",
        /// [`Breach::Latency`].
        Latency = "latency",
        /// [`Breach::ConsecutiveFailures`].
        ConsecutiveFailures = "consecutive_failures",
        /// [`Breach::FailedRequests`].
        FailedRequests = "failed_requests",
        /// [`Breach::NoEndpoint`].
        NoEndpoint = "no_endpoint",
        /// A person said so.
        Aborted = "aborted",
    }
);
labels!(
    /// What became of a message to a webhook.
    Notification = "result" {
        /// It was taken.
        Sent = "sent",
        /// It was not taken, also when tried again.
        Failed = "failed",
        /// It was not tried: too many were waiting.
        Dropped = "dropped",
    }
);

labels!(
    /// What became of the copy of a request for a mirrored service.
    Mirrored = "result" {
        /// It was answered, in whatever way.
        Answered = "answered",
        /// No connection, no endpoint, or no answer that could be read.
        Failed = "failed",
        /// It took longer than it may.
        Timeout = "timeout",
        /// It was not made: too many were on their way.
        Dropped = "dropped",
        /// It was not sent: the request's body was too large or never came to its end, or it was no request to copy.
        Skipped = "skipped",
    }
);

impl Rollback {
    /// The label of a rollback with this cause, if it is one.
    pub fn of(cause: &Cause) -> Option<Self> {
        Some(match cause {
            Cause::Breach(Breach::ErrorRate { .. }) => Self::ErrorRate,
            Cause::Breach(Breach::WorseThanStable { .. }) => Self::WorseThanStable,
            Cause::Breach(Breach::Latency { .. }) => Self::Latency,
            Cause::Breach(Breach::ConsecutiveFailures { .. }) => Self::ConsecutiveFailures,
            Cause::Breach(Breach::FailedRequests { .. }) => Self::FailedRequests,
            Cause::Breach(Breach::NoEndpoint) => Self::NoEndpoint,
            Cause::Aborted => Self::Aborted,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use gateway_core::rollout::Hold;

    use super::*;

    #[test]
    fn the_labels_of_rollouts_are_the_words_of_the_engine() {
        let states = [
            State::Idle,
            State::Pending,
            State::Running(Stage::Ramping(0)),
            State::Running(Stage::Verifying(2)),
            State::Held(Stage::Ramping(1), Hold::Gate),
            State::Completed,
            State::RolledBack,
        ];
        assert_eq!(states.map(|state| State::LABELS[state.slot()]), states.map(State::name));
        let breach = Breach::FailedRequests { seen: 9, expected: 1.0, max: 5 };
        let label = Rollback::of(&Cause::Breach(breach.clone())).unwrap();
        assert_eq!(Rollback::LABELS[label.slot()], breach.name());
        assert_eq!(Rollback::of(&Cause::Paused), None);
    }
}
