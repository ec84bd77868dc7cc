//! Just enough of HTTP to drive a proxy and to answer it: complete messages in a buffer, no copies, no header maps.

pub(super) mod http1;
pub(super) mod http2;

/// The other side sent what is no HTTP, or what this side cannot use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// A request to repeat: GET over either protocol, with the same fields.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// `:authority`, or `Host`.
    pub(super) host: String,
    /// Path and query.
    pub(super) path: String,
    /// The other fields, names in lower case.
    pub(super) fields: Vec<(&'static str, String)>,
}
