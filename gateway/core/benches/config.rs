//! What a reload costs before anything is built: a configuration of 10 000 routes from bytes to the model.

use std::fmt::Write;
use std::path::Path;

use gateway_core::config::{Process, load};

/// As in the gateway itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// 500 hosts of 20 routes, as a platform would write them: about 1 MB.
fn routes(count: usize) -> String {
    let mut text = String::from(
        "version: 1\nlisteners:\n  http: { address: \"127.0.0.1:8080\" }\n\
         services:\n  web: { endpoints: [\"127.0.0.1:3000\"] }\nroutes:\n",
    );
    for index in 0..count {
        let (host, path) = (index / 20, index % 20);
        let route = format!(
            "  route-{index}:\n    match: {{ host: shop-{host}.example, prefix: /area-{path} }}\n    service: web\n    timeout: 30s\n"
        );
        text.write_str(&route).expect("a string takes all");
    }
    text
}

#[divan::bench(args = [100, 10_000])]
fn load_routes(bencher: divan::Bencher<'_, '_>, count: usize) {
    let text = routes(count);
    bencher
        .counter(divan::counter::BytesCount::of_str(&text))
        .bench(|| load("gateway.yaml", &text, Path::new("/etc/gateway"), &Process).expect("a good file"));
}
