//! The end of a release that was rolled back: what still runs on it gets a while, then it ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How long streams and tunnels may go on after a rollback (DESIGN §11).
pub(crate) const DRAIN: Duration = Duration::from_secs(30);

/// Whether a release is rolled back, and since when.
#[derive(Debug)]
pub(crate) struct Retirement {
    /// For those who only pass by: one load.
    retired: AtomicBool,
    end: watch::Sender<Option<Instant>>,
}

impl Default for Retirement {
    fn default() -> Self {
        Self { retired: AtomicBool::new(false), end: watch::Sender::new(None) }
    }
}

impl Retirement {
    /// Says whether the release is rolled back; the time begins with the first word, for which this is true.
    pub(crate) fn set(&self, retired: bool) -> bool {
        let changed = self.retired.swap(retired, Ordering::Relaxed) != retired;
        if changed {
            self.end.send_replace(retired.then(|| Instant::now() + DRAIN));
        }
        changed && retired
    }

    /// Whether the release is rolled back: nothing new begins on it, and nothing is kept for it.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Whether what runs on the release must end now.
    pub(crate) fn is_over(&self) -> bool {
        self.is_retired() && self.end.borrow().is_some_and(|end| Instant::now() >= end)
    }

    /// Waits until what runs on the release must end.
    pub(crate) fn over(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut end = self.end.subscribe();
        async move {
            loop {
                let until = *end.borrow_and_update();
                let told = end.changed();
                match until {
                    Some(until) => tokio::select! {
                        () = tokio::time::sleep_until(until) => return,
                        _ = told => {}
                    },
                    // Nobody will ever retire it once the sender is gone.
                    None => {
                        if told.await.is_err() {
                            std::future::pending::<()>().await;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_retired_release_has_its_while_and_a_retried_one_goes_on() {
        let retirement = Retirement::default();
        let over = tokio::spawn(retirement.over());
        retirement.set(true);
        tokio::time::advance(DRAIN - Duration::from_secs(1)).await;
        assert!(!retirement.is_over());
        retirement.set(false);
        tokio::time::advance(DRAIN).await;
        assert!(!retirement.is_over() && !over.is_finished());
        retirement.set(true);
        over.await.expect("the waiting task");
        assert!(retirement.is_over());
    }
}
