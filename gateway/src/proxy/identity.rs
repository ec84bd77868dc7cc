//! Names for requests and users: request ids, trace contexts, and the cookie that makes a user stay with a release.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use gateway_core::config::model::Sticky;
use gateway_core::request_id::{self, RequestId};
use gateway_core::trace_context::TraceParent;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The header of W3C Trace Context.
pub(crate) const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

/// A fresh request id.
pub(crate) fn mint_request_id() -> RequestId {
    RequestId::mint(fastrand::u128(..))
}

/// The id of a request: the inbound one where the peer is trusted and it is well-formed, else a fresh one.
pub(crate) fn request_id(headers: &HeaderMap, name: &HeaderName, trusted: bool) -> HeaderValue {
    let inbound = if trusted { headers.get(name) } else { None };
    let inbound = inbound.filter(|value| request_id::accept(value).is_some());
    inbound.cloned().unwrap_or_else(|| mint_request_id().to_header_value())
}

/// Where a request belongs in a trace, and whether the client said so (W3C Trace Context §3.2).
pub(crate) fn trace_parent(headers: &HeaderMap) -> (TraceParent, bool) {
    let inbound = headers.get(&TRACE_PARENT).and_then(|value| TraceParent::parse(value.as_bytes()));
    let minted = || TraceParent::new(fastrand::u128(..), fastrand::u64(..));
    (inbound.unwrap_or_else(minted), inbound.is_some())
}

/// A fresh name for a user, of 128 random bits.
pub(crate) fn mint_user() -> String {
    let mut name = String::with_capacity(32);
    // Writing to a String cannot fail.
    let _ = write!(name, "{:032x}", fastrand::u128(..));
    name
}

/// The value of a cookie among all `Cookie` fields (RFC 6265 §4.2.1); the first wins.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(http::header::COOKIE)
        .iter()
        .filter_map(|field| field.to_str().ok())
        .flat_map(|field| field.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
        .filter(|value| !value.is_empty())
}

/// The key by which a request is assigned to a release; `None` when it carries none, and draws for itself.
pub(crate) fn sticky_key(sticky: &Sticky, headers: &HeaderMap, client_ip: IpAddr) -> Option<String> {
    match sticky {
        Sticky::Off => None,
        Sticky::ClientIp => Some(client_ip.to_string()),
        Sticky::Header(name) => headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned),
        Sticky::Cookie { name, .. } => cookie(headers, name).map(str::to_owned),
    }
}

/// `Set-Cookie` for a user's name.
pub(crate) fn set_user_cookie(name: &str, user: &str, ttl: Duration, secure: bool) -> Option<HeaderValue> {
    let secure = if secure { "; Secure" } else { "" };
    let age = ttl.as_secs();
    HeaderValue::try_from(format!("{name}={user}; Max-Age={age}; Path=/; HttpOnly{secure}; SameSite=Lax"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookies(fields: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(http::header::COOKIE, HeaderValue::from_static(field));
        }
        headers
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let headers = cookies(&["xgw_id=no; a=1", "gw_id=user-1; gw_id=user-2"]);
        assert_eq!(cookie(&headers, "gw_id"), Some("user-1"));
        assert_eq!(cookie(&headers, "gw"), None);
        assert_eq!(cookie(&cookies(&["gw_id="]), "gw_id"), None);
    }

    #[test]
    fn the_cookie_of_a_user_cannot_be_read_by_scripts_or_sent_in_the_clear() {
        let value = set_user_cookie("gw_id", "u", Duration::from_secs(60), true).expect("a header value");
        assert_eq!(value, "gw_id=u; Max-Age=60; Path=/; HttpOnly; Secure; SameSite=Lax");
    }
}
