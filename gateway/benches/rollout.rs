//! What judging releases costs the requests that go well, and how soon a bad one is gone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gateway::rehearsal::Stage;

/// As in the gateway itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FILE: &str = "version: 1
listeners: { http: { address: \"127.0.0.1:8080\" } }
services:
  api:
    releases: { a: { endpoints: [\"127.0.0.1:1\"] }, b: { endpoints: [\"127.0.0.1:2\"] } }
    stable: a
    canary: b
    rollout: { weight: 10% }
routes: { all: { service: api } }
";

fn main() {
    divan::main();
}

fn stage() -> Stage {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("gateway.yaml");
    std::fs::write(&path, FILE).expect("written");
    Stage::set(&path).expect("a good file")
}

/// Choosing a release and recording a success, on one thread and on two.
#[divan::bench(threads = [1, 2])]
fn choose_and_record_a_success(bencher: divan::Bencher<'_, '_>) {
    let (stage, draw) = (stage(), AtomicU64::new(0));
    bencher.bench(|| {
        let ticket = draw.load(Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        draw.store(ticket, Ordering::Relaxed);
        stage.serve(ticket);
    });
}

/// From the deciding failure to a share of zero.
#[divan::bench]
fn failing_response_to_weight_zero(bencher: divan::Bencher<'_, '_>) {
    bencher.with_inputs(stage).bench_refs(|stage| {
        let (attempts, taken) = stage.fail().expect("a canary that only fails is rolled back");
        assert!(attempts <= 5 && taken < Duration::from_secs(1));
    });
}
