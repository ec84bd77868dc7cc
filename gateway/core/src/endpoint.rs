//! Which endpoint of a release an attempt goes to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};

pub use crate::config::model::Balance as Choice;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// What is known of an endpoint; shared by every pool it is part of, so that it outlives a reload.
#[derive(Debug, Default)]
pub struct EndpointState {
    in_flight: AtomicUsize,
    unhealthy: AtomicBool,
    unchecked: AtomicBool,
    ejected: AtomicBool,
    failures: AtomicU32,
}

impl EndpointState {
    /// One that is to be checked before it is used.
    pub fn waiting() -> Self {
        Self { unhealthy: AtomicBool::new(true), unchecked: AtomicBool::new(true), ..Self::default() }
    }

    /// Counts a request until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Requests that have begun and not ended.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// Neither unhealthy, nor waiting for its first check, nor ejected. A new endpoint is available.
    pub fn is_available(&self) -> bool {
        self.is_healthy() && !self.is_ejected()
    }

    /// What active checks say.
    pub fn is_healthy(&self) -> bool {
        !self.unhealthy.load(Relaxed)
    }

    /// Whether its own failures have put it aside.
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Relaxed)
    }

    /// Whether it waits for its first check.
    pub fn is_waiting(&self) -> bool {
        self.unchecked.load(Relaxed)
    }

    /// Says what active checks found.
    pub fn set_healthy(&self, healthy: bool) {
        self.unchecked.store(false, Relaxed);
        self.unhealthy.store(!healthy, Relaxed);
    }

    /// Puts it aside, or takes it back.
    pub fn set_ejected(&self, ejected: bool) {
        self.ejected.store(ejected, Relaxed);
    }

    /// Takes in an attempt that did well; one load when the last one did too.
    pub fn note_success(&self) {
        if self.failures.load(Relaxed) > 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// Takes in an attempt that the endpoint failed; says how many there were in a row, counted from 1.
    pub fn note_failure(&self) -> u32 {
        self.failures.fetch_add(1, Relaxed).saturating_add(1)
    }
}

/// A request on its way to an endpoint.
#[derive(Debug)]
pub struct InFlight(Arc<EndpointState>);

impl InFlight {
    /// The endpoint it is on its way to.
    pub fn endpoint(&self) -> &Arc<EndpointState> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// The endpoints a request has tried, the last eight of them; valid across pools of the same release.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tried {
    identities: [u64; 8],
    count: usize,
}

impl Tried {
    fn contains(&self, identity: u64) -> bool {
        self.identities[..self.count.min(8)].contains(&identity)
    }

    fn add(&mut self, identity: u64) {
        self.identities[self.count % 8] = identity;
        self.count += 1;
    }
}

/// The endpoints of a release at one time.
#[derive(Debug)]
pub struct Pool {
    choice: Choice,
    members: Vec<Member>,
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Member {
    /// Of the address, the same on every gateway.
    identity: u64,
    state: Arc<EndpointState>,
}

impl Pool {
    /// Takes each endpoint's address, as text and unlike the others', and its state.
    pub fn new<'a>(
        choice: Choice,
        endpoints: impl IntoIterator<Item = (&'a str, Arc<EndpointState>)>,
    ) -> Self {
        let member = |(address, state): (&str, _)| Member { identity: xxh3_64(address.as_bytes()), state };
        Self { choice, members: endpoints.into_iter().map(member).collect(), turn: AtomicUsize::new(0) }
    }

    /// How many endpoints there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The state of endpoint `index`, in the order given to [`new`](Self::new).
    pub fn state(&self, index: usize) -> Option<&Arc<EndpointState>> {
        self.members.get(index).map(|member| &member.state)
    }

    /// Whether any endpoint is available.
    pub fn has_available(&self) -> bool {
        self.members.iter().any(|member| member.state.is_available())
    }

    /// Whether any endpoint waits for its first check.
    pub fn has_waiting(&self) -> bool {
        self.members.iter().any(|member| member.state.is_waiting())
    }

    /// Chooses an endpoint for the next attempt and notes it in `tried`; `None` only if the pool is empty.
    ///
    /// Among those available and not tried yet. If none is available all count as available: a health check that is
    /// wrong about everything must not take the service down. Only when nothing untried is left is one tried again.
    ///
    /// `random` is drawn uniformly from all 64-bit numbers. `key` is what [`Choice::Hash`] goes by; without one it
    /// draws. O(endpoints) for a few loads each; allocates nothing.
    pub fn pick(&self, tried: &mut Tried, key: Option<&[u8]>, random: u64) -> Option<usize> {
        let panic = !self.has_available();
        let open = |member: &Member| panic || member.state.is_available();
        let fresh = |member: &Member| open(member) && !tried.contains(member.identity);
        let index = self
            .choose(fresh, key, random)
            .or_else(|| self.choose(open, key, random))
            // States may change while they are read.
            .or_else(|| self.choose(|_| true, key, random))?;
        tried.add(self.members[index].identity);
        Some(index)
    }

    /// Chooses an available endpoint for a request that goes beside the traffic and must not change where that goes:
    /// takes nobody's turn. `None` when none is available; nothing is sent to the sick for its own sake.
    ///
    /// [`Choice::Hash`] goes by `key`; everything else takes the less busy of two. `random` as for [`pick`](Self::pick).
    pub fn pick_aside(&self, key: Option<&[u8]>, random: u64) -> Option<usize> {
        let open = |member: &Member| member.state.is_available();
        match self.choice {
            Choice::Hash => self.choose(open, key, random),
            Choice::LeastRequests | Choice::RoundRobin => self.less_busy_of_two(open, random),
        }
    }

    fn choose(&self, may: impl Fn(&Member) -> bool, key: Option<&[u8]>, random: u64) -> Option<usize> {
        match (self.choice, key) {
            (Choice::LeastRequests, _) => self.less_busy_of_two(may, random),
            (Choice::RoundRobin, _) => {
                let count = self.count(&may);
                let turn = self.turn.fetch_add(usize::from(count > 0), Relaxed);
                self.nth(&may, turn.checked_rem(count)?)
            }
            (Choice::Hash, Some(key)) => self.highest(may, xxh3_64(key)),
            (Choice::Hash, None) => self.highest(may, random),
        }
    }

    /// Two different ones, all pairs equally likely; the first on a tie.
    fn less_busy_of_two(&self, may: impl Fn(&Member) -> bool, random: u64) -> Option<usize> {
        let count = self.count(&may);
        let (low, high) = (random as u32, (random >> 32) as u32);
        let first_place = below(low, count);
        let first = self.nth(&may, first_place)?;
        if count == 1 {
            return Some(first);
        }
        let second_place = below(high, count - 1);
        let second = self.nth(&may, second_place + usize::from(second_place >= first_place)).unwrap_or(first);
        let busy = |index: usize| self.members[index].state.in_flight();
        Some(if busy(second) < busy(first) { second } else { first })
    }

    fn highest(&self, may: impl Fn(&Member) -> bool, key: u64) -> Option<usize> {
        let candidates = self.members.iter().enumerate().filter(|(_, member)| may(member));
        candidates
            .max_by_key(|(_, member)| xxh3_64_with_seed(&member.identity.to_le_bytes(), key))
            .map(|(index, _)| index)
    }

    fn count(&self, may: &impl Fn(&Member) -> bool) -> usize {
        self.members.iter().filter(|member| may(member)).count()
    }

    fn nth(&self, may: &impl Fn(&Member) -> bool, place: usize) -> Option<usize> {
        self.members.iter().enumerate().filter(|(_, member)| may(member)).nth(place).map(|(index, _)| index)
    }
}

/// Maps 32 random bits to `0..count`; 0 for 0.
fn below(random: u32, count: usize) -> usize {
    ((u64::from(random) * count as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ADDRESSES: [&str; 4] = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"];

    fn pool(choice: Choice, count: usize) -> Pool {
        Pool::new(choice, ADDRESSES[..count].iter().map(|address| (*address, Arc::default())))
    }

    fn pick(pool: &Pool, key: Option<&[u8]>, random: u64) -> usize {
        pool.pick(&mut Tried::default(), key, random).expect("an endpoint")
    }

    fn state(pool: &Pool, index: usize) -> &Arc<EndpointState> {
        pool.state(index).expect("an endpoint")
    }

    /// Random numbers whose halves walk a grid of 64 by 64.
    fn grid() -> impl Iterator<Item = u64> {
        (0..64).flat_map(|low| (0..64).map(move |high| (low << 26) | (high << 58)))
    }

    #[test]
    fn round_robin_gives_each_its_turn() {
        let pool = pool(Choice::RoundRobin, 3);
        let turns: Vec<_> = (0..6).map(|_| pick(&pool, None, 0)).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
        state(&pool, 1).set_healthy(false);
        let turns: Vec<_> = (0..4).map(|_| pick(&pool, None, 0)).collect();
        assert_eq!(turns, [0, 2, 0, 2]);
    }

    #[test]
    fn what_goes_beside_the_traffic_takes_nobodys_turn_and_leaves_the_sick_alone() {
        let pool = pool(Choice::RoundRobin, 3);
        let aside = |random| pool.pick_aside(None, random);
        let turns: Vec<_> = (0..6).map(|random| aside(random).map(|_| pick(&pool, None, 0))).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1, 2].map(Some));
        state(&pool, 1).set_healthy(false);
        state(&pool, 2).set_ejected(true);
        assert!(grid().all(|random| aside(random) == Some(0)));
        state(&pool, 0).set_healthy(false);
        assert!(grid().all(|random| aside(random).is_none()));
    }

    #[test]
    fn of_two_the_idle_one_is_chosen_whatever_the_draw() {
        let pool = pool(Choice::LeastRequests, 2);
        let busy = state(&pool, 0).begin();
        assert!(grid().all(|random| pick(&pool, None, random) == 1));
        drop(busy);
        let _busy = state(&pool, 1).begin();
        assert!(grid().all(|random| pick(&pool, None, random) == 0));
    }

    #[test]
    fn the_busiest_of_many_is_never_chosen_and_the_idlest_most() {
        let pool = pool(Choice::LeastRequests, 4);
        let _busy: Vec<_> = (0..4)
            .flat_map(|index| (0..index).map(|_| state(&pool, index).begin()).collect::<Vec<_>>())
            .collect();
        let mut counts = [0; 4];
        grid().for_each(|random| counts[pick(&pool, None, random)] += 1);
        // Out of 12 ordered pairs, 6 hold endpoint 0, 4 of the others endpoint 1, 2 endpoint 2.
        let close = |count: usize, sixths: usize| count.abs_diff(4_096 * sixths / 6) < 100;
        assert!(
            close(counts[0], 3) && close(counts[1], 2) && close(counts[2], 1) && counts[3] == 0,
            "{counts:?}"
        );
    }

    #[test]
    fn equally_busy_ones_are_chosen_equally() {
        let pool = pool(Choice::LeastRequests, 4);
        let mut counts = [0; 4];
        grid().for_each(|random| counts[pick(&pool, None, random)] += 1);
        assert_eq!(counts, [1_024; 4]);
    }

    #[test]
    fn a_request_counts_until_its_guard_is_dropped() {
        let state = Arc::new(EndpointState::default());
        let (one, two) = (state.begin(), state.begin());
        assert_eq!(state.in_flight(), 2);
        drop(one);
        drop(two);
        assert_eq!(state.in_flight(), 0);
    }

    #[test]
    fn what_is_unhealthy_or_ejected_is_passed_over() {
        for choice in [Choice::RoundRobin, Choice::LeastRequests, Choice::Hash] {
            let pool = pool(choice, 4);
            state(&pool, 0).set_healthy(false);
            state(&pool, 3).set_ejected(true);
            assert!(grid().all(|random| matches!(pick(&pool, None, random), 1 | 2)), "{choice:?}");
        }
    }

    #[test]
    fn one_that_waits_for_its_first_check_is_passed_over_until_then() {
        let states = [Arc::<EndpointState>::default(), Arc::new(EndpointState::waiting())];
        let pool = Pool::new(Choice::RoundRobin, ADDRESSES.into_iter().zip(states));
        assert!(pool.has_waiting() && (0..4).all(|_| pick(&pool, None, 0) == 0));
        state(&pool, 1).set_healthy(true);
        assert!(!pool.has_waiting() && (0..4).any(|_| pick(&pool, None, 0) == 1));
    }

    #[test]
    fn failures_are_counted_in_a_row() {
        let state = EndpointState::default();
        assert_eq!([state.note_failure(), state.note_failure()], [1, 2]);
        state.note_success();
        assert_eq!(state.note_failure(), 1);
    }

    #[test]
    fn each_is_tried_once_before_any_is_tried_again() {
        for choice in [Choice::RoundRobin, Choice::LeastRequests, Choice::Hash] {
            let pool = pool(choice, 4);
            let mut tried = Tried::default();
            let mut seen: Vec<_> = (0..4).filter_map(|_| pool.pick(&mut tried, Some(b"key"), 7)).collect();
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2, 3], "{choice:?}");
            assert!(pool.pick(&mut tried, Some(b"key"), 7).is_some());
        }
    }

    #[test]
    fn when_none_is_available_all_are_and_still_none_twice() {
        let pool = pool(Choice::LeastRequests, 3);
        (0..3).for_each(|index| state(&pool, index).set_ejected(true));
        let mut tried = Tried::default();
        let mut seen: Vec<_> = (0..3).filter_map(|_| pool.pick(&mut tried, None, 0)).collect();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2]);
    }

    #[test]
    fn the_only_available_one_is_tried_again_before_an_unavailable_one() {
        let pool = pool(Choice::RoundRobin, 2);
        state(&pool, 1).set_healthy(false);
        let mut tried = Tried::default();
        assert_eq!([pool.pick(&mut tried, None, 0), pool.pick(&mut tried, None, 0)], [Some(0), Some(0)]);
    }

    #[test]
    fn what_was_tried_is_remembered_in_another_pool() {
        let (before, after) = (pool(Choice::Hash, 4), pool(Choice::Hash, 3));
        let mut tried = Tried::default();
        let first = before.pick(&mut tried, Some(b"a"), 0).expect("an endpoint");
        let second = after.pick(&mut tried, Some(b"a"), 0).expect("an endpoint");
        assert_ne!(first, second);
    }

    #[test]
    fn an_empty_pool_has_nothing_to_give() {
        for choice in [Choice::RoundRobin, Choice::LeastRequests, Choice::Hash] {
            assert_eq!(pool(choice, 0).pick(&mut Tried::default(), None, 1), None);
        }
    }

    #[test]
    fn hashing_spreads_keys_evenly() {
        let pool = pool(Choice::Hash, 4);
        let mut counts = [0_usize; 4];
        (0..4_000_u32).for_each(|key| counts[pick(&pool, Some(&key.to_le_bytes()), 0)] += 1);
        assert!(counts.iter().all(|count| count.abs_diff(1_000) < 140), "{counts:?}");
    }

    proptest! {
        #[test]
        fn a_key_moves_only_when_its_own_endpoint_goes(key in any::<Vec<u8>>()) {
            let (four, three) = (pool(Choice::Hash, 4), pool(Choice::Hash, 3));
            let before = pick(&four, Some(&key), 0);
            if before != 3 {
                prop_assert_eq!(pick(&three, Some(&key), 1), before);
            }
        }
    }
}
