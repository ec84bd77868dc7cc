//! Whether an attempt is followed by another: what the service's `retry` and `failover` allow, and their budgets.

use std::time::Instant;

use gateway_core::config::model::Failover;
use gateway_core::outcome::Outcome;
use pingora::proxy::Session;

use super::super::context::{Chosen, Context};
use super::super::policy::buffering::Buffered;
use super::Next;

/// What follows an attempt that ended so; takes from the budget of what it gives. `unsent` says that the origin has seen
/// nothing of the request.
pub(super) fn after(session: &Session, ctx: &Context, outcome: Outcome, unsent: bool) -> Next {
    if wants_retry(session, ctx, outcome, unsent) {
        Next::Retry
    } else if wants_failover(session, ctx, outcome, unsent) {
        Next::Failover
    } else {
        Next::Nothing
    }
}

/// Whether a request can be sent again: nothing has been answered, and all of it is at hand.
fn is_repeatable(session: &Session, ctx: &Context) -> bool {
    let at_hand = !session.as_ref().retry_buffer_truncated()
        || ctx.buffered.as_deref().is_some_and(Buffered::is_untouched);
    session.response_written().is_none() && at_hand
}

fn wants_retry(session: &Session, ctx: &Context, outcome: Outcome, unsent: bool) -> bool {
    let Some(Chosen { service, release, .. }) = &ctx.chosen else { return false };
    let retry = &service.definition.retry;
    let Some(failure) = outcome.failure(&retry.on) else { return false };
    let may = is_repeatable(session, ctx) && (unsent || session.req_header().method.is_safe());
    // A canary's own second endpoint comes before stable only where there is no failover.
    let elsewhere = service.definition.rollout.failover.is_some() && release.index != service.stable().index;
    if !may || elsewhere || ctx.attempts > retry.attempts || !service.budgets.retry.spend(Instant::now()) {
        return false;
    }
    service.retries.count(failure);
    true
}

fn wants_failover(session: &Session, ctx: &Context, outcome: Outcome, unsent: bool) -> bool {
    let Some(Chosen { service, release, .. }) = &ctx.chosen else { return false };
    let Some(Failover { on, methods, .. }) = &service.definition.rollout.failover else { return false };
    outcome.failure(on).is_some()
        && release.index != service.stable().index
        && is_repeatable(session, ctx)
        && (unsent || methods.contains(&session.req_header().method))
        && !ctx.upgrade
        && service.budgets.failover.spend(Instant::now())
}
