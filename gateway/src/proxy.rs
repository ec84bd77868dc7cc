//! The life of a request: its phases in their order, each a few lines that call what decides.

mod admission;
mod attempt;
mod body;
pub(crate) mod context;
mod forward;
pub(crate) mod host;
pub(crate) mod identity;
pub(crate) mod mirror;
mod patience;
pub(crate) mod policy;
mod record;
pub(crate) mod rehearsal;
pub(crate) mod rejection;
mod relay;
pub(crate) mod respond;
pub(crate) mod shape;

use std::sync::Arc;
use std::time::Instant;

use pingora::Result;

use self::admission::Admitted;
use self::attempt::Failure;
use self::context::Context;
use self::relay::Relay;
use crate::listener::client::Client;
use crate::runtime::Runtime;
use crate::upstream::origin::Origin;

/// The one proxy behind every listener.
pub(crate) struct Proxy {
    runtime: Arc<Runtime>,
}

impl Proxy {
    pub(crate) fn new(runtime: Arc<Runtime>) -> Self {
        Self { runtime }
    }

    /// Answers a request, however that ends. One snapshot is pinned for all of it.
    pub(crate) async fn serve(&self, client: &mut Client) {
        let mut ctx = Context::new(self.runtime.snapshot(), client.connection().clone());
        let served = handle(client, &mut ctx).await;
        if let Err(error) = &served {
            respond::fail(client, &mut ctx, error).await;
        }
        record::finish(&self.runtime, client, served.err().as_deref(), &mut ctx);
    }
}

async fn handle(client: &mut Client, ctx: &mut Context) -> Result<()> {
    match admission::admit(client, ctx).await {
        Ok(Admitted::Forward) => {
            mirror::begin(client.request(), ctx);
            forward_until_answered(client, ctx).await
        }
        Ok(Admitted::Answer(answer)) => respond::answer(client, ctx, answer).await,
        Ok(Admitted::Broken(error)) => Err(error),
        Err(rejection) => respond::reject(client, ctx, rejection).await,
    }
}

/// One attempt after the other, as long as another one is allowed.
async fn forward_until_answered(client: &mut Client, ctx: &mut Context) -> Result<()> {
    loop {
        match attempt(client, ctx).await {
            Ok(()) => return Ok(()),
            Err(Failure { again: true, .. }) => {}
            Err(Failure { error, .. }) => return Err(error),
        }
    }
}

async fn attempt(client: &mut Client, ctx: &mut Context) -> Result<(), Failure> {
    let endpoint = attempt::begin(client, ctx)?;
    let connection = match attempt::connect(client, ctx, &endpoint).await {
        Ok(connection) => connection,
        Err(error) => return Err(attempt::not_connected(client, ctx, &error)),
    };
    let connected = attempt::connected(ctx, &connection)?;
    let reused = connection.is_reused();
    let mut origin = match attempt::ask(client, ctx, connection) {
        Ok(origin) => origin,
        Err(error) => return Err(attempt::broke(client, ctx, error, reused)),
    };
    if let Err(error) = Relay::new(client, &mut origin, ctx, connected).run().await {
        let stale = reused && !origin.has_answered();
        return Err(attempt::broke(client, ctx, error, stale));
    }
    let ended = Instant::now();
    ctx.ended = Some(ended);
    if let Origin::Http1(exchange) = origin
        && let Some(connection) = exchange.into_connection()
        && !ctx.is_retired()
    {
        endpoint.pool.keep(connection, ended);
    }
    Ok(())
}
