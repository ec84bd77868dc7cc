//! What decides whether an endpoint of a service is used, and whether another is tried, in words.

use gateway_core::config::model::{Check, Eject, FailureSet, Health, Readiness, Retry, Service};

use super::policies::Policy;

/// The judges a service has over its endpoints, and when it tries another.
pub(crate) fn of(service: &Service) -> Vec<Policy> {
    let policy = |name: &str, does| Policy { name: name.to_owned(), does };
    let health = service.health.as_ref().map(|judge| policy("health", health(judge)));
    let eject = service.eject.as_ref().map(|judge| policy("eject", eject(judge)));
    let retry = retry(service).map(|does| policy("retry", does));
    health.into_iter().chain(eject).chain(retry).collect()
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

/// Nothing for a service that tries nothing again.
fn retry(service: &Service) -> Option<String> {
    let Retry { attempts, on, budget } = &service.retry;
    if *attempts == 0 {
        return None;
    }
    let tries = if *attempts == 1 { "one more try".to_owned() } else { format!("{attempts} more tries") };
    let first_byte = service.timeouts.first_byte;
    Some(format!(
        "{tries} after {}, at most {budget} of requests; the first byte within {first_byte:?} of each",
        failures(on)
    ))
}

/// As the file lists them.
fn failures(set: &FailureSet) -> String {
    let words = [
        ("connect", set.connect),
        ("timeout", set.timeout),
        ("reset", set.reset),
        ("5xx", set.server_errors),
    ];
    let words = words.into_iter().filter(|(_, listed)| *listed).map(|(word, _)| word.to_owned());
    let statuses = set.statuses.iter().map(|status| status.as_u16().to_string());
    words.chain(statuses).collect::<Vec<_>>().join(", ")
}
