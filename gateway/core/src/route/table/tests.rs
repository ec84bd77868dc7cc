use super::*;
use http::HeaderValue;
use proptest::prelude::*;

fn name(name: &str) -> RouteName {
    RouteName::new(name).expect("a name")
}

fn exact(host: &str) -> HostPattern {
    HostPattern::Exact(host.into())
}

fn wildcard(domain: &str) -> HostPattern {
    HostPattern::Wildcard(domain.into())
}

fn prefix(path: &str) -> PathRule {
    PathRule::Prefix(path.into())
}

fn regex(expression: &str) -> Regex {
    Regex::new(expression).expect("an expression")
}

fn rule(hosts: &[HostPattern], paths: &[PathRule]) -> Match {
    Match { hosts: hosts.into(), paths: paths.into(), ..Match::default() }
}

fn table(routes: &[(&str, Match)]) -> Table<String> {
    Table::new(routes.iter().map(|(route, matches)| (name(route), matches, route.to_string())))
}

#[derive(Debug)]
struct Request {
    host: String,
    path: String,
    method: Method,
    headers: HeaderMap,
    query: Option<String>,
}

impl Request {
    fn view(&self) -> RequestView<'_> {
        let Self { host, path, method, headers, query } = self;
        RequestView { host, path, method, headers, query: query.as_deref() }
    }
}

fn request(host: &str, path: &str) -> Request {
    Request {
        host: host.into(),
        path: path.into(),
        method: Method::GET,
        headers: HeaderMap::new(),
        query: None,
    }
}

fn found<'a>(table: &'a Table<String>, host: &str, path: &str) -> Option<&'a str> {
    table.find(&request(host, path).view()).map(String::as_str)
}

#[test]
fn a_more_exact_host_wins_whatever_the_path() {
    let table = table(&[
        ("any", rule(&[], &[PathRule::Exact("/a".into())])),
        ("wide", rule(&[wildcard("example")], &[PathRule::Exact("/a".into())])),
        ("narrow", rule(&[wildcard("shop.example")], &[PathRule::Exact("/a".into())])),
        ("exact", rule(&[exact("www.shop.example")], &[prefix("/")])),
    ]);
    assert_eq!(found(&table, "www.shop.example", "/a"), Some("exact"));
    assert_eq!(found(&table, "x.shop.example", "/a"), Some("narrow"));
    assert_eq!(found(&table, "x.example", "/a"), Some("wide"));
    assert_eq!(found(&table, "", "/a"), Some("any"));
}

#[test]
fn a_wildcard_takes_one_label_or_more_and_never_none() {
    let table = table(&[("w", rule(&[wildcard("shop.example")], &[]))]);
    assert_eq!(found(&table, "a.shop.example", "/"), Some("w"));
    assert_eq!(found(&table, "a.b.shop.example", "/"), Some("w"));
    for host in ["shop.example", ".shop.example", "ashop.example", "", "example"] {
        assert_eq!(found(&table, host, "/"), None, "{host}");
    }
}

#[test]
fn exact_path_before_longest_prefix_before_regex_before_none() {
    let table = table(&[
        ("none", rule(&[], &[])),
        ("regex", rule(&[], &[PathRule::Regex(regex("^/(api|x)"))])),
        ("short", rule(&[], &[prefix("/api")])),
        ("long", rule(&[], &[prefix("/api/v1/")])),
        ("exact", rule(&[], &[PathRule::Exact("/api/v1/users".into())])),
    ]);
    assert_eq!(found(&table, "", "/api/v1/users"), Some("exact"));
    assert_eq!(found(&table, "", "/api/v1/users/7"), Some("long"));
    assert_eq!(found(&table, "", "/api/v1"), Some("long"));
    assert_eq!(found(&table, "", "/api/v10"), Some("short"));
    assert_eq!(found(&table, "", "/api"), Some("short"));
    assert_eq!(found(&table, "", "/apiary"), Some("regex"));
    assert_eq!(found(&table, "", "/"), Some("none"));
}

#[test]
fn the_prefix_slash_takes_every_path_and_beats_an_expression() {
    let table =
        table(&[("all", rule(&[], &[prefix("/")])), ("regex", rule(&[], &[PathRule::Regex(regex("."))]))]);
    assert_eq!(found(&table, "h", "/"), Some("all"));
    assert_eq!(found(&table, "h", "/a/b"), Some("all"));
}

#[test]
fn more_is_asked_wins_between_equal_paths_and_the_name_decides_last() {
    let header = |count: usize| {
        let names = [HeaderName::from_static("x-a"), HeaderName::from_static("x-b")];
        names.into_iter().take(count).map(|name| (name, ValueRule::Present)).collect::<Vec<_>>()
    };
    let query = vec![("q".to_string(), ValueRule::Present)];
    let table = table(&[
        ("b", rule(&[], &[])),
        ("a", rule(&[], &[])),
        ("query", Match { query: query.clone(), ..Match::default() }),
        ("header", Match { headers: header(1), query, ..Match::default() }),
        ("headers", Match { headers: header(2), ..Match::default() }),
        ("method", Match { methods: vec![Method::GET], ..Match::default() }),
    ]);
    let mut request = request("h", "/");
    request.query = Some("q".into());
    request.headers.insert("x-a", HeaderValue::from_static("1"));
    request.headers.insert("x-b", HeaderValue::from_static("1"));
    let order = |request: &Request| {
        table
            .trace(&request.view())
            .into_iter()
            .map(|candidate| candidate.route.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(order(&request), ["method", "headers", "header", "query", "a", "b"]);
    assert_eq!(table.find(&request.view()).map(String::as_str), Some("method"));
    request.method = Method::POST;
    assert_eq!(table.find(&request.view()).map(String::as_str), Some("headers"));
}

#[test]
fn the_next_best_serves_when_the_best_asks_for_more() {
    let post = Match { methods: vec![Method::POST], ..rule(&[exact("h")], &[PathRule::Exact("/a".into())]) };
    let table = table(&[("post", post), ("rest", rule(&[], &[]))]);
    assert_eq!(found(&table, "h", "/a"), Some("rest"));
}

#[test]
fn header_and_query_values_are_compared_one_by_one() {
    let matches = Match {
        headers: vec![(HeaderName::from_static("x-env"), ValueRule::Exact("beta".into()))],
        query: vec![("v".into(), ValueRule::Regex(regex("^2 [ab]$")))],
        ..Match::default()
    };
    let table = table(&[("r", matches)]);
    let mut request = request("h", "/");
    request.headers.append("x-env", HeaderValue::from_static("alpha"));
    request.query = Some("v=1&v=2%20b".into());
    assert_eq!(table.find(&request.view()), None);
    request.headers.append("x-env", HeaderValue::from_static("beta"));
    assert_eq!(table.find(&request.view()).map(String::as_str), Some("r"));
    request.query = Some("v=2+b".into());
    assert_eq!(table.find(&request.view()), None);
}

#[test]
fn the_matched_prefix_is_told_for_rewriting() {
    let table = table(&[("api", rule(&[], &[prefix("/api/")])), ("all", rule(&[], &[prefix("/")]))]);
    let bytes = |path: &str| table.matched(&request("", path).view()).expect("a route").prefix_bytes;
    assert_eq!((bytes("/api/x"), bytes("/api"), bytes("/x")), (4, 4, 0));
}

#[test]
fn a_trace_says_who_was_considered_and_why_each_failed_or_won() {
    let asks = |methods: Vec<Method>| Match { methods, ..rule(&[exact("h")], &[prefix("/a")]) };
    let table = table(&[
        ("post", asks(vec![Method::POST])),
        ("get", asks(vec![Method::GET])),
        ("regex", rule(&[exact("h")], &[PathRule::Regex(regex("^/z"))])),
        ("rest", rule(&[wildcard("x"), exact("h")], &[])),
        ("elsewhere", rule(&[exact("other")], &[])),
    ]);
    let trace = table.trace(&request("h", "/a/b").view());
    let lines: Vec<_> = trace
        .iter()
        .map(|Candidate { route, host, path, result }| format!("{route} {host} {path} {result:?}"))
        .collect();
    assert_eq!(
        lines,
        [
            "get h /a/* Chosen",
            "post h /a/* Failed(Method)",
            "regex h ~ ^/z Failed(Path)",
            "rest h * Outranked"
        ]
    );
}

/// All entries in order of rank, each asked in turn by the plainest reading of the rules.
fn reference<'a>(routes: &'a [(String, Match)], request: &Request) -> Option<&'a str> {
    let mut entries = Vec::new();
    for (index, (route, matches)) in routes.iter().enumerate() {
        let hosts = or_any(matches.hosts.iter().map(Some).collect(), None);
        let paths = or_any(matches.paths.iter().map(Some).collect(), None);
        for host in hosts {
            for path in &paths {
                let rank = Rank {
                    host: host.map_or(HostRank::Any, HostRank::of),
                    path: path.map_or(PathRank::Any, |path| PathRank::of(path).0),
                    methods: Reverse(!matches.methods.is_empty()),
                    headers: Reverse(matches.headers.len()),
                    query: Reverse(matches.query.len()),
                    route: name(route),
                };
                entries.push((rank, host, *path, index));
            }
        }
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    let fits = |(_, host, path, index): &&(Rank, Option<&HostPattern>, Option<&PathRule>, usize)| {
        let matches = &routes[*index].1;
        host.is_none_or(|host| host_fits(host, &request.host))
            && path.is_none_or(|path| path_fits(path, &request.path))
            && (matches.methods.is_empty() || matches.methods.contains(&request.method))
            && matches.headers.iter().all(|(name, rule)| {
                let values = request.headers.get_all(name).iter();
                value_fits(rule, values.map(|value| value.to_str().expect("ASCII")))
            })
            && matches.query.iter().all(|(name, rule)| {
                let pairs = request.query.as_deref().unwrap_or("").split('&');
                let values = pairs.filter_map(|pair| pair.split_once('=')).filter(|pair| pair.0 == name);
                value_fits(rule, values.map(|pair| pair.1))
            })
    };
    entries.iter().find(fits).map(|(_, _, _, index)| routes[*index].0.as_str())
}

fn host_fits(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Exact(name) => name == host,
        HostPattern::Wildcard(domain) => {
            host.strip_suffix(&format!(".{domain}")).is_some_and(|rest| !rest.is_empty())
        }
    }
}

fn path_fits(rule: &PathRule, path: &str) -> bool {
    match rule {
        PathRule::Exact(exact) => exact == path,
        PathRule::Prefix(prefix) => {
            format!("{path}/").starts_with(&format!("{}/", prefix.trim_end_matches('/')))
        }
        PathRule::Regex(regex) => regex.is_match(path),
    }
}

fn value_fits<'a>(rule: &ValueRule, mut values: impl Iterator<Item = &'a str>) -> bool {
    match rule {
        ValueRule::Present => values.next().is_some(),
        ValueRule::Exact(text) => values.any(|value| value == text),
        ValueRule::Regex(regex) => values.any(|value| regex.is_match(value)),
    }
}

fn any_value_rule() -> impl Strategy<Value = ValueRule> {
    prop_oneof![
        Just(ValueRule::Present),
        "[01]".prop_map(ValueRule::Exact),
        "[01]".prop_map(|digit| ValueRule::Regex(regex(&digit))),
    ]
}

fn any_match() -> impl Strategy<Value = Match> {
    let host = prop_oneof![
        "[ab](\\.[ab]){0,2}".prop_map(HostPattern::Exact),
        "[ab](\\.[ab])?".prop_map(HostPattern::Wildcard)
    ];
    let path = prop_oneof![
        "(/[xy]){1,3}/?".prop_map(PathRule::Exact),
        "/|(/[xy]){1,3}/?".prop_map(PathRule::Prefix),
        "\\^/[xy]".prop_map(|expression| PathRule::Regex(regex(&expression))),
    ];
    let methods = prop::sample::subsequence(vec![Method::GET, Method::POST], 0..2);
    let headers = prop::collection::vec(
        (
            prop::sample::select(vec![HeaderName::from_static("a"), HeaderName::from_static("b")]),
            any_value_rule(),
        ),
        0..3,
    );
    let query = prop::collection::vec(("[pq]", any_value_rule()), 0..2);
    (prop::collection::vec(host, 0..3), prop::collection::vec(path, 0..3), methods, headers, query)
        .prop_map(|(hosts, paths, methods, headers, query)| Match { hosts, paths, methods, headers, query })
}

fn any_request() -> impl Strategy<Value = Request> {
    let headers = prop::collection::vec(("[ab]", "[01]"), 0..4);
    let method = prop::sample::select(vec![Method::GET, Method::POST]);
    ("([ab](\\.[ab]){0,3})?", "/|(/[xy]){1,4}/?", method, headers, prop::option::of("([pq]=[01]?&){0,3}"))
        .prop_map(|(host, path, method, fields, query)| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                let name: HeaderName = name.parse().expect("a field name");
                headers.append(name, value.parse().expect("a field value"));
            }
            Request { host, path, method, headers, query }
        })
}

proptest! {
    #[test]
    fn the_table_finds_what_asking_every_route_in_order_finds(
        matches in prop::collection::vec(any_match(), 0..16),
        requests in prop::collection::vec(any_request(), 1..16),
    ) {
        let routes: Vec<_> = matches.into_iter().enumerate().map(|(i, matches)| (format!("r{i}"), matches)).collect();
        let table = Table::new(routes.iter().map(|(route, matches)| (name(route), matches, route.clone())));
        for request in requests {
            let expected = reference(&routes, &request);
            prop_assert_eq!(table.find(&request.view()).map(String::as_str), expected);
            let trace = table.trace(&request.view());
            let chosen = trace.iter().find(|candidate| candidate.result == Consideration::Chosen);
            prop_assert_eq!(chosen.map(|candidate| candidate.route.as_str()), expected);
        }
    }
}
