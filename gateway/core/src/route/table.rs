//! All routes, arranged so that the one for a request is found in a handful of look-ups.

use std::cmp::Reverse;
use std::ops::ControlFlow;

use http::{HeaderMap, HeaderName, Method};
use regex::Regex;

use super::query;
use super::rule::{HostPattern, Match, PathRule, ValueRule};
use crate::name::RouteName;
use index::{BySuffix, ByText, Paths};

mod index;

/// What routing reads of a request.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    /// Lower case, without port and trailing dot; empty if the request names none.
    pub host: &'a str,
    /// As [`normalise`](super::path::normalise) gives it.
    pub path: &'a str,
    /// To the letter: HEAD is not GET.
    pub method: &'a Method,
    /// All header fields.
    pub headers: &'a HeaderMap,
    /// What follows `?`, still encoded.
    pub query: Option<&'a str>,
}

/// Which of two matching routes wins: the smaller one. The order of the fields is the rule, that of the Gateway API.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// The more exact host first,
    host: HostRank,
    /// then the more exact path,
    path: PathRank,
    /// then a route that asks for methods,
    methods: Reverse<bool>,
    /// then the one asking for more header fields,
    headers: Reverse<usize>,
    /// then for more query parameters,
    query: Reverse<usize>,
    /// and between equals the name.
    route: RouteName,
}

/// The names are only there to keep equal ones together: no request matches two of the same length.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum HostRank {
    Exact(Box<str>),
    /// The longer domain first.
    Wildcard(Reverse<usize>, Box<str>),
    Any,
}

/// As for hosts, the paths only keep equal ones together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum PathRank {
    Exact(Box<str>),
    /// The longer prefix first; without trailing slash, so that `/` is empty.
    Prefix(Reverse<usize>, Box<str>),
    Regex,
    Any,
}

/// One host and one path of a route.
#[derive(Debug, Clone)]
struct Entry {
    rank: Rank,
    regex: Option<Regex>,
    /// Index into [`Table::routes`].
    route: u32,
}

#[derive(Debug, Clone)]
struct Route<T> {
    name: RouteName,
    methods: Vec<Method>,
    headers: Vec<(HeaderName, ValueRule)>,
    query: Vec<(String, ValueRule)>,
    target: T,
}

/// All routes with what they lead to.
///
/// Finding takes a hash per host pattern length, then one per prefix length in use under that host, whatever the number
/// of routes; expressions are tried one by one. Building sorts: 10 000 routes take some milliseconds.
#[derive(Debug, Clone)]
pub struct Table<T> {
    routes: Vec<Route<T>>,
    /// Sorted by rank; the index below holds ranges of it.
    entries: Vec<Entry>,
    hosts: ByText<Paths>,
    wildcards: BySuffix,
    any_host: Paths,
}

/// The route a request takes.
#[derive(Debug)]
pub struct Matched<'a, T> {
    /// Its name.
    pub route: &'a RouteName,
    /// What it leads to.
    pub target: &'a T,
    /// How many bytes of the path the matching prefix takes, without trailing slash; 0 if another kind of rule matched.
    pub prefix_bytes: usize,
}

/// A route that was considered for a request, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub route: RouteName,
    /// The host pattern it was found under: `shop.example`, `*.shop.example` or `*`.
    pub host: String,
    /// The path rule it was found under: `= /a`, `/a/*`, `~ ^/a$` or `*`.
    pub path: String,
    /// What came of it.
    pub result: Consideration,
}

/// What came of considering a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Consideration {
    /// It takes the request.
    Chosen,
    /// It would have taken the request, had a better one not been there.
    Outranked,
    /// It asks for something else.
    Failed(Mismatch),
}

/// The first thing a route asks for that a request lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The path.
    #[error("the expression is not found in the path")]
    Path,
    /// The method.
    #[error("the method is none of those asked for")]
    Method,
    /// A header field.
    #[error("header `{0}` is absent or has another value")]
    Header(HeaderName),
    /// A query parameter.
    #[error("query parameter `{0}` is absent or has another value")]
    Query(String),
}

impl<T> Table<T> {
    /// Arranges routes; names are unique, hosts lower case and paths normalised.
    ///
    /// A route with several hosts or paths takes part once for each pair of them.
    pub fn new<'a>(routes: impl IntoIterator<Item = (RouteName, &'a Match, T)>) -> Self {
        let mut table = Vec::new();
        let mut entries = Vec::new();
        for (name, matches, target) in routes {
            expand(&name, matches, table.len() as u32, &mut entries);
            table.push(Route {
                name,
                methods: matches.methods.clone(),
                headers: matches.headers.clone(),
                query: matches.query.clone(),
                target,
            });
        }
        entries.sort_unstable_by(|a, b| a.rank.cmp(&b.rank));
        Self::index(table, entries)
    }

    fn index(routes: Vec<Route<T>>, entries: Vec<Entry>) -> Self {
        let (mut hosts, mut wildcards, mut any_host) =
            (ByText::default(), BySuffix::default(), Paths::default());
        let mut start = 0;
        for group in entries.chunk_by(|a, b| a.rank.host == b.rank.host) {
            let paths = Paths::index(group, start);
            start += group.len() as u32;
            match &group[0].rank.host {
                HostRank::Exact(host) => drop(hosts.insert(host.clone(), paths)),
                HostRank::Wildcard(_, domain) => wildcards.insert(domain.clone(), paths),
                HostRank::Any => any_host = paths,
            }
        }
        Self { routes, entries, hosts, wildcards, any_host }
    }

    /// What the best route that matches leads to. Allocates nothing, unless an expression asks for an encoded query
    /// parameter.
    pub fn find(&self, request: &RequestView<'_>) -> Option<&T> {
        self.matched(request).map(|matched| matched.target)
    }

    /// As [`find`](Self::find), with what the request was matched by.
    pub fn matched(&self, request: &RequestView<'_>) -> Option<Matched<'_, T>> {
        let found = self.visit(request, |entry| match self.check(entry, request) {
            Ok(()) => ControlFlow::Break(entry),
            Err(_) => ControlFlow::Continue(()),
        });
        let ControlFlow::Break(entry) = found else { return None };
        let prefix_bytes = match entry.rank.path {
            PathRank::Prefix(Reverse(bytes), _) => bytes,
            _ => 0,
        };
        let Route { name, target, .. } = &self.routes[entry.route as usize];
        Some(Matched { route: name, target, prefix_bytes })
    }

    /// Every route whose host and path fit, best first, and what came of it: the answer of [`find`](Self::find) with
    /// its reasons.
    pub fn trace(&self, request: &RequestView<'_>) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        let mut chosen = false;
        let _all: ControlFlow<()> = self.visit(request, |entry| {
            let result = match self.check(entry, request) {
                Err(mismatch) => Consideration::Failed(mismatch.into()),
                Ok(()) if chosen => Consideration::Outranked,
                Ok(()) => Consideration::Chosen,
            };
            chosen |= result == Consideration::Chosen;
            candidates.push(entry.candidate(result));
            ControlFlow::Continue(())
        });
        candidates
    }

    /// Every route once, in the order of precedence; one with several hosts or paths stands where its best pair does.
    pub fn in_order(&self) -> impl Iterator<Item = (&RouteName, &T)> {
        let mut seen = vec![false; self.routes.len()];
        self.entries.iter().filter_map(move |entry| {
            let index = entry.route as usize;
            let route = &self.routes[index];
            (!std::mem::replace(&mut seen[index], true)).then_some((&route.name, &route.target))
        })
    }

    /// Shows `see` the entries whose host and path fit, best first, until it has seen enough.
    fn visit<'a, B>(
        &'a self,
        request: &RequestView<'_>,
        mut see: impl FnMut(&'a Entry) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if let Some(paths) = self.hosts.get(request.host) {
            paths.visit(&self.entries, request.path, &mut see)?;
        }
        self.wildcards.visit(request.host, |paths| paths.visit(&self.entries, request.path, &mut see))?;
        self.any_host.visit(&self.entries, request.path, &mut see)
    }

    fn check(&self, entry: &Entry, request: &RequestView<'_>) -> Result<(), Lack<'_>> {
        if entry.regex.as_ref().is_some_and(|regex| !regex.is_match(request.path)) {
            return Err(Lack::Path);
        }
        self.routes[entry.route as usize].check(request)
    }
}

impl<T> Route<T> {
    /// Asks for everything but host and path.
    fn check(&self, request: &RequestView<'_>) -> Result<(), Lack<'_>> {
        if !self.methods.is_empty() && !self.methods.contains(request.method) {
            return Err(Lack::Method);
        }
        for (name, rule) in &self.headers {
            if !header_matches(request.headers, name, rule) {
                return Err(Lack::Header(name));
            }
        }
        for (name, rule) in &self.query {
            if !query_matches(request.query.unwrap_or(""), name, rule) {
                return Err(Lack::Query(name));
            }
        }
        Ok(())
    }
}

fn header_matches(headers: &HeaderMap, name: &HeaderName, rule: &ValueRule) -> bool {
    match rule {
        ValueRule::Present => headers.contains_key(name),
        ValueRule::Exact(text) => headers.get_all(name).iter().any(|value| value == text.as_str()),
        ValueRule::Regex(regex) => headers
            .get_all(name)
            .iter()
            .any(|value| std::str::from_utf8(value.as_bytes()).is_ok_and(|value| regex.is_match(value))),
    }
}

fn query_matches(query: &str, name: &str, rule: &ValueRule) -> bool {
    query::parameters(query).filter(|parameter| parameter.is_named(name)).any(|parameter| match rule {
        ValueRule::Present => true,
        ValueRule::Exact(text) => parameter.has_value(text),
        ValueRule::Regex(regex) => regex.is_match(&parameter.value()),
    })
}

/// A [`Mismatch`] that still borrows: names are copied only when someone wants to read them.
enum Lack<'a> {
    Path,
    Method,
    Header(&'a HeaderName),
    Query(&'a str),
}

impl From<Lack<'_>> for Mismatch {
    fn from(lack: Lack<'_>) -> Self {
        match lack {
            Lack::Path => Self::Path,
            Lack::Method => Self::Method,
            Lack::Header(name) => Self::Header(name.clone()),
            Lack::Query(name) => Self::Query(name.into()),
        }
    }
}

/// Adds one entry for each pair of host and path.
fn expand(name: &RouteName, matches: &Match, route: u32, entries: &mut Vec<Entry>) {
    let hosts = matches.hosts.iter().map(HostRank::of).collect();
    let paths = matches.paths.iter().map(PathRank::of).collect();
    for host in or_any(hosts, HostRank::Any) {
        for (path, regex) in or_any(Vec::clone(&paths), (PathRank::Any, None)) {
            let rank = Rank {
                host: host.clone(),
                path,
                methods: Reverse(!matches.methods.is_empty()),
                headers: Reverse(matches.headers.len()),
                query: Reverse(matches.query.len()),
                route: name.clone(),
            };
            entries.push(Entry { rank, regex, route });
        }
    }
}

fn or_any<R>(mut rules: Vec<R>, any: R) -> Vec<R> {
    if rules.is_empty() {
        rules.push(any);
    }
    rules
}

impl HostRank {
    fn of(host: &HostPattern) -> Self {
        match host {
            HostPattern::Exact(name) => Self::Exact(name.as_str().into()),
            HostPattern::Wildcard(domain) => Self::Wildcard(Reverse(domain.len()), domain.as_str().into()),
        }
    }
}

impl PathRank {
    fn of(path: &PathRule) -> (Self, Option<Regex>) {
        match path {
            PathRule::Exact(path) => (Self::Exact(path.as_str().into()), None),
            PathRule::Prefix(prefix) => {
                let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
                (Self::Prefix(Reverse(prefix.len()), prefix.into()), None)
            }
            PathRule::Regex(regex) => (Self::Regex, Some(regex.clone())),
        }
    }
}

impl Entry {
    fn candidate(&self, result: Consideration) -> Candidate {
        let host = match &self.rank.host {
            HostRank::Exact(name) => name.to_string(),
            HostRank::Wildcard(_, domain) => format!("*.{domain}"),
            HostRank::Any => "*".into(),
        };
        let path = match (&self.rank.path, &self.regex) {
            (PathRank::Exact(path), _) => format!("= {path}"),
            (PathRank::Prefix(_, prefix), _) => format!("{prefix}/*"),
            (_, Some(regex)) => format!("~ {regex}"),
            _ => "*".into(),
        };
        Candidate { route: self.rank.route.clone(), host, path, result }
    }
}

#[cfg(test)]
mod tests;
