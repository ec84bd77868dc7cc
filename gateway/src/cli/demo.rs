//! `gateway demo`: a good release promoted and a bad one rolled back, with real origins, real traffic and the gateway itself.

mod origins;
mod stage;
mod summary;
mod traffic;
mod voice;

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, UNIX_EPOCH};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};

use self::origins::Origins;
use self::stage::{Change, Deployment, Rollout, Stage};
use self::summary::Summary;
use self::traffic::{SHOP_SHARE, Traffic};
use self::voice::Voice;
use super::{DemoArgs, Failure};

/// The port when none is asked for.
pub const DEFAULT_PORT: u16 = 8443;

const GOOD: Deployment = Deployment { stable: "shop-1", canary: "shop-2" };
const BAD: Deployment = Deployment { stable: "shop-2", canary: "shop-3" };

/// How long each act may take; together with the start and the end less than three minutes.
const PROMOTION: Duration = Duration::from_secs(75);
const ROLLBACK: Duration = Duration::from_secs(30);
const REFUSAL: Duration = Duration::from_secs(10);

/// Between two acts, for readers.
const BREATH: Duration = Duration::from_secs(2);

/// How long the traffic is watched for the canary that must not come back.
const WATCHED: Duration = Duration::from_secs(3);

/// Shows it.
///
/// # Errors
/// [`Failure::Failed`] with the end of the gateway's log when a promise was broken, [`Failure::Interrupted`] after a
/// signal. Nothing is left behind in either case.
pub fn run(args: &DemoArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let summary = if args.json {
        let stderr = io::stderr();
        let terminal = stderr.is_terminal();
        runtime.block_on(show(args, Voice::new(&mut stderr.lock(), terminal)))?
    } else {
        runtime.block_on(show(args, Voice::new(out, io::stdout().is_terminal())))?
    };
    if args.json {
        writeln!(out, "{:#}", summary.to_json())?;
    }
    summary.verdict()
}

async fn show(args: &DemoArgs, mut voice: Voice<'_>) -> Result<Summary, Failure> {
    let mut end = Signals::listen()?;
    let origins = Origins::start(failing(args)).await?;
    let stage = tokio::select! {
        stage = Stage::set(args.port, origins.addresses, GOOD) => stage?,
        () = end.came() => return Err(Failure::Interrupted),
    };
    let told = tokio::select! {
        told = play(args, &stage, &origins, &mut voice) => told,
        () = end.came() => Err(Failure::Interrupted),
    };
    voice.settle()?;
    let told = told.map_err(|failure| match failure {
        Failure::Failed(reason) | Failure::Refused(reason) => stage.broken(&reason),
        other => other,
    });
    stage.strike().await?;
    told
}

/// The share of its requests that the bad release fails, 0 to 1.
fn failing(args: &DemoArgs) -> f64 {
    f64::from(args.failing) / 100.0
}

/// The acts, one after the other, while users go on.
async fn play(
    args: &DemoArgs,
    stage: &Stage,
    origins: &Origins,
    voice: &mut Voice<'_>,
) -> Result<Summary, Failure> {
    let traffic = Traffic::start(stage.ports.https, &stage.ca, args.rate)?;
    voice.introduce(args.port, stage.ports, args.rate)?;
    let promoted_in = promotion(stage, voice).await?;
    sleep(BREATH).await;
    let failed_before = traffic.seen.failed();
    let rolled_back = rollback(args, stage, voice).await?;
    let first_failure = origins.shop_3.first_failure().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let rolled_back_in = first_failure.map(|first| rolled_back.time().saturating_sub(first));
    voice.rolled_back(&rolled_back, rolled_back_in)?;
    sleep(BREATH).await;
    let (requests_after, canary_after) = refusal(stage, origins, &traffic, voice).await?;
    let summary = Summary {
        promoted: GOOD.canary,
        promoted_in,
        rolled_back: BAD.canary,
        breach: rolled_back.cause.to_string(),
        rolled_back_in,
        canary_requests: origins.shop_3.requests(),
        canary_failures: origins.shop_3.failures(),
        requests: traffic.seen.requests(),
        failed_requests: traffic.seen.failed(),
        failed_before,
        requests_after,
        canary_after,
        failing_per_minute: 60.0 * f64::from(args.rate) * SHOP_SHARE * voice.last_share() * failing(args),
    };
    voice.conclude(&summary)?;
    Ok(summary)
}

/// The good release climbs all steps; how long that took.
async fn promotion(stage: &Stage, voice: &mut Voice<'_>) -> Result<Duration, Failure> {
    voice.act(&format!(
        "1. A good release: the file names {} as the canary beside {}.",
        GOOD.canary, GOOD.stable
    ))?;
    let promise = format!("{} is good and was not promoted", GOOD.canary);
    let ended = |rollout: &Rollout| matches!(rollout.state.as_str(), "completed" | "rolled_back");
    let rollout = stage
        .rollout_when(PROMOTION, &promise, |rollout| voice.follow(rollout).map(|()| ended(rollout)))
        .await?;
    let begun = rollout.history.first().map(Change::time);
    match (begun, rollout.history.last()) {
        (Some(begun), Some(last)) if rollout.state == "completed" => Ok(last.time().saturating_sub(begun)),
        (_, last) => {
            let why = last.map(|change| change.why.clone()).unwrap_or_default();
            Err(Failure::Failed(format!("{promise}: {why}")))
        }
    }
}

/// The bad release begins and goes; the change that ended it.
async fn rollback(args: &DemoArgs, stage: &Stage, voice: &mut Voice<'_>) -> Result<Change, Failure> {
    voice.act(&format!(
        "2. A bad release: the file makes {} stable and names {}, which answers {} with 500.",
        BAD.stable,
        BAD.canary,
        if args.failing == 100 { "everything".into() } else { format!("{} % of its requests", args.failing) }
    ))?;
    stage.deploy(BAD, "the next release")?;
    let promise = format!("{} fails and was not rolled back", BAD.canary);
    let of_bad = |change: &&Change| change.canary.as_deref() == Some(BAD.canary);
    let mut end = None;
    stage
        .rollout_when(ROLLBACK, &promise, |rollout| {
            voice.follow(rollout)?;
            end = rollout.history.iter().filter(of_bad).find(|change| change.to == "rolled_back").cloned();
            Ok(end.is_some())
        })
        .await?;
    end.ok_or(Failure::Failed(promise))
}

/// The file asks for the bad release again. How many requests users sent meanwhile, and how many of them it got.
async fn refusal(
    stage: &Stage,
    origins: &Origins,
    traffic: &Traffic,
    voice: &mut Voice<'_>,
) -> Result<(u64, u64), Failure> {
    voice.act(&format!(
        "3. The same release again: the file is written anew and still names {}.",
        BAD.canary
    ))?;
    let before = stage.refusals().await?;
    stage.deploy(BAD, "the next release, deployed again")?;
    let refused = async {
        while stage.refusals().await? <= before {
            sleep(Duration::from_millis(50)).await;
        }
        Ok::<(), Failure>(())
    };
    let promise = format!("{} was named again and not refused", BAD.canary);
    timeout(REFUSAL, refused).await.map_err(|_| Failure::Failed(promise))??;
    voice.refused(BAD.canary)?;

    let (sent, reached) = (traffic.seen.requests(), origins.shop_3.requests());
    sleep(WATCHED).await;
    let (sent, reached) = (traffic.seen.requests() - sent, origins.shop_3.requests() - reached);
    voice.detail(&format!("{sent} requests since, {reached} of them to {}", BAD.canary))?;
    Ok((sent, reached))
}

/// The signals that end a command.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn came(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
