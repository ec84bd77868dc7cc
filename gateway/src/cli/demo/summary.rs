//! What the demo has shown, in numbers.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::Failure;

/// Counted where it happened: by the users, and by the bad release itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Summary {
    pub(super) promoted: &'static str,
    pub(super) promoted_in: Duration,
    pub(super) rolled_back: &'static str,
    /// The limit it crossed, in a sentence.
    pub(super) breach: String,
    /// From its first failure on.
    pub(super) rolled_back_in: Option<Duration>,
    /// What reached the bad release, and what it failed.
    pub(super) canary_requests: u64,
    pub(super) canary_failures: u64,
    /// What users sent, and how much of it failed in their eyes; `failed_before` of it before the bad release came.
    pub(super) requests: u64,
    pub(super) failed_requests: u64,
    pub(super) failed_before: u64,
    /// What users sent after the bad release was asked for again, and what of it reached that release.
    pub(super) requests_after: u64,
    pub(super) canary_after: u64,
    /// How many requests would fail each minute had the bad release stayed.
    pub(super) failing_per_minute: f64,
}

impl Summary {
    /// For scripts; times in seconds.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "promoted": { "release": self.promoted, "seconds": self.promoted_in.as_secs_f64() },
            "rolled_back": {
                "release": self.rolled_back,
                "breach": self.breach,
                "seconds_from_first_failure": self.rolled_back_in.map(|took| took.as_secs_f64()),
                "requests": self.canary_requests,
                "failures": self.canary_failures,
            },
            "users": { "requests": self.requests, "failed": self.failed_requests },
            "after_rollback": { "requests": self.requests_after, "to_rolled_back": self.canary_after },
        })
    }

    /// The end of the story, a line each: a name and what there is to say about it.
    pub(super) fn lines(&self) -> [(&'static str, String); 4] {
        let (bad, good) = (self.rolled_back, self.promoted);
        let mut seen = format!("{} of {}", self.failed_requests, self.requests);
        if self.failed_before > 0 {
            seen.push_str(&format!(", {} of them before {bad} came", self.failed_before));
        }
        [
            ("failed requests users saw", seen),
            (
                "without failover",
                format!("{} more: {good} answered what {bad} failed, and no user noticed", self.spared()),
            ),
            (
                "without the rollback",
                format!(
                    "about {:.0} failures of {bad} a minute, until somebody notices",
                    self.failing_per_minute
                ),
            ),
            ("not shown", "POST: it may not be sent twice, so its user sees the failure".into()),
        ]
    }

    /// Failures of the bad release that no user saw.
    fn spared(&self) -> u64 {
        self.canary_failures.saturating_sub(self.failed_requests - self.failed_before)
    }

    /// Whether every promise was kept.
    ///
    /// # Errors
    /// [`Failure::Failed`] names the broken one.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        let bad = self.rolled_back;
        if self.canary_after > 0 {
            return Err(Failure::Failed(format!(
                "{bad} was rolled back and still got {} requests",
                self.canary_after
            )));
        }
        if self.requests_after == 0 {
            return Err(Failure::Failed(format!("no request was answered after {bad} was rolled back")));
        }
        if self.failed_requests > 0 {
            return Err(Failure::Failed(format!("users saw {} failed requests", self.failed_requests)));
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn kept() -> Summary {
        Summary {
            promoted: "shop-2",
            promoted_in: Duration::from_millis(15_500),
            rolled_back: "shop-3",
            breach: "5 attempts in a row failed, 5 are the limit".into(),
            rolled_back_in: Some(Duration::from_millis(250)),
            canary_requests: 6,
            canary_failures: 6,
            requests: 4500,
            failed_requests: 0,
            failed_before: 0,
            requests_after: 600,
            canary_after: 0,
            failing_per_minute: 960.0,
        }
    }

    #[test]
    fn a_summary_counts_what_users_saw_and_what_they_were_spared() {
        let [seen, spared, stayed, _] = kept().lines();
        assert_eq!(seen, ("failed requests users saw", "0 of 4500".into()));
        assert_eq!(spared.1, "6 more: shop-2 answered what shop-3 failed, and no user noticed");
        assert_eq!(stayed.1, "about 960 failures of shop-3 a minute, until somebody notices");
    }

    #[test]
    fn failures_from_before_the_bad_release_are_not_taken_from_what_failover_spared() {
        let summary = Summary { failed_requests: 3, failed_before: 2, ..kept() };
        let [seen, spared, ..] = summary.lines();
        assert_eq!(seen.1, "3 of 4500, 2 of them before shop-3 came");
        assert!(spared.1.starts_with("5 more: "), "{}", spared.1);
    }

    #[test]
    fn scripts_get_numbers() {
        let json = kept().to_json();
        assert_eq!(json["users"], json!({ "requests": 4500, "failed": 0 }));
        assert_eq!(json["rolled_back"]["seconds_from_first_failure"], 0.25);
        assert_eq!(json["after_rollback"], json!({ "requests": 600, "to_rolled_back": 0 }));
    }

    #[test]
    fn a_broken_promise_is_a_failure_that_names_it() {
        assert!(kept().verdict().is_ok());
        let sentence = |summary: Summary| summary.verdict().expect_err("broken").to_string();
        assert_eq!(
            sentence(Summary { canary_after: 2, ..kept() }),
            "error: shop-3 was rolled back and still got 2 requests"
        );
        assert_eq!(sentence(Summary { failed_requests: 1, ..kept() }), "error: users saw 1 failed requests");
        assert!(sentence(Summary { requests_after: 0, ..kept() }).starts_with("error: no request"));
    }
}
