//! The releases of a service as they are at this moment: role, share, endpoints.

use std::time::Instant;

use gateway_core::config::model::Traffic;
use serde::{Deserialize, Serialize};

use crate::upstream::{Endpoint, Release, Service};

/// One release.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ReleaseView {
    pub(crate) name: String,
    /// `stable`, `canary`, `split` (a fixed share beside stable) or `idle` (declared, without a part).
    pub(crate) role: String,
    /// Its share of the service's traffic, 0 to 100.
    pub(crate) weight: f64,
    /// Addresses as the file has them.
    pub(crate) configured: Vec<String>,
    /// Where attempts go; names are resolved.
    pub(crate) endpoints: Vec<EndpointView>,
}

/// One endpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EndpointView {
    pub(crate) address: String,
    /// Whether requests are sent to it.
    pub(crate) available: bool,
    /// What active checks say.
    pub(crate) healthy: bool,
    /// Whether its own failures have put it aside.
    pub(crate) ejected: bool,
    /// Requests on their way to it.
    pub(crate) in_flight: usize,
    /// Why it is not available.
    #[serde(default)]
    pub(crate) why: Option<String>,
}

/// The releases of a service: in the order of the file.
pub(crate) fn of(service: &Service) -> Vec<ReleaseView> {
    service.releases.iter().map(|release| view(service, release)).collect()
}

fn view(service: &Service, release: &Release) -> ReleaseView {
    let declared = service.definition.releases.get(&release.name);
    let configured = declared.map(|declared| declared.endpoints.iter().map(|at| at.value.to_string()));
    ReleaseView {
        name: release.name.to_string(),
        role: role(service, release).to_owned(),
        weight: service.division().weight(release.index).percent(),
        configured: configured.map(Iterator::collect).unwrap_or_default(),
        endpoints: release.members().endpoints.iter().map(|endpoint| endpoint_view(endpoint)).collect(),
    }
}

fn role(service: &Service, release: &Release) -> &'static str {
    if service.stable().index == release.index {
        return "stable";
    }
    match &service.definition.traffic {
        Traffic::Canary { canary, .. } if *canary == release.name => "canary",
        Traffic::Split(shares) if shares.iter().any(|(name, _)| *name == release.name) => "split",
        _ => "idle",
    }
}

fn endpoint_view(endpoint: &Endpoint) -> EndpointView {
    EndpointView {
        address: endpoint.label.to_string(),
        available: endpoint.state.is_available(),
        healthy: endpoint.state.is_healthy(),
        ejected: endpoint.state.is_ejected(),
        in_flight: endpoint.state.in_flight(),
        why: (!endpoint.state.is_available()).then(|| why(endpoint)),
    }
}

fn why(endpoint: &Endpoint) -> String {
    let (state, standing) = (&endpoint.state, &endpoint.standing);
    if state.is_waiting() {
        return "waits for its first check".to_owned();
    }
    if state.is_ejected() {
        let left = standing.ejections.lock().left(Instant::now());
        return format!("ejected for another {}s", left.as_millis().div_ceil(1000));
    }
    match &standing.checkup.lock().wrong {
        Some(wrong) => format!("unhealthy: {wrong}"),
        // The last check was good; it takes more of them.
        None => "unhealthy, recovering".to_owned(),
    }
}
