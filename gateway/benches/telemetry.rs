//! What telling about one request costs the request path.

#[path = "support/entry.rs"]
mod entry;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use entry::entry;
use gateway::telemetry::access_log::{AccessLog, Lines};
use gateway::telemetry::metrics::Metrics;
use gateway_core::config::model::AccessLog as Target;
use gateway_core::name::{ReleaseName, RouteName, ServiceName};
use http::{Method, StatusCode};

fn main() {
    divan::main();
}

#[divan::bench(threads = [1, 2], sample_size = 1000)]
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

#[divan::bench(sample_size = 1000)]
fn enter_and_leave(bencher: divan::Bencher) {
    let in_flight = Metrics::new(SystemTime::now()).in_flight(None);
    bencher.bench(|| drop(in_flight.enter()));
}

/// Samples are small enough for the writer to keep the queue from filling.
#[divan::bench(sample_size = 50)]
fn hand_over_an_entry(bencher: divan::Bencher) {
    let metrics = Metrics::new(SystemTime::now());
    let served_by = metrics.requests(None, None);
    let dropped = metrics.access_log_dropped();
    let log = AccessLog::start(Some(Target::File("/dev/null".into())), Arc::clone(&dropped)).expect("a sink");
    bencher.with_inputs(|| entry(&served_by)).bench_values(|entry| log.log(entry));
    assert_eq!(dropped.sum(), 0, "dropping is cheaper than logging");
}

/// On the writer's thread.
#[divan::bench(sample_size = 1000)]
fn format_a_line(bencher: divan::Bencher) {
    let entry = entry(&Metrics::new(SystemTime::now()).requests(None, None));
    let mut lines = Lines::default();
    bencher.bench_local(|| {
        lines.clear();
        lines.add(divan::black_box(&entry));
        lines.as_bytes().len()
    });
}
