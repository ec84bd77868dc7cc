//! Routes that no request can reach: two that ask for the same, and regular expressions behind a longer rule.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use indexmap::IndexMap;
use miette::SourceSpan;

use super::Meaning;
use crate::config::model::Route;
use crate::config::problem::{Code, Problem};
use crate::name::RouteName;
use crate::route::rule::{HostPattern, Match, PathRule};

/// How many earlier routes are compared with one regular expression.
const COMPARED: usize = 64;

impl Meaning<'_> {
    /// `places` are those of the routes' names, in the same order; `None` for a route that was not understood.
    pub(super) fn check_reach(&mut self, routes: &IndexMap<RouteName, Route>, places: &[Option<SourceSpan>]) {
        let known = routes
            .iter()
            .zip(places)
            .filter_map(|((name, route), place)| Some(Place { name, route, span: (*place)? }));
        let known: Vec<_> = known.collect();
        let mut seen: HashMap<u64, &Place<'_>> = HashMap::with_capacity(known.len());
        for place in &known {
            let first = *seen.entry(fingerprint(&place.route.matches)).or_insert(place);
            if first.name != place.name && same(&first.route.matches, &place.route.matches) {
                let message = format!(
                    "the routes `{}` and `{}` ask for exactly the same requests",
                    first.name, place.name
                );
                let problem =
                    Problem::error(Code::DuplicateRoute, message).at(place.span, "same as the other");
                self.problems.push(
                    problem.at(first.span, "the other").help("no request could ever reach one of them"),
                );
            }
        }
        self.warn_of_unreachable(&known);
    }

    /// A path or prefix outranks an expression, so an expression that only finds paths below one is never asked.
    fn warn_of_unreachable(&mut self, routes: &[Place<'_>]) {
        let expressions: Vec<_> =
            routes.iter().filter(|place| only_expressions(&place.route.matches)).collect();
        if expressions.is_empty() {
            return;
        }
        let prefixes = Prefixes::of(routes);
        for place in expressions {
            let Some(first) = prefixes.covering(&place.route.matches) else {
                continue;
            };
            let message =
                format!("no request reaches route `{}`: `{}` takes them all", place.name, first.name);
            let problem = Problem::warning(Code::UnreachableRoute, message).at(place.span, "never reached");
            let help =
                "a prefix outranks a regular expression: use `path` or `prefix`, or narrow the other route";
            self.problems.push(problem.at(first.span, "takes them").help(help));
        }
    }
}

/// A route and where its name stands.
struct Place<'a> {
    name: &'a RouteName,
    route: &'a Route,
    span: SourceSpan,
}

/// Routes by host and prefix.
struct Prefixes<'a>(HashMap<(Option<&'a HostPattern>, &'a str), Vec<&'a Place<'a>>>);

impl<'a> Prefixes<'a> {
    fn of(routes: &'a [Place<'a>]) -> Self {
        let mut by_place: HashMap<_, Vec<&Place<'_>>> = HashMap::new();
        for place in routes {
            for prefix in place.route.matches.paths.iter().filter_map(prefix) {
                for host in hosts(&place.route.matches) {
                    by_place.entry((host, prefix)).or_default().push(place);
                }
            }
        }
        Self(by_place)
    }

    /// A route that takes every request these rules would take, and outranks them.
    fn covering(&self, matches: &Match) -> Option<&'a Place<'a>> {
        let host = hosts(matches).next()?;
        let places = sure_prefixes(matches.paths.first()?);
        let candidates = places.iter().filter_map(|prefix| self.0.get(&(host, prefix.as_str()))).flatten();
        candidates.take(COMPARED).find(|place| covers(&place.route.matches, matches)).copied()
    }
}

/// The hosts of a route, or one `None` for any.
fn hosts(matches: &Match) -> impl Iterator<Item = Option<&HostPattern>> {
    matches.hosts.iter().map(Some).chain(matches.hosts.is_empty().then_some(None))
}

fn only_expressions(matches: &Match) -> bool {
    !matches.paths.is_empty() && matches.paths.iter().all(|path| matches!(path, PathRule::Regex(_)))
}

/// Whether the prefixes of `first` take everything `second`, which has only expressions, asks for.
fn covers(first: &Match, second: &Match) -> bool {
    let prefixes: Vec<&str> = first.paths.iter().filter_map(prefix).collect();
    let path = |path: &PathRule| sure_prefixes(path).iter().any(|prefix| prefixes.contains(&prefix.as_str()));
    let same_hosts = match (first.hosts.is_empty(), second.hosts.is_empty()) {
        (false, false) => second.hosts.iter().all(|host| first.hosts.contains(host)),
        (none_first, none_second) => none_first && none_second,
    };
    let methods = |methods: &[http::Method]| second.methods.iter().all(|method| methods.contains(method));
    same_hosts
        && second.paths.iter().all(path)
        && (first.methods.is_empty() || (!second.methods.is_empty() && methods(&first.methods)))
        && first.headers.iter().all(|header| second.headers.contains(header))
        && first.query.iter().all(|parameter| second.query.contains(parameter))
}

fn prefix(path: &PathRule) -> Option<&str> {
    match path {
        PathRule::Prefix(prefix) => Some(prefix),
        PathRule::Exact(_) | PathRule::Regex(_) => None,
    }
}

/// The prefixes below which every path lies in which the expression is found: `/`, and what a literal beginning adds.
fn sure_prefixes(path: &PathRule) -> Vec<String> {
    let PathRule::Regex(regex) = path else {
        return Vec::new();
    };
    let literal = literal_beginning(regex.as_str());
    let slashes = literal.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
    let mut prefixes = vec!["/".to_owned()];
    prefixes.extend(slashes.map(|at| literal[..at].to_owned()));
    prefixes
}

/// What every match begins with: `^/api/v[0-9]` → `/api/v`. Empty when in doubt.
fn literal_beginning(expression: &str) -> String {
    let Some(rest) = expression.strip_prefix('^').filter(|rest| !rest.contains('|')) else {
        return String::new();
    };
    let end = rest
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '~')))
        .unwrap_or(rest.len());
    let mut literal = rest[..end].to_owned();
    if rest[end..].starts_with(['?', '*', '+', '{']) {
        literal.pop(); // The last character is repeated, perhaps zero times.
    }
    literal
}

/// The same number for two matches that ask for the same, in whatever order they say it.
fn fingerprint(matches: &Match) -> u64 {
    let paths = matches.paths.iter().map(|path| match path {
        PathRule::Exact(text) => hash(("exact", text)),
        PathRule::Prefix(text) => hash(("prefix", text)),
        PathRule::Regex(regex) => hash(("regex", regex.as_str())),
    });
    let parts = [
        sum(matches.hosts.iter().map(hash)),
        sum(paths),
        sum(matches.methods.iter().map(hash)),
        sum(matches.headers.iter().map(|(name, _)| hash(name))),
        sum(matches.query.iter().map(|(name, _)| hash(name))),
    ];
    hash(parts)
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Adds up, so that the order does not count.
fn sum(parts: impl Iterator<Item = u64>) -> u64 {
    parts.fold(0, u64::wrapping_add)
}

/// Whether two matches ask for the same, in whatever order they say it.
fn same(a: &Match, b: &Match) -> bool {
    permuted(&a.hosts, &b.hosts)
        && permuted(&a.paths, &b.paths)
        && permuted(&a.methods, &b.methods)
        && permuted(&a.headers, &b.headers)
        && permuted(&a.query, &b.query)
}

fn permuted<T: PartialEq>(a: &[T], b: &[T]) -> bool {
    a.len() == b.len() && a.iter().all(|item| b.contains(item)) && b.iter().all(|item| a.contains(item))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_beginning_promises_nothing_it_does_not_keep() {
        assert_eq!(literal_beginning("^/api/v[0-9]+$"), "/api/v");
        assert_eq!(literal_beginning("^/api/?x"), "/api");
        assert_eq!(literal_beginning("^/api/x|^/other"), "");
        assert_eq!(literal_beginning("/api"), "");
        assert_eq!(literal_beginning("(?i)^/api"), "");
        assert_eq!(literal_beginning("^/a.b"), "/a");
    }

    #[test]
    fn only_whole_segments_are_sure() {
        let sure =
            |text: &str| sure_prefixes(&PathRule::Regex(regex::Regex::new(text).expect("an expression")));
        assert_eq!(sure("^/api/v[0-9]+$"), ["/", "/api"]);
        assert_eq!(sure("^/api"), ["/"]);
        assert_eq!(sure("x"), ["/"]);
    }
}
