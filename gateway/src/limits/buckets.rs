//! Where the buckets of one limit are: bounded in number, the longest unused going first.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use governor::nanos::Nanos;
use governor::state::StateStore;
use parking_lot::Mutex;

/// The most buckets a limit holds.
pub const MAX_BUCKETS: usize = 200_000;

/// Parts with a lock each, so that threads seldom meet.
const SHARDS: usize = 64;

/// No bucket.
const NONE: u32 = u32::MAX;

/// Buckets by the hash of their key. A key takes no room, however long it is.
#[derive(Debug)]
pub(super) struct Buckets {
    shards: Box<[Mutex<Shard>]>,
    per_shard: usize,
}

/// A part of the buckets, listed by use.
#[derive(Debug)]
struct Shard {
    places: HashMap<u64, u32, BuildHasherDefault<AsItIs>>,
    buckets: Vec<Bucket>,
    newest: u32,
    oldest: u32,
}

#[derive(Debug)]
struct Bucket {
    key: u64,
    /// When the bucket is full again: GCRA's theoretical arrival time.
    full: Nanos,
    newer: u32,
    older: u32,
}

/// Keys are hashes already.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

impl Buckets {
    /// Room for about `most` buckets, and for no more.
    pub(super) fn new(most: usize) -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), per_shard: (most / SHARDS).max(1) }
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().buckets.len()).sum()
    }
}

impl StateStore for Buckets {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        // The map within takes its bits from both ends.
        let mut shard = self.shards[(*key >> 32) as usize % SHARDS].lock();
        if let Some(place) = shard.places.get(key).copied() {
            shard.touch(place);
            let bucket = &mut shard.buckets[place as usize];
            let (answer, full) = decide(Some(bucket.full))?;
            bucket.full = full;
            return Ok(answer);
        }
        let (answer, full) = decide(None)?;
        shard.insert(*key, full, self.per_shard);
        Ok(answer)
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self { places: HashMap::default(), buckets: Vec::new(), newest: NONE, oldest: NONE }
    }
}

impl Shard {
    /// Makes a bucket, in place of the longest unused one when there are `most`.
    fn insert(&mut self, key: u64, full: Nanos, most: usize) {
        let bucket = Bucket { key, full, newer: NONE, older: NONE };
        let place = if self.buckets.len() < most {
            self.buckets.push(bucket);
            (self.buckets.len() - 1) as u32
        } else {
            let place = self.oldest;
            self.unlink(place);
            let gone = std::mem::replace(&mut self.buckets[place as usize], bucket);
            self.places.remove(&gone.key);
            place
        };
        self.places.insert(key, place);
        self.link(place);
    }

    fn touch(&mut self, place: u32) {
        if self.newest != place {
            self.unlink(place);
            self.link(place);
        }
    }

    fn unlink(&mut self, place: u32) {
        let Bucket { newer, older, .. } = self.buckets[place as usize];
        match self.buckets.get_mut(newer as usize) {
            Some(bucket) => bucket.older = older,
            None => self.newest = older,
        }
        match self.buckets.get_mut(older as usize) {
            Some(bucket) => bucket.newer = newer,
            None => self.oldest = newer,
        }
    }

    /// Puts a bucket that is in no list before all others.
    fn link(&mut self, place: u32) {
        let newest = std::mem::replace(&mut self.newest, place);
        match self.buckets.get_mut(newest as usize) {
            Some(bucket) => bucket.newer = place,
            None => self.oldest = place,
        }
        let bucket = &mut self.buckets[place as usize];
        (bucket.newer, bucket.older) = (NONE, newest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts how often a key was seen by its bucket.
    fn seen(shard: &Buckets, key: u64) -> u64 {
        let count = |before: Option<Nanos>| {
            let times = before.map_or(0, |times| times.as_u64()) + 1;
            Ok::<_, ()>((times, Nanos::from(times)))
        };
        shard.measure_and_replace(&key, count).unwrap()
    }

    #[test]
    fn the_longest_unused_goes_when_there_is_no_room() {
        // These keys are all in the first shard, which has room for three.
        let buckets = Buckets::new(3 * SHARDS);
        for key in [1, 2, 3] {
            assert_eq!(seen(&buckets, key), 1);
        }
        assert_eq!(seen(&buckets, 1), 2);
        assert_eq!(seen(&buckets, 4), 1, "takes the place of 2");
        assert_eq!([1, 3, 4].map(|key| seen(&buckets, key)), [3, 2, 2]);
        assert_eq!(seen(&buckets, 2), 1, "takes the place of 1");
        assert_eq!([3, 4, 1].map(|key| seen(&buckets, key)), [3, 3, 1]);
    }

    #[test]
    fn a_refused_request_keeps_its_bucket_in_use_and_makes_none() {
        let buckets = Buckets::new(2 * SHARDS);
        let refuse = |key: u64| buckets.measure_and_replace(&key, |_| Err::<((), Nanos), _>(()));
        assert_eq!((seen(&buckets, 1), seen(&buckets, 2)), (1, 1));
        refuse(1).unwrap_err();
        refuse(9).unwrap_err();
        assert_eq!(seen(&buckets, 3), 1, "takes the place of 2");
        assert_eq!(seen(&buckets, 1), 2);
    }

    #[test]
    fn there_are_never_more_than_the_bound() {
        let buckets = Buckets::new(MAX_BUCKETS);
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..2 * MAX_BUCKETS {
            seen(&buckets, random.u64(..));
        }
        assert_eq!(buckets.len(), MAX_BUCKETS);
    }
}
