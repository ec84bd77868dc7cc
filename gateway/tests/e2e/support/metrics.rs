//! The Prometheus text format, as far as tests read it.

use std::collections::BTreeSet;

/// All samples of one scrape.
#[derive(Debug)]
pub(crate) struct Metrics(Vec<Sample>);

#[derive(Debug)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Metrics {
    pub(crate) fn parse(text: &str) -> Self {
        Self(text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(sample).collect())
    }

    /// The sum over every series of this name with these labels, whatever others it has; 0 without one.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.0.iter().filter(|sample| sample.is(name, labels)).map(|sample| sample.value).sum()
    }

    /// Whether there is such a series.
    pub(crate) fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.0.iter().any(|sample| sample.is(name, labels))
    }

    /// Every value of a label.
    pub(crate) fn values(&self, name: &str, label: &str) -> BTreeSet<&str> {
        let labels = self.0.iter().filter(|sample| sample.name == name).flat_map(|sample| &sample.labels);
        labels.filter(|(key, _)| key == label).map(|(_, value)| value.as_str()).collect()
    }

    /// The label names of the first series of this name.
    pub(crate) fn labels(&self, name: &str) -> Vec<&str> {
        let sample = self.0.iter().find(|sample| sample.name == name);
        let mut names: Vec<&str> =
            sample.into_iter().flat_map(|sample| &sample.labels).map(|(key, _)| key.as_str()).collect();
        names.sort_unstable();
        names
    }
}

impl Sample {
    fn is(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        let has = |(key, value): &(&str, &str)| self.labels.iter().any(|(k, v)| k == key && v == value);
        self.name == name && labels.iter().all(has)
    }
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, label_pairs(labels.trim_end_matches('}'))),
        None => (series, Vec::new()),
    };
    let value = value.parse().expect("a sample's value is a number");
    Sample { name: name.to_owned(), labels, value }
}

fn label_pairs(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = text;
    while let Some((key, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut characters = after.char_indices();
        let mut end = after.len();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
                _ => value.push(character),
            }
        }
        pairs.push((key.trim_start_matches([',', ' ']).to_owned(), value));
        rest = &after[end..];
    }
    pairs
}
