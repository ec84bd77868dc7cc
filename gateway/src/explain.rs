//! What would become of a request, and why: asked of the code that routes and divides, never of a copy of its rules.
//!
//! [`explain`] answers from a [`Snapshot`], be it the one that serves or one [`offline::compile`] makes of a file.

pub(crate) mod endpoints;
pub(crate) mod offline;
pub(crate) mod policies;
pub(crate) mod releases;
pub(crate) mod text;

use std::net::IpAddr;
use std::time::Instant;

use gateway_core::client_ip;
use gateway_core::config::model::Sticky;
use gateway_core::route::path;
use gateway_core::route::table::{self, Consideration, RequestView};
use gateway_core::split::Reason;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use serde::{Deserialize, Serialize};

use self::policies::Policy;
use self::releases::ReleaseView;
use crate::listener::Listener;
use crate::proxy::{host, identity};
use crate::snapshot::{Action, Snapshot};
use crate::upstream::Service;

/// A request that nobody sends.
#[derive(Debug)]
pub(crate) struct Question {
    /// With scheme and host.
    pub(crate) url: Uri,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    /// The other end of the socket.
    pub(crate) peer: IpAddr,
}

/// What would become of it. Fields stay empty from where its way ends.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Explanation {
    pub(crate) method: String,
    pub(crate) url: String,
    /// The listener it comes in by; none when no listener fits the URL.
    pub(crate) listener: Option<Entrance>,
    /// As routes are looked up by it.
    pub(crate) host: String,
    /// As routes are looked up by it.
    pub(crate) path: String,
    pub(crate) client_ip: String,
    pub(crate) outcome: Outcome,
    /// What the gateway answers by itself.
    pub(crate) status: Option<u16>,
    /// What else is to be said of the outcome.
    pub(crate) detail: Option<String>,
    pub(crate) route: Option<String>,
    /// Every route whose host and path fit, best first.
    pub(crate) candidates: Vec<Candidate>,
    /// In the order they act.
    pub(crate) policies: Vec<Policy>,
    pub(crate) service: Option<String>,
    /// What decides which of the service's endpoints are used.
    pub(crate) service_policies: Vec<Policy>,
    /// The service's releases with their shares of the moment.
    pub(crate) releases: Vec<ReleaseView>,
    /// The release; none when each request draws for itself.
    pub(crate) release: Option<String>,
    /// The word for what decided, as in logs.
    pub(crate) reason: Option<String>,
    /// The sentence for it.
    pub(crate) why: Option<String>,
}

/// A listener and where it listens.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Entrance {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) scheme: String,
}

/// What becomes of the request.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// Its form is refused.
    BadRequest,
    /// It is sent to the https listener.
    RedirectHttps,
    /// No route takes it.
    #[default]
    NoRoute,
    /// The route is switched off.
    Maintenance,
    /// A service gets it.
    Forward,
    /// The route answers by itself, as its `redirect` or `respond` says.
    Answer,
}

/// A route that was considered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Candidate {
    pub(crate) route: String,
    /// The host pattern it was found under.
    pub(crate) host: String,
    /// The path rule it was found under.
    pub(crate) path: String,
    /// `chosen`, `outranked` or `failed`.
    pub(crate) result: String,
    /// What it asks for that the request lacks.
    pub(crate) why: Option<String>,
}

/// Follows a request on its way, as far as it goes. Costs as much as serving it, and counts nothing.
pub(crate) fn explain(snapshot: &Snapshot, question: &Question) -> Explanation {
    let resolved = client_ip::resolve(question.peer, &snapshot.trusted, &question.headers);
    let entrance = entrance(snapshot, &question.url);
    let mut answer = Explanation {
        method: question.method.to_string(),
        url: question.url.to_string(),
        listener: entrance.map(|(name, listener)| Entrance::new(name, listener)),
        client_ip: resolved.client_ip.to_string(),
        ..Explanation::default()
    };
    let Some(host) = named_host(question) else {
        return answer.end(Outcome::BadRequest, StatusCode::BAD_REQUEST, "the host is no host name".into());
    };
    answer.host = host;
    if let Some(port) = entrance.and_then(|(_, listener)| listener.redirect_port) {
        let detail = format!("this listener sends everybody to https, port {port}");
        return answer.end(Outcome::RedirectHttps, StatusCode::PERMANENT_REDIRECT, detail);
    }
    match path::normalise(question.url.path().as_bytes()) {
        Ok(path) => answer.path = path.into_owned(),
        Err(error) => return answer.end(Outcome::BadRequest, StatusCode::BAD_REQUEST, error.to_string()),
    }
    let view = RequestView {
        host: &answer.host,
        path: &answer.path,
        method: &question.method,
        headers: &question.headers,
        query: question.url.query(),
    };
    let candidates = snapshot.routes.trace(&view).into_iter().map(Candidate::from).collect();
    let route = snapshot.routes.find(&view).cloned();
    answer.candidates = candidates;
    let Some(route) = route else {
        let detail = if answer.candidates.is_empty() {
            format!("no route is for host `{}` and this path", answer.host)
        } else {
            "every route for this host and path asks for something else".to_owned()
        };
        return answer.end(Outcome::NoRoute, StatusCode::NOT_FOUND, detail);
    };
    answer.route = Some(route.name.to_string());
    let standing = route.maintenance.standing();
    let definition = snapshot.model.routes.get(&route.name);
    answer.policies =
        definition.map(|route| policies::of(route, &snapshot.model, &standing)).unwrap_or_default();
    if let Some(status) = route.maintenance.refuses(resolved.client_ip, Instant::now()) {
        return answer.end(Outcome::Maintenance, status, "the route is in maintenance".to_owned());
    }
    match &route.action {
        Action::Forward(service) => answer.forward(service, question, resolved.client_ip),
        Action::Answer(own) => {
            let detail = match own.location() {
                Some(place) => format!("the route sends everybody to {place}"),
                None => "the route answers by itself".to_owned(),
            };
            return answer.end(Outcome::Answer, own.status, detail);
        }
    }
    answer
}

/// The listener a URL leads to: the one with its scheme and port; behind a port mapping, the only one with its scheme.
fn entrance<'a>(snapshot: &'a Snapshot, url: &Uri) -> Option<(&'a str, &'a Listener)> {
    let https = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if https { 443 } else { 80 });
    let mut fitting = snapshot
        .model
        .listeners
        .keys()
        .filter_map(|name| Some((name.as_str(), &**snapshot.listeners.get(name)?)))
        .filter(|(_, listener)| listener.tls.is_some() == https);
    let exact = fitting.clone().find(|(_, listener)| listener.address.port() == port);
    exact.or_else(|| fitting.next().filter(|_| fitting.next().is_none()))
}

/// The host of the request: that of its Host field, else of the URL.
fn named_host(question: &Question) -> Option<String> {
    let field = question.headers.get(header::HOST).map(|value| value.to_str());
    match field {
        Some(text) => host::normalise(text.ok()?),
        None => host::normalise(question.url.authority()?.as_str()),
    }
}

impl Explanation {
    fn end(self, outcome: Outcome, status: StatusCode, detail: String) -> Self {
        Self { outcome, status: Some(status.as_u16()), detail: Some(detail), ..self }
    }

    fn forward(&mut self, service: &Service, question: &Question, client_ip: IpAddr) {
        let sticky = &service.definition.rollout.sticky;
        let key = identity::sticky_key(sticky, &question.headers, client_ip);
        let wish =
            service.overrides.as_ref().and_then(|overrides| overrides.wish(&question.headers, client_ip));
        let (release, reason) = service.assign(key.as_deref(), fastrand::u64(..), wish);
        self.outcome = Outcome::Forward;
        self.service = Some(service.name.to_string());
        self.service_policies = endpoints::of(&service.definition);
        self.releases = releases::of(service);
        let open = reason == Reason::Hashed && key.is_none();
        let served = self.releases.iter().filter(|release| release.weight > 0.0).count();
        self.release = (!open || served == 1).then(|| release.name.to_string());
        self.reason = Some(reason.as_str().to_owned());
        self.why = Some(why(reason, sticky, key.is_some()));
    }
}

fn why(reason: Reason, sticky: &Sticky, keyed: bool) -> String {
    match reason {
        Reason::Fixed => "it takes everything".into(),
        Reason::Killed => "the kill switch sends everything to stable".into(),
        Reason::RolledBack => "the release that was due is rolled back; stable takes its requests".into(),
        Reason::OverrideAlways => "the override header asks for the canary".into(),
        Reason::OverrideNever => "the override header asks for stable".into(),
        Reason::Hashed => match (sticky, keyed) {
            (Sticky::Off, _) => "each request draws for itself".into(),
            (Sticky::Cookie { name, .. }, true) => format!("the hash of cookie `{name}`"),
            (Sticky::Cookie { name, .. }, false) => {
                format!("there is no cookie `{name}`: the user is given one, and what it draws stays")
            }
            (Sticky::Header(name), true) => format!("the hash of header `{name}`"),
            (Sticky::Header(name), false) => {
                format!("there is no header `{name}`: the request draws for itself")
            }
            (Sticky::ClientIp, _) => "the hash of the client's address".into(),
        },
    }
}

impl Entrance {
    pub(crate) fn new(name: &str, listener: &Listener) -> Self {
        let scheme = if listener.tls.is_some() { "https" } else { "http" };
        Self { name: name.to_owned(), address: listener.address.to_string(), scheme: scheme.to_owned() }
    }
}

impl From<table::Candidate> for Candidate {
    fn from(candidate: table::Candidate) -> Self {
        let (result, why) = match candidate.result {
            Consideration::Chosen => ("chosen", None),
            Consideration::Outranked => ("outranked", None),
            Consideration::Failed(mismatch) => ("failed", Some(mismatch.to_string())),
        };
        Self {
            route: candidate.route.to_string(),
            host: candidate.host,
            path: candidate.path,
            result: result.to_owned(),
            why,
        }
    }
}

#[cfg(test)]
mod tests;
