//! Finding a route among 10 000, and building the table.

use divan::{Bencher, black_box};
use gateway_core::name::RouteName;
use gateway_core::route::path::normalise;
use gateway_core::route::rule::{HostPattern, Match, PathRule};
use gateway_core::route::table::{RequestView, Table};
use http::{HeaderMap, Method};

const ROUTES: usize = 10_000;

fn main() {
    divan::main();
}

/// Five routes under each of 2 000 hosts, every tenth host a wildcard.
fn many_hosts() -> Vec<(RouteName, Match)> {
    let paths = ["/", "/api", "/api/v1/users", "/media", "/static/assets/images"];
    (0..ROUTES)
        .map(|number| {
            let domain = format!("shop{}.example.com", number / 5);
            let host =
                if number / 5 % 10 == 0 { HostPattern::Wildcard(domain) } else { HostPattern::Exact(domain) };
            route(number, vec![host], paths[number % 5].to_owned())
        })
        .collect()
}

/// All under one host, one to three segments deep.
fn many_prefixes() -> Vec<(RouteName, Match)> {
    (0..ROUTES)
        .map(|number| {
            let path = match number % 3 {
                0 => format!("/team{number}"),
                1 => format!("/team{}/service{number}", number % 100),
                _ => format!("/team{}/service{}/version{number}", number % 100, number % 1_000),
            };
            route(number, vec![HostPattern::Exact("shop.example".into())], path)
        })
        .collect()
}

fn route(number: usize, hosts: Vec<HostPattern>, path: String) -> (RouteName, Match) {
    let name = RouteName::new(&format!("route-{number}")).expect("a name");
    (name, Match { hosts, paths: vec![PathRule::Prefix(path)], ..Match::default() })
}

fn table(routes: &[(RouteName, Match)]) -> Table<usize> {
    Table::new(routes.iter().enumerate().map(|(number, (name, matches))| (name.clone(), matches, number)))
}

fn find(bencher: Bencher<'_, '_>, routes: &[(RouteName, Match)], host: &str, path: &str) {
    let (table, headers) = (table(routes), HeaderMap::new());
    let request = RequestView { host, path, method: &Method::GET, headers: &headers, query: None };
    assert!(table.find(&request).is_some());
    bencher.bench_local(|| table.find(black_box(&request)));
}

#[divan::bench]
fn exact_host(bencher: Bencher<'_, '_>) {
    find(bencher, &many_hosts(), "shop1234.example.com", "/api/v1/users/17/orders");
}

#[divan::bench]
fn wildcard_host(bencher: Bencher<'_, '_>) {
    find(bencher, &many_hosts(), "www.shop1230.example.com", "/api/v1/users/17/orders");
}

#[divan::bench]
fn one_host_long_prefix(bencher: Bencher<'_, '_>) {
    find(bencher, &many_prefixes(), "shop.example", "/team1/service401/version3401/users/17");
}

#[divan::bench]
fn one_host_short_prefix_of_a_deep_path(bencher: Bencher<'_, '_>) {
    find(bencher, &many_prefixes(), "shop.example", "/team0/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s");
}

#[divan::bench]
fn build_many_hosts(bencher: Bencher<'_, '_>) {
    let routes = many_hosts();
    bencher.bench_local(|| table(black_box(&routes)));
}

#[divan::bench]
fn build_many_prefixes(bencher: Bencher<'_, '_>) {
    let routes = many_prefixes();
    bencher.bench_local(|| table(black_box(&routes)));
}

#[divan::bench]
fn normalise_a_normal_path() -> usize {
    normalise(black_box(b"/api/v1/users/17/orders/2024-11-05")).map_or(0, |path| path.len())
}
