//! Rate limits of a route: each is asked, and each tells the client how much is left.
//!
//! The fields are those of draft-ietf-httpapi-ratelimit-headers-10: `RateLimit-Policy` names every limit with its quota
//! `q` (a full bucket) and window `w` (the seconds it takes to fill), `RateLimit` what remains `r` and the seconds `t`
//! until the bucket is full again or, on a refusal, until the next request may come.

use std::net::IpAddr;
use std::sync::Arc;

use gateway_core::config::model::{LimitKey, RateLimit};
use gateway_core::name::{LimitName, RouteName};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::limits::{Exhausted, Left, Limiter, Subject};
use crate::proxy::context::Context;
use crate::proxy::identity::cookie;
use crate::proxy::rejection::Rejection;
use crate::telemetry::instruments::CounterBy;
use crate::telemetry::labels::LimitDecision;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The rate limits of a route, in the order they are asked.
#[derive(Debug, Default)]
pub(crate) struct RateLimits {
    limits: Vec<Limit>,
    /// `RateLimit-Policy`; `None` when no limit is ever enforced.
    policy: Option<HeaderValue>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Limit {
    name: LimitName,
    limiter: Arc<Limiter>,
    decisions: Arc<CounterBy<LimitDecision>>,
    /// Count and tell nobody.
    dry_run: bool,
}

impl Limit {
    pub(crate) fn new(
        name: &LimitName,
        definition: &RateLimit,
        limiter: Arc<Limiter>,
        decisions: Arc<CounterBy<LimitDecision>>,
    ) -> Self {
        Self { name: name.clone(), limiter, decisions, dry_run: definition.dry_run }
    }

    /// Whose bucket a request takes from. One without the header or cookie is told by its address: leaving it out must
    /// not be a way around the limit.
    fn subject<'a>(&self, route: &'a RouteName, client: IpAddr, headers: &'a HeaderMap) -> Subject<'a> {
        let value = match self.limiter.key() {
            LimitKey::Route => return Subject::Route(route.as_str()),
            LimitKey::Global => return Subject::Everything,
            LimitKey::ClientIp => None,
            LimitKey::Header(name) => headers.get(name).map(HeaderValue::as_bytes),
            LimitKey::Cookie(name) => cookie(headers, name).map(str::as_bytes),
        };
        value.filter(|value| !value.is_empty()).map_or_else(|| Subject::client(client), Subject::Value)
    }

    fn count(&self, taken: &Result<Left, Exhausted>) {
        self.decisions.count(match (taken, self.dry_run) {
            (Ok(_), _) => LimitDecision::Passed,
            (Err(_), false) => LimitDecision::Limited,
            (Err(_), true) => LimitDecision::DryRun,
        });
    }
}

impl RateLimits {
    pub(crate) fn new(limits: Vec<Limit>) -> Self {
        let mut policy = String::new();
        for limit in limits.iter().filter(|limit| !limit.dry_run) {
            let (burst, window) = (limit.limiter.burst(), limit.limiter.window_seconds());
            item(&mut policy, &limit.name, ["q", "w"], [burst.into(), window]);
        }
        let policy = HeaderValue::try_from(policy).ok().filter(|policy| !policy.is_empty());
        Self { limits, policy }
    }

    /// Asks every limit until one refuses; those before it have counted the request.
    ///
    /// # Errors
    /// [`Rejection::RateLimited`].
    pub(super) fn admit(
        &self,
        route: &RouteName,
        headers: &HeaderMap,
        ctx: &mut Context,
    ) -> Result<(), Rejection> {
        let mut told = String::with_capacity(if self.policy.is_some() { 48 } else { 0 });
        let mut refused = None;
        for limit in &self.limits {
            let taken = limit.limiter.take(limit.subject(route, ctx.client.ip, headers));
            limit.count(&taken);
            match taken {
                _ if limit.dry_run => {}
                Ok(Left { requests, full_seconds }) => {
                    item(&mut told, &limit.name, ["r", "t"], [requests.into(), full_seconds]);
                }
                Err(Exhausted { wait_seconds }) => {
                    item(&mut told, &limit.name, ["r", "t"], [0, wait_seconds]);
                    refused = Some(wait_seconds);
                    break;
                }
            }
        }
        self.tell(told, ctx);
        let Some(wait_seconds) = refused else { return Ok(()) };
        ctx.answer_fields.push((header::RETRY_AFTER, wait_seconds.into()));
        Err(Rejection::RateLimited)
    }

    fn tell(&self, told: String, ctx: &mut Context) {
        let told = HeaderValue::try_from(told).ok();
        if let (Some(policy), Some(told)) = (&self.policy, told) {
            ctx.answer_fields.push((RATE_LIMIT_POLICY, policy.clone()));
            ctx.answer_fields.push((RATE_LIMIT, told));
        }
    }
}

/// Adds an item with two numbers to a structured list (RFC 9651 §3.1). Names hold nothing that a string would have to
/// escape.
fn item(list: &mut String, name: &LimitName, keys: [&str; 2], numbers: [u64; 2]) {
    list.push_str(if list.is_empty() { "\"" } else { ", \"" });
    list.push_str(name.as_str());
    list.push('"');
    for (key, number) in keys.into_iter().zip(numbers) {
        list.push(';');
        list.push_str(key);
        list.push('=');
        list.push_str(itoa::Buffer::new().format(number));
    }
}
