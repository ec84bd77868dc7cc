//! Which release of a service a request is assigned to.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::name::{ReleaseName, ServiceName};
use crate::unit::Weight;

/// The most releases one split may have: their states fit one word.
pub const MAX_RELEASES: usize = 64;

/// Why shares make no split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSplit {
    /// Nobody would be served.
    #[error("every share is zero")]
    AllZero,
    /// More than [`MAX_RELEASES`].
    #[error("a service has at most {MAX_RELEASES} releases, this one has {count}")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// Stable is none of them.
    #[error("stable is not one of the releases")]
    NoStable,
}

/// The shares of a service's releases, made once for many requests.
///
/// A request's place is `u = xxh3_64(challengers ‖ service ‖ key) / 2^64`. The challengers, which are all releases but
/// stable, take `u` from 0 upward in their order and stable takes the rest. So a challenger that gains weight takes
/// users from stable and gives none back, every gateway agrees, and the draws of two services or two canaries are
/// independent of one another.
///
/// Names are parted by bytes that no name holds: challengers by `/`, then NUL, the service, NUL, the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    stable: usize,
    challengers: Vec<Challenger>,
    total: u64,
    salt: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Challenger {
    release: usize,
    /// Where its part of `0..total` ends.
    upper: u64,
}

/// What stands above the hash at the time of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// The kill switch is on: everything goes to stable.
    pub killed: bool,
    /// Bit `i` is set while release `i` is rolled back.
    pub rolled_back: u64,
    /// The canary's present weight, in place of the shares the split was made with. The first challenger is the canary.
    pub canary_weight: Option<Weight>,
    /// What the request asks for itself, if it may.
    pub wish: Option<Wish>,
}

/// What an override header asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// The canary: the first challenger that is not rolled back.
    Always,
    /// Stable.
    Never,
}

impl Wish {
    /// Reads an override header's value; what is neither `always` nor `never` asks for nothing.
    pub fn parse(value: &[u8]) -> Option<Self> {
        match value {
            b"always" => Some(Self::Always),
            b"never" => Some(Self::Never),
            _ => None,
        }
    }
}

/// Where a request goes, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    /// Index into the parts the split was made of.
    pub release: usize,
    /// Why this one.
    pub reason: Reason,
}

/// What decided an assignment, in order of precedence below `Fixed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// There is only stable.
    Fixed,
    /// The kill switch sends everything to stable.
    Killed,
    /// The release that was due is rolled back; stable takes its requests.
    RolledBack,
    /// The client asked for the canary.
    OverrideAlways,
    /// The client asked for stable.
    OverrideNever,
    /// The hash of its key, or its ticket.
    Hashed,
}

impl Reason {
    /// The word in logs, metrics and `explain`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Killed => "killed",
            Self::RolledBack => "rolled_back",
            Self::OverrideAlways => "override_always",
            Self::OverrideNever => "override_never",
            Self::Hashed => "hashed",
        }
    }

    /// Whether chance decided, so that the attempt may count in the tests of a guard.
    pub fn is_random(self) -> bool {
        self == Self::Hashed
    }
}

impl Split {
    /// Shares of `service`'s releases, relative to their sum; `stable` is an index into `parts`.
    ///
    /// `parts` are the releases that take part, a canary at zero included, and no others: each has a say in the hash,
    /// and the first that is not stable is the canary.
    ///
    /// # Errors
    /// [`InvalidSplit`] if nobody has a share, there are too many, or `stable` is out of bounds.
    pub fn new(
        service: &ServiceName,
        parts: &[(ReleaseName, u32)],
        stable: usize,
    ) -> Result<Self, InvalidSplit> {
        let Some((_, stable_share)) = parts.get(stable) else { return Err(InvalidSplit::NoStable) };
        if parts.len() > MAX_RELEASES {
            return Err(InvalidSplit::TooMany { count: parts.len() });
        }
        let mut split = Self { stable, challengers: Vec::new(), total: 0, salt: Vec::new() };
        for (release, (name, share)) in parts.iter().enumerate() {
            if release != stable {
                split.total += u64::from(*share);
                split.challengers.push(Challenger { release, upper: split.total });
                split.salt.extend_from_slice(name.as_str().as_bytes());
                split.salt.push(b'/');
            }
        }
        split.total += u64::from(*stable_share);
        split.salt.push(0);
        split.salt.extend_from_slice(service.as_str().as_bytes());
        split.salt.push(0);
        if split.total == 0 { Err(InvalidSplit::AllZero) } else { Ok(split) }
    }

    /// Two releases: stable is 0 and the canary, which takes `weight`, is 1.
    pub fn canary(service: &ServiceName, stable: &ReleaseName, canary: &ReleaseName, weight: Weight) -> Self {
        let rest = Weight::FULL.ppm() - weight.ppm();
        Self::new(service, &[(stable.clone(), rest), (canary.clone(), weight.ppm())], 0)
            .expect("two releases share a million parts")
    }

    /// The index of the release a request is assigned to by its key; without key by `ticket`, drawn uniformly from all
    /// 64-bit numbers. Costs one hash; allocates nothing.
    pub fn pick(&self, key: Option<&[u8]>, ticket: u64) -> usize {
        self.share_at(self.draw(key, ticket))
    }

    /// Decides in the order kill switch, rolled back, override, hash.
    pub fn assign(&self, standing: Standing, key: Option<&[u8]>, ticket: u64) -> Assignment {
        let to_stable = |reason| Assignment { release: self.stable, reason };
        let is_out = |release: usize| standing.rolled_back >> release & 1 == 1;
        if self.challengers.is_empty() {
            return to_stable(Reason::Fixed);
        }
        if standing.killed {
            return to_stable(Reason::Killed);
        }
        let Some(first) = self.challengers.iter().map(|part| part.release).find(|&release| !is_out(release))
        else {
            return to_stable(Reason::RolledBack);
        };
        match standing.wish {
            Some(Wish::Never) => return to_stable(Reason::OverrideNever),
            Some(Wish::Always) => return Assignment { release: first, reason: Reason::OverrideAlways },
            None => {}
        }
        let draw = self.draw(key, ticket);
        let release = match standing.canary_weight {
            None => self.share_at(draw),
            Some(weight) if scale(draw, u64::from(Weight::FULL.ppm())) < u64::from(weight.ppm()) => {
                self.challengers[0].release
            }
            Some(_) => self.stable,
        };
        if is_out(release) && release != self.stable {
            return to_stable(Reason::RolledBack);
        }
        Assignment { release, reason: Reason::Hashed }
    }

    /// `u`, as a fraction of 2^64.
    fn draw(&self, key: Option<&[u8]>, ticket: u64) -> u64 {
        key.map_or(ticket, |key| hash(&self.salt, key))
    }

    fn share_at(&self, draw: u64) -> usize {
        let point = scale(draw, self.total);
        self.challengers.iter().find(|part| point < part.upper).map_or(self.stable, |part| part.release)
    }
}

/// `draw · total / 2^64`, rounded down: uniform on `0..total`.
fn scale(draw: u64, total: u64) -> u64 {
    ((u128::from(draw) * u128::from(total)) >> 64) as u64
}

/// XXH3 of `salt ‖ key`, put together on the stack if short.
fn hash(salt: &[u8], key: &[u8]) -> u64 {
    let mut buffer = [0; 240];
    let length = salt.len() + key.len();
    if let Some(joined) = buffer.get_mut(..length) {
        joined[..salt.len()].copy_from_slice(salt);
        joined[salt.len()..].copy_from_slice(key);
        return xxh3_64(joined);
    }
    let mut hasher = Xxh3::new();
    hasher.update(salt);
    hasher.update(key);
    hasher.digest()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn release(name: &str) -> ReleaseName {
        ReleaseName::new(name).expect("a name")
    }

    fn service(name: &str) -> ServiceName {
        ServiceName::new(name).expect("a name")
    }

    fn percent(percent: f64) -> Weight {
        Weight::from_percent(percent).expect("a weight")
    }

    fn canary(weight: f64) -> Split {
        Split::canary(&service("api"), &release("v1"), &release("v2"), percent(weight))
    }

    fn parts(shares: &[u32]) -> Split {
        let parts: Vec<_> =
            shares.iter().enumerate().map(|(i, share)| (release(&format!("r{i}")), *share)).collect();
        Split::new(&service("api"), &parts, 0).expect("a split")
    }

    /// The first ticket that falls on part `point` of `total`.
    fn ticket(point: u64, total: u64) -> u64 {
        (u128::from(point) << 64).div_ceil(u128::from(total)) as u64
    }

    fn keys() -> impl Iterator<Item = String> {
        (0..4_000).map(|number| format!("user-{number}"))
    }

    #[test]
    fn walking_every_ticket_gives_each_release_exactly_its_share() {
        let split = parts(&[80, 15, 0, 5]);
        let mut counts = [0; 4];
        for point in 0..100 {
            counts[split.pick(None, ticket(point, 100))] += 1;
        }
        assert_eq!(counts, [80, 15, 0, 5]);
    }

    #[test]
    fn a_canary_takes_exactly_its_weight_of_all_tickets() {
        let split = canary(0.0);
        let standing = Standing { canary_weight: Some(percent(12.5)), ..Standing::default() };
        let taken = |split: &Split, standing| {
            (0..1_000_000)
                .filter(|&point| split.assign(standing, None, ticket(point, 1_000_000)).release == 1)
                .count()
        };
        assert_eq!(taken(&split, standing), 125_000);
        assert_eq!(taken(&canary(12.5), Standing::default()), 125_000);
    }

    #[test]
    fn none_and_all_leave_no_exception() {
        for draw in [0, 1, u64::MAX / 2, u64::MAX] {
            assert_eq!(canary(0.0).pick(None, draw), 0);
            assert_eq!(canary(100.0).pick(None, draw), 1);
        }
    }

    #[test]
    fn keys_are_shared_out_by_weight() {
        let taken = keys().filter(|key| canary(10.0).pick(Some(key.as_bytes()), 0) == 1).count() as f64;
        assert!((taken - 400.0).abs() < 5.0 * f64::sqrt(4_000.0 * 0.1 * 0.9), "{taken}");
    }

    #[test]
    fn a_key_decides_alone() {
        let split = canary(50.0);
        for key in keys().take(100) {
            assert_eq!(split.pick(Some(key.as_bytes()), 0), split.pick(Some(key.as_bytes()), u64::MAX));
        }
    }

    #[test]
    fn other_canaries_and_other_services_draw_independently() {
        let base = canary(50.0);
        let other_canary = Split::canary(&service("api"), &release("v1"), &release("v3"), percent(50.0));
        let other_service = Split::canary(&service("web"), &release("v1"), &release("v2"), percent(50.0));
        let other_stable = Split::canary(&service("api"), &release("v0"), &release("v2"), percent(50.0));
        let agree = |other: &Split| {
            keys()
                .filter(|key| base.pick(Some(key.as_bytes()), 0) == other.pick(Some(key.as_bytes()), 0))
                .count()
        };
        for other in [other_canary, other_service] {
            assert!(agree(&other).abs_diff(2_000) < 160, "{}", agree(&other));
        }
        assert_eq!(agree(&other_stable), 4_000, "a new stable moves no user");
    }

    #[test]
    fn names_that_read_alike_when_joined_draw_independently() {
        let base = Split::canary(&service("bc"), &release("s"), &release("a"), percent(50.0));
        let other = Split::canary(&service("c"), &release("s"), &release("ab"), percent(50.0));
        let agree = keys()
            .filter(|key| base.pick(Some(key.as_bytes()), 0) == other.pick(Some(key.as_bytes()), 0))
            .count();
        assert!(agree.abs_diff(2_000) < 160, "{agree}");
    }

    #[test]
    fn kill_switch_beats_rolled_back_beats_override_beats_hash() {
        let split = canary(100.0);
        let assign = |standing| {
            let Assignment { release, reason } = split.assign(standing, Some(b"key"), 0);
            (release, reason)
        };
        let all = Standing { killed: true, rolled_back: 0b10, wish: Some(Wish::Always), canary_weight: None };
        assert_eq!(assign(all), (0, Reason::Killed));
        assert_eq!(assign(Standing { killed: false, ..all }), (0, Reason::RolledBack));
        assert_eq!(assign(Standing { killed: false, rolled_back: 0, ..all }), (1, Reason::OverrideAlways));
        let never = Standing { wish: Some(Wish::Never), ..Standing::default() };
        assert_eq!(assign(never), (0, Reason::OverrideNever));
        assert_eq!(assign(Standing::default()), (1, Reason::Hashed));
        let zero = Standing { canary_weight: Some(Weight::ZERO), ..Standing::default() };
        assert_eq!(assign(zero), (0, Reason::Hashed));
        assert_eq!(parts(&[1]).assign(all, None, 0).reason, Reason::Fixed);
    }

    #[test]
    fn a_canary_without_weight_can_be_asked_for() {
        let wish = Standing { wish: Some(Wish::Always), ..Standing::default() };
        assert_eq!(canary(0.0).assign(wish, Some(b"key"), 0).release, 1);
        assert_eq!(
            [Wish::parse(b"always"), Wish::parse(b"never"), Wish::parse(b"Always")],
            [Some(Wish::Always), Some(Wish::Never), None]
        );
    }

    #[test]
    fn stable_alone_takes_over_from_a_release_that_is_rolled_back() {
        let split = parts(&[50, 30, 20]);
        let standing = Standing { rolled_back: 0b010, ..Standing::default() };
        for point in 0..100 {
            let ticket = ticket(point, 100);
            let (before, after) = (split.pick(None, ticket), split.assign(standing, None, ticket));
            let expected = if before == 1 { (0, Reason::RolledBack) } else { (before, Reason::Hashed) };
            assert_eq!((after.release, after.reason), expected);
        }
        let wish = Standing { wish: Some(Wish::Always), ..standing };
        assert_eq!(split.assign(wish, None, 0), Assignment { release: 2, reason: Reason::OverrideAlways });
    }

    #[test]
    fn shares_nobody_has_are_refused() {
        let none = Split::new(&service("api"), &[(release("a"), 0), (release("b"), 0)], 0);
        assert_eq!(none, Err(InvalidSplit::AllZero));
        let many: Vec<_> = (0..65).map(|number| (release(&format!("r{number}")), 1)).collect();
        assert_eq!(Split::new(&service("api"), &many, 0), Err(InvalidSplit::TooMany { count: 65 }));
        assert_eq!(Split::new(&service("api"), &many[..2], 2), Err(InvalidSplit::NoStable));
    }

    proptest! {
        #[test]
        fn raising_the_weight_never_sends_a_user_back(key in any::<Vec<u8>>(), low in 0.0..100.0, more in 0.0..100.0) {
            let high = f64::min(100.0, low + more);
            if canary(low).pick(Some(&key), 0) == 1 {
                prop_assert_eq!(canary(high).pick(Some(&key), 0), 1);
            }
        }

        #[test]
        fn a_present_weight_and_a_built_one_agree(key in any::<Vec<u8>>(), weight in 0.0..100.0) {
            let standing = Standing { canary_weight: Some(percent(weight)), ..Standing::default() };
            let assigned = canary(0.0).assign(standing, Some(&key), 0).release;
            prop_assert_eq!(assigned, canary(weight).pick(Some(&key), 0));
        }

        #[test]
        fn a_long_key_hashes_like_its_parts_joined(salt in prop::collection::vec(any::<u8>(), 0..300), key: Vec<u8>) {
            prop_assert_eq!(hash(&salt, &key), xxh3_64(&[salt, key].concat()));
        }
    }
}
