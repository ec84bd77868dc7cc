//! How many checks are under way, and whose: a service whose endpoints all hang leaves room for the others.

use std::collections::HashMap;
use std::sync::Arc;

use gateway_core::name::ServiceName;
use parking_lot::Mutex;

/// Places for checks that are under way.
///
/// A service gets another one while it holds fewer than are free. Alone it gets half of them, beside one that hangs a quarter;
/// with so many services that hang that each has but a few, there is still a place for the next.
#[derive(Debug)]
pub(super) struct Places(Mutex<Taken>);

#[derive(Debug)]
struct Taken {
    free: usize,
    by: HashMap<ServiceName, usize>,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    service: ServiceName,
}

impl Places {
    pub(super) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Taken { free: count, by: HashMap::new() })))
    }

    /// A place for a check of a service, if there is one for it.
    pub(super) fn take(self: &Arc<Self>, service: &ServiceName) -> Option<Place> {
        let mut taken = self.0.lock();
        if taken.by.get(service).is_some_and(|&held| held >= taken.free) || taken.free == 0 {
            return None;
        }
        taken.free -= 1;
        *taken.by.entry(service.clone()).or_default() += 1;
        Some(Place { places: self.clone(), service: service.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock();
        taken.free += 1;
        if let Some(held) = taken.by.get_mut(&self.service) {
            *held -= 1;
            if *held == 0 {
                taken.by.remove(&self.service);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(places: &Arc<Places>, service: &str) -> Vec<Place> {
        let service = ServiceName::new(service).expect("a name");
        std::iter::from_fn(|| places.take(&service)).collect()
    }

    #[test]
    fn nobody_takes_the_last_place() {
        let places = Places::new(256);
        let shares: Vec<_> = ["a", "b", "c", "d"].map(|name| take_all(&places, name)).into_iter().collect();
        let counts: Vec<usize> = shares.iter().map(Vec::len).collect();
        assert_eq!(counts, [128, 64, 32, 16]);
        assert_eq!(take_all(&places, "a").len(), 0);
    }

    #[test]
    fn places_given_back_are_there_again() {
        let places = Places::new(8);
        drop(take_all(&places, "a"));
        assert!(places.0.lock().by.is_empty());
        assert_eq!(take_all(&places, "a").len(), 4);
        assert_eq!(take_all(&Places::new(0), "a").len(), 0);
    }
}
