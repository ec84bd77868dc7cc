//! Policies of routes, and `rate_limits`.

use std::time::Duration;

use indexmap::IndexMap;

use super::Meaning;
use super::routes::slice;
use crate::config::decode::Map;
use crate::config::host::host_name;
use crate::config::leaf::{FieldName, MethodName};
use crate::config::model::{
    At, BUFFERABLE, BasicAuth, Cors, HeaderEdits, LimitScope, MaxInFlight, PathRewrite, RateLimit, Rewrite,
    StoreDown,
};
use crate::config::problem::{Code, Problem};
use crate::config::raw::route as raw;
use crate::config::raw::value::{self, HeaderText, MaxInFlightQueue};
use crate::name::LimitName;
use crate::password::PasswordHash;
use crate::route::rule::{Match, PathRule};
use crate::unit::ByteSize;

/// Fields that frame a message or belong to one connection.
pub(super) const OWN: &[&str] =
    &["connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

impl Meaning<'_> {
    pub(super) fn rate_limits(
        &mut self,
        raw: Option<&Map<raw::RateLimit>>,
        has_fleet: bool,
    ) -> IndexMap<LimitName, RateLimit> {
        let mut limits = IndexMap::new();
        for entry in raw.iter().flat_map(|raw| &raw.entries) {
            let name = self.name(LimitName::new, &entry.name);
            let limit = entry.value.as_ref().map(|limit| self.rate_limit(limit, has_fleet));
            limits.extend(name.zip(limit));
        }
        limits
    }

    fn rate_limit(&mut self, raw: &raw::RateLimit, has_fleet: bool) -> RateLimit {
        let scope = raw.scope.as_ref().map_or(LimitScope::Local, |scope| scope.value);
        if let Some(at) = raw.scope.as_ref().filter(|_| scope == LimitScope::Fleet && !has_fleet) {
            let help = "add `fleet: { redis: … }`; until then each gateway counts alone";
            self.warning(Code::NoFleet, "there is no fleet to count together with", at.span, help);
        }
        RateLimit {
            key: raw.key.clone(),
            rate: raw.rate,
            burst: self.count(raw.burst.as_ref(), raw.rate.count),
            scope,
            when_store_down: raw.when_store_down.unwrap_or(StoreDown::Local),
            dry_run: raw.dry_run.unwrap_or(false),
        }
    }

    pub(super) fn buffer_request(&mut self, raw: Option<&At<ByteSize>>) -> Option<ByteSize> {
        let At { value: size, span } = raw?;
        if size.0 == 0 {
            self.error(
                Code::InvalidValue,
                "nothing would be kept",
                *span,
                "leave it out to let bodies stream",
            );
        } else if size.0 > BUFFERABLE.0 {
            let message = format!("a body of {size} cannot be kept");
            let help = format!("at most {BUFFERABLE}: what the gateway can send again; larger bodies stream");
            self.error(Code::InvalidValue, message, *span, help);
        }
        Some(*size)
    }

    /// Of a route or a service.
    pub(super) fn max_in_flight(&mut self, raw: &value::MaxInFlight) -> MaxInFlight {
        const WAIT: Duration = Duration::from_secs(1);
        let (requests, queue, wait) = match raw {
            value::MaxInFlight::Requests(requests) => (requests, None, None),
            value::MaxInFlight::Queued(MaxInFlightQueue { requests, queue, wait }) => {
                (requests, *queue, wait.as_ref())
            }
        };
        let queue = queue.unwrap_or(requests.value);
        MaxInFlight { requests: self.count(Some(requests), 1), queue, wait: self.period(wait, WAIT) }
    }

    pub(super) fn cors(&mut self, raw: &raw::Cors) -> Cors {
        let origins = raw.origins.value.as_slice();
        for origin in origins.iter().filter(|origin| !is_origin(&origin.value)) {
            let message = format!("`{}` is not an origin", origin.value);
            let help = "scheme, host and port as a browser sends them: https://app.shop.example, without a path; or `*`";
            self.error(Code::InvalidValue, message, origin.span, help);
        }
        let credentials = raw.credentials.as_ref().filter(|credentials| credentials.value);
        if let (Some(star), Some(credentials)) =
            (origins.iter().find(|origin| origin.value == "*"), credentials)
        {
            let problem =
                Problem::error(Code::Conflict, "every site could read the answers with the user's cookies")
                    .at(credentials.span, "with cookies")
                    .at(star.span, "by everybody");
            self.problems
                .push(problem.help("name the origins; browsers refuse `*` with credentials (WHATWG Fetch)"));
        }
        let (everybody, named): (Vec<_>, Vec<_>) = origins.iter().partition(|origin| origin.value == "*");
        if let (Some(star), Some(one)) = (everybody.first(), named.first()) {
            let problem = Problem::error(Code::Conflict, "everybody, and some by name")
                .at(one.span, "means nothing beside `*`")
                .at(star.span, "everybody");
            self.problems.push(problem.help("leave out `*`, or the names"));
        }
        let names = |list| slice(list).iter().map(|FieldName(name)| name.clone()).collect();
        Cors {
            origins: origins.iter().map(|origin| origin.value.to_ascii_lowercase()).collect(),
            methods: slice(raw.methods.as_ref()).iter().map(|MethodName(method)| method.clone()).collect(),
            headers: names(raw.headers.as_ref()),
            expose: names(raw.expose.as_ref()),
            credentials: credentials.is_some(),
            max_age: raw.max_age.as_ref().map_or(Duration::from_secs(600), |period| period.0),
        }
    }

    pub(super) fn header_edits(&mut self, raw: Option<&raw::HeaderEdits>) -> HeaderEdits {
        let Some(raw) = raw else {
            return HeaderEdits::default();
        };
        for (name, _) in [&raw.set, &raw.add].into_iter().flatten().flat_map(Map::iter) {
            self.check_editable(&name.value, name);
        }
        for name in slice(raw.remove.as_ref()) {
            self.check_editable(name.value.0.as_str(), name);
        }
        let text = |HeaderText(template): &HeaderText| template.clone();
        HeaderEdits {
            remove: slice(raw.remove.as_ref()).iter().map(|name| name.value.0.clone()).collect(),
            set: self.fields(raw.set.as_ref(), text),
            add: self.fields(raw.add.as_ref(), text),
        }
    }

    /// Fields that frame a message or belong to one connection are the gateway's own.
    fn check_editable<T>(&mut self, name: &str, at: &At<T>) {
        if name.eq_ignore_ascii_case("host") {
            self.error(
                Code::InvalidValue,
                "`host` is not changed here",
                at.span,
                "use `rewrite: { host: … }`",
            );
        } else if OWN.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            let message = format!("`{name}` is written by the gateway");
            self.error(Code::InvalidValue, message, at.span, "leave it out");
        }
    }

    pub(super) fn rewrite(&mut self, raw: Option<&raw::Rewrite>, matches: &Match) -> Rewrite {
        let Some(raw) = raw else {
            return Rewrite::default();
        };
        let path = match (&raw.strip_prefix, &raw.prefix) {
            (Some(strip), Some(prefix)) => {
                let problem =
                    Problem::error(Code::Conflict, "`strip_prefix` and `prefix` exclude each other");
                self.problems
                    .push(problem.at(strip.span, "takes away").at(prefix.span, "replaces").help("keep one"));
                None
            }
            (Some(strip), None) => Some(PathRewrite::StripPrefix(trimmed(&strip.value.0))),
            (None, Some(prefix)) => {
                let by_prefix = |path: &PathRule| matches!(path, PathRule::Prefix(_));
                if matches.paths.is_empty() || !matches.paths.iter().all(by_prefix) {
                    let help = "match by `prefix` alone, or use `strip_prefix`";
                    self.error(Code::Conflict, "there is no matched prefix to replace", prefix.span, help);
                }
                Some(PathRewrite::ReplacePrefix(trimmed(&prefix.value.0)))
            }
            (None, None) => None,
        };
        Rewrite { path, host: raw.host.as_ref().map(|host| self.authority(host)) }
    }

    /// A host name with or without a port.
    pub(super) fn authority(&mut self, host: &At<String>) -> String {
        let (name, port) = match host.value.rsplit_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host.value.as_str(), None),
        };
        let bad_port = port.is_some_and(|port| port.parse::<u16>().is_err());
        if bad_port || host_name(name).is_err() {
            let message = format!("`{}` is not a host", host.value);
            self.error(
                Code::InvalidValue,
                message,
                host.span,
                "for example app.internal or app.internal:8080",
            );
        }
        host.value.to_ascii_lowercase()
    }

    pub(super) fn basic_auth(&mut self, raw: &At<raw::BasicAuth>) -> BasicAuth {
        let At { value: raw, span } = raw;
        let named = raw.users.as_ref().filter(|users| !users.value.entries.is_empty());
        if named.is_none() && raw.users_file.is_none() {
            let at = raw.users.as_ref().map_or(*span, |users| users.span);
            self.error(Code::MissingKey, "nobody could log in", at, "name at least one user");
        }
        let users = named.iter().flat_map(|users| users.value.iter());
        BasicAuth {
            realm: self.realm(raw.realm.as_ref()),
            users: users.filter_map(|(name, hash)| self.user(name, hash)).collect(),
            users_file: raw.users_file.as_ref().map(|path| self.file(path)),
        }
    }

    fn realm(&mut self, raw: Option<&At<String>>) -> String {
        let Some(At { value: realm, span }) = raw else {
            return "restricted".to_owned();
        };
        if !realm.chars().all(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')) {
            self.error(Code::InvalidValue, "a realm is ASCII without quotes", *span, "for example: shop");
        }
        realm.clone()
    }

    fn user(&mut self, name: &At<String>, hash: &At<String>) -> Option<(String, PasswordHash)> {
        if name.value.is_empty() || name.value.contains(':') || name.value.contains(char::is_control) {
            let message = "a user's name has no `:` and no control characters";
            self.error(Code::InvalidName, message, name.span, "RFC 7617 §2");
        }
        match PasswordHash::parse(&hash.value) {
            Ok(hash) => Some((name.value.clone(), hash)),
            Err(bad) => {
                let message = format!("what stands for `{}` is {bad}", name.value);
                self.error(Code::InvalidValue, message, hash.span, bad.help());
                None
            }
        }
    }
}

/// `/api/` and `/api` are one prefix; `/` is none.
pub(super) fn trimmed(path: &str) -> String {
    match path.trim_end_matches('/') {
        "" => "/".into(),
        path => path.into(),
    }
}

/// `*`, or scheme, host and port without a path (RFC 6454 §6.2).
fn is_origin(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text == "*";
    };
    let (host, port) = rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
    let port = port.is_none_or(|port| port.parse::<u16>().is_ok());
    port && matches!(scheme, "http" | "https") && host_name(host).is_ok() && !host.ends_with('.')
}
