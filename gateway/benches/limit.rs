//! What a rate limit costs a request, with as many clients as a busy site has.

use std::net::{IpAddr, Ipv4Addr};

use gateway::limits::{Limiter, MAX_BUCKETS, Subject};
use gateway_core::config::model::{LimitKey, LimitScope, RateLimit, StoreDown};

/// Tells what buckets take: `max alloc` below.
#[global_allocator]
static MEMORY: divan::AllocProfiler = divan::AllocProfiler::system();

const CLIENTS: u32 = 100_000;

fn main() {
    divan::main();
}

/// A limit that knows so many clients and lets them pass.
fn limiter(clients: u32) -> Limiter {
    let rate = "1000/s".parse().expect("a rate");
    let (scope, when_store_down) = (LimitScope::Local, StoreDown::Local);
    let definition =
        RateLimit { key: LimitKey::ClientIp, rate, burst: 1_000_000, scope, when_store_down, dry_run: false };
    let limiter = Limiter::new(&definition);
    for number in 0..clients {
        assert!(limiter.take(client(number)).is_ok());
    }
    limiter
}

fn client(number: u32) -> Subject<'static> {
    Subject::client(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number)))
}

/// Clients come in no order, so that no bucket is warm.
#[divan::bench(threads = [1, 2], sample_size = 1000)]
fn decide_among_100_000_clients(bencher: divan::Bencher) {
    let limiter = limiter(CLIENTS);
    bencher
        .with_inputs(|| client(fastrand::u32(..CLIENTS)))
        .bench_values(|client| divan::black_box(limiter.take(client)));
}

/// The same with clients nobody has seen, each of which puts the longest unused out.
#[divan::bench(sample_size = 1000)]
fn decide_for_a_client_never_seen(bencher: divan::Bencher) {
    let limiter = limiter(CLIENTS);
    bencher
        .with_inputs(|| client(fastrand::u32(CLIENTS..0x00ff_ffff)))
        .bench_values(|client| divan::black_box(limiter.take(client)));
}

/// The memory of a limit that holds as many buckets as it may, three times as many clients having come.
#[divan::bench(sample_count = 1, sample_size = 1)]
fn hold_200_000_buckets() -> Limiter {
    limiter(3 * MAX_BUCKETS as u32)
}

/// One bucket for all, which threads fight for.
#[divan::bench(threads = [1, 2], sample_size = 1000)]
fn decide_for_everything(bencher: divan::Bencher) {
    let limiter = limiter(CLIENTS);
    bencher.bench(|| limiter.take(Subject::Everything));
}
