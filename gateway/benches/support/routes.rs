//! A large configuration file.

use std::fmt::Write;

/// 20 routes a host and 50 services, as a platform would write them: about 1 MB for 10 000 routes.
pub(crate) fn configuration(routes: usize) -> String {
    let mut text =
        String::from("version: 1\nlisteners:\n  http: { address: \"127.0.0.1:8080\" }\nservices:\n");
    for service in 0..50 {
        writeln!(text, "  app-{service}: {{ endpoints: [\"127.0.0.1:{}\"] }}", 3000 + service)
            .expect("a string takes all");
    }
    text.push_str("routes:\n");
    for index in 0..routes {
        let (host, path, service) = (index / 20, index % 20, index % 50);
        write!(
            text,
            "  route-{index}:\n    match: {{ host: shop-{host}.example, prefix: /area-{path} }}\n    service: app-{service}\n    timeout: 30s\n"
        )
        .expect("a string takes all");
    }
    text
}
