//! What a reload costs, from the file to what requests look things up in.

#[path = "support/routes.rs"]
mod routes;

use routes::configuration;

/// As in the gateway itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

#[divan::bench(args = [100, 10_000])]
fn reload_routes(bencher: divan::Bencher<'_, '_>, routes: usize) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("gateway.yaml");
    std::fs::write(&path, configuration(routes)).expect("written");
    bencher.bench(|| gateway::rehearsal::reload(&path).expect("a good file"));
}
