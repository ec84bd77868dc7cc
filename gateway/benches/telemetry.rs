//! What telling about one request costs the request path.

use std::time::{Duration, SystemTime};

use gateway::telemetry::metrics::Metrics;
use gateway_core::name::{ReleaseName, RouteName, ServiceName};
use http::{Method, StatusCode};

fn main() {
    divan::main();
}

#[divan::bench(threads = [1, 2])]
fn record_a_finished_request(bencher: divan::Bencher) {
    let metrics = Metrics::new(SystemTime::now());
    let (route, service, release) =
        (RouteName::new("api"), ServiceName::new("shop"), ReleaseName::new("api-42"));
    let (route, service, release) =
        (route.expect("a name"), service.expect("a name"), release.expect("a name"));
    let handle = metrics.requests(Some(&route), Some((&service, &release)));
    bencher
        .bench(|| handle.record(&Method::GET, StatusCode::OK, divan::black_box(Duration::from_micros(740))));
}

#[divan::bench]
fn enter_and_leave(bencher: divan::Bencher) {
    let in_flight = Metrics::new(SystemTime::now()).in_flight(None);
    bencher.bench(|| drop(in_flight.enter()));
}
