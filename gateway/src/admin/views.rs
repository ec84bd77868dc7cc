//! What the gateway tells of itself, as JSON.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gateway_core::config::model::{self, Action, Balance, Protocol};
use gateway_core::config::report::Report;
use gateway_core::name::{ListenerName, RouteName};
use gateway_core::route::rule::{HostPattern, Match, PathRule, ValueRule};
use serde_json::{Value, json};

use super::{maintenance, rollouts};
use crate::explain::{Entrance, policies, releases};
use crate::listener::Listener;
use crate::runtime::Runtime;
use crate::snapshot::{Route, ServedCertificate, Snapshot};
use crate::telemetry::labels::{Label, Reload};
use crate::telemetry::rfc3339::Rfc3339;
use crate::upstream::Service;

/// Whether requests are welcome, with what that depends on. A bad reload is no part of it: the last good one serves.
pub(super) fn readiness(runtime: &Runtime) -> Value {
    let mut checks = serde_json::Map::new();
    checks.insert("started".to_owned(), runtime.is_started().into());
    checks.insert("accepting".to_owned(), (!runtime.is_draining()).into());
    for service in runtime.snapshot().required() {
        checks.insert(format!("service/{}", service.name), service.is_up().into());
    }
    json!({ "ready": checks.values().all(|good| *good == Value::Bool(true)), "checks": checks })
}

/// The whole process on one page.
pub(super) fn status(runtime: &Runtime) -> Value {
    let snapshot = runtime.snapshot();
    let last_reload = runtime.last_reload().map(|last| {
        let result = Reload::LABELS[last.result.slot()];
        json!({ "result": result, "at": time(last.at), "errors": last.errors })
    });
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": runtime.is_ready(),
        "draining": runtime.is_draining(),
        "uptime_seconds": runtime.started.elapsed().as_millis() as f64 / 1000.0,
        "config": runtime.path.display().to_string(),
        "revision": snapshot.revision,
        "loaded_at": time(snapshot.loaded_at),
        "connections": runtime.open_connections(),
        "last_reload": last_reload,
        "listeners": listeners(&snapshot),
        "kill": runtime.rollouts.is_killed(),
        "maintenance": maintenance::lines(runtime),
        "rollouts": rollouts::lines(&runtime.rollouts),
        "releases": snapshot.services.values().flat_map(|service| shares(service)).collect::<Vec<_>>(),
        "unavailable": snapshot.services.values().flat_map(|service| unavailable(service)).collect::<Vec<_>>(),
        "warnings": warnings(&snapshot.warnings),
    })
}

fn listeners(snapshot: &Snapshot) -> Vec<Value> {
    let known = |name| Some((name, snapshot.listeners.get(name)?));
    let view = |(name, listener): (&ListenerName, &Arc<Listener>)| {
        let entrance = Entrance::new(name.as_str(), listener);
        json!({
            "name": entrance.name,
            "address": entrance.address,
            "scheme": entrance.scheme,
            "connections": listener.metrics.open(),
        })
    };
    snapshot.model.listeners.keys().filter_map(known).map(view).collect()
}

/// One line for each release of a service.
fn shares(service: &Service) -> Vec<Value> {
    let line = |release: releases::ReleaseView| {
        let up = release.endpoints.iter().filter(|endpoint| endpoint.available).count();
        let in_flight: usize = release.endpoints.iter().map(|endpoint| endpoint.in_flight).sum();
        json!({
            "service": service.name,
            "release": release.name,
            "role": release.role,
            "weight": release.weight,
            "endpoints": release.endpoints.len(),
            "available": up,
            "in_flight": in_flight,
        })
    };
    releases::of(service).into_iter().map(line).collect()
}

/// One line for each endpoint that gets no requests.
fn unavailable(service: &Service) -> Vec<Value> {
    let line = |release: &releases::ReleaseView, endpoint: &releases::EndpointView| {
        json!({
            "service": service.name,
            "release": release.name,
            "endpoint": endpoint.address,
            "why": endpoint.why,
        })
    };
    let lines = |release: releases::ReleaseView| {
        let out = release.endpoints.iter().filter(|endpoint| !endpoint.available);
        out.map(|endpoint| line(&release, endpoint)).collect::<Vec<_>>()
    };
    releases::of(service).into_iter().flat_map(lines).collect()
}

fn warnings(report: &Report) -> Vec<Value> {
    let Value::Array(warnings) = report.to_json() else { return Vec::new() };
    let short = |warning: &Value| json!({ "line": warning["line"], "code": warning["code"], "message": warning["message"] });
    warnings.iter().map(short).collect()
}

/// Every route in the order of precedence.
pub(super) fn routes(snapshot: &Snapshot) -> Value {
    let view = |(name, served): (&RouteName, &Arc<Route>)| {
        let (route, standing) = (snapshot.model.routes.get(name)?, served.maintenance.standing());
        Some(json!({
            "name": name,
            "match": matches(&route.matches),
            "action": action(&route.action),
            "maintenance": maintenance::view(standing),
            "policies": policies::of(route, &snapshot.model, &standing),
        }))
    };
    json!({ "routes": snapshot.routes.in_order().filter_map(view).collect::<Vec<_>>() })
}

/// What a route asks; what it does not ask is an empty list.
fn matches(rule: &Match) -> Value {
    let path = |path: &PathRule| match path {
        PathRule::Exact(path) => json!({ "path": path }),
        PathRule::Prefix(prefix) => json!({ "prefix": prefix }),
        PathRule::Regex(regex) => json!({ "regex": regex.as_str() }),
    };
    json!({
        "hosts": rule.hosts.iter().map(host).collect::<Vec<_>>(),
        "paths": rule.paths.iter().map(path).collect::<Vec<_>>(),
        "methods": rule.methods.iter().map(http::Method::as_str).collect::<Vec<_>>(),
        "headers": rule.headers.iter().map(|(name, rule)| value(name.as_str(), rule)).collect::<Vec<_>>(),
        "query": rule.query.iter().map(|(name, rule)| value(name, rule)).collect::<Vec<_>>(),
    })
}

fn host(host: &HostPattern) -> String {
    match host {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Wildcard(domain) => format!("*.{domain}"),
    }
}

/// What is asked of one field or parameter. The value itself may be a credential; it is where the file is.
fn value(name: &str, rule: &ValueRule) -> Value {
    let kind = match rule {
        ValueRule::Present => "present",
        ValueRule::Exact(_) => "exact",
        ValueRule::Regex(_) => "regex",
    };
    json!({ "name": name, "rule": kind })
}

fn action(action: &Action) -> Value {
    match action {
        Action::Forward(service) => json!({ "service": service }),
        Action::Redirect { to, status } => json!({ "redirect": { "to": to, "status": status.as_u16() } }),
        Action::Respond { status, .. } => json!({ "respond": { "status": status.as_u16() } }),
    }
}

/// Every service with its releases and their endpoints.
pub(super) fn services(snapshot: &Snapshot) -> Value {
    json!({ "services": snapshot.services.values().map(|service| service_view(service)).collect::<Vec<_>>() })
}

fn service_view(service: &Service) -> Value {
    let balance = match service.definition.balance {
        Balance::RoundRobin => "round_robin",
        Balance::LeastRequests => "least_requests",
        Balance::Hash => "hash",
    };
    let protocol = match service.definition.protocol {
        Protocol::Http1 => "http1",
        Protocol::H2 => "h2",
        Protocol::H2c => "h2c",
    };
    let canary = match &service.definition.traffic {
        model::Traffic::Canary { canary, .. } => Some(canary),
        model::Traffic::Stable { .. } | model::Traffic::Split(_) => None,
    };
    json!({
        "name": service.name,
        "stable": service.stable().name,
        "canary": canary,
        "protocol": protocol,
        "tls": service.definition.tls.is_some(),
        "balance": balance,
        "releases": releases::of(service),
    })
}

/// Every certificate that is served.
pub(super) fn certificates(snapshot: &Snapshot) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() as i64);
    let view = |served: &ServedCertificate| {
        let certificate = &served.certificate;
        json!({
            "listener": served.listener,
            "file": served.path.display().to_string(),
            "names": certificate.names,
            "not_before": unix_time(certificate.not_before),
            "not_after": unix_time(certificate.not_after),
            "days_left": (certificate.not_after - now).div_euclid(86_400),
        })
    };
    json!({ "certificates": snapshot.certificates.iter().map(view).collect::<Vec<_>>() })
}

fn time(time: SystemTime) -> String {
    Rfc3339(time).to_string()
}

fn unix_time(seconds: i64) -> String {
    time(UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}
