//! How many connections there are, and how many of them each client address holds.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use parking_lot::Mutex;

const SHARDS: usize = 16;

/// Counts connections, all of them and by address. An address without one takes no memory.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    all: AtomicU32,
    shards: [Mutex<HashMap<IpAddr, u32>>; SHARDS],
    hasher: std::hash::RandomState,
}

/// One connection among all; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Place {
    slots: Arc<Slots>,
}

/// One connection among those of its address; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Slot {
    place: Place,
    address: IpAddr,
}

impl Slots {
    /// Takes a place, or nothing when there are already `most` connections.
    pub(crate) fn enter(self: &Arc<Self>, most: u32) -> Option<Place> {
        let one_more = |all: u32| (all < most).then(|| all + 1);
        self.all.fetch_update(Relaxed, Relaxed, one_more).ok()?;
        Some(Place { slots: self.clone() })
    }

    /// Connections that were accepted and have not ended, whether or not somebody has begun to serve them.
    pub(crate) fn taken(&self) -> u32 {
        self.all.load(Relaxed)
    }

    fn shard(&self, address: &IpAddr) -> &Mutex<HashMap<IpAddr, u32>> {
        &self.shards[self.hasher.hash_one(address) as usize % SHARDS]
    }
}

impl Place {
    /// Counts it for `address`, or nothing when that already holds `most`.
    pub(crate) fn of(self, address: IpAddr, most: u32) -> Option<Slot> {
        let mut counts = self.slots.shard(&address).lock();
        let count = counts.entry(address).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Slot { place: self, address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.slots.all.fetch_sub(1, Relaxed);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.place.slots.shard(&self.address).lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(slots: &Arc<Slots>, address: IpAddr, most: u32) -> Option<Slot> {
        slots.enter(u32::MAX).and_then(|place| place.of(address, most))
    }

    #[test]
    fn all_addresses_share_the_places_there_are() {
        let slots = Arc::new(Slots::default());
        let enter = || slots.enter(2);
        let first = enter().and_then(|place| place.of([192, 0, 2, 1].into(), 1)).expect("the first place");
        let refused = enter().and_then(|place| place.of([192, 0, 2, 1].into(), 1));
        assert!(refused.is_none(), "its address holds one");
        let _second = enter().expect("who was refused holds no place");
        assert!(enter().is_none());
        drop(first);
        assert!(enter().is_some());
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_ends() {
        let slots = Arc::new(Slots::default());
        let address: IpAddr = [192, 0, 2, 1].into();
        let first = take(&slots, address, 2).expect("the first place");
        let _second = take(&slots, address, 2).expect("the second place");
        assert!(take(&slots, address, 2).is_none());
        assert!(take(&slots, [192, 0, 2, 2].into(), 2).is_some(), "another address has its own places");
        drop(first);
        assert!(take(&slots, address, 2).is_some());
    }

    #[test]
    fn addresses_that_left_take_no_memory() {
        let slots = Arc::new(Slots::default());
        for last in 0..=255 {
            drop(take(&slots, [192, 0, 2, last].into(), 1));
        }
        assert!(slots.shards.iter().all(|shard| shard.lock().is_empty()));
    }
}
