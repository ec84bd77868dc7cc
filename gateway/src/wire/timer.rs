//! One timer for all the waits of a connection.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::time::Sleep;

/// A timer that is told its end only when it is asked.
///
/// Most waits are over long before their end, and the next one ends later. So the timer is left where it is, and moved when
/// it has gone off too early: a request costs no timer of its own.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Ready once `due` has come.
    pub(crate) fn poll(&mut self, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let due = due.into();
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if sleep.deadline() > due {
            sleep.as_mut().reset(due);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Timer;
    use crate::wire::timer::Poll;

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_when_it_is_due_whatever_was_waited_for_before() {
        let mut timer = Timer::default();
        for seconds in [5, 30, 1, 75] {
            let due = Instant::now() + Duration::from_secs(seconds);
            poll_fn(|cx| timer.poll(due.into_std(), cx)).await;
            assert_eq!(Instant::now(), due, "{seconds}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_was_given_up_does_not_shorten_the_next() {
        let mut timer = Timer::default();
        let soon = Instant::now() + Duration::from_secs(1);
        assert!(poll_fn(|cx| Poll::Ready(timer.poll(soon.into_std(), cx).is_pending())).await);
        let late = Instant::now() + Duration::from_secs(60);
        poll_fn(|cx| timer.poll(late.into_std(), cx)).await;
        assert_eq!(Instant::now(), late);
    }
}
