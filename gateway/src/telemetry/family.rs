//! Metric families: one name, some labels, and a series for each set of label values that somebody holds.
//!
//! A series lives as long as a handle to it. Whoever builds a snapshot asks for the handles it needs and keeps them;
//! when the last snapshot and request that knew a route, service or release are gone, its series is shown once more
//! and then dropped. So nothing has to be told what was removed, and a configuration that was built but never served
//! leaves no trace. Written in the Prometheus text format, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::Arc;

use parking_lot::Mutex;

/// What a series measures, and how that is shown.
pub trait Instrument: Default + Send + Sync {
    /// The Prometheus type: `counter`, `gauge` or `histogram`.
    const KIND: &'static str;

    /// Writes the samples of one series.
    fn expose(&self, series: &mut Series<'_>);
}

/// All series of one metric name. `N` is the number of labels that tell series apart.
pub struct Family<M, const N: usize> {
    name: &'static str,
    help: &'static str,
    labels: [&'static str; N],
    inner: &'static [&'static str],
    series: Mutex<BTreeMap<[Box<str>; N], Arc<M>>>,
}

impl<M: Instrument, const N: usize> Family<M, N> {
    /// A family without series. `inner` names the labels that an instrument adds within one series.
    pub fn new(
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
        inner: &'static [&'static str],
    ) -> Self {
        Self { name, help, labels, inner, series: Mutex::default() }
    }

    /// The handle of the series with these label values, which begins at zero when nobody holds it yet.
    ///
    /// Takes a lock and a look-up: for building snapshots, not for requests.
    pub fn series(&self, values: [&str; N]) -> Arc<M> {
        self.series.lock().entry(values.map(Box::from)).or_default().clone()
    }

    /// Writes every series under `namespace`, then drops those that nobody holds any more.
    pub(super) fn expose(&self, namespace: &str, text: &mut String) {
        let mut all = self.series.lock();
        if all.is_empty() {
            return;
        }
        let name = full_name(namespace, self.name);
        write_header(text, &name, self.help, M::KIND);
        let mut labels = String::new();
        for (values, instrument) in all.iter() {
            labels.clear();
            for (label, value) in self.labels.iter().zip(values) {
                write_label(&mut labels, label, value);
            }
            instrument.expose(&mut Series { text, name: &name, labels: &labels, inner: self.inner });
        }
        all.retain(|_, instrument| Arc::strong_count(instrument) > 1);
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
        inner: &'static [&'static str],
    ) -> Self {
        let family = Family::new(name, help, labels.map(|(label, _)| label), inner);
        let handle = family.series(labels.map(|(_, value)| value));
        Self { family, handle }
    }

    /// Writes the series under `namespace`.
    pub(super) fn expose(&self, namespace: &str, text: &mut String) {
        self.family.expose(namespace, text);
    }
}

/// Where an instrument writes the samples of one series.
pub struct Series<'a> {
    text: &'a mut String,
    name: &'a str,
    labels: &'a str,
    inner: &'static [&'static str],
}

impl Series<'_> {
    /// Writes one sample: the family's name and `suffix`, the series' labels, and values for the inner ones.
    pub fn sample(&mut self, suffix: &str, inner: &[&str], value: impl Display) {
        self.text.extend([self.name, suffix]);
        let start = self.text.len();
        self.text.push_str(self.labels);
        for (label, value) in self.inner.iter().zip(inner) {
            write_label(self.text, label, value);
        }
        if self.text.len() > start {
            // Every label was written as `,name="value"`; the first comma is where the brace belongs.
            self.text.replace_range(start..=start, "{");
            self.text.push('}');
        }
        // A `String` takes every write.
        let _ = writeln!(self.text, " {value}");
    }
}

/// Writes a family of one sample without labels.
pub(super) fn expose_one(
    text: &mut String,
    namespace: &str,
    name: &str,
    help: &str,
    kind: &str,
    value: impl Display,
) {
    let name = full_name(namespace, name);
    write_header(text, &name, help, kind);
    // A `String` takes every write.
    let _ = writeln!(text, "{name} {value}");
}

fn full_name(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}_{name}") }
}

fn write_header(text: &mut String, name: &str, help: &str, kind: &str) {
    text.extend(["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n"]);
}

fn write_label(text: &mut String, label: &str, value: &str) {
    text.extend([",", label, "=\""]);
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::counters::ShardedCounter;

    fn text<M: Instrument, const N: usize>(family: &Family<M, N>, namespace: &str) -> String {
        let mut text = String::new();
        family.expose(namespace, &mut text);
        text
    }

    #[test]
    fn the_text_format_is_kept_to_the_letter() {
        let family = Family::<ShardedCounter, 2>::new("seen_total", "Things seen.", ["b", "a"], &[]);
        let handle = family.series(["x", "a \"quoted\" \\ and\nbroken"]);
        handle.add(3);
        assert_eq!(
            text(&family, "kos_taxi"),
            "# HELP kos_taxi_seen_total Things seen.\n\
             # TYPE kos_taxi_seen_total counter\n\
             kos_taxi_seen_total{b=\"x\",a=\"a \\\"quoted\\\" \\\\ and\\nbroken\"} 3\n"
        );
        let bare = Family::<ShardedCounter, 0>::new("bare_total", "No labels.", [], &[]);
        let _handle = bare.series([]);
        assert_eq!(
            text(&bare, ""),
            "# HELP bare_total No labels.\n# TYPE bare_total counter\nbare_total 0\n"
        );
    }

    #[test]
    fn the_same_labels_are_the_same_series() {
        let family = Family::<ShardedCounter, 1>::new("seen_total", "Things seen.", ["a"], &[]);
        let (first, second) = (family.series(["x"]), family.series(["x"]));
        first.add(1);
        second.add(1);
        assert_eq!(first.sum(), 2);
    }

    #[test]
    fn a_series_that_nobody_holds_is_shown_once_more_and_goes() {
        let family = Family::<ShardedCounter, 1>::new("seen_total", "Things seen.", ["a"], &[]);
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
