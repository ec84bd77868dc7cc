//! From a changed file, a SIGHUP or a call to a new configuration, or to a report of what is wrong with it.
//!
//! Directories are watched, not files: editors and Kubernetes put a new file in the place of the old one.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gateway_core::config::changes::Change;
use gateway_core::config::report::Report;
use notify::event::ModifyKind;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::load;
use crate::runtime::Runtime;
use crate::telemetry::labels::Reload;

/// Changes that come together are one change.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// How long a directory may keep changing before it is looked at.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a reload did.
pub(crate) struct Outcome {
    pub(crate) revision: u64,
    /// One line for each thing that changed.
    pub(crate) changed: Vec<String>,
    pub(crate) warnings: Report,
}

/// Loads the file again and publishes what it says; the old configuration serves on when it is bad.
///
/// # Errors
/// Everything that is wrong, all at once.
pub(crate) async fn reload(runtime: &Runtime) -> Result<Outcome, Report> {
    let path = runtime.path.clone();
    let result = match tokio::task::spawn_blocking(move || load::load(&path)).await {
        Ok(Ok(loaded)) => {
            let warnings = loaded.warnings.clone();
            let published = runtime.publish(loaded).await;
            published.map(|(revision, changes)| Outcome {
                revision,
                changed: changes.iter().map(Change::to_string).collect(),
                warnings,
            })
        }
        Ok(Err(report)) => Err(report),
        Err(panicked) => Err(crashed(&runtime.path, &panicked.to_string())),
    };
    account(runtime, &result);
    result
}

fn crashed(path: &Path, reason: &str) -> Report {
    use gateway_core::config::problem::{Code, Problem};
    let problem = Problem::error(Code::File, format!("loading failed: {reason}"));
    Report::new(&path.display().to_string(), "", vec![problem])
}

fn account(runtime: &Runtime, result: &Result<Outcome, Report>) {
    match result {
        Ok(outcome) => {
            runtime.note_reload(Reload::Success, 0);
            tracing::info!(revision = outcome.revision, changed = outcome.changed.join("; "), "reloaded");
            if !outcome.warnings.is_empty() {
                tracing::warn!("the configuration has warnings\n{}", outcome.warnings);
            }
        }
        Err(report) => {
            runtime.note_reload(Reload::Failure, report.errors());
            tracing::error!("not reloaded; the previous configuration serves on\n{report}");
        }
    }
}

/// Reloads on SIGHUP and whenever a file the configuration consists of changes.
pub(crate) fn watch(runtime: Arc<Runtime>) {
    let (told, changes) = unbounded_channel();
    let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // The receiver goes only with the process.
        let _ = told.send(event);
    });
    match watcher {
        Ok(watcher) => drop(tokio::spawn(follow_files(runtime.clone(), watcher, changes))),
        Err(error) => tracing::error!(%error, "cannot watch files; use SIGHUP or `gateway reload` instead"),
    }
    tokio::spawn(follow_signals(runtime));
}

async fn follow_signals(runtime: Arc<Runtime>) {
    let mut hangups = match signal(SignalKind::hangup()) {
        Ok(hangups) => hangups,
        Err(error) => return tracing::error!(%error, "cannot listen for SIGHUP"),
    };
    while hangups.recv().await.is_some() {
        runtime.access_log.reopen();
        // The outcome is logged and counted; a signal has no one else to tell.
        let _ = reload(&runtime).await;
    }
}

async fn follow_files(
    runtime: Arc<Runtime>,
    mut watcher: RecommendedWatcher,
    mut changes: UnboundedReceiver<notify::Result<Event>>,
) {
    let mut watched = HashSet::new();
    // What was refused is not tried again until it changes.
    let mut refused = None;
    loop {
        let snapshot = runtime.snapshot();
        watch_directories(&mut watcher, &mut watched, &snapshot.files);
        if load::fingerprint(&snapshot.files) != snapshot.fingerprint {
            let seen = Seen::of(&runtime.path, &snapshot.files);
            if refused.as_ref() != Some(&seen) {
                let outcome = reload(&runtime).await;
                // What was read, not what is there now: the file may have changed on the way.
                refused = outcome.err().map(|report| Seen { text: report.source().to_owned(), ..seen });
                continue;
            }
        }
        let files = snapshot.files.clone();
        drop(snapshot);
        tokio::select! {
            changed = change(&mut changes, &files) => match changed {
                Some(()) => settle(&mut changes, &files).await,
                None => return,
            },
            () = runtime.published() => {}
        }
    }
}

/// Waits until an event concerns the files; `None` when nobody watches any more.
///
/// Reading them is an event as well: nothing may be read for one that does not concern them, or there is no end to it.
async fn change(changes: &mut UnboundedReceiver<notify::Result<Event>>, files: &[PathBuf]) -> Option<()> {
    while !concerns(&changes.recv().await?, files) {}
    Some(())
}

/// What the files of a configuration say.
#[derive(PartialEq, Eq)]
struct Seen {
    /// The configuration file; empty when it cannot be read.
    text: String,
    /// Of all others.
    others: u64,
}

impl Seen {
    fn of(path: &Path, files: &[PathBuf]) -> Self {
        let text = String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
        let others: Vec<PathBuf> = files.iter().filter(|file| *file != path).cloned().collect();
        Self { text, others: load::fingerprint(&others) }
    }
}

/// Waits until nothing has changed for [`DEBOUNCE`], at most [`PATIENCE`].
async fn settle(changes: &mut UnboundedReceiver<notify::Result<Event>>, files: &[PathBuf]) {
    let quiet =
        async { while let Ok(Some(())) = tokio::time::timeout(DEBOUNCE, change(changes, files)).await {} };
    // A directory that is never quiet is looked at all the same.
    let _ = tokio::time::timeout(PATIENCE, quiet).await;
}

/// Whether an event may have changed what the files say. Any name that comes, goes or moves may: it can be a link on the
/// way to one of them. What is written to other files, a log perhaps, is no concern.
fn concerns(event: &notify::Result<Event>, files: &[PathBuf]) -> bool {
    let Ok(event) = event else { return true };
    let is_ours = |path: &PathBuf| files.iter().any(|file| file.file_name() == path.file_name());
    match event.kind {
        EventKind::Access(_) => false,
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)) => event.paths.iter().any(is_ours),
        _ => true,
    }
}

fn watch_directories(watcher: &mut RecommendedWatcher, watched: &mut HashSet<PathBuf>, files: &[PathBuf]) {
    for directory in files.iter().filter_map(|file| file.parent()) {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        if watched.contains(directory) {
            continue;
        }
        match watcher.watch(directory, RecursiveMode::NonRecursive) {
            Ok(()) => drop(watched.insert(directory.to_owned())),
            Err(error) => {
                tracing::error!(%error, directory = %directory.display(), "cannot watch a directory")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use notify::event::{AccessKind, CreateKind, DataChange};

    use super::*;

    /// Reading the files made events, which made the files be read, for ever.
    #[tokio::test]
    async fn reading_the_files_and_writing_others_beside_them_is_no_change() {
        let (told, mut changes) = unbounded_channel();
        let files = [PathBuf::from("/etc/gateway.yaml")];
        let data = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let tell = |kind, path: &str| told.send(Ok(Event::new(kind).add_path(path.into()))).unwrap();
        for _ in 0..3 {
            tell(EventKind::Access(AccessKind::Any), "/etc/gateway.yaml");
            tell(data, "/etc/access.log");
        }
        assert_eq!(change(&mut changes, &files).now_or_never(), None);
        for (kind, path) in [(data, "/etc/gateway.yaml"), (EventKind::Create(CreateKind::Any), "/etc/..data")]
        {
            tell(kind, path);
            assert_eq!(change(&mut changes, &files).now_or_never(), Some(Some(())));
        }
        drop(told);
        assert_eq!(change(&mut changes, &files).now_or_never(), Some(None));
    }
}
