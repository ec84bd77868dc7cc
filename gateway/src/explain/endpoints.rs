//! What decides whether an endpoint of a service is used, in words.

use gateway_core::config::model::{Check, Eject, Health, Readiness, Service};

use super::policies::Policy;

/// The judges a service has over its endpoints.
pub(crate) fn of(service: &Service) -> Vec<Policy> {
    let policy = |name: &str, does| Policy { name: name.to_owned(), does };
    let health = service.health.as_ref().map(|judge| policy("health", health(judge)));
    let eject = service.eject.as_ref().map(|judge| policy("eject", eject(judge)));
    health.into_iter().chain(eject).collect()
}

fn health(health: &Health) -> String {
    let asked = match &health.check {
        Check::Http { path, status } => format!("GET {path} is {status}"),
        Check::Tcp => "a connection can be opened".to_owned(),
        Check::Grpc { service } if service.is_empty() => "the gRPC server is SERVING".to_owned(),
        Check::Grpc { service } => format!("gRPC {service} is SERVING"),
    };
    let port = health.port.map(|port| format!(" at port {port}")).unwrap_or_default();
    let (interval, timeout) = (health.interval, health.timeout);
    let (bad, good) = (health.unhealthy_after, health.healthy_after);
    let readiness = match health.readiness {
        Readiness::Ignored => "",
        Readiness::Required => "; the gateway is ready only while one endpoint is healthy",
    };
    format!(
        "{asked}{port} within {timeout:?}, every {interval:?}; out after {bad}, back after {good}{readiness}"
    )
}

fn eject(eject: &Eject) -> String {
    let Eject { consecutive_failures, duration, max } = eject;
    format!(
        "out for {duration:?} and longer after {consecutive_failures} failures in a row, at most {max} of a release"
    )
}
