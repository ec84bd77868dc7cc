//! Why a client is turned away before a request of its exists.

use bytes::Bytes;
use http::HeaderName;
use pingora::protocols::http::date::get_cached_date;

use crate::telemetry::labels::BadRequest;

/// A reason that arises before any request hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The header was not complete in time.
    HeaderTimeout,
    /// The header is larger than the listener allows.
    HeaderTooLarge,
    /// The request cannot be parsed.
    Malformed,
    /// CONNECT: this is no forward proxy.
    Connect,
    /// The PROXY header is missing, malformed or from a peer that is not trusted.
    ProxyHeader,
    /// The address holds as many connections as it may.
    TooManyConnections,
}

impl Refusal {
    /// What it is counted as.
    pub(crate) fn reason(self) -> BadRequest {
        match self {
            Self::HeaderTimeout => BadRequest::HeaderTimeout,
            Self::HeaderTooLarge => BadRequest::HeaderTooLarge,
            Self::Malformed => BadRequest::Malformed,
            Self::Connect => BadRequest::Method,
            Self::ProxyHeader => BadRequest::ProxyHeader,
            Self::TooManyConnections => BadRequest::TooManyConnections,
        }
    }

    /// The whole answer; it closes the connection, since what follows on it cannot be understood.
    pub(crate) fn to_http1(self, request_id: &HeaderName) -> Bytes {
        let id = crate::proxy::identity::mint_request_id();
        let id = id.as_str();
        let (status, code) = match self {
            Self::HeaderTimeout => ("408 Request Timeout", "request_timeout"),
            Self::HeaderTooLarge => ("431 Request Header Fields Too Large", "header_too_large"),
            Self::Connect => ("405 Method Not Allowed", "method_not_allowed"),
            Self::TooManyConnections => ("429 Too Many Requests", "too_many_connections"),
            Self::Malformed | Self::ProxyHeader => ("400 Bad Request", "bad_request"),
        };
        let body = format!("{{\"error\":\"{code}\",\"request_id\":\"{id}\"}}\n");
        let length = body.len();
        let mut answer = format!("HTTP/1.1 {status}\r\nDate: ").into_bytes();
        answer.extend_from_slice(get_cached_date().as_bytes());
        answer.extend_from_slice(
            format!(
                "\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{request_id}: {id}\r\n\
                 Connection: close\r\n\r\n{body}"
            )
            .as_bytes(),
        );
        answer.into()
    }
}
