//! `loadtest compare`: the gateway beside other proxies.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use loadtest::compare::Arguments;
use tokio::signal::unix::{SignalKind, signal};

use crate::Problem;

/// Measures on a thread of its own, so that a signal is heard and every proxy is stopped on it.
pub(super) async fn run(arguments: Arguments) -> Result<ExitCode, Problem> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut comparison = {
        let stop = Arc::clone(&stop);
        tokio::task::spawn_blocking(move || loadtest::compare::run(&arguments, &stop))
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let ended = tokio::select! {
        ended = &mut comparison => ended,
        _ = tokio::signal::ctrl_c() => { stop.store(true, Ordering::Relaxed); comparison.await }
        _ = terminate.recv() => { stop.store(true, Ordering::Relaxed); comparison.await }
    };
    ended??;
    Ok(ExitCode::SUCCESS)
}
