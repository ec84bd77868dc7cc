//! What a route asks before it lets a request go on, in the order it is asked.

pub(crate) mod access;
pub(crate) mod basic_auth;
pub(crate) mod buffering;
pub(crate) mod cors;
pub(crate) mod maintenance;
pub(crate) mod max_in_flight;
pub(crate) mod rate_limits;

use super::context::Context;
use super::rejection::Rejection;
use super::respond::Answer;
use crate::listener::client::Client;
use crate::snapshot::Route;

/// Asks every policy of the route; the first that answers or refuses ends the request.
///
/// A policy that has more to say than a status puts fields into `ctx.answer_fields`.
///
/// # Errors
/// The refusal to answer with.
pub(super) async fn admit(
    client: &Client,
    ctx: &mut Context,
    route: &Route,
) -> Result<Option<Answer>, Rejection> {
    let preflight = preflight(client, ctx, route);
    // A page must get leave to ask before it can read that the route is in maintenance.
    if preflight.is_none()
        && let Some(answer) = route.maintenance.answer(&client.request().headers, ctx)
    {
        return Ok(Some(answer));
    }
    route.access.admit(ctx.client.ip)?;
    if preflight.is_some() {
        return Ok(preflight);
    }
    route.rate_limits.admit(&route.name, &client.request().headers, ctx)?;
    if let Some(basic_auth) = &route.basic_auth {
        basic_auth.admit(&client.request().headers, ctx).await?;
    }
    body_length(ctx, route)?;
    Ok(None)
}

/// A preflight is answered here; of other requests it is noted where they are from.
fn preflight(client: &Client, ctx: &mut Context, route: &Route) -> Option<Answer> {
    let cors = route.cors.as_ref()?;
    ctx.origin = cors::origin(client.request());
    cors.preflight(client.request())
}

/// A body that announces itself as too large is refused before it is sent.
fn body_length(ctx: &Context, route: &Route) -> Result<(), Rejection> {
    if ctx.body.length.is_some_and(|length| length > route.body_limit) {
        return Err(Rejection::BodyTooLarge);
    }
    Ok(())
}
