//! Choosing a release, and an endpoint of it.

use std::sync::Arc;

use divan::{Bencher, black_box};
use gateway_core::endpoint::{Choice, Pool, Tried};
use gateway_core::name::{ReleaseName, ServiceName};
use gateway_core::split::{Split, Standing};
use gateway_core::unit::Weight;

fn main() {
    divan::main();
}

fn split() -> Split {
    let release = |name| ReleaseName::new(name).expect("a name");
    let service = ServiceName::new("checkout").expect("a name");
    Split::canary(
        &service,
        &release("api-41"),
        &release("api-42"),
        Weight::from_percent(10.0).expect("a weight"),
    )
}

#[divan::bench]
fn release_by_key(bencher: Bencher<'_, '_>) {
    let split = split();
    let standing = Standing { canary_weight: Some(Weight::FULL), ..Standing::default() };
    bencher.bench_local(|| {
        split.assign(black_box(standing), black_box(Some(b"7f9c24e83b124fef91e056a2d5a1e8f4")), 0)
    });
}

#[divan::bench]
fn release_by_ticket(bencher: Bencher<'_, '_>) {
    let split = split();
    bencher.bench_local(|| split.pick(None, black_box(0x1234_5678_9abc_def0)));
}

#[divan::bench(args = [1, 3, 16])]
fn endpoint_least_requests(bencher: Bencher<'_, '_>, endpoints: usize) {
    endpoint(bencher, Choice::LeastRequests, endpoints);
}

#[divan::bench(args = [1, 3, 16])]
fn endpoint_round_robin(bencher: Bencher<'_, '_>, endpoints: usize) {
    endpoint(bencher, Choice::RoundRobin, endpoints);
}

#[divan::bench(args = [1, 3, 16])]
fn endpoint_hash(bencher: Bencher<'_, '_>, endpoints: usize) {
    endpoint(bencher, Choice::Hash, endpoints);
}

fn endpoint(bencher: Bencher<'_, '_>, choice: Choice, endpoints: usize) {
    let addresses: Vec<_> = (0..endpoints).map(|number| format!("10.0.0.{number}:8000")).collect();
    let pool = Pool::new(choice, addresses.iter().map(|address| (address.as_str(), Arc::default())));
    bencher.bench_local(|| {
        pool.pick(&mut Tried::default(), Some(b"192.0.2.7"), black_box(0x1234_5678_9abc_def0))
    });
}
