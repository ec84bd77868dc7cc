//! Metric families: one name, some labels, and a series for each set of label values that somebody holds.
//!
//! A series lives as long as a handle to it. Whoever builds a snapshot asks for the handles it needs and keeps them;
//! when the last snapshot and request that knew a route, service or release are gone, its series is shown once more
//! and then dropped. So nothing has to be told what was removed, and a configuration that was built but never served
//! leaves no trace. The types of the `prometheus` crate appear only while a scrape is answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// What a series measures, and how that is shown.
pub trait Instrument: Default + Send + Sync {
    /// The Prometheus type.
    const TYPE: MetricType;

    /// The labels that tell the samples of one series apart.
    const LABELS: &'static [&'static str] = &[];

    /// Gives every sample of one series to `add`, with the values of [`Self::LABELS`].
    fn collect(&self, add: impl FnMut(&[&str], Metric));
}

/// All series of one metric name. `N` is the number of labels that tell series apart.
pub struct Family<M, const N: usize> {
    name: &'static str,
    help: &'static str,
    labels: [&'static str; N],
    series: Mutex<BTreeMap<[Box<str>; N], Arc<M>>>,
}

impl<M: Instrument, const N: usize> Family<M, N> {
    /// A family without series.
    pub fn new(name: &'static str, help: &'static str, labels: [&'static str; N]) -> Self {
        Self { name, help, labels, series: Mutex::default() }
    }

    /// The handle of the series with these label values, which begins at zero when nobody holds it yet.
    ///
    /// Takes a lock and a look-up: for building snapshots, not for requests.
    pub fn series(&self, values: [&str; N]) -> Arc<M> {
        self.series.lock().entry(values.map(Box::from)).or_default().clone()
    }

    /// Every series as it is now; those that nobody holds any more are dropped.
    pub(super) fn collect(&self) -> MetricFamily {
        let mut metrics = Vec::new();
        self.series.lock().retain(|values, instrument| {
            // Asked before the samples are taken, so that nothing counted by a last holder is lost.
            let held = Arc::get_mut(instrument).is_none();
            instrument.collect(|inner, mut metric| {
                let names = self.labels.iter().chain(M::LABELS);
                let values = values.iter().map(AsRef::as_ref).chain(inner.iter().copied());
                metric.set_label(names.zip(values).map(|(name, value)| label(name, value)).collect());
                metrics.push(metric);
            });
            held
        });
        family(self.name, self.help, M::TYPE, metrics)
    }
}

/// A family of one series that lasts as long as the process.
pub(super) struct Single<M, const N: usize = 0> {
    family: Family<M, N>,
    pub(super) handle: Arc<M>,
}

impl<M: Instrument, const N: usize> Single<M, N> {
    /// As [`Family::new`], the labels with their only values.
    pub(super) fn new(
        name: &'static str,
        help: &'static str,
        labels: [(&'static str, &'static str); N],
    ) -> Self {
        let family = Family::new(name, help, labels.map(|(label, _)| label));
        let handle = family.series(labels.map(|(_, value)| value));
        Self { family, handle }
    }

    /// The series as it is now.
    pub(super) fn collect(&self) -> MetricFamily {
        self.family.collect()
    }
}

/// The text format 0.0.4, each name beginning with `namespace` and `_` unless it is empty. Families without samples
/// are left out.
pub(super) fn encode(namespace: &str, mut families: Vec<MetricFamily>) -> String {
    families.retain(|family| !family.get_metric().is_empty());
    if !namespace.is_empty() {
        for family in &mut families {
            family.set_name(format!("{namespace}_{}", family.name()));
        }
    }
    TextEncoder::new().encode_to_string(&families).expect("every family has a name and samples")
}

/// A family with these samples.
pub(super) fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

/// A sample of a counter.
pub(super) fn counter(value: f64) -> Metric {
    let (mut metric, mut counter) = (Metric::default(), Counter::default());
    counter.set_value(value);
    metric.set_counter(counter);
    metric
}

/// A sample of a gauge.
pub(super) fn gauge(value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    Metric::from_gauge(gauge)
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_owned());
    label
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::counters::ShardedCounter;
    use crate::telemetry::instruments::RequestCounts;

    fn text<M: Instrument, const N: usize>(family: &Family<M, N>, namespace: &str) -> String {
        encode(namespace, vec![family.collect()])
    }

    #[test]
    fn the_text_format_is_kept_to_the_letter() {
        let family = Family::<ShardedCounter, 2>::new("seen_total", "Things seen.", ["b", "a"]);
        let handle = family.series(["x", "a \"quoted\" \\ and\nbroken"]);
        handle.add(3);
        assert_eq!(
            text(&family, "kos_taxi"),
            "# HELP kos_taxi_seen_total Things seen.\n\
             # TYPE kos_taxi_seen_total counter\n\
             kos_taxi_seen_total{b=\"x\",a=\"a \\\"quoted\\\" \\\\ and\\nbroken\"} 3\n"
        );
        let bare = Family::<ShardedCounter, 0>::new("bare_total", "No labels.", []);
        let _handle = bare.series([]);
        assert_eq!(
            text(&bare, ""),
            "# HELP bare_total No labels.\n# TYPE bare_total counter\nbare_total 0\n"
        );
    }

    #[test]
    fn a_family_without_samples_is_left_out() {
        let family = Family::<RequestCounts, 1>::new("seen_total", "Requests seen.", ["a"]);
        assert_eq!(text(&family, ""), "");
        let _unused = family.series(["x"]);
        assert_eq!(text(&family, ""), "");
    }

    #[test]
    fn the_same_labels_are_the_same_series() {
        let family = Family::<ShardedCounter, 1>::new("seen_total", "Things seen.", ["a"]);
        let (first, second) = (family.series(["x"]), family.series(["x"]));
        first.add(1);
        second.add(1);
        assert_eq!(first.sum(), 2);
    }

    #[test]
    fn a_series_that_nobody_holds_is_shown_once_more_and_goes() {
        let family = Family::<ShardedCounter, 1>::new("seen_total", "Things seen.", ["a"]);
        let held = family.series(["held"]);
        let gone = family.series(["gone"]);
        gone.add(7);
        drop(gone);
        assert!(text(&family, "").contains("seen_total{a=\"gone\"} 7\n"));
        let later = text(&family, "");
        assert!(!later.contains("gone") && later.contains("held"), "{later}");
        drop(held);
        let _ = text(&family, "");
        assert_eq!(text(&family, ""), "");
    }
}
