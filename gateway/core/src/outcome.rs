//! How attempts and requests end: the words that metrics, the access log, retries and rollouts share.

use std::fmt;

use http::StatusCode;
use serde::{Serialize, Serializer};

use crate::config::model::FailureSet;

/// How one attempt at one endpoint ended.
///
/// It says what happened, not whether that is bad: what counts as a failure is for a [`FailureSet`] to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A whole answer came, with this status.
    Answered(StatusCode),
    /// No connection: refused, unreachable, or not in time.
    Connect,
    /// A connection, but no TLS session on it.
    Tls,
    /// No answer in time, or silence in the middle of one.
    Timeout,
    /// The connection broke before the response header.
    Reset,
    /// What came is not HTTP, or not allowed here.
    Malformed,
    /// The answer broke off in its body.
    Truncated,
    /// The client hung up first.
    ClientAbort,
    /// The gateway could not try: out of file descriptors or ports, or a fault of its own.
    Local,
    /// A pooled connection had been closed by the origin before the request reached it.
    Stale,
}

/// The word in a configuration's `on:` or `failures:` list under which an outcome falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No connection, or no TLS.
    Connect,
    /// No answer in time.
    Timeout,
    /// The connection broke, or the answer is malformed or short.
    Reset,
    /// A listed status, or `5xx`.
    Status,
}

impl Outcome {
    /// Every metric label an outcome can have; [`Self::slot`] is the index into it.
    pub const LABELS: [&'static str; 11] = [
        "ok",
        "status_5xx",
        "connect",
        "tls",
        "timeout",
        "reset",
        "malformed",
        "truncated",
        "client_abort",
        "local",
        "stale",
    ];

    /// The index of its label in [`Self::LABELS`].
    pub fn slot(self) -> usize {
        match self {
            Self::Answered(status) => usize::from(status.is_server_error()),
            Self::Connect => 2,
            Self::Tls => 3,
            Self::Timeout => 4,
            Self::Reset => 5,
            Self::Malformed => 6,
            Self::Truncated => 7,
            Self::ClientAbort => 8,
            Self::Local => 9,
            Self::Stale => 10,
        }
    }

    /// The metric label: one of a closed set, statuses by class (`ok` up to 499, then `status_5xx`).
    pub fn as_label(self) -> &'static str {
        Self::LABELS[self.slot()]
    }

    /// Whether it speaks against the endpoint (`true`) or for it; nothing when no origin is to blame.
    pub fn blames_endpoint(self) -> Option<bool> {
        match self {
            Self::Answered(status) => Some(status.is_server_error()),
            Self::Connect | Self::Tls | Self::Timeout | Self::Reset | Self::Malformed | Self::Truncated => {
                Some(true)
            }
            Self::ClientAbort | Self::Local | Self::Stale => None,
        }
    }

    /// The word under which `listed` counts this as a failure, if it does.
    ///
    /// Never for a client that hung up, for the gateway's own troubles, or for a stale pooled connection: no origin
    /// is to blame for those.
    pub fn failure(self, listed: &FailureSet) -> Option<Failure> {
        let (counts, failure) = match self {
            Self::Answered(status) => (
                listed.server_errors && status.is_server_error() || listed.statuses.contains(&status),
                Failure::Status,
            ),
            Self::Connect | Self::Tls => (listed.connect, Failure::Connect),
            Self::Timeout => (listed.timeout, Failure::Timeout),
            Self::Reset | Self::Malformed | Self::Truncated => (listed.reset, Failure::Reset),
            Self::ClientAbort | Self::Local | Self::Stale => return None,
        };
        counts.then_some(failure)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_label())
    }
}

impl Failure {
    /// Every metric label; [`Self::slot`] is the index into it.
    pub const LABELS: [&'static str; 4] = ["connect", "timeout", "reset", "status"];

    /// The index of its label in [`Self::LABELS`].
    pub fn slot(self) -> usize {
        self as usize
    }

    /// The metric label.
    pub fn as_label(self) -> &'static str {
        Self::LABELS[self.slot()]
    }
}

/// How a request ended, seen by its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Termination {
    /// Answered by the release it was given to, whatever the status.
    Ok,
    /// Answered by stable after the canary had failed it.
    FailedOver,
    /// Sent elsewhere by the gateway: a `redirect` route or an http listener with `redirect_https`.
    Redirected,
    /// Answered by the gateway as its route says: `respond`, a CORS preflight.
    Responded,
    /// The client hung up before the end.
    ClientClosed,
    /// No endpoint could be connected to, TLS included.
    UpstreamConnect,
    /// An origin took longer than the service's time-outs allow.
    UpstreamTimeout,
    /// An origin broke the connection, before or within its answer.
    UpstreamReset,
    /// An origin's answer was not HTTP, or not allowed here.
    UpstreamMalformed,
    /// The release had no endpoint to try.
    NoEndpoint,
    /// No route matched.
    NoRoute,
    /// The request was malformed or refused for its form.
    BadRequest,
    /// The request body was larger than the route allows.
    BodyTooLarge,
    /// The request as a whole took longer than its route allows, or its body stalled.
    TimedOut,
    /// Refused by a rate limit.
    Limited,
    /// Refused because the route or its service had as many requests in flight as it may have, or the gateway as many
    /// files open.
    Overloaded,
    /// Refused by an allow-list, a deny-list or for its credentials.
    Denied,
    /// Refused unheard: too many were waiting to have their password checked.
    AuthOverloaded,
    /// Refused because the route is switched off.
    Maintenance,
    /// The gateway itself could not go on.
    Internal,
}

impl Termination {
    /// The word in the access log.
    pub fn as_label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::FailedOver => "failed_over",
            Self::Redirected => "redirected",
            Self::Responded => "responded",
            Self::ClientClosed => "client_closed",
            Self::UpstreamConnect => "upstream_connect",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamReset => "upstream_reset",
            Self::UpstreamMalformed => "upstream_malformed",
            Self::NoEndpoint => "no_endpoint",
            Self::NoRoute => "no_route",
            Self::BadRequest => "bad_request",
            Self::BodyTooLarge => "body_too_large",
            Self::TimedOut => "timed_out",
            Self::Limited => "limited",
            Self::Overloaded => "overloaded",
            Self::Denied => "denied",
            Self::AuthOverloaded => "auth_overloaded",
            Self::Maintenance => "maintenance",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for Termination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_label())
    }
}

impl Serialize for Termination {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: FailureSet = FailureSet {
        connect: false,
        timeout: false,
        reset: false,
        server_errors: false,
        statuses: Vec::new(),
    };

    fn everything() -> FailureSet {
        FailureSet {
            connect: true,
            timeout: true,
            reset: true,
            server_errors: true,
            statuses: vec![StatusCode::NOT_FOUND],
        }
    }

    #[test]
    fn each_outcome_has_a_label_of_its_own_and_statuses_two() {
        let mut labels: Vec<_> = [
            Outcome::Answered(StatusCode::OK),
            Outcome::Answered(StatusCode::BAD_GATEWAY),
            Outcome::Connect,
            Outcome::Tls,
            Outcome::Timeout,
            Outcome::Reset,
            Outcome::Malformed,
            Outcome::Truncated,
            Outcome::ClientAbort,
            Outcome::Local,
            Outcome::Stale,
        ]
        .iter()
        .map(|outcome| outcome.as_label())
        .collect();
        assert_eq!(labels, Outcome::LABELS);
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Outcome::LABELS.len());
        assert_eq!(Outcome::Answered(StatusCode::TOO_MANY_REQUESTS).as_label(), "ok");
    }

    #[test]
    fn only_what_is_listed_is_a_failure() {
        for outcome in [
            Outcome::Answered(StatusCode::SERVICE_UNAVAILABLE),
            Outcome::Connect,
            Outcome::Tls,
            Outcome::Timeout,
            Outcome::Reset,
            Outcome::Malformed,
            Outcome::Truncated,
        ] {
            assert_eq!(outcome.failure(&NOTHING), None, "{outcome}");
            assert!(outcome.failure(&everything()).is_some(), "{outcome}");
        }
        let no_tls = FailureSet { connect: true, ..NOTHING };
        assert_eq!(Outcome::Tls.failure(&no_tls), Some(Failure::Connect));
        let broken = FailureSet { reset: true, ..NOTHING };
        assert_eq!(Outcome::Truncated.failure(&broken), Some(Failure::Reset));
    }

    #[test]
    fn a_single_status_can_be_listed_and_its_neighbours_are_not() {
        let set = everything();
        assert_eq!(Outcome::Answered(StatusCode::NOT_FOUND).failure(&set), Some(Failure::Status));
        assert_eq!(Outcome::Answered(StatusCode::TOO_MANY_REQUESTS).failure(&set), None);
        assert_eq!(Outcome::Answered(StatusCode::OK).failure(&set), None);
    }

    #[test]
    fn no_origin_is_blamed_for_clients_the_gateway_or_a_stale_connection() {
        for outcome in [Outcome::ClientAbort, Outcome::Local, Outcome::Stale] {
            assert_eq!(outcome.failure(&everything()), None, "{outcome}");
        }
    }

    #[test]
    fn failures_are_labelled_with_the_words_of_the_file() {
        let all = [Failure::Connect, Failure::Timeout, Failure::Reset, Failure::Status];
        assert_eq!(all.map(Failure::as_label), Failure::LABELS);
    }
}
