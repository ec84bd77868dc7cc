//! What checks and failures make of an endpoint: believed after some in a row, put aside for longer each time.

use std::time::{Duration, Instant};

use crate::config::model::Health;

/// The longest ejection, in multiples of the first.
const LONGEST: u32 = 10;

/// No ejection lasts longer, whatever is configured.
const A_DAY: Duration = Duration::from_secs(86_400);

/// The checks of one endpoint that agree, up to the last.
#[derive(Debug, Default)]
pub struct Streak {
    good: u32,
    bad: u32,
}

impl Streak {
    /// Takes in one check; gives what is to be believed after it.
    ///
    /// `believed` is what was believed before: nothing before the first check, and that one alone decides then.
    pub fn note(&mut self, good: bool, believed: Option<bool>, health: &Health) -> bool {
        (self.good, self.bad) = match good {
            true => (self.good.saturating_add(1), 0),
            false => (0, self.bad.saturating_add(1)),
        };
        match believed {
            None => good,
            Some(true) => self.bad < health.unhealthy_after,
            Some(false) => self.good >= health.healthy_after,
        }
    }
}

/// The time from one check of an endpoint to its next: the interval and up to a tenth more, so that endpoints that appeared
/// together, and gateways that started together, do not ask in step. `chance` is drawn from 0 to 1.
///
/// Never less than the interval: a check, which is no longer, never meets the next one.
pub fn pause(interval: Duration, chance: f64) -> Duration {
    interval.mul_f64(1.0 + chance / 10.0)
}

/// How often and until when one endpoint is put aside.
#[derive(Debug, Default)]
pub struct Ejections {
    times: u32,
    last: Duration,
    until: Option<Instant>,
}

impl Ejections {
    /// Puts the endpoint aside at `now`; says for how long.
    ///
    /// The first time for `first`, then twice that, up to ten times. An endpoint that has since been back for as long as
    /// it was away begins anew. Never longer than a day.
    pub fn begin(&mut self, now: Instant, first: Duration) -> Duration {
        let proven = self.until.is_none_or(|until| now.saturating_duration_since(until) >= self.last);
        self.times = if proven { 1 } else { (self.times + 1).min(LONGEST) };
        self.last = first.saturating_mul(self.times).min(A_DAY);
        self.until = Some(now + self.last);
        self.last
    }

    /// Whether its time is over.
    pub fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    /// How much of its time is left.
    pub fn left(&self, now: Instant) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// Takes the endpoint back at `now`, early perhaps.
    pub fn end(&mut self, now: Instant) {
        self.until = self.until.map(|until| until.min(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Check, Readiness};

    const SECOND: Duration = Duration::from_secs(1);

    fn health(unhealthy_after: u32, healthy_after: u32) -> Health {
        Health {
            check: Check::Tcp,
            host: None,
            port: None,
            interval: SECOND,
            timeout: SECOND,
            unhealthy_after,
            healthy_after,
            readiness: Readiness::Ignored,
        }
    }

    /// What is believed after each check, told as `+` and `-`.
    fn believed(checks: &str, first: Option<bool>, health: &Health) -> String {
        let (mut streak, mut believed) = (Streak::default(), first);
        let mut note = |check| {
            let now = streak.note(check == '+', believed, health);
            believed = Some(now);
            if now { '+' } else { '-' }
        };
        checks.chars().map(&mut note).collect()
    }

    #[test]
    fn a_belief_changes_after_so_many_in_a_row() {
        assert_eq!(believed("---+-++-", Some(true), &health(3, 2)), "++----++");
        assert_eq!(believed("--+--+--", Some(true), &health(3, 2)), "++++++++", "never three in a row");
        assert_eq!(believed("-+", Some(true), &health(1, 1)), "-+");
    }

    #[test]
    fn the_first_check_alone_decides() {
        assert_eq!(believed("+---", None, &health(3, 2)), "+++-");
        assert_eq!(believed("-++", None, &health(3, 2)), "--+");
    }

    #[test]
    fn checks_are_an_interval_apart_and_up_to_a_tenth_more() {
        assert_eq!(pause(10 * SECOND, 0.0), 10 * SECOND);
        assert_eq!(pause(10 * SECOND, 0.5), Duration::from_millis(10_500));
        assert_eq!(pause(10 * SECOND, 1.0), 11 * SECOND);
    }

    #[test]
    fn each_ejection_is_longer_than_the_last_up_to_ten_times() {
        let (mut ejections, mut now) = (Ejections::default(), Instant::now());
        let lengths: Vec<u64> = (0..12)
            .map(|_| {
                let length = ejections.begin(now, SECOND);
                assert!(!ejections.is_over(now + length / 2) && ejections.is_over(now + length));
                now += length;
                length.as_secs()
            })
            .collect();
        assert_eq!(lengths, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10]);
    }

    #[test]
    fn who_was_back_for_as_long_as_away_begins_anew() {
        let (mut ejections, now) = (Ejections::default(), Instant::now());
        ejections.begin(now, SECOND);
        assert_eq!(ejections.begin(now + SECOND, SECOND), 2 * SECOND);
        assert_eq!(ejections.begin(now + 5 * SECOND, SECOND), SECOND, "back from 3 to 5");
    }

    #[test]
    fn one_taken_back_early_is_back() {
        let (mut ejections, now) = (Ejections::default(), Instant::now());
        ejections.begin(now, 60 * SECOND);
        ejections.end(now + SECOND);
        assert!(ejections.is_over(now + SECOND));
    }

    #[test]
    fn the_longest_time_a_file_can_say_is_bounded() {
        assert_eq!(Ejections::default().begin(Instant::now(), Duration::MAX), A_DAY);
    }
}
