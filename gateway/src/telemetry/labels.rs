//! Label values that come from closed sets, so that no request can make a series.

use gateway_core::outcome::{Failure, Outcome};

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
