//! Limits by name, outliving reloads.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use gateway_core::config::model::RateLimit;
use gateway_core::name::LimitName;
use parking_lot::Mutex;

use super::Limiter;

/// Hands out the same limiter for the same name as long as anybody holds it and its definition is the same.
#[derive(Debug, Default)]
pub(crate) struct Limits(Mutex<HashMap<LimitName, Weak<Limiter>>>);

impl Limits {
    /// The limiter of this name; a new one, with full buckets, if what it counts or how much has changed.
    pub(crate) fn limiter(&self, name: &LimitName, definition: &RateLimit) -> Arc<Limiter> {
        let mut limits = self.0.lock();
        let held = limits.get(name).and_then(Weak::upgrade);
        held.filter(|limiter| limiter.serves(definition)).unwrap_or_else(|| {
            let made = Arc::new(Limiter::new(definition));
            limits.insert(name.clone(), Arc::downgrade(&made));
            made
        })
    }

    /// Forgets what nobody holds any more.
    pub(crate) fn sweep(&self) {
        self.0.lock().retain(|_, limiter| limiter.strong_count() > 0);
    }
}

#[cfg(test)]
mod tests {
    use gateway_core::config::model::{LimitKey, LimitScope, StoreDown};

    use super::super::Subject;
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
        assert!(limits.0.lock().is_empty());
    }
}
