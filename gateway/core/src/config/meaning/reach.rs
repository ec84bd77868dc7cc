//! Routes that no request can reach: two that ask for the same, and regular expressions behind a longer rule.

use std::collections::HashMap;
use std::fmt::Write;

use indexmap::IndexMap;
use miette::SourceSpan;

use super::Meaning;
use crate::config::model::Route;
use crate::config::problem::{Code, Problem};
use crate::name::RouteName;
use crate::route::rule::{HostPattern, Match, PathRule, ValueRule};

/// How many earlier routes are compared with one regular expression.
const COMPARED: usize = 64;

impl Meaning<'_> {
    /// `spans` are the places of the routes' names, in the same order.
    pub(super) fn check_reach(&mut self, routes: &IndexMap<RouteName, Route>, spans: &[SourceSpan]) {
        let mut seen: HashMap<String, usize> = HashMap::with_capacity(routes.len());
        for (index, (name, route)) in routes.iter().enumerate() {
            let first = *seen.entry(fingerprint(&route.matches)).or_insert(index);
            if let Some((other, _)) = routes.get_index(first).filter(|_| first != index) {
                let message = format!("the routes `{other}` and `{name}` ask for exactly the same requests");
                let problem =
                    Problem::error(Code::DuplicateRoute, message).at(spans[index], "same as the other");
                self.problems.push(
                    problem.at(spans[first], "the other").help("no request could ever reach one of them"),
                );
            }
        }
        self.warn_of_unreachable(routes, spans);
    }

    /// A path or prefix outranks an expression, so an expression that only finds paths below one is never asked.
    fn warn_of_unreachable(&mut self, routes: &IndexMap<RouteName, Route>, spans: &[SourceSpan]) {
        if !routes.values().any(|route| only_expressions(&route.matches)) {
            return;
        }
        let prefixes = Prefixes::of(routes);
        for ((name, route), span) in
            routes.iter().zip(spans).filter(|((_, route), _)| only_expressions(&route.matches))
        {
            let Some(&(first, other)) = prefixes.covering(&route.matches).as_ref() else {
                continue;
            };
            let message = format!("no request reaches route `{name}`: `{other}` takes them all");
            let problem = Problem::warning(Code::UnreachableRoute, message).at(*span, "never reached");
            let help =
                "a prefix outranks a regular expression: use `path` or `prefix`, or narrow the other route";
            self.problems.push(problem.at(spans[first], "takes them").help(help));
        }
    }
}

/// Routes by host and prefix.
struct Prefixes<'a> {
    routes: &'a IndexMap<RouteName, Route>,
    by_place: HashMap<(Option<&'a HostPattern>, &'a str), Vec<usize>>,
}

impl<'a> Prefixes<'a> {
    fn of(routes: &'a IndexMap<RouteName, Route>) -> Self {
        let mut by_place: HashMap<_, Vec<usize>> = HashMap::new();
        for (index, route) in routes.values().enumerate() {
            for path in &route.matches.paths {
                let PathRule::Prefix(prefix) = path else {
                    continue;
                };
                for host in hosts(&route.matches) {
                    by_place.entry((host, prefix.as_str())).or_default().push(index);
                }
            }
        }
        Self { routes, by_place }
    }

    /// A route that takes every request these rules would take, and outranks them.
    fn covering(&self, matches: &Match) -> Option<(usize, &'a RouteName)> {
        let host = hosts(matches).next()?;
        let places = sure_prefixes(matches.paths.first()?);
        let candidates =
            places.iter().filter_map(|prefix| self.by_place.get(&(host, prefix.as_str()))).flatten();
        for &index in candidates.take(COMPARED) {
            let (name, route) = self.routes.get_index(index)?;
            if covers(&route.matches, matches) {
                return Some((index, name));
            }
        }
        None
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

/// The same text for two matches that ask for the same, in whatever order they say it.
fn fingerprint(matches: &Match) -> String {
    let mut text = String::new();
    let mut add = |mut parts: Vec<String>| {
        parts.sort_unstable();
        parts.dedup();
        // Writing to a string cannot fail. `Debug` quotes, so that no value can look like two.
        let _ = write!(text, "{parts:?}");
    };
    add(matches.hosts.iter().map(|host| format!("{host:?}")).collect());
    add(matches.paths.iter().map(|path| format!("{path:?}")).collect());
    add(matches.methods.iter().map(ToString::to_string).collect());
    add(matches.headers.iter().map(|(name, rule)| format!("{name}={}", rule_text(rule))).collect());
    add(matches.query.iter().map(|(name, rule)| format!("{name:?}={}", rule_text(rule))).collect());
    text
}

fn rule_text(rule: &ValueRule) -> String {
    format!("{rule:?}")
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
