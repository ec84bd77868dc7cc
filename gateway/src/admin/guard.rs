//! Who may ask, and who may change something.
//!
//! A web page in a browser on this machine can send requests to the admin listener. It cannot choose the Host field, so
//! a page that points its own name here (DNS rebinding) is turned away by that name; and it cannot hide its Origin from
//! calls that change something.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use gateway_core::config::model::Secret;
use subtle::ConstantTimeEq;

use super::problem::Problem;
use crate::proxy::host;
use crate::runtime::Runtime;

/// What calls are checked against.
pub(super) struct Guard {
    pub(super) runtime: Arc<Runtime>,
    /// Whether any Host will do: no browser speaks to a unix socket.
    pub(super) any_host: bool,
}

/// Lets a call pass or answers it with a problem; marks every answer as not to be stored or guessed at.
pub(super) async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = match guard.refusal(&request) {
        None => next.run(request).await,
        Some(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

impl Guard {
    /// The problem with a call, if there is one.
    fn refusal(&self, request: &Request) -> Option<Problem> {
        if !self.any_host && !names_this_machine(request) {
            let detail = "the Host is neither an IP address nor a name without a dot; ask by address";
            return Some(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail.into()));
        }
        if request.method().is_safe() {
            return None;
        }
        if comes_from_a_foreign_page(request.headers()) {
            let detail = "pages of other origins may not change anything here";
            return Some(Problem::new(StatusCode::FORBIDDEN, detail.into()));
        }
        let snapshot = self.runtime.snapshot();
        let token = snapshot.model.admin.token.as_ref()?;
        (!bears(request.headers(), token)).then(unauthorized)
    }
}

/// Only names can be rebound. What comes without a Host is no browser, and HTTP/1.1 has none without.
fn names_this_machine(request: &Request) -> bool {
    let mut fields = request.headers().get_all(header::HOST).iter();
    let named = match (fields.next(), fields.next()) {
        (Some(one), None) => one.to_str().is_ok_and(is_local),
        (None, _) => request.version() < Version::HTTP_11,
        (Some(_), Some(_)) => false,
    };
    named && request.uri().authority().is_none_or(|authority| is_local(authority.as_str()))
}

/// A name without a dot, as container networks give (`gateway:9901`), is never asked of the public DNS: no page can point
/// one here.
fn is_local(authority: &str) -> bool {
    host::normalise(authority).is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']');
        !host.contains('.') || address.parse::<IpAddr>().is_ok()
    })
}

/// Browsers name the Origin of every call that is not safe (Fetch Standard §3.1).
fn comes_from_a_foreign_page(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let own = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    origin.is_none_or(|(_, authority)| own != Some(authority.as_bytes()))
}

/// Compares in a time that does not tell how much of the token was right.
fn bears(headers: &HeaderMap, token: &Secret) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.split_once(' '));
    given.is_some_and(|(scheme, given)| {
        let right: bool = given.trim().as_bytes().ct_eq(token.0.as_bytes()).into();
        scheme.eq_ignore_ascii_case("bearer") && right
    })
}

fn unauthorized() -> Problem {
    let detail = "this call needs `Authorization: Bearer` with the token of `admin.token`";
    Problem::new(StatusCode::UNAUTHORIZED, detail.into())
}
