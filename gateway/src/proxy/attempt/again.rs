//! Whether an attempt is followed by another: what the service's `retry` and `failover` allow, and their budgets.

use std::time::Instant;

use gateway_core::config::model::Failover;
use gateway_core::outcome::Outcome;

use super::super::context::{Chosen, Context};
use super::Next;
use crate::listener::client::Client;

/// What follows an attempt that ended so; takes from the budget of what it gives. `unsent` says that the origin has seen
/// nothing of the request.
pub(super) fn after(client: &Client, ctx: &Context, outcome: Outcome, unsent: bool) -> Next {
    if wants_retry(client, ctx, outcome, unsent) {
        Next::Retry
    } else if wants_failover(client, ctx, outcome, unsent) {
        Next::Failover
    } else {
        Next::Nothing
    }
}

/// Whether a request can be sent again: nothing has been answered, and all of it is at hand.
fn is_repeatable(client: &Client, ctx: &Context) -> bool {
    client.answered().is_none() && ctx.body.is_at_hand()
}

fn wants_retry(client: &Client, ctx: &Context, outcome: Outcome, unsent: bool) -> bool {
    let Some(Chosen { service, release, .. }) = &ctx.chosen else { return false };
    let retry = &service.definition.retry;
    let Some(failure) = outcome.failure(&retry.on) else { return false };
    let may = is_repeatable(client, ctx) && (unsent || client.request().method.is_safe());
    // A canary's own second endpoint comes before stable only where there is no failover.
    let elsewhere = service.definition.rollout.failover.is_some() && release.index != service.stable().index;
    if !may || elsewhere || ctx.attempts > retry.attempts || !service.budgets.retry.spend(Instant::now()) {
        return false;
    }
    service.retries.count(failure);
    true
}

fn wants_failover(client: &Client, ctx: &Context, outcome: Outcome, unsent: bool) -> bool {
    let Some(Chosen { service, release, .. }) = &ctx.chosen else { return false };
    let Some(Failover { on, methods, .. }) = &service.definition.rollout.failover else { return false };
    outcome.failure(on).is_some()
        && release.index != service.stable().index
        && is_repeatable(client, ctx)
        && (unsent || methods.contains(&client.request().method))
        && !ctx.upgrade
        && service.budgets.failover.spend(Instant::now())
}
