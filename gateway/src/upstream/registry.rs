//! What outlives a reload, by name: the state of endpoints and the budgets of services.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use gateway_core::config::model::{self, Protocol};
use gateway_core::endpoint::EndpointState;
use gateway_core::health::{Ejections, Streak};
use gateway_core::name::{ReleaseName, ServiceName};
use parking_lot::Mutex;
use rustls::ClientConfig;

use super::aside::Aside;
use super::budget::Budgets;
use super::pool::{self, Pool};

/// Hands out the same state for the same name as long as anybody holds it.
#[derive(Default)]
pub(crate) struct Registry {
    endpoints: Mutex<HashMap<(ServiceName, ReleaseName, String), Weak<Standing>>>,
    budgets: Mutex<HashMap<ServiceName, Weak<Budgets>>>,
    pools: Mutex<HashMap<pool::Key, Weak<Pool>>>,
    /// Held while it is decided whether an endpoint is put aside.
    pub(crate) ejecting: Arc<Mutex<()>>,
    aside: Arc<Aside>,
}

/// What is known of an endpoint.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    pub(crate) state: Arc<EndpointState>,
    pub(crate) checkup: Mutex<Checkup>,
    pub(crate) ejections: Mutex<Ejections>,
}

/// How its active checks stand.
#[derive(Debug, Default)]
pub(crate) struct Checkup {
    /// When the next one is; not known before it was first thought of.
    pub(crate) due: Option<Instant>,
    pub(crate) streak: Streak,
    /// What was wrong at the last one; nothing when it was good.
    pub(crate) wrong: Option<String>,
}

impl Checkup {
    /// Takes in a check and what was wrong; gives what is to be believed now.
    pub(crate) fn note(
        &mut self,
        wrong: Option<String>,
        believed: Option<bool>,
        health: &model::Health,
    ) -> bool {
        let healthy = self.streak.note(wrong.is_none(), believed, health);
        self.wrong = wrong;
        healthy
    }
}

impl Registry {
    /// What is known of an endpoint; a new one waits for its first check if `checked`.
    pub(crate) fn endpoint(
        &self,
        service: &ServiceName,
        release: &ReleaseName,
        label: &str,
        checked: bool,
    ) -> Arc<Standing> {
        let key = (service.clone(), release.clone(), label.to_owned());
        obtain(&mut self.endpoints.lock(), key, || {
            let state = if checked { EndpointState::waiting() } else { EndpointState::default() };
            Arc::new(Standing { state: Arc::new(state), ..Standing::default() })
        })
    }

    pub(crate) fn budgets(&self, name: &ServiceName, service: &model::Service) -> Arc<Budgets> {
        let budgets: Arc<Budgets> = obtain(&mut self.budgets.lock(), name.clone(), Arc::default);
        budgets.retry.set_share(service.retry.budget);
        if let Some(failover) = &service.rollout.failover {
            budgets.failover.set_share(failover.budget);
        }
        budgets
    }

    /// The connections under a key; `protocol` and `tls` are those of its policy.
    pub(crate) fn pool(
        &self,
        key: pool::Key,
        protocol: Protocol,
        tls: Option<Arc<ClientConfig>>,
    ) -> Arc<Pool> {
        obtain(&mut self.pools.lock(), key.clone(), || Pool::new(key, protocol, tls))
    }

    /// The connections of what goes beside the traffic, ready for use.
    pub(crate) fn aside(&self) -> Arc<Aside> {
        self.aside.prepare();
        self.aside.clone()
    }

    /// Forgets what nobody holds any more.
    pub(crate) fn sweep(&self) {
        self.endpoints.lock().retain(|_, state| state.strong_count() > 0);
        self.budgets.lock().retain(|_, budget| budget.strong_count() > 0);
        self.pools.lock().retain(|_, pool| pool.strong_count() > 0);
    }
}

fn obtain<K: std::hash::Hash + Eq, V>(
    map: &mut HashMap<K, Weak<V>>,
    key: K,
    make: impl FnOnce() -> Arc<V>,
) -> Arc<V> {
    let held = map.get(&key).and_then(Weak::upgrade);
    held.unwrap_or_else(|| {
        let made = make();
        map.insert(key, Arc::downgrade(&made));
        made
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_has_the_same_state_until_nobody_holds_it() {
        let registry = Registry::default();
        let service = ServiceName::new("api").expect("a name");
        let release = ReleaseName::new("api-1").expect("a name");
        let first = registry.endpoint(&service, &release, "127.0.0.1:1", false);
        let busy = first.state.begin();
        let in_flight = |label| registry.endpoint(&service, &release, label, true).state.in_flight();
        assert_eq!((in_flight("127.0.0.1:1"), in_flight("127.0.0.1:2")), (1, 0));
        assert!(first.state.is_healthy(), "one that is known does not wait for a check");
        drop((busy, first));
        registry.sweep();
        assert!(registry.endpoints.lock().is_empty());
    }
}
