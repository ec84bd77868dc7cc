//! How many connections each client address holds.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

const SHARDS: usize = 16;

/// Counts connections by address. An address without one takes no memory.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    shards: [Mutex<HashMap<IpAddr, u32>>; SHARDS],
    hasher: std::hash::RandomState,
}

/// One counted connection; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    address: IpAddr,
}

impl Slots {
    /// Takes a place for `address`, or nothing when it already holds `most`.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr, most: u32) -> Option<Slot> {
        let mut counts = self.shard(&address).lock();
        let count = counts.entry(address).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Slot { slots: self.clone(), address })
    }

    fn shard(&self, address: &IpAddr) -> &Mutex<HashMap<IpAddr, u32>> {
        &self.shards[self.hasher.hash_one(address) as usize % SHARDS]
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.slots.shard(&self.address).lock();
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

    #[test]
    fn a_place_is_free_again_when_its_connection_ends() {
        let slots = Arc::new(Slots::default());
        let address: IpAddr = [192, 0, 2, 1].into();
        let first = slots.take(address, 2).expect("the first place");
        let _second = slots.take(address, 2).expect("the second place");
        assert!(slots.take(address, 2).is_none());
        assert!(slots.take([192, 0, 2, 2].into(), 2).is_some(), "another address has its own places");
        drop(first);
        assert!(slots.take(address, 2).is_some());
    }

    #[test]
    fn addresses_that_left_take_no_memory() {
        let slots = Arc::new(Slots::default());
        for last in 0..=255 {
            drop(slots.take([192, 0, 2, last].into(), 1));
        }
        assert!(slots.shards.iter().all(|shard| shard.lock().is_empty()));
    }
}
