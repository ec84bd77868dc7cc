//! What is remembered on disk of rollouts and switches, in files that people can read.
//!
//! `rollouts/SERVICE.json` holds the rollouts of a service, `switches.json` what was switched by hand. A file is
//! replaced as a whole or not at all: written beside the old one, brought to disk, renamed. What cannot be written is
//! kept here and tried again; what cannot be read is moved aside and told, and traffic goes on either way.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gateway_core::name::{RouteName, ServiceName};
use gateway_core::rollout::Record;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::supervisor::Remembered;
use super::switches::{Switched, Switches, Thrown};
use crate::telemetry::counters::ShardedCounter;

/// How often the log repeats that nothing can be written.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Files under `state.path`, and everything in them.
pub(crate) struct Store {
    path: PathBuf,
    write_failures: Arc<ShardedCounter>,
    memory: Mutex<Memory>,
    /// One writer at a time; never held together with `memory` while the disk works.
    writing: Mutex<Writing>,
}

/// What the files say, or will say as soon as they can be written.
#[derive(Default)]
struct Memory {
    services: HashMap<ServiceName, Kept<Option<Vec<Record>>>>,
    switches: Kept<Switches>,
}

#[derive(Default)]
struct Kept<T> {
    value: T,
    unsaved: bool,
}

#[derive(Default)]
struct Writing {
    /// When the log last told that nothing can be written; `None` while all is well.
    complained: Option<Instant>,
}

/// `rollouts/SERVICE.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceFile {
    service: ServiceName,
    rollouts: Vec<Record>,
}

/// What a file holds.
enum Found<T> {
    Nothing,
    Value(T),
    /// Why it cannot be used.
    Unreadable(String),
}

impl Store {
    /// Remembers nothing and touches no file, for answers about a configuration that does not serve.
    pub(crate) fn blank() -> Self {
        Self {
            path: PathBuf::new(),
            write_failures: Arc::default(),
            memory: Mutex::default(),
            writing: Mutex::default(),
        }
    }

    /// Opens the directory, which is made if need be, and reads the switches. Failed writes are counted.
    ///
    /// Of switches that cannot be read, the kill switch is taken for thrown: nobody knows what it kept from happening. No
    /// route goes into maintenance for it: that is what the file says.
    pub(crate) fn open(path: PathBuf, write_failures: Arc<ShardedCounter>) -> Self {
        let store = Self { path, write_failures, ..Self::blank() };
        let directory = store.path.join("rollouts");
        if let Err(error) = fs::create_dir_all(&directory) {
            let path = directory.display();
            tracing::error!(%path, %error, "rollouts cannot be remembered: make this a directory that can be written");
        }
        let file = store.path.join("switches.json");
        let switches = match read(&file, Switches::is_current) {
            Found::Nothing => Kept::default(),
            Found::Value(value) => Kept { value, unsaved: false },
            Found::Unreadable(reason) => {
                set_aside(
                    &file,
                    &reason,
                    "the kill switch is taken for thrown until it is thrown back, and the maintenance of routes is as the file says",
                );
                Kept { value: Switches::unknown(), unsaved: true }
            }
        };
        store.memory.lock().switches = switches;
        store
    }

    /// What an earlier process, or an earlier configuration of this one, left behind of a service.
    ///
    /// What was unreadable stays so until something is saved in its place.
    pub(crate) fn recall(&self, service: &ServiceName) -> Remembered {
        if let Some(known) = self.memory.lock().services.get(service) {
            return known.value.clone().map_or(Remembered::Unreadable, Remembered::Records);
        }
        let file = self.file(service);
        let is_ours =
            |found: &ServiceFile| found.service == *service && found.rollouts.iter().all(Record::is_current);
        let value = match read(&file, is_ours) {
            Found::Nothing => return Remembered::Nothing,
            Found::Value(found) => Some(found.rollouts),
            Found::Unreadable(reason) => {
                set_aside(
                    &file,
                    &reason,
                    "canaries of the service get nothing until `gateway rollout retry`",
                );
                None
            }
        };
        let remembered = value.clone().map_or(Remembered::Unreadable, Remembered::Records);
        let kept = Kept { value, unsaved: false };
        self.memory.lock().services.entry(service.clone()).or_insert(kept);
        remembered
    }

    /// Remembers the rollouts of a service; [`Self::write`] brings them to disk.
    pub(crate) fn remember(&self, service: &ServiceName, records: Vec<Record>) {
        let kept = Kept { value: Some(records), unsaved: true };
        self.memory.lock().services.insert(service.clone(), kept);
    }

    /// Whether the kill switch is thrown.
    pub(crate) fn is_killed(&self) -> bool {
        self.memory.lock().switches.value.kill
    }

    /// The maintenance of a route, if it was switched by hand.
    pub(crate) fn thrown(&self, route: &RouteName) -> Option<Thrown> {
        self.memory.lock().switches.value.maintenance.get(route).copied()
    }

    /// Every route whose maintenance was switched by hand.
    pub(crate) fn all_thrown(&self) -> BTreeMap<RouteName, Thrown> {
        self.memory.lock().switches.value.maintenance.clone()
    }

    /// The last changes of switches, the newest last.
    pub(crate) fn switch_history(&self) -> VecDeque<Switched> {
        self.memory.lock().switches.value.history.clone()
    }

    /// Remembers that a switch was thrown; [`Self::write`] brings it to disk.
    pub(crate) fn switch(&self, switched: &Switched) {
        let switches = &mut self.memory.lock().switches;
        switches.value.apply(switched);
        switches.unsaved = true;
    }

    /// Whether something waits to be written.
    pub(crate) fn is_behind(&self) -> bool {
        let memory = self.memory.lock();
        memory.switches.unsaved || memory.services.values().any(|kept| kept.unsaved)
    }

    /// Writes what is not on disk yet; says whether all of it is now. Blocks as long as the disk does.
    pub(crate) fn write(&self) -> bool {
        let mut writing = self.writing.lock();
        let (services, switches) = self.take_unsaved();
        let mut failed = None;
        for file in services {
            if let Err(error) = self.replace(&self.file(&file.service), &file) {
                failed = Some((self.file(&file.service), error));
                self.keep_unsaved(&file.service);
            }
        }
        let path = self.path.join("switches.json");
        if let Some(Err(error)) = switches.map(|switches| self.replace(&path, &switches)) {
            failed = Some((path, error));
            self.memory.lock().switches.unsaved = true;
        }
        writing.report(failed)
    }

    fn take_unsaved(&self) -> (Vec<ServiceFile>, Option<Switches>) {
        let mut memory = self.memory.lock();
        let take = |(service, kept): (&ServiceName, &mut Kept<Option<Vec<Record>>>)| {
            let unsaved = std::mem::take(&mut kept.unsaved);
            let rollouts = kept.value.clone().filter(|_| unsaved)?;
            Some(ServiceFile { service: service.clone(), rollouts })
        };
        let services = memory.services.iter_mut().filter_map(take).collect();
        let unsaved = std::mem::take(&mut memory.switches.unsaved);
        (services, unsaved.then(|| memory.switches.value.clone()))
    }

    fn keep_unsaved(&self, service: &ServiceName) {
        if let Some(kept) = self.memory.lock().services.get_mut(service) {
            kept.unsaved = true;
        }
    }

    fn replace(&self, path: &Path, content: &impl Serialize) -> io::Result<()> {
        replace(path, content).inspect_err(|_| self.write_failures.add(1))
    }

    fn file(&self, service: &ServiceName) -> PathBuf {
        self.path.join("rollouts").join(format!("{service}.json"))
    }
}

impl Writing {
    /// Tells when writing begins to fail, from time to time while it does, and when it works again.
    fn report(&mut self, failed: Option<(PathBuf, io::Error)>) -> bool {
        let Some((path, error)) = failed else {
            if self.complained.take().is_some() {
                tracing::info!("rollouts and switches are on disk again");
            }
            return true;
        };
        if self.complained.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
            self.complained = Some(Instant::now());
            let path = path.display();
            tracing::error!(%path, %error, "cannot be written: a restart would not know of the last changes; trying again");
        }
        false
    }
}

/// Reads a file of JSON that `is_ours` accepts.
fn read<T: for<'de> Deserialize<'de>>(path: &Path, is_ours: impl Fn(&T) -> bool) -> Found<T> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Found::Nothing;
        }
        Err(error) => return Found::Unreadable(error.to_string()),
    };
    match serde_json::from_slice(&text) {
        Ok(found) if is_ours(&found) => Found::Value(found),
        Ok(_) => Found::Unreadable("it is of another version or another service".into()),
        Err(error) => Found::Unreadable(error.to_string()),
    }
}

/// Moves a file out of the way that cannot be used, and says so.
fn set_aside(path: &Path, reason: &str, consequence: &str) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".unreadable-{now}"));
    let moved = fs::rename(path, &aside).map_or_else(
        |error| format!("it cannot be moved aside either: {error}"),
        |()| format!("moved to {}", Path::new(&aside).display()),
    );
    tracing::error!(path = %path.display(), reason, moved, "remembered state cannot be read: {consequence}");
}

/// Puts `content` in place of a file, so that at any moment, a power cut included, there is the old one or the new one.
fn replace(path: &Path, content: &impl Serialize) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let mut text = serde_json::to_vec_pretty(content)?;
    text.push(b'\n');
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut file = File::create(&temporary)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use gateway_core::config;
    use gateway_core::rollout::{Command, Rollout, Target};

    use super::*;
    use crate::rollouts::switches::Position;

    fn service() -> ServiceName {
        ServiceName::new("api").unwrap()
    }

    /// What an aborted rollout of `b` leaves behind.
    fn records() -> Vec<Record> {
        let text = "version: 1\nlisteners: { http: { address: \"127.0.0.1:80\" } }\nroutes: { all: { service: api } }\n\
                    services: { api: { releases: { a: { endpoints: [\"127.0.0.1:1\"] }, b: { endpoints: [\"127.0.0.1:2\"] } }, \
                    stable: a, canary: b, rollout: { weight: 10% } } }";
        let loaded = config::load("test.yaml", text.as_bytes(), Path::new("/"), &config::Process).unwrap();
        let target = Target::all(&loaded.gateway.services[&service()]).remove(0);
        let now = Duration::from_secs(1_800_000_000);
        let mut rollout = Rollout::new(now, target);
        rollout.command(now, Command::Abort).unwrap();
        vec![rollout.record()]
    }

    fn kill(on: bool) -> Switched {
        Switched::kill(Duration::from_secs(1_800_000_000), on)
    }

    fn open(path: &Path) -> Store {
        Store::open(path.to_owned(), Arc::default())
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn recalled(store: &Store) -> Option<Vec<Record>> {
        match store.recall(&service()) {
            Remembered::Records(records) => Some(records),
            Remembered::Nothing | Remembered::Unreadable => None,
        }
    }

    #[test]
    fn what_was_written_is_read_by_the_next_process_and_by_people() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        assert!(matches!(store.recall(&service()), Remembered::Nothing));
        store.remember(&service(), records());
        assert!(store.is_behind());
        assert!(store.write());
        assert!(!store.is_behind());
        assert_eq!(names(&directory.path().join("rollouts")), ["api.json"]);
        let text = fs::read_to_string(directory.path().join("rollouts/api.json")).unwrap();
        assert!(text.contains("\n      \"state\": \"rolled_back\",\n"), "{text}");
        assert_eq!(recalled(&open(directory.path())), Some(records()));
    }

    #[test]
    fn what_is_not_on_disk_yet_is_known_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        store.remember(&service(), records());
        assert_eq!(recalled(&store), Some(records()));
    }

    #[test]
    fn a_torn_a_foreign_and_a_future_file_are_moved_aside_and_stay_unreadable_until_something_is_saved() {
        let whole = serde_json::to_string(&ServiceFile { service: service(), rollouts: records() }).unwrap();
        let torn = whole[..whole.len() / 2].to_owned();
        let foreign = whole.replace("\"service\":\"api\"", "\"service\":\"web\"");
        let future = whole.replace("\"version\":1", "\"version\":2");
        for text in [torn, foreign, future, String::new()] {
            let directory = tempfile::tempdir().unwrap();
            let rollouts = directory.path().join("rollouts");
            fs::create_dir(&rollouts).unwrap();
            fs::write(rollouts.join("api.json"), &text).unwrap();
            let store = open(directory.path());
            for _ in 0..2 {
                assert!(matches!(store.recall(&service()), Remembered::Unreadable), "{text}");
            }
            let [aside] = &names(&rollouts)[..] else { panic!("one file") };
            assert!(aside.starts_with("api.json.unreadable-"), "{aside}");
            assert_eq!(fs::read_to_string(rollouts.join(aside)).unwrap(), text);
            store.remember(&service(), records());
            assert_eq!(recalled(&store), Some(records()));
        }
    }

    #[test]
    fn what_cannot_be_written_is_counted_kept_and_written_later() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        fs::write(&state, "in the way").unwrap();
        let failures = Arc::<ShardedCounter>::default();
        let store = Store::open(state.clone(), failures.clone());
        assert!(matches!(store.recall(&service()), Remembered::Nothing));
        store.remember(&service(), records());
        store.switch(&kill(true));
        assert!(!store.write());
        assert!(store.is_behind());
        assert_eq!(failures.sum(), 2);
        fs::remove_file(&state).unwrap();
        assert!(store.write());
        assert_eq!(recalled(&open(&state)), Some(records()));
        assert!(open(&state).is_killed());
    }

    #[test]
    fn the_kill_switch_outlives_the_process_and_an_unreadable_one_counts_as_thrown() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!open(directory.path()).is_killed());
        for on in [true, false] {
            let store = open(directory.path());
            store.switch(&kill(on));
            assert!(store.write());
            assert_eq!(open(directory.path()).is_killed(), on);
        }
        fs::write(directory.path().join("switches.json"), "{").unwrap();
        let store = open(directory.path());
        assert!(store.is_killed());
        assert!(store.write());
        assert!(open(directory.path()).is_killed());
    }

    #[test]
    fn maintenance_outlives_the_process_and_what_is_unreadable_puts_no_route_into_it() {
        let directory = tempfile::tempdir().unwrap();
        let (route, at) = (RouteName::new("web").unwrap(), Duration::from_secs(1_800_000_000));
        let store = open(directory.path());
        store.switch(&Switched::maintenance(at, route.clone(), Position::On, None));
        store.switch(&kill(true));
        assert!(store.write());
        let next = open(directory.path());
        assert_eq!(next.thrown(&route), Some(Thrown { on: true, since: at, until: None }));
        assert_eq!((next.is_killed(), next.switch_history().len()), (true, 2));

        let file = directory.path().join("switches.json");
        let torn = fs::read_to_string(&file).unwrap().replace("true,", "tru");
        fs::write(&file, torn).unwrap();
        let next = open(directory.path());
        assert_eq!((next.thrown(&route), next.is_killed()), (None, true));
    }

    #[test]
    fn a_half_written_file_of_a_killed_process_harms_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        store.remember(&service(), records());
        assert!(store.write());
        fs::write(directory.path().join("rollouts/api.json.new"), "{ \"serv").unwrap();
        let next = open(directory.path());
        assert_eq!(recalled(&next), Some(records()));
        next.remember(&service(), records());
        assert!(next.write());
        assert_eq!(names(&directory.path().join("rollouts")), ["api.json"]);
    }
}
