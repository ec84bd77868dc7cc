//! What the gateway answers by itself: one table from reason to status, and the small bodies that go with it.

use bytes::Bytes;
use gateway_core::outcome::Termination;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::telemetry::labels::BadRequest;

/// Why a request is not answered by an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// HTTP/1.1 and HTTP/2 name exactly one well-formed host (RFC 9112 §3.2, RFC 9113 §8.3.1).
    BadHost,
    /// The path cannot be normalised without changing its meaning.
    BadPath,
    /// Fields that HTTP/2 forbids, or that contradict one another.
    BadFields,
    /// The request target is too long.
    UriTooLong,
    /// Too many or too large header fields.
    HeaderTooLarge,
    /// The client is not allowed here, or denied.
    Denied,
    /// Name and password are missing or wrong.
    Unauthorized,
    /// Too many wait to have their password checked.
    AuthOverloaded,
    /// A rate limit is used up.
    RateLimited,
    /// The route or its service has as many requests in flight as it may have, or the gateway as many files open.
    Overloaded,
    /// More body than the route takes.
    BodyTooLarge,
    /// The client fell silent in the middle of its body.
    RequestTimeout,
    /// No route matches.
    NoRoute,
    /// The release has no endpoint: its names do not resolve, or all are gone.
    NoEndpoint,
    /// No connection to the origin, TLS included.
    UpstreamUnreachable,
    /// The origin broke off.
    UpstreamFailed,
    /// What the origin answered is not HTTP, or not allowed here.
    UpstreamMalformed,
    /// The origin did not answer in time.
    UpstreamTimeout,
    /// A fault of the gateway itself.
    Internal,
}

impl Rejection {
    /// The status a client sees.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::BadHost | Self::BadPath | Self::BadFields => StatusCode::BAD_REQUEST,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, // RFC 6585 §5
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Unauthorized => StatusCode::UNAUTHORIZED, // RFC 9110 §15.5.2
            Self::AuthOverloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS, // RFC 6585 §4
            Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE, // RFC 9110 §15.6.4
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::NoEndpoint => StatusCode::SERVICE_UNAVAILABLE, // RFC 9110 §15.6.4
            Self::UpstreamUnreachable | Self::UpstreamFailed | Self::UpstreamMalformed => {
                StatusCode::BAD_GATEWAY // RFC 9110 §15.6.3
            }
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT, // RFC 9110 §15.6.5
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The word clients and metrics know it by.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::BadHost => "bad_host",
            Self::BadPath => "bad_path",
            Self::BadFields => "bad_fields",
            Self::UriTooLong => "uri_too_long",
            Self::HeaderTooLarge => "header_too_large",
            Self::Denied => "denied",
            Self::Unauthorized => "unauthorized",
            Self::AuthOverloaded => "auth_overloaded",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::BodyTooLarge => "body_too_large",
            Self::RequestTimeout => "request_timeout",
            Self::NoRoute => "no_route",
            Self::NoEndpoint => "no_endpoint",
            Self::UpstreamUnreachable | Self::UpstreamFailed => "upstream_failed",
            Self::UpstreamMalformed => "upstream_malformed",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::Internal => "internal_error",
        }
    }

    /// The word the access log ends the request with.
    pub(crate) fn termination(self) -> Termination {
        match self {
            Self::BadHost | Self::BadPath | Self::BadFields | Self::UriTooLong | Self::HeaderTooLarge => {
                Termination::BadRequest
            }
            Self::Denied | Self::Unauthorized => Termination::Denied,
            Self::AuthOverloaded => Termination::AuthOverloaded,
            Self::RateLimited => Termination::Limited,
            Self::Overloaded => Termination::Overloaded,
            Self::BodyTooLarge => Termination::BodyTooLarge,
            Self::RequestTimeout => Termination::TimedOut,
            Self::NoRoute => Termination::NoRoute,
            Self::NoEndpoint => Termination::NoEndpoint,
            Self::UpstreamUnreachable => Termination::UpstreamConnect,
            Self::UpstreamFailed => Termination::UpstreamReset,
            Self::UpstreamMalformed => Termination::UpstreamMalformed,
            Self::UpstreamTimeout => Termination::UpstreamTimeout,
            Self::Internal => Termination::Internal,
        }
    }

    /// What it is counted as, if the request's form is at fault.
    pub(crate) fn bad_request(self) -> Option<BadRequest> {
        match self {
            Self::BadHost => Some(BadRequest::Host),
            Self::BadPath => Some(BadRequest::Path),
            Self::BadFields => Some(BadRequest::Malformed),
            Self::UriTooLong => Some(BadRequest::UriTooLong),
            Self::HeaderTooLarge => Some(BadRequest::HeaderTooLarge),
            _ => None,
        }
    }

    /// The body, as the client prefers it: HTML for browsers, JSON for everybody else.
    pub(crate) fn body(self, request: &HeaderMap, request_id: &HeaderValue) -> (HeaderValue, Bytes) {
        own_body(self.status(), self.code(), request, request_id)
    }
}

/// A small page or JSON object that says `word`, and which request it was.
pub(crate) fn own_body(
    status: StatusCode,
    word: &str,
    request: &HeaderMap,
    request_id: &HeaderValue,
) -> (HeaderValue, Bytes) {
    let id = request_id.to_str().unwrap_or_default();
    let code = status.as_u16();
    if prefers_html(request) {
        let reason = status.canonical_reason().unwrap_or("Error");
        let page = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{code} {reason}</title>\
             <h1>{reason}</h1><p>{code} · <code>{word}</code></p><p>Request <code>{id}</code></p></html>\n",
        );
        return (HeaderValue::from_static("text/html; charset=utf-8"), page.into());
    }
    let json = format!("{{\"error\":\"{word}\",\"status\":{code},\"request_id\":\"{id}\"}}\n");
    (HeaderValue::from_static("application/json"), json.into())
}

/// Browsers name `text/html`; what names JSON first, or nothing, is a program.
pub(crate) fn prefers_html(request: &HeaderMap) -> bool {
    let Some(accept) = request.get(header::ACCEPT).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    match (accept.find("text/html"), accept.find("json")) {
        (Some(html), Some(json)) => html < json,
        (html, _) => html.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_get_a_page_and_programs_get_json() {
        let id = HeaderValue::from_static("abc");
        let body = |accept: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            }
            Rejection::NoRoute.body(&headers, &id)
        };
        let (kind, page) = body(Some("text/html,application/xhtml+xml,*/*;q=0.8"));
        assert_eq!(kind, "text/html; charset=utf-8");
        assert!(page.starts_with(b"<!doctype html>"));
        for accept in [None, Some("*/*"), Some("application/json, text/html;q=0.1")] {
            let (kind, json) = body(accept);
            assert_eq!(kind, "application/json", "{accept:?}");
            assert_eq!(&json[..], b"{\"error\":\"no_route\",\"status\":404,\"request_id\":\"abc\"}\n");
        }
    }
}
