//! What the documents promise, beside what was measured.

use loadtest::load::Summary;
use loadtest::units::count;
use serde::Serialize;

/// One promise, measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Promise {
    /// What is promised.
    pub(crate) name: String,
    /// What was seen.
    pub(crate) measured: String,
    /// What is allowed, in the document's words.
    pub(crate) limit: String,
    /// Whether it was kept.
    pub(crate) kept: bool,
}

impl Promise {
    /// A promise that was kept if `kept`.
    pub(super) fn that(
        name: &str,
        kept: bool,
        measured: impl Into<String>,
        limit: impl Into<String>,
    ) -> Self {
        Self { name: name.to_owned(), measured: measured.into(), limit: limit.into(), kept }
    }

    /// A promise that something is so.
    pub(super) fn so(name: &str, is: bool) -> Self {
        Self::that(name, is, if is { "yes" } else { "no" }, "yes")
    }

    /// A count that may reach `limit` and no more; what was not measured is not kept.
    pub(super) fn at_most(name: &str, measured: Option<u64>, limit: u64) -> Self {
        let kept = measured.is_some_and(|measured| measured <= limit);
        Self::that(name, kept, counted(measured), format!("at most {}", count(limit)))
    }

    /// A count that has to reach `limit`.
    pub(super) fn at_least(name: &str, measured: Option<u64>, limit: u64) -> Self {
        let kept = measured.is_some_and(|measured| measured >= limit);
        Self::that(name, kept, counted(measured), format!("at least {}", count(limit)))
    }

    /// No request of users fails: a status of 500 and above, or no full answer. Someone has to have asked.
    pub(super) fn no_failures(name: &str, seen: &Summary) -> Self {
        Self::none(name, seen.failed(), seen.requests)
    }

    /// None of so many, and there were some.
    pub(super) fn none(name: &str, measured: u64, whole: u64) -> Self {
        Self::that(name, measured == 0 && whole > 0, format!("{} of {}", count(measured), count(whole)), "0")
    }
}

fn counted(measured: Option<u64>) -> String {
    measured.map_or_else(|| "never".to_owned(), count)
}
