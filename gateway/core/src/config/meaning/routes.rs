//! `routes`: what they ask of a request, and what is done with it.

use http::StatusCode;
use http::header::CONTENT_TYPE;
use indexmap::IndexMap;

use super::Meaning;
use super::policies::trimmed;
use crate::config::decode::{AtLeastOne, Map, Named, OneOrMany};
use crate::config::leaf::{Expression, FieldName, FieldValue, FilePath, Host, MethodName, Status, UrlPath};
use crate::config::model::{Action, At, Body, Maintenance, Route};
use crate::config::problem::{Code, Problem, list, nearest};
use crate::config::raw::File;
use crate::config::raw::route as raw;
use crate::config::raw::value::{BodyText, ValueMatch};
use crate::name::{LimitName, RouteName, ServiceName};
use crate::route::rule::{Match, PathRule, ValueRule};
use crate::unit::ByteSize;

/// The largest request body where the file says nothing.
const BODY_LIMIT: ByteSize = ByteSize(10 << 20);

impl Meaning<'_> {
    pub(super) fn routes(&mut self, file: &File) -> IndexMap<RouteName, Route> {
        let mut routes = IndexMap::new();
        let mut places = Vec::new();
        let declared = Declared::of(file);
        for entry in file.routes.iter().flat_map(|routes| &routes.entries) {
            let route = entry.value.as_ref().and_then(|raw| self.route(entry, raw, &declared));
            if let (Some(key), Some(route)) = (self.name(RouteName::new, &entry.name), route) {
                routes.insert(key, route);
                places.push(entry.sound.then_some(entry.name.span));
            }
        }
        self.check_reach(&routes, &places);
        routes
    }

    fn route(
        &mut self,
        entry: &Named<raw::Route>,
        raw: &raw::Route,
        declared: &Declared<'_>,
    ) -> Option<Route> {
        let matches = raw.match_.as_ref().map_or_else(Match::default, |raw| self.matches(raw));
        let action = self.action(entry, raw, declared);
        let headers = raw.headers.as_deref();
        Some(Route {
            limits: self.limits(raw.limits.as_ref(), declared),
            body_limit: raw.body_limit.unwrap_or(BODY_LIMIT),
            buffer_request: self.buffer_request(raw.buffer_request.as_ref()),
            timeout: raw.timeout.as_ref().map(|timeout| self.period(Some(timeout), timeout.value.0)),
            max_in_flight: raw.max_in_flight.as_deref().map(|limit| self.max_in_flight(limit)),
            allow: super::nets(raw.allow.as_ref().map(|list| &list.0)),
            deny: super::nets(raw.deny.as_ref()),
            cors: raw.cors.as_ref().map(|cors| self.cors(cors)),
            request_headers: self.header_edits(headers.and_then(|headers| headers.request.as_ref())),
            response_headers: self.header_edits(headers.and_then(|headers| headers.response.as_ref())),
            security_headers: raw.security_headers.unwrap_or(false),
            rewrite: self.rewrite(raw.rewrite.as_deref(), &matches),
            mirror: raw.mirror.as_ref().and_then(|mirror| self.mirror(&entry.name, raw, mirror, declared)),
            basic_auth: raw.basic_auth.as_ref().map(|auth| self.basic_auth(auth)),
            compress: raw.compress.unwrap_or(false),
            maintenance: raw.maintenance.as_deref().map(|raw| self.maintenance(raw)),
            matches,
            action: action?,
        })
    }

    fn matches(&mut self, raw: &raw::Match) -> Match {
        let prefix = |UrlPath(path): &UrlPath| PathRule::Prefix(trimmed(path));
        let mut paths: Vec<_> =
            some(raw.path.as_ref()).iter().map(|UrlPath(path)| PathRule::Exact(path.clone())).collect();
        paths.extend(some(raw.prefix.as_ref()).iter().map(prefix));
        paths.extend(some(raw.regex.as_ref()).iter().map(|Expression(regex)| PathRule::Regex(regex.clone())));
        let fields = self.fields::<_, ValueRule>(raw.headers.as_ref(), value_rule);
        let query =
            raw.query.iter().flat_map(Map::iter).map(|(name, value)| (name.value.clone(), value_rule(value)));
        Match {
            hosts: some(raw.host.as_ref()).iter().map(|Host(host)| host.clone()).collect(),
            paths,
            methods: some(raw.methods.as_ref()).iter().map(|MethodName(method)| method.clone()).collect(),
            headers: fields,
            query: query.collect(),
        }
    }

    /// Header names and what belongs to them.
    pub(super) fn fields<T, U>(
        &mut self,
        raw: Option<&Map<T>>,
        value: fn(&T) -> U,
    ) -> Vec<(http::HeaderName, U)> {
        let mut fields = Vec::new();
        for (name, raw) in raw.iter().flat_map(|raw| raw.iter()) {
            if let Some(FieldName(name)) = self.key(name) {
                fields.push((name, value(raw)));
            }
        }
        fields
    }

    fn action(
        &mut self,
        entry: &Named<raw::Route>,
        raw: &raw::Route,
        declared: &Declared<'_>,
    ) -> Option<Action> {
        let name = &entry.name;
        match (&raw.service, &raw.redirect, &raw.respond) {
            (Some(service), None, None) => self.forward(name, service, declared),
            (None, Some(redirect), None) => Some(self.redirect(&redirect.value)),
            (None, None, Some(respond)) => Some(self.respond(&respond.value)),
            (None, None, None) => {
                if entry.sound {
                    let message = format!("route `{}` does nothing with its requests", name.value);
                    self.error(
                        Code::MissingKey,
                        message,
                        name.span,
                        "add one of `service`, `redirect`, `respond`",
                    );
                }
                None
            }
            (service, redirect, respond) => {
                let message = format!("route `{}` does several things at once", name.value);
                let spans = [
                    service.as_ref().map(|at| at.span),
                    redirect.as_ref().map(|at| at.span),
                    respond.as_ref().map(|at| at.span),
                ];
                let problem = Problem::error(Code::Conflict, message)
                    .help("keep one of `service`, `redirect`, `respond`");
                let add = |problem: Problem, span| problem.at(span, "one of them");
                self.problems.push(spans.into_iter().flatten().fold(problem, add));
                None
            }
        }
    }

    fn forward(
        &mut self,
        name: &At<String>,
        service: &At<String>,
        declared: &Declared<'_>,
    ) -> Option<Action> {
        let does = format!("route `{}` sends traffic", name.value);
        self.declared_service(&does, service, declared).map(Action::Forward)
    }

    /// A service that a route names; `does` says what for.
    pub(super) fn declared_service(
        &mut self,
        does: &str,
        service: &At<String>,
        declared: &Declared<'_>,
    ) -> Option<ServiceName> {
        if declared.services.contains(service.value.as_str()) {
            // A service whose name is no name was reported where it is declared.
            return ServiceName::new(&service.value).ok();
        }
        let message = format!("{does} to `{}`, which is not declared", service.value);
        let help = declared.help(&service.value, &declared.services, "services");
        self.problems
            .push(Problem::error(Code::UnknownService, message).at(service.span, "not declared").help(help));
        None
    }

    fn redirect(&mut self, raw: &raw::Redirect) -> Action {
        let to = &raw.to;
        let absolute = ["https://", "http://", "/"].iter().any(|start| to.value.starts_with(start));
        if !absolute || http::HeaderValue::from_str(&to.value).is_err() || to.value.contains(' ') {
            let help = "a path like /new, or a URL like https://shop.example/new";
            self.error(Code::InvalidValue, format!("`{}` is not a place to go", to.value), to.span, help);
        }
        let status = raw.status.as_ref().map_or(StatusCode::FOUND, |status| status.value.0);
        if let Some(at) =
            raw.status.as_ref().filter(|_| !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308))
        {
            let message = format!("{} does not send a client elsewhere", status.as_u16());
            self.error(Code::InvalidValue, message, at.span, "one of 301, 302, 303, 307, 308");
        }
        Action::Redirect { to: to.value.clone(), status }
    }

    fn respond(&mut self, raw: &raw::Respond) -> Action {
        let mut headers = self.fields(raw.headers.as_ref(), |FieldValue(value)| value.clone());
        let mut body = body(raw.body.as_ref());
        if let Some(at) = headers.iter().position(|(name, _)| name == CONTENT_TYPE) {
            let (_, value) = headers.remove(at);
            body.content_type = value.to_str().unwrap_or("application/octet-stream").to_owned();
        }
        for (name, _) in raw.headers.iter().flat_map(Map::iter) {
            let own = ["content-length", "date", "connection", "transfer-encoding"];
            if own.iter().any(|own| name.value.eq_ignore_ascii_case(own)) {
                let message = format!("`{}` is written by the gateway", name.value);
                self.error(Code::InvalidValue, message, name.span, "leave it out");
            }
        }
        Action::Respond { status: raw.status.map_or(StatusCode::OK, |Status(status)| status), headers, body }
    }

    fn maintenance(&self, raw: &raw::Maintenance) -> Maintenance {
        let page = |page: &At<FilePath>| At { value: self.path(&page.value.0), span: page.span };
        Maintenance {
            on: raw.on.unwrap_or(false),
            status: raw.status.map_or(StatusCode::SERVICE_UNAVAILABLE, |Status(status)| status),
            body: raw.body.as_ref().map(|text| body(Some(text))),
            page: raw.page.as_ref().map(page),
            retry_after: raw.retry_after.as_ref().map(|period| period.0),
            allow: super::nets(raw.allow.as_ref().map(|list| &list.0)),
        }
    }

    fn limits(&mut self, raw: Option<&OneOrMany<At<String>>>, declared: &Declared<'_>) -> Vec<LimitName> {
        let mut limits = Vec::new();
        for limit in slice(raw) {
            if declared.limits.contains(limit.value.as_str()) {
                limits.extend(LimitName::new(&limit.value));
                continue;
            }
            let message = format!("the rate limit `{}` is not declared", limit.value);
            let help = declared.help(&limit.value, &declared.limits, "rate limits");
            self.problems
                .push(Problem::error(Code::UnknownLimit, message).at(limit.span, "not declared").help(help));
        }
        limits
    }

    /// Warns of services and rate limits that no route refers to.
    pub(super) fn warn_of_unused(&mut self, file: &File) {
        let routes: Vec<_> = file.routes.iter().flat_map(Map::iter).map(|(_, route)| route).collect();
        let unsure = file.routes.iter().flat_map(|routes| &routes.entries).any(|entry| !entry.sound);
        let misspelt = |problem: &Problem| matches!(problem.code, Code::UnknownService | Code::UnknownLimit);
        if unsure || self.problems.iter().any(misspelt) {
            return; // A route that could not be understood may use any of them.
        }
        let services: std::collections::HashSet<_> =
            routes.iter().flat_map(|route| services_of(route)).map(|name| name.value.as_str()).collect();
        let limits: std::collections::HashSet<_> = routes
            .iter()
            .flat_map(|route| slice(route.limits.as_ref()))
            .map(|limit| limit.value.as_str())
            .collect();
        for name in file.services.iter().flat_map(Map::entry_names) {
            if !services.contains(name.value.as_str()) {
                let message = format!("no route sends traffic to service `{}`", name.value);
                self.warning(Code::Unused, message, name.span, "add a route, or leave the service out");
            }
        }
        for name in file.rate_limits.iter().flat_map(Map::entry_names) {
            if !limits.contains(name.value.as_str()) {
                let message = format!("no route has the rate limit `{}`", name.value);
                self.warning(
                    Code::Unused,
                    message,
                    name.span,
                    "add it to the `limits` of a route, or leave it out",
                );
            }
        }
    }
}

/// The names that routes may refer to.
pub(super) struct Declared<'a> {
    services: indexmap::IndexSet<&'a str>,
    limits: indexmap::IndexSet<&'a str>,
}

impl<'a> Declared<'a> {
    fn of(file: &'a File) -> Self {
        Self {
            services: file.services.iter().flat_map(Map::names).collect(),
            limits: file.rate_limits.iter().flat_map(Map::names).collect(),
        }
    }

    fn help(&self, name: &str, known: &indexmap::IndexSet<&'a str>, what: &str) -> String {
        let near = nearest(name, known.iter().copied())
            .map_or(String::new(), |near| format!("did you mean `{near}`? "));
        format!("{near}declared {what}: {}", list(known.iter().copied()))
    }
}

/// The services a route names.
fn services_of(route: &raw::Route) -> impl Iterator<Item = &At<String>> {
    route.service.iter().chain(route.mirror.as_ref().map(|mirror| &mirror.value.service))
}

/// The items of a list that may be left out.
pub(super) fn slice<T>(list: Option<&OneOrMany<T>>) -> &[T] {
    list.map_or(&[], OneOrMany::as_slice)
}

fn some<T>(list: Option<&AtLeastOne<T>>) -> &[T] {
    slice(list.map(|list| &list.0))
}

fn value_rule(raw: &ValueMatch) -> ValueRule {
    match raw {
        ValueMatch::Present => ValueRule::Present,
        ValueMatch::Exact(text) => ValueRule::Exact(text.clone()),
        ValueMatch::Regex(regex) => ValueRule::Regex(regex.clone()),
    }
}

fn body(raw: Option<&BodyText>) -> Body {
    match raw {
        None => Body::default(),
        Some(BodyText::Text(text)) => {
            Body { content_type: "text/plain; charset=utf-8".into(), text: text.clone() }
        }
        Some(BodyText::Json(value)) => {
            Body { content_type: "application/json".into(), text: value.to_string() }
        }
    }
}
