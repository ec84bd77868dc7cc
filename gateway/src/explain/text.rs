//! An explanation for people: short, the answer first in every line.

use super::releases::ReleaseView;
use super::{Candidate, Explanation, Outcome};

/// Lays an explanation out, one line for each decision on the way.
pub(crate) fn render(answer: &Explanation) -> String {
    let mut lines = Lines::default();
    let listener = match &answer.listener {
        Some(entrance) => format!("{}  {} ({})", entrance.name, entrance.address, entrance.scheme),
        None => "none fits this URL; routes are the same on all".to_owned(),
    };
    lines.add("listener", listener);
    lines.add("client", answer.client_ip.clone());
    if !answer.path.is_empty() {
        lines.add("host", answer.host.clone());
        lines.add("path", answer.path.clone());
    }
    for row in columns(answer.candidates.iter().map(candidate).collect()) {
        lines.add("route", row);
    }
    if let (Some(status), Some(detail)) = (answer.status, &answer.detail) {
        lines.add(
            if answer.outcome == Outcome::NoRoute { "no route" } else { "answer" },
            format!("{status}: {detail}"),
        );
    }
    for row in
        columns(answer.policies.iter().map(|policy| vec![policy.name.clone(), policy.does.clone()]).collect())
    {
        lines.add("policy", row);
    }
    if let Some(service) = &answer.service {
        lines.add("service", service.clone());
    }
    for row in columns(
        answer.service_policies.iter().map(|policy| vec![policy.name.clone(), policy.does.clone()]).collect(),
    ) {
        lines.add("endpoint", row);
    }
    for row in columns(answer.releases.iter().map(|release| share(release, answer)).collect()) {
        lines.add("release", row);
    }
    if let Some(why) = &answer.why {
        lines.add("because", why.clone());
    }
    format!("{} {}\n\n{}", answer.method, answer.url, lines.0)
}

/// Indented lines; a label that repeats is written once.
#[derive(Default)]
struct Lines(String, &'static str);

impl Lines {
    fn add(&mut self, label: &'static str, text: String) {
        let shown = if self.1 == label { "" } else { label };
        self.1 = label;
        self.0.push_str(format!("  {shown:8}  {text}").trim_end());
        self.0.push('\n');
    }
}

fn candidate(candidate: &Candidate) -> Vec<String> {
    let chosen = candidate.result == "chosen";
    let outcome = match &candidate.why {
        Some(why) => format!("no: {why}"),
        None if chosen => String::new(),
        None => candidate.result.clone(),
    };
    vec![marked(chosen, &candidate.route), candidate.host.clone(), candidate.path.clone(), outcome]
}

fn share(release: &ReleaseView, answer: &Explanation) -> Vec<String> {
    let chosen = answer.release.as_ref() == Some(&release.name);
    let resolved = release.endpoints.iter().map(|endpoint| match &endpoint.why {
        None => endpoint.address.clone(),
        Some(why) => format!("{} ({why})", endpoint.address),
    });
    let endpoints: Vec<String> =
        if release.endpoints.is_empty() { release.configured.clone() } else { resolved.collect() };
    vec![
        marked(chosen, &release.name),
        release.role.clone(),
        format!("{} %", (release.weight * 1000.0).round() / 1000.0),
        endpoints.join(", "),
    ]
}

fn marked(chosen: bool, name: &str) -> String {
    format!("{} {name}", if chosen { "→" } else { " " })
}

/// Rows with every column as wide as its widest cell.
fn columns(rows: Vec<Vec<String>>) -> Vec<String> {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(column, cell)| format!("{cell:0$}", width(column)));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
