//! What a route asks before it lets a request go on, in the order it is asked.

pub(crate) mod access;
pub(crate) mod cors;
pub(crate) mod max_in_flight;
pub(crate) mod rate_limits;

use pingora::proxy::Session;

use super::context::Context;
use super::rejection::Rejection;
use super::respond::Answer;
use crate::snapshot::Route;

/// Asks every policy of the route; the first that answers or refuses ends the request.
///
/// A policy that has more to say than a status puts fields into `ctx.answer_fields`.
///
/// # Errors
/// The refusal to answer with.
pub(super) async fn admit(
    session: &mut Session,
    ctx: &mut Context,
    route: &Route,
) -> Result<Option<Answer>, Rejection> {
    route.access.admit(ctx.client.ip)?;
    if let Some(answer) = preflight(session, ctx, route) {
        return Ok(Some(answer));
    }
    route.rate_limits.admit(&route.name, &session.req_header().headers, ctx)?;
    body_length(ctx, route)?;
    // Last, so that nobody who is refused takes a place.
    max_in_flight::admit(ctx, route).await?;
    Ok(None)
}

/// A preflight is answered here; of other requests it is noted where they are from.
fn preflight(session: &Session, ctx: &mut Context, route: &Route) -> Option<Answer> {
    let cors = route.cors.as_ref()?;
    ctx.origin = cors::origin(session.req_header());
    cors.preflight(session.req_header())
}

/// A body that announces itself as too large is refused before it is sent.
fn body_length(ctx: &Context, route: &Route) -> Result<(), Rejection> {
    if ctx.body_length.is_some_and(|length| length > route.body_limit) {
        return Err(Rejection::BodyTooLarge);
    }
    Ok(())
}
