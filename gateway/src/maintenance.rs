//! The maintenance of routes as people switch it: by name, outliving reloads and restarts, and above the file's word.
//!
//! A request reads one number ([`Switch::is_on`]). Everything else, the time a switch was thrown for included, is looked
//! after here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use gateway_core::name::RouteName;
use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;

use crate::rollouts::Clock;
use crate::rollouts::announce::Announcer;
use crate::rollouts::store::Store;
use crate::rollouts::switches::{Position, Switched, Thrown};
use crate::snapshot::Snapshot;
use crate::telemetry::instruments::Gauge;
use crate::telemetry::metrics::Metrics;

/// How often it is looked whether the time of a switch is over; requests know it at once.
const TICK: Duration = Duration::from_millis(500);

/// How long a person who throws a switch waits for the disk.
const SAVE_PATIENCE: Duration = Duration::from_secs(2);

/// The switches of all routes.
pub(crate) struct Switchboard {
    clock: Clock,
    store: Arc<Store>,
    announcer: Announcer,
    /// Held while a switch moves, so that memory, disk and what is told agree.
    switches: Mutex<HashMap<RouteName, Weak<Switch>>>,
}

/// The switch of one route.
#[derive(Debug)]
pub(crate) struct Switch {
    clock: Clock,
    /// For requests: the last two bits say what holds ([`FILE`], [`OFF`], [`ON`]), the others until when, in milliseconds
    /// since 1970; 0 is for ever.
    word: AtomicU64,
    /// For people.
    known: Mutex<Known>,
    gauge: Arc<Gauge>,
}

/// What is known of a switch.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    thrown: Option<Thrown>,
    /// What the file says that serves.
    file: bool,
}

/// How a route stands: what the file says, and how its switch was thrown by hand, which outranks it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Standing {
    /// `None` for a route that the file does not have.
    pub(crate) file: Option<bool>,
    pub(crate) thrown: Option<Thrown>,
}

impl Standing {
    pub(crate) fn is_on(&self) -> bool {
        self.thrown.map_or(self.file.unwrap_or(false), |thrown| thrown.on)
    }
}

const FILE: u64 = 0;
const OFF: u64 = 1;
const ON: u64 = 2;

impl Switch {
    fn new(clock: Clock, thrown: Option<Thrown>, gauge: Arc<Gauge>) -> Self {
        let switch = Self { clock, word: AtomicU64::new(FILE), known: Mutex::default(), gauge };
        switch.change(|known| known.thrown = thrown);
        switch
    }

    /// Whether the route is in maintenance at `at`, `file` being what its configuration says. One relaxed load.
    pub(crate) fn is_on(&self, file: bool, at: Instant) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        if word == FILE {
            return file;
        }
        let until = word >> 2;
        let over = until != 0 && millis(self.clock.at(at)) >= until;
        if over { file } else { word & 3 == ON }
    }

    /// How a person has thrown it, while that holds.
    pub(crate) fn thrown(&self) -> Option<Thrown> {
        self.known.lock().thrown.filter(|thrown| holds(thrown, self.clock.now()))
    }

    /// How long from `at` until the file's word holds again, if it does not hold and that is known.
    pub(crate) fn left(&self, at: Instant) -> Option<Duration> {
        let until = self.known.lock().thrown?.until?;
        until.checked_sub(self.clock.at(at)).filter(|left| !left.is_zero())
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock();
        change(&mut known);
        let word = match known.thrown {
            None => FILE,
            // A time that is long past stays one: 0 would be for ever.
            Some(Thrown { on, until, .. }) => {
                until.map_or(0, |until| millis(until).max(1)) << 2 | if on { ON } else { OFF }
            }
        };
        self.word.store(word, Ordering::Relaxed);
        self.gauge.set(f64::from(self.is_on(known.file, Instant::now())));
    }
}

/// Times before the year 10000 leave room for two bits.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn holds(thrown: &Thrown, now: Duration) -> bool {
    thrown.until.is_none_or(|until| now < until)
}

impl Switchboard {
    pub(crate) fn new(store: Arc<Store>, announcer: Announcer) -> Self {
        Self { clock: Clock::start(), store, announcer, switches: Mutex::default() }
    }

    /// The switch of a route, standing as it was left.
    pub(crate) fn switch(&self, route: &RouteName, metrics: &Metrics) -> Arc<Switch> {
        let mut switches = self.switches.lock();
        if let Some(held) = switches.get(route).and_then(Weak::upgrade) {
            return held;
        }
        let made = Arc::new(Switch::new(self.clock, self.store.thrown(route), metrics.maintenance(route)));
        switches.insert(route.clone(), Arc::downgrade(&made));
        made
    }

    /// Shows what the file says that serves from now on, and forgets the switches nobody holds any more. How those were
    /// thrown is remembered: a route that comes back is as it was left.
    pub(crate) fn follow(&self, snapshot: &Snapshot) {
        for (_, route) in snapshot.routes.in_order() {
            let maintenance = &route.maintenance;
            maintenance.switch.change(|known| known.file = maintenance.file);
        }
        self.switches.lock().retain(|_, switch| switch.strong_count() > 0);
    }

    /// Throws the switch of a route, at once. Says whether it is on disk already.
    pub(crate) async fn throw(&self, route: &RouteName, to: Position, lasts: Option<Duration>) -> bool {
        let now = self.clock.now();
        self.move_to(Switched::maintenance(now, route.clone(), to, lasts.map(|lasts| now + lasts)));
        self.announcer.flush(SAVE_PATIENCE).await
    }

    /// The routes that were switched by hand, with how, by name.
    pub(crate) fn thrown(&self) -> Vec<(RouteName, Thrown)> {
        let now = self.clock.now();
        self.store.all_thrown().into_iter().filter(|(_, thrown)| holds(thrown, now)).collect()
    }

    /// The last changes of all switches, the newest last.
    pub(crate) fn history(&self) -> impl Iterator<Item = Switched> {
        self.store.switch_history().into_iter()
    }

    fn move_to(&self, switched: Switched) {
        let switches = self.switches.lock();
        self.move_locked(&switches, switched);
    }

    fn move_locked(&self, switches: &HashMap<RouteName, Weak<Switch>>, switched: Switched) {
        let held = switched.route.as_ref().and_then(|route| switches.get(route)?.upgrade());
        if let Some(switch) = held {
            switch.change(|known| known.thrown = switched.thrown());
        }
        self.store.switch(&switched);
        self.announcer.announce_switch(switched);
    }

    /// Gives the routes back to the file whose time is over.
    fn expire(&self) {
        let now = self.clock.now();
        let switches = self.switches.lock();
        for (route, thrown) in self.store.all_thrown() {
            if !holds(&thrown, now) {
                self.move_locked(&switches, Switched::expired(now, route));
            }
        }
    }

    /// Looks at the clock for ever.
    pub(crate) async fn keep_expiring(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.expire();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn route() -> RouteName {
        RouteName::new("api").unwrap()
    }

    fn board(store: &Arc<Store>) -> Switchboard {
        Switchboard::new(store.clone(), Announcer::new().0)
    }

    fn switch(board: &Switchboard) -> Arc<Switch> {
        board.switch(&route(), &Metrics::new(SystemTime::now()))
    }

    #[test]
    fn a_switch_outranks_the_file_both_ways_until_it_is_thrown_back() {
        let board = board(&Arc::new(Store::blank()));
        let (switch, now) = (switch(&board), Instant::now());
        let both = || (switch.is_on(false, now), switch.is_on(true, now));
        assert_eq!(both(), (false, true));
        for (to, expected) in
            [(Position::On, (true, true)), (Position::Off, (false, false)), (Position::File, (false, true))]
        {
            board.move_to(Switched::maintenance(board.clock.now(), route(), to, None));
            assert_eq!(both(), expected, "{to:?}");
        }
        assert_eq!(switch.thrown(), None);
    }

    #[test]
    fn a_request_knows_the_end_of_a_time_to_the_moment_and_the_board_cleans_up() {
        let store = Arc::new(Store::blank());
        let board = board(&store);
        let (switch, now) = (switch(&board), Instant::now());
        let until = board.clock.at(now) + Duration::from_secs(60);
        board.move_to(Switched::maintenance(board.clock.now(), route(), Position::On, Some(until)));
        let second = Duration::from_secs(1);
        assert!(switch.is_on(false, now) && switch.is_on(false, now + 59 * second));
        assert!(!switch.is_on(false, now + 61 * second));
        assert_eq!(switch.left(now + 20 * second), Some(40 * second));
        board.expire();
        assert_eq!(board.thrown().len(), 1, "not over yet");

        let past = Some(Duration::ZERO);
        board.move_to(Switched::maintenance(board.clock.now(), route(), Position::On, past));
        assert!(!switch.is_on(false, now), "the first moment of 1970 is not for ever");
        assert!(board.thrown().is_empty() && switch.thrown().is_none());
        assert!(store.thrown(&route()).is_some());
        board.expire();
        assert_eq!(store.thrown(&route()), None);
    }

    #[test]
    fn a_route_that_comes_back_is_as_it_was_left() {
        let store = Arc::new(Store::blank());
        let board = board(&store);
        let gone = switch(&board);
        board.move_to(Switched::maintenance(board.clock.now(), route(), Position::On, None));
        drop(gone);
        assert!(switch(&board).is_on(false, Instant::now()));
        assert!(switch(&self::board(&store)).is_on(false, Instant::now()), "in another process, too");
    }
}
