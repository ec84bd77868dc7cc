//! What can be measured: counts, counts by a closed set of labels, levels, and durations.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::proto::{self, Metric, MetricType};

use super::counters::{Padded, ShardedCounter, shard, shards};
use super::family::{Instrument, counter, gauge};
use super::labels::Label;

impl Instrument for ShardedCounter {
    const TYPE: MetricType = MetricType::COUNTER;

    fn collect(&self, mut add: impl FnMut(&[&str], Metric)) {
        add(&[], counter(self.sum() as f64));
    }
}

/// One counter for each value of a closed set. All are shown from the start, so that a first event is a visible rise.
#[derive(Debug)]
pub struct CounterBy<L> {
    counters: Box<[ShardedCounter]>,
    label: PhantomData<fn(L)>,
}

impl<L: Label> CounterBy<L> {
    /// Counts one.
    pub fn count(&self, label: L) {
        self.counters[label.slot()].add(1);
    }
}

impl<L: Label> Default for CounterBy<L> {
    fn default() -> Self {
        Self { counters: L::LABELS.iter().map(|_| ShardedCounter::new()).collect(), label: PhantomData }
    }
}

impl<L: Label> Instrument for CounterBy<L> {
    const TYPE: MetricType = MetricType::COUNTER;
    const LABELS: &'static [&'static str] = &[L::NAME];

    fn collect(&self, mut add: impl FnMut(&[&str], Metric)) {
        for (label, count) in L::LABELS.iter().zip(&self.counters) {
            add(&[label], counter(count.sum() as f64));
        }
    }
}

/// One value of a closed set at a time, at first the first: 1 for it, 0 for each of the others.
#[derive(Debug)]
pub struct OneOf<L> {
    slot: AtomicUsize,
    label: PhantomData<fn(L)>,
}

impl<L: Label> OneOf<L> {
    /// Puts `label` in place of the last one.
    pub fn set(&self, label: L) {
        self.slot.store(label.slot(), Relaxed);
    }
}

impl<L: Label> Default for OneOf<L> {
    fn default() -> Self {
        Self { slot: AtomicUsize::new(0), label: PhantomData }
    }
}

impl<L: Label> Instrument for OneOf<L> {
    const TYPE: MetricType = MetricType::GAUGE;
    const LABELS: &'static [&'static str] = &[L::NAME];

    fn collect(&self, mut add: impl FnMut(&[&str], Metric)) {
        let current = self.slot.load(Relaxed);
        for (slot, label) in L::LABELS.iter().enumerate() {
            add(&[label], gauge(f64::from(u8::from(slot == current))));
        }
    }
}

/// A value that is set: a weight, a timestamp, a yes or no.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Puts `value` in place of the last one.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Relaxed);
    }

    /// The value last set, at first 0.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }
}

impl Instrument for Gauge {
    const TYPE: MetricType = MetricType::GAUGE;

    fn collect(&self, mut add: impl FnMut(&[&str], Metric)) {
        add(&[], gauge(self.get()));
    }
}

/// How many are inside: requests in flight, open connections.
#[derive(Debug, Default)]
pub struct Occupancy(AtomicI64);

impl Occupancy {
    /// Counts one in until the guard is dropped.
    pub fn enter(self: &Arc<Self>) -> Occupied {
        self.0.fetch_add(1, Relaxed);
        Occupied(Arc::clone(self))
    }

    /// How many are inside.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

impl Instrument for Occupancy {
    const TYPE: MetricType = MetricType::GAUGE;

    fn collect(&self, mut add: impl FnMut(&[&str], Metric)) {
        add(&[], gauge(self.get() as f64));
    }
}

/// One that is inside an [`Occupancy`]; it leaves when dropped.
#[derive(Debug)]
#[must_use = "it leaves at once when dropped"]
pub struct Occupied(Arc<Occupancy>);

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// Upper bounds of [`Histogram`] buckets in microseconds.
const BOUNDS: [u64; 11] =
    [5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000];

/// Durations from 5 ms to 10 s and beyond, rounded down to microseconds.
///
/// Two relaxed atomic additions an observation, on cache lines that threads rarely share.
#[derive(Debug)]
pub struct Histogram {
    shards: Box<[Padded<HistogramShard>]>,
}

#[derive(Debug, Default)]
struct HistogramShard {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum_micros: AtomicU64,
}

impl Histogram {
    /// Counts one observation.
    pub fn observe(&self, duration: Duration) {
        let micros =
            duration.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(duration.subsec_micros()));
        let bucket = BOUNDS.iter().filter(|bound| micros > **bound).count();
        let shard = &self.shards[shard(self.shards.len())].0;
        shard.buckets[bucket].fetch_add(1, Relaxed);
        shard.sum_micros.fetch_add(micros, Relaxed);
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { shards: (0..shards()).map(|_| Padded::default()).collect() }
    }
}

impl Instrument for Histogram {
    const TYPE: MetricType = MetricType::HISTOGRAM;

    fn collect(&self, mut add: impl FnMut(&[&str], Metric)) {
        let total = |of: &dyn Fn(&HistogramShard) -> &AtomicU64| {
            self.shards.iter().map(|shard| of(&shard.0).load(Relaxed)).fold(0, u64::wrapping_add)
        };
        let mut shown = proto::Histogram::default();
        let mut count = 0;
        let mut buckets = Vec::new();
        for (slot, bound) in BOUNDS.iter().enumerate() {
            count += total(&|shard| &shard.buckets[slot]);
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(seconds(*bound));
            bucket.set_cumulative_count(count);
            buckets.push(bucket);
        }
        shown.set_bucket(buckets);
        shown.set_sample_count(count + total(&|shard| &shard.buckets[BOUNDS.len()]));
        shown.set_sample_sum(seconds(total(&|shard| &shard.sum_micros)));
        let mut metric = Metric::default();
        metric.set_histogram(shown);
        add(&[], metric);
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// Methods that have a label of their own.
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "OTHER"];

/// One counter for each status code of a class, made when first used.
type StatusClass = [OnceLock<ShardedCounter>; 100];

/// Finished requests by method and status.
///
/// Methods outside the common seven and statuses outside 100 to 599 count as `OTHER`. A counter is made when its
/// method and status first meet and is not shown before.
#[derive(Debug, Default)]
pub struct RequestCounts {
    /// By method, then by the status's first digit; 0 is for statuses outside 100 to 599.
    classes: [[OnceLock<Box<StatusClass>>; 6]; METHODS.len()],
}

impl RequestCounts {
    /// Counts one. After the first of its kind an index and an addition.
    pub fn count(&self, method: &Method, status: StatusCode) {
        let (class, code) = match status.as_u16() {
            status @ 100..=599 => (usize::from(status / 100), usize::from(status % 100)),
            _ => (0, 0),
        };
        let class = self.classes[method_slot(method)][class]
            .get_or_init(|| Box::new([const { OnceLock::new() }; 100]));
        class[code].get_or_init(ShardedCounter::new).add(1);
    }
}

fn method_slot(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::DELETE => 4,
        Method::PATCH => 5,
        Method::OPTIONS => 6,
        _ => 7,
    }
}

impl Instrument for RequestCounts {
    const TYPE: MetricType = MetricType::COUNTER;
    const LABELS: &'static [&'static str] = &["method", "http_status"];

    fn collect(&self, mut add: impl FnMut(&[&str], Metric)) {
        for (method, classes) in METHODS.iter().zip(&self.classes) {
            for (class, counters) in classes.iter().enumerate() {
                let Some(counters) = counters.get() else { continue };
                for (code, count) in counters.iter().enumerate() {
                    let Some(count) = count.get() else { continue };
                    let status =
                        if class == 0 { "OTHER".to_owned() } else { (class * 100 + code).to_string() };
                    add(&[method, &status], counter(count.sum() as f64));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use gateway_core::outcome::Failure;

    use super::*;
    use crate::telemetry::family::{Family, encode};

    /// What a family with one series of this instrument shows, without its header.
    fn samples<M: Instrument>(act: impl FnOnce(&Arc<M>)) -> Vec<String> {
        let family = Family::<M, 0>::new("m", "Help.", []);
        act(&family.series([]));
        encode("", vec![family.collect()]).lines().skip(2).map(str::to_owned).collect()
    }

    #[test]
    fn requests_are_counted_by_method_and_status_and_only_what_was_seen_is_shown() {
        let shown = samples::<RequestCounts>(|counts| {
            counts.count(&Method::GET, StatusCode::OK);
            counts.count(&Method::GET, StatusCode::OK);
            counts.count(&Method::POST, StatusCode::CREATED);
        });
        assert_eq!(
            shown,
            ["m{method=\"GET\",http_status=\"200\"} 2", "m{method=\"POST\",http_status=\"201\"} 1"]
        );
    }

    #[test]
    fn strange_methods_and_statuses_cannot_make_series() {
        let shown = samples::<RequestCounts>(|counts| {
            for name in ["BREW", "PROPFIND", "get"] {
                counts
                    .count(&Method::from_bytes(name.as_bytes()).unwrap(), StatusCode::from_u16(799).unwrap());
            }
            counts.count(&Method::TRACE, StatusCode::from_u16(100).unwrap());
            counts.count(&Method::CONNECT, StatusCode::from_u16(599).unwrap());
        });
        assert_eq!(
            shown,
            [
                "m{method=\"OTHER\",http_status=\"OTHER\"} 3",
                "m{method=\"OTHER\",http_status=\"100\"} 1",
                "m{method=\"OTHER\",http_status=\"599\"} 1"
            ]
        );
    }

    #[test]
    fn a_bucket_holds_its_upper_bound_and_buckets_add_up() {
        let shown = samples::<Histogram>(|histogram| {
            for micros in [0, 5_000, 5_001, 10_000_000, 10_000_001] {
                histogram.observe(Duration::from_micros(micros));
            }
        });
        assert_eq!(shown[0], "m_bucket{le=\"0.005\"} 2");
        assert_eq!(shown[1], "m_bucket{le=\"0.01\"} 3");
        assert_eq!(shown[9], "m_bucket{le=\"5\"} 3");
        assert_eq!(shown[10], "m_bucket{le=\"10\"} 4");
        assert_eq!(shown[11..], ["m_bucket{le=\"+Inf\"} 5", "m_sum 20.010002", "m_count 5"]);
    }

    #[test]
    fn labels_of_a_closed_set_are_shown_before_they_happen() {
        let shown = samples::<CounterBy<Failure>>(|counter| counter.count(Failure::Reset));
        assert_eq!(
            shown,
            [
                "m{reason=\"connect\"} 0",
                "m{reason=\"timeout\"} 0",
                "m{reason=\"reset\"} 1",
                "m{reason=\"status\"} 0"
            ]
        );
    }

    #[test]
    fn one_of_a_set_is_the_last_that_was_set() {
        let shown = samples::<OneOf<Failure>>(|one| {
            one.set(Failure::Timeout);
            one.set(Failure::Reset);
        });
        assert_eq!(
            shown,
            [
                "m{reason=\"connect\"} 0",
                "m{reason=\"timeout\"} 0",
                "m{reason=\"reset\"} 1",
                "m{reason=\"status\"} 0"
            ]
        );
    }

    #[test]
    fn who_entered_leaves_with_the_guard_even_on_another_thread() {
        let inside = Arc::new(Occupancy::default());
        let (first, second) = (inside.enter(), inside.enter());
        assert_eq!(inside.get(), 2);
        std::thread::spawn(move || drop(first)).join().unwrap();
        drop(second);
        assert_eq!(inside.get(), 0);
    }
}
