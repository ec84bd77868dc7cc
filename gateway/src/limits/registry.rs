//! Limits by name, outliving reloads.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use gateway_core::config::model::{MaxInFlight, RateLimit};
use gateway_core::name::{LimitName, RouteName, ServiceName};
use parking_lot::Mutex;

use super::Limiter;
use super::turnstile::Turnstile;

/// Hands out the same limiter for the same name as long as anybody holds it and its definition is the same, and the same
/// turnstile whatever becomes of its definition: who is inside counts.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    rates: Mutex<HashMap<LimitName, Weak<Limiter>>>,
    turnstiles: Mutex<HashMap<Place, Weak<Turnstile>>>,
}

/// What has a limit on the requests it serves at a time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Route(RouteName),
    Service(ServiceName),
}

impl Limits {
    /// The limiter of this name; a new one, with full buckets, if what it counts or how much has changed.
    pub(crate) fn limiter(&self, name: &LimitName, definition: &RateLimit) -> Arc<Limiter> {
        let mut limits = self.rates.lock();
        let held = limits.get(name).and_then(Weak::upgrade);
        held.filter(|limiter| limiter.serves(definition)).unwrap_or_else(|| {
            let made = Arc::new(Limiter::new(definition));
            limits.insert(name.clone(), Arc::downgrade(&made));
            made
        })
    }

    /// The turnstile of this place, which lets in as many as `definition` says from now on.
    pub(crate) fn turnstile(&self, place: &Place, definition: &MaxInFlight) -> Arc<Turnstile> {
        let mut turnstiles = self.turnstiles.lock();
        if let Some(held) = turnstiles.get(place).and_then(Weak::upgrade) {
            held.set_most(definition.requests);
            return held;
        }
        let made = Arc::new(Turnstile::new(definition.requests));
        turnstiles.insert(place.clone(), Arc::downgrade(&made));
        made
    }

    /// Forgets what nobody holds any more.
    pub(crate) fn sweep(&self) {
        self.rates.lock().retain(|_, limiter| limiter.strong_count() > 0);
        self.turnstiles.lock().retain(|_, turnstile| turnstile.strong_count() > 0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gateway_core::config::model::{LimitKey, LimitScope, StoreDown};

    use super::super::Subject;
    use super::super::turnstile::Entry;
    use super::*;

    fn definition() -> RateLimit {
        RateLimit {
            key: LimitKey::ClientIp,
            rate: "1/h".parse().unwrap(),
            burst: 1,
            scope: LimitScope::Local,
            when_store_down: StoreDown::Local,
            dry_run: false,
        }
    }

    #[test]
    fn buckets_live_on_while_what_is_counted_and_how_much_are_the_same() {
        let (limits, name) = (Limits::default(), LimitName::new("login").unwrap());
        let first = limits.limiter(&name, &definition());
        assert!(first.take(Subject::Everything).is_ok());
        let dry = RateLimit { dry_run: true, ..definition() };
        assert!(limits.limiter(&name, &dry).take(Subject::Everything).is_err(), "the same bucket");

        let faster = RateLimit { rate: "2/h".parse().unwrap(), ..definition() };
        assert!(limits.limiter(&name, &faster).take(Subject::Everything).is_ok(), "another bucket");
        drop(first);
        limits.sweep();
        assert!(limits.rates.lock().is_empty());
    }

    #[test]
    fn who_is_inside_counts_against_another_number_too() {
        let (limits, place) = (Limits::default(), Place::Route(RouteName::new("api").unwrap()));
        let most = |requests| MaxInFlight { requests, queue: 0, wait: Duration::from_secs(1) };
        let first = limits.turnstile(&place, &most(2));
        let _inside = (first.enter(0), first.enter(0));
        let second = limits.turnstile(&place, &most(3));
        assert!(matches!(second.enter(0), Entry::Inside(_)));
        assert!(matches!(limits.turnstile(&place, &most(2)).enter(0), Entry::Full));
        let service = Place::Service(ServiceName::new("api").unwrap());
        assert!(matches!(limits.turnstile(&service, &most(1)).enter(0), Entry::Inside(_)));
        limits.sweep();
        assert_eq!(limits.turnstiles.lock().len(), 1);
    }
}
