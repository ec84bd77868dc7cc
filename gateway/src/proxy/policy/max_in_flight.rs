//! `max_in_flight`: how many requests a route or a service serves at a time; a few more wait for a while.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_core::config::model;
use http::header;

use crate::limits::registry::Place;
use crate::limits::turnstile::{Entry, Inside, Turnstile};
use crate::proxy::context::Context;
use crate::proxy::rejection::Rejection;
use crate::snapshot::Route;
use crate::telemetry::instruments::{CounterBy, Occupancy};
use crate::telemetry::labels::InFlightDecision;
use crate::upstream::Materials;

/// The limit of one route or service.
#[derive(Debug)]
pub(crate) struct MaxInFlight {
    turnstile: Arc<Turnstile>,
    queue: u32,
    wait: Duration,
    decisions: Arc<CounterBy<InFlightDecision>>,
    waiting: Arc<Occupancy>,
}

/// What a request holds until it is over: once for all its attempts, and for as long as a WebSocket is open.
#[derive(Debug, Default)]
pub(crate) struct Held {
    route: Option<Inside>,
    service: Option<Inside>,
}

impl MaxInFlight {
    /// Those who are inside already, by an earlier configuration, count.
    pub(crate) fn new(place: &Place, limit: &model::MaxInFlight, materials: &Materials<'_>) -> Box<Self> {
        let (decisions, waiting) = materials.metrics.max_in_flight(place);
        let turnstile = materials.limits.turnstile(place, limit);
        Box::new(Self { turnstile, queue: limit.queue, wait: limit.wait, decisions, waiting })
    }

    /// Waits for a place if need be.
    ///
    /// # Errors
    /// [`Rejection::Overloaded`], with a `Retry-After`.
    async fn enter(&self, ctx: &mut Context) -> Result<Inside, Rejection> {
        let (inside, decision) = match self.turnstile.enter(self.queue) {
            Entry::Inside(inside) => (Some(inside), InFlightDecision::Passed),
            Entry::Full => (None, InFlightDecision::Full),
            Entry::Waiting(place) => {
                let _waiting = self.waiting.enter();
                let left = ctx.deadline.map_or(self.wait, |at| at.saturating_duration_since(Instant::now()));
                let inside = place.inside(self.wait.min(left)).await;
                let decision =
                    if inside.is_some() { InFlightDecision::Queued } else { InFlightDecision::TimedOut };
                (inside, decision)
            }
        };
        self.decisions.count(decision);
        inside.ok_or_else(|| {
            ctx.answer_fields.push((header::RETRY_AFTER, self.retry_after_seconds().into()));
            Rejection::Overloaded
        })
    }

    /// When it is worth to come again: by then everybody who waits now is served or gone. In whole seconds, rounded up.
    fn retry_after_seconds(&self) -> u64 {
        self.wait.as_secs() + u64::from(self.wait.subsec_nanos() > 0)
    }
}

/// Takes a place of the route, then one of its service, if there is a limit to them.
///
/// # Errors
/// [`Rejection::Overloaded`].
pub(in crate::proxy) async fn admit(ctx: &mut Context, route: &Route) -> Result<(), Rejection> {
    let of_service = route.action.service().and_then(|service| service.max_in_flight.as_deref());
    if let Some(limit) = &route.max_in_flight {
        ctx.held.route = Some(limit.enter(ctx).await?);
    }
    if let Some(limit) = of_service {
        ctx.held.service = Some(limit.enter(ctx).await?);
    }
    Ok(())
}
