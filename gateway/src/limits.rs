//! Rate limits: how many requests of one subject are let through, by the generic cell rate algorithm of `governor`.
//!
//! A limit has a bucket for each subject, full at first, that holds `burst` requests and is filled at `rate`.

mod buckets;
pub(crate) mod registry;
pub(crate) mod turnstile;

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use gateway_core::config::model::{LimitKey, RateLimit};
use gateway_core::unit::Rate;
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::StateInformationMiddleware;
use governor::{Quota, RateLimiter};

use self::buckets::Buckets;
pub use self::buckets::MAX_BUCKETS;

/// The longest time a whole bucket may take to fill: 73 years, so that no sum of nanoseconds overflows.
const LONGEST: u64 = 1 << 61;

/// One limit and its buckets.
#[derive(Debug)]
pub struct Limiter<C: Clock = MonotonicClock> {
    key: LimitKey,
    rate: Rate,
    burst: u32,
    /// The time after which one more request may come.
    interval: Duration,
    hasher: RandomState,
    gcra: RateLimiter<u64, Buckets, C, StateInformationMiddleware>,
}

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject<'a> {
    /// An IPv4 address.
    Address([u8; 4]),
    /// An IPv6 network of 64 bits, which is what one client is given.
    Network([u8; 8]),
    /// What a header or cookie says.
    Value(&'a [u8]),
    /// All requests of a route.
    Route(&'a str),
    /// All requests there are.
    Everything,
}

/// What a subject has left, the request that asked being counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Requests that may follow at once.
    pub requests: u32,
    /// Until the bucket is full again, in whole seconds, rounded up.
    pub full_seconds: u64,
}

/// The bucket is empty; the request was not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// Until the next request may come, in whole seconds, rounded up, for `Retry-After` (RFC 9110 §10.2.3).
    pub wait_seconds: u64,
}

impl Limiter {
    /// A limit on which nothing has been counted.
    pub fn new(definition: &RateLimit) -> Self {
        Self::with_clock(definition, MonotonicClock)
    }

    /// Whether this limits what `definition` says, as much as it says. Where it is counted does not matter, nor whether
    /// anything follows from it.
    pub(crate) fn serves(&self, definition: &RateLimit) -> bool {
        self.key == definition.key && self.rate == definition.rate && self.burst == definition.burst
    }
}

impl<C: Clock> Limiter<C> {
    fn with_clock(definition: &RateLimit, clock: C) -> Self {
        let interval = (definition.rate.period / definition.rate.count).max(Duration::from_nanos(1));
        let most = LONGEST / interval.as_nanos() as u64;
        let burst = NonZeroU32::new(definition.burst.min(most.try_into().unwrap_or(u32::MAX)));
        // Only an interval of zero makes no quota.
        let quota = Quota::with_period(interval).unwrap_or(Quota::per_second(NonZeroU32::MAX));
        let quota = quota.allow_burst(burst.unwrap_or(NonZeroU32::MIN));
        Self {
            key: definition.key.clone(),
            rate: definition.rate,
            burst: definition.burst,
            interval,
            hasher: RandomState::new(),
            gcra: RateLimiter::new(quota, Buckets::new(MAX_BUCKETS), clock),
        }
    }

    /// What tells subjects apart.
    pub fn key(&self) -> &LimitKey {
        &self.key
    }

    /// How many requests a full bucket holds.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// How long an empty bucket takes to fill, in whole seconds, rounded up.
    pub fn window_seconds(&self) -> u64 {
        rounded_up(self.interval.saturating_mul(self.burst))
    }

    /// Takes one request out of the subject's bucket, if it holds a whole one. O(1), allocates for new subjects alone.
    ///
    /// # Errors
    /// [`Exhausted`] holds the wait for the next.
    pub fn take(&self, subject: Subject<'_>) -> Result<Left, Exhausted> {
        let key = self.hasher.hash_one(subject);
        match self.gcra.check_key(&key) {
            Ok(state) => {
                let requests = state.remaining_burst_capacity();
                let taken = self.burst.saturating_sub(requests);
                Ok(Left { requests, full_seconds: rounded_up(self.interval.saturating_mul(taken)) })
            }
            Err(until) => {
                let wait = until.wait_time_from(self.gcra.clock().now());
                // At least one: a zero would ask for the same request again at once.
                Err(Exhausted { wait_seconds: rounded_up(wait).max(1) })
            }
        }
    }
}

impl Subject<'_> {
    /// The client at this address.
    pub fn client(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::Address(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::Network([a, b, c, d, e, f, g, h])
            }
        }
    }
}

fn rounded_up(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use gateway_core::config::model::{LimitScope, StoreDown};
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn limit(rate: &str, burst: u32) -> (Limiter<FakeRelativeClock>, FakeRelativeClock) {
        let definition = RateLimit {
            key: LimitKey::ClientIp,
            rate: rate.parse().unwrap(),
            burst,
            scope: LimitScope::Local,
            when_store_down: StoreDown::Local,
            dry_run: false,
        };
        let clock = FakeRelativeClock::default();
        (Limiter::with_clock(&definition, clock.clone()), clock)
    }

    fn client(address: &str) -> Subject<'static> {
        Subject::client(address.parse().unwrap())
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let (limit, clock) = limit("2/s", 3);
        let all = || limit.take(Subject::Everything);
        assert_eq!(all(), Ok(Left { requests: 2, full_seconds: 1 }));
        assert_eq!(all(), Ok(Left { requests: 1, full_seconds: 1 }));
        assert_eq!(all(), Ok(Left { requests: 0, full_seconds: 2 }));
        assert_eq!(all(), Err(Exhausted { wait_seconds: 1 }));
        clock.advance(Duration::from_millis(499));
        assert_eq!(all(), Err(Exhausted { wait_seconds: 1 }));
        clock.advance(Duration::from_millis(1));
        assert_eq!(all(), Ok(Left { requests: 0, full_seconds: 2 }));
        assert_eq!(all(), Err(Exhausted { wait_seconds: 1 }));
        clock.advance(Duration::from_secs(3600));
        assert_eq!(all(), Ok(Left { requests: 2, full_seconds: 1 }), "never more than a burst");
    }

    #[test]
    fn the_wait_is_in_whole_seconds_and_enough() {
        let (limit, clock) = limit("5/m", 1);
        assert!(limit.take(Subject::Everything).is_ok());
        clock.advance(Duration::from_millis(1));
        assert_eq!(limit.take(Subject::Everything), Err(Exhausted { wait_seconds: 12 }));
        clock.advance(Duration::from_secs(12));
        assert!(limit.take(Subject::Everything).is_ok());
    }

    #[test]
    fn subjects_have_buckets_of_their_own() {
        let (limit, _) = limit("1/h", 1);
        let subjects = [
            client("192.0.2.1"),
            client("192.0.2.2"),
            client("2001:db8::1"),
            client("2001:db8:0:1::1"),
            Subject::Value(b"192.0.2.1"),
            Subject::Value(&[192, 0, 2, 1]),
            Subject::Value(b""),
            Subject::Route("api"),
            Subject::Everything,
        ];
        for subject in subjects {
            assert!(limit.take(subject).is_ok(), "{subject:?}");
            assert!(limit.take(subject).is_err(), "{subject:?}");
        }
        assert!(limit.take(client("2001:db8::ffff:1")).is_err(), "one client has all of a /64");
    }

    #[test]
    fn extremes_neither_panic_nor_overflow() {
        for (rate, burst) in [("1/h", u32::MAX), ("4294967295/s", u32::MAX), ("4294967295/s", 1)] {
            let (limit, clock) = limit(rate, burst);
            for _ in 0..3 {
                assert!(limit.take(Subject::Everything).is_ok(), "{rate} {burst}");
                clock.advance(Duration::from_secs(3600));
            }
        }
    }

    #[test]
    fn a_window_is_the_time_a_bucket_takes_to_fill() {
        assert_eq!(limit("100/s", 200).0.window_seconds(), 2);
        assert_eq!(limit("5/m", 5).0.window_seconds(), 60);
        assert_eq!(limit("3/s", 3).0.window_seconds(), 1);
        assert_eq!(limit("100/s", 10).0.window_seconds(), 1);
    }
}
