//! `maintenance`: what answers while a route is switched off, by the file or by hand.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use gateway_core::client_ip::TrustedProxies as Networks;
use gateway_core::config::model;
use gateway_core::outcome::Termination;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::maintenance::{Standing, Switch};
use crate::proxy::context::Context;
use crate::proxy::rejection::{own_body, prefers_html};
use crate::proxy::respond::Answer;

/// The word programs know it by.
const CODE: &str = "maintenance";

/// Of one route. Every route can be switched off, so that every route has one.
#[derive(Debug)]
pub(crate) struct Maintenance {
    /// How it was thrown by hand.
    pub(crate) switch: Arc<Switch>,
    /// Whether the file says it is on.
    pub(crate) file: bool,
    /// `None` for a route of which the file says nothing.
    said: Option<Box<Said>>,
}

/// What the file says of the answer.
#[derive(Debug)]
struct Said {
    status: StatusCode,
    /// With its media type.
    body: Option<(HeaderValue, Bytes)>,
    page: Option<Bytes>,
    retry_after_seconds: Option<u64>,
    allow: Networks,
}

impl Maintenance {
    /// `page` is what its file holds.
    pub(crate) fn new(route: &model::Route, switch: Arc<Switch>, page: Option<Bytes>) -> Self {
        let said = route.maintenance.as_ref().map(|maintenance| Box::new(Said::new(maintenance, page)));
        Self { switch, file: route.maintenance.as_ref().is_some_and(|maintenance| maintenance.on), said }
    }

    /// The status a client gets at `at`, if the route is in maintenance and the client is not let through. One atomic load
    /// while it is not.
    pub(crate) fn refuses(&self, client: IpAddr, at: Instant) -> Option<StatusCode> {
        if !self.switch.is_on(self.file, at) {
            return None;
        }
        match &self.said {
            Some(said) if said.allow.contains(client) => None,
            Some(said) => Some(said.status),
            None => Some(StatusCode::SERVICE_UNAVAILABLE),
        }
    }

    /// For people.
    pub(crate) fn standing(&self) -> Standing {
        Standing { file: Some(self.file), thrown: self.switch.thrown() }
    }

    /// The answer, if there is one to give instead of going on.
    pub(super) fn answer(&self, request: &HeaderMap, ctx: &Context) -> Option<Answer> {
        let status = self.refuses(ctx.client.ip, ctx.started)?;
        let (content_type, body) = self.body(status, request, &ctx.request_id);
        let mut answer = Answer { body, termination: Termination::Maintenance, ..Answer::empty(status) };
        answer.fields.push((header::CONTENT_TYPE, content_type));
        answer.fields.push((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
        if let Some(seconds) = self.retry_after_seconds(ctx.started) {
            answer.fields.push((header::RETRY_AFTER, seconds.into()));
        }
        Some(answer)
    }

    /// The page for those who prefer one, else the body; our own where the file has none.
    fn body(
        &self,
        status: StatusCode,
        request: &HeaderMap,
        request_id: &HeaderValue,
    ) -> (HeaderValue, Bytes) {
        let said = self.said.as_deref();
        let page = said.and_then(|said| said.page.as_ref()).filter(|_| prefers_html(request));
        match (page, said.and_then(|said| said.body.as_ref())) {
            (Some(page), _) => (HeaderValue::from_static("text/html; charset=utf-8"), page.clone()),
            (None, Some(body)) => body.clone(),
            (None, None) => own_body(status, CODE, request, request_id),
        }
    }

    /// What the file says, else what is left of the time the switch was thrown for.
    fn retry_after_seconds(&self, at: Instant) -> Option<u64> {
        let said = self.said.as_ref().and_then(|said| said.retry_after_seconds);
        said.or_else(|| self.switch.left(at).map(|left| left.as_millis().div_ceil(1000) as u64))
    }
}

impl Said {
    fn new(maintenance: &model::Maintenance, page: Option<Bytes>) -> Self {
        let body = maintenance.body.as_ref().map(|body| {
            let content_type = HeaderValue::from_str(&body.content_type);
            let content_type = content_type.unwrap_or(HeaderValue::from_static("application/octet-stream"));
            (content_type, Bytes::copy_from_slice(body.text.as_bytes()))
        });
        let whole_seconds = |period: &std::time::Duration| period.as_millis().div_ceil(1000) as u64;
        Self {
            status: maintenance.status,
            body,
            page,
            retry_after_seconds: maintenance.retry_after.as_ref().map(whole_seconds),
            allow: Networks::new(&maintenance.allow),
        }
    }
}
