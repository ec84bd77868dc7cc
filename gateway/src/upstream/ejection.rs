//! Endpoints that fail one attempt after another are put aside, and come back by themselves.

use std::sync::Arc;
use std::time::Instant;

use gateway_core::config::model::Eject;
use gateway_core::outcome::Outcome;

use super::{Endpoint, Members, Release, Service};

/// Takes in how an attempt ended; puts the endpoint aside when that is one failure too many.
///
/// A success after a success costs one load; nothing is locked before an ejection is due.
pub(crate) fn note(service: &Service, release: &Release, endpoint: &Arc<Endpoint>, outcome: Outcome) {
    let Some(eject) = &service.definition.eject else { return };
    match outcome.blames_endpoint() {
        Some(false) => endpoint.state.note_success(),
        // Whenever it is as many again: what could not be ejected then may be later.
        Some(true) if endpoint.state.note_failure().is_multiple_of(eject.consecutive_failures) => {
            try_eject(service, release, endpoint, eject);
        }
        Some(true) | None => {}
    }
}

/// At most `max` of a release, and never its last available endpoint.
fn try_eject(service: &Service, release: &Release, endpoint: &Arc<Endpoint>, eject: &Eject) {
    let _one_at_a_time = service.ejecting.lock();
    let members = release.members();
    if endpoint.state.is_ejected() || !members.can_spare(endpoint, eject) {
        return;
    }
    let length = endpoint.standing.ejections.lock().begin(Instant::now(), eject.duration);
    endpoint.state.set_ejected(true);
    endpoint.show();
    release.metrics.ejections.add(1);
    tracing::warn!(
        service = %service.name, release = %release.name, endpoint = %endpoint.label,
        failures = eject.consecutive_failures, r#for = ?length, "endpoint is ejected"
    );
}

impl Members {
    fn can_spare(&self, endpoint: &Endpoint, eject: &Eject) -> bool {
        let ejected = self.endpoints.iter().filter(|other| other.state.is_ejected()).count();
        let others = self.endpoints.iter().filter(|other| other.label != endpoint.label);
        // The product may be a hair below a whole number.
        let allowed = (eject.max.get() * self.endpoints.len() as f64 + 1e-9) as usize;
        ejected < allowed && others.into_iter().any(|other| other.state.is_available())
    }
}

impl Release {
    /// Takes back every endpoint whose time is over; all of them when `eject` is gone from the file, or when nothing
    /// else is left.
    pub(crate) fn take_back(&self, service: &Service, now: Instant) {
        let members = self.members();
        let ejected = members.endpoints.iter().filter(|endpoint| endpoint.state.is_ejected());
        for endpoint in ejected {
            let mut ejections = endpoint.standing.ejections.lock();
            let needed = service.definition.eject.is_none() || !members.pool.has_available();
            if !needed && !ejections.is_over(now) {
                continue;
            }
            ejections.end(now);
            endpoint.state.note_success();
            endpoint.state.set_ejected(false);
            endpoint.show();
            tracing::info!(
                service = %service.name, release = %self.name, endpoint = %endpoint.label,
                early = needed, "endpoint is back from its ejection"
            );
        }
    }
}
