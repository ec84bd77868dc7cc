//! What outlives a reload, by name: the state of endpoints and the budgets of services.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use gateway_core::config::model;
use gateway_core::endpoint::EndpointState;
use gateway_core::name::{ReleaseName, ServiceName};
use parking_lot::Mutex;

use super::budget::Budgets;

/// Hands out the same state for the same name as long as anybody holds it.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    endpoints: Mutex<HashMap<(ServiceName, ReleaseName, String), Weak<EndpointState>>>,
    budgets: Mutex<HashMap<ServiceName, Weak<Budgets>>>,
}

impl Registry {
    pub(crate) fn endpoint(
        &self,
        service: &ServiceName,
        release: &ReleaseName,
        label: &str,
    ) -> Arc<EndpointState> {
        let key = (service.clone(), release.clone(), label.to_owned());
        obtain(&mut self.endpoints.lock(), key, Arc::default)
    }

    pub(crate) fn budgets(&self, name: &ServiceName, service: &model::Service) -> Arc<Budgets> {
        let budgets: Arc<Budgets> = obtain(&mut self.budgets.lock(), name.clone(), Arc::default);
        budgets.retry.set_share(service.retry.budget);
        if let Some(failover) = &service.rollout.failover {
            budgets.failover.set_share(failover.budget);
        }
        budgets
    }

    /// Forgets what nobody holds any more.
    pub(crate) fn sweep(&self) {
        self.endpoints.lock().retain(|_, state| state.strong_count() > 0);
        self.budgets.lock().retain(|_, budget| budget.strong_count() > 0);
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
        let first = registry.endpoint(&service, &release, "127.0.0.1:1");
        let busy = first.begin();
        assert_eq!(registry.endpoint(&service, &release, "127.0.0.1:1").in_flight(), 1);
        assert_eq!(registry.endpoint(&service, &release, "127.0.0.1:2").in_flight(), 0);
        drop((busy, first));
        registry.sweep();
        assert!(registry.endpoints.lock().is_empty());
    }
}
