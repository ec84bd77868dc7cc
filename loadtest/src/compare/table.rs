//! A report as tables: for a terminal, and for a page.

use std::fmt::Write;
use std::io;

use super::peer::Kind;
use super::report::{self, Full, Report, SATURATED, Traffic};

/// Between these marks a page holds the table, and nothing else.
const BEGIN: &str = "<!-- compare: written by `make compare` -->";
const END: &str = "<!-- compare: end -->";

/// A table: what stands above it, its head, its rows, what stands below it.
struct Table {
    title: String,
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

/// The report for a terminal.
pub(super) fn terminal(report: &Report) -> String {
    let mut text = String::new();
    for line in preface(report) {
        line_of(&mut text, &line);
    }
    for table in tables(report) {
        line_of(&mut text, "");
        line_of(&mut text, &table.title);
        let lines: Vec<Vec<&str>> = std::iter::once(table.head.clone())
            .chain(table.rows.iter().map(|row| row.iter().map(String::as_str).collect()))
            .collect();
        let width = |column: usize| {
            lines
                .iter()
                .filter_map(|line| line.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        for line in &lines {
            let mut row = String::new();
            for (column, cell) in line.iter().enumerate() {
                let width = width(column);
                match column {
                    0 => row.push_str(&format!("  {cell:<width$}")),
                    _ => row.push_str(&format!("  {cell:>width$}")),
                }
            }
            line_of(&mut text, row.trim_end());
        }
        for note in &table.notes {
            line_of(&mut text, &format!("  {note}"));
        }
    }
    text
}

/// The page with the report in the place of what stood between the marks.
///
/// # Errors
/// When the page has no marks.
pub(super) fn into_page(page: &str, report: &Report) -> io::Result<String> {
    let unmarked = || {
        io::Error::new(io::ErrorKind::InvalidData, format!("the page lacks the lines `{BEGIN}` and `{END}`"))
    };
    let (before, rest) = page.split_once(BEGIN).ok_or_else(unmarked)?;
    let (_, after) = rest.split_once(END).ok_or_else(unmarked)?;
    Ok(format!("{before}{BEGIN}\n\n{}\n{END}{after}", markdown(report)))
}

fn markdown(report: &Report) -> String {
    let mut text = String::new();
    for line in preface(report) {
        line_of(&mut text, &format!("- {line}"));
    }
    for table in tables(report) {
        line_of(&mut text, &format!("\n### {}\n", table.title));
        line_of(&mut text, &format!("| {} |", table.head.join(" | ")));
        line_of(
            &mut text,
            &format!("|{}|", vec!["---:"; table.head.len()].join("|").replacen("---:", "---", 1)),
        );
        for row in &table.rows {
            line_of(&mut text, &format!("| {} |", row.join(" | ")));
        }
        for note in &table.notes {
            line_of(&mut text, &format!("\n{note}"));
        }
    }
    text
}

fn line_of(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// What is told before the figures.
fn preface(report: &Report) -> Vec<String> {
    let machine = &report.machine;
    let kind = if machine.virtual_machine { "virtual machine" } else { "machine" };
    let mut lines = vec![
        format!("command: {}", report.command),
        format!(
            "{}, {kind} with {} processors ({}), {}",
            machine.date, machine.cpus, machine.cpu, machine.kernel
        ),
        format!(
            "medians of {} rounds of {} s; one core for the proxy, another for load and origin",
            report.rounds, report.seconds
        ),
    ];
    if report.cores.proxy == report.cores.load {
        lines.push("there is one core for all: throughput and latency say little here".to_owned());
    }
    for peer in &report.peers {
        let mut line = format!("{} {}", peer.kind.name(), peer.version);
        if !peer.remarks.is_empty() {
            // Writing to a string does not fail.
            let _ = write!(line, ": {}", peer.remarks.join("; "));
        }
        lines.push(line);
    }
    for missing in &report.missing {
        lines.push(format!("{} left out: {}", missing.kind.name(), missing.reason));
    }
    lines
}

fn tables(report: &Report) -> Vec<Table> {
    let mut tables: Vec<_> = report.traffic.iter().map(traffic).collect();
    if !report.handshakes.is_empty() {
        tables.push(handshakes(report));
    }
    if !report.idle.is_empty() {
        tables.push(idle(report));
    }
    tables
}

fn traffic(traffic: &Traffic) -> Table {
    let medians: Vec<_> =
        traffic.rows.iter().map(|row| (row, report::full(&row.full), report::half(&row.half))).collect();
    let cpu = |kind| {
        medians
            .iter()
            .find(|(row, ..)| row.kind == kind)
            .and_then(|(_, full, _)| *full)
            .map(|full| full.cpu_micros)
    };
    let (nginx, pingora) = (cpu(Kind::Nginx), cpu(Kind::Pingora));
    let mut notes = Vec::new();
    let mut rows = Vec::new();
    for (row, full, half) in &medians {
        let own = if row.own_rate.is_some() { "*" } else { "" };
        rows.push(vec![
            row.kind.name().to_owned(),
            full.map_or_else(none, |full| decimal(full.cpu_micros)),
            ratio(full.map(|full| full.cpu_micros), nginx),
            ratio(full.map(|full| full.cpu_micros), pingora),
            full.map_or_else(none, |full| most(&full)),
            half.map_or_else(none, |half| format!("{} µs{own}", half.p50_micros)),
            half.map_or_else(none, |half| format!("{} µs{own}", half.p99_micros)),
        ]);
        if let Some(rate) = row.own_rate {
            notes.push(format!("* {}: at half of its own most, {rate:.0} a second.", row.kind.name()));
        }
    }
    notes.extend(bounded(medians.iter().filter_map(|(_, full, _)| *full)));
    Table {
        title: format!("{}; p50 and p99 at {:.0} requests a second", traffic.mode.title(), traffic.rate),
        head: vec!["", "CPU µs/request", "÷ nginx", "÷ bare Pingora", "requests/s", "p50", "p99"],
        rows,
        notes,
    }
}

fn handshakes(report: &Report) -> Table {
    let medians: Vec<_> = report
        .handshakes
        .iter()
        .map(|row| (row, report::full(&row.full), report::full(&row.resumed)))
        .collect();
    let nginx = medians.iter().find(|(row, ..)| row.kind == Kind::Nginx);
    let nginx_full = nginx.and_then(|(_, full, _)| *full).map(|full| full.cpu_micros);
    let nginx_resumed = nginx.and_then(|(_, _, resumed)| *resumed).map(|full| full.cpu_micros);
    let mut rows = Vec::new();
    let mut notes = Vec::new();
    for (row, full, resumed) in &medians {
        rows.push(vec![
            row.kind.name().to_owned(),
            full.map_or_else(none, |full| decimal(full.cpu_micros)),
            ratio(full.map(|full| full.cpu_micros), nginx_full),
            full.map_or_else(none, |full| most(&full)),
            resumed.map_or_else(none, |full| decimal(full.cpu_micros)),
            ratio(resumed.map(|full| full.cpu_micros), nginx_resumed),
            resumed.map_or_else(none, |full| most(&full)),
        ]);
        if row.resumed_share < 0.99 {
            notes.push(format!("{}: {:.0} % were resumed.", row.kind.name(), row.resumed_share * 100.0));
        }
    }
    notes.extend(bounded(medians.iter().flat_map(|(_, full, resumed)| [*full, *resumed]).flatten()));
    Table {
        title: "New TLS connections, one HTTP/1.1 request on each".to_owned(),
        head: vec!["", "full: CPU µs", "÷ nginx", "a second", "resumed: CPU µs", "÷ nginx", "a second"],
        rows,
        notes,
    }
}

fn idle(report: &Report) -> Table {
    let nginx = report.idle.iter().find(|idle| idle.kind == Kind::Nginx).map(|idle| idle.after_bytes as f64);
    let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let rows = report
        .idle
        .iter()
        .map(|idle| {
            let each = idle.after_bytes.saturating_sub(idle.before_bytes) / idle.connections.max(1) as u64;
            vec![
                idle.kind.name().to_owned(),
                idle.connections.to_string(),
                mebibytes(idle.before_bytes),
                mebibytes(idle.after_bytes),
                ratio(Some(idle.after_bytes as f64), nginx),
                format!("{:.1} KiB", each as f64 / 1024.0),
                mebibytes(idle.resident_bytes),
            ]
        })
        .collect();
    Table {
        title: "Memory with idle TLS connections (proportional set size of all processes)".to_owned(),
        head: vec!["", "connections", "before", "with them", "÷ nginx", "each", "resident"],
        rows,
        notes: Vec::new(),
    }
}

fn none() -> String {
    "–".to_owned()
}

fn decimal(value: f64) -> String {
    format!("{value:.1}")
}

fn ratio(value: Option<f64>, to: Option<f64>) -> String {
    match (value, to) {
        (Some(value), Some(to)) if to > 0.0 => format!("{:.2}", value / to),
        _ => none(),
    }
}

/// What a proxy answered a second, marked where it was not the proxy that could not do more.
fn most(full: &Full) -> String {
    if full.busy < SATURATED {
        return format!("≥ {:.0} ({:.0} %)", full.per_second, full.busy * 100.0);
    }
    format!("{:.0}", full.per_second)
}

/// A note if any figure was not bounded by the proxy: who had no more to give then.
fn bounded(figures: impl Iterator<Item = Full>) -> Option<String> {
    let least =
        figures.filter(|full| full.busy < SATURATED).map(|full| full.load_busy).min_by(f64::total_cmp)?;
    Some(format!(
        "≥: the proxy had used only the share in parentheses of its core; load and origin had used {:.0} % of theirs{}.",
        least * 100.0,
        if least < SATURATED { ", so other work was in the way" } else { ", and had no more to give" },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::machine::{Cores, Machine};
    use crate::compare::measure::Mode;
    use crate::compare::report::{Half, Missing, Peer, TrafficRow};

    fn report() -> Report {
        let full =
            |cpu_micros, busy| Full { per_second: 40_000.0, cpu_micros, busy, load_busy: 0.99, failed: 0 };
        let row = |kind, cpu, busy, own_rate| TrafficRow {
            kind,
            full: vec![full(cpu, busy)],
            half: vec![Half { p50_micros: 90, p99_micros: 400, failed: 0 }],
            own_rate,
        };
        let rows = vec![
            row(Kind::Gateway, 18.0, 0.99, None),
            row(Kind::Nginx, 15.0, 0.8, None),
            row(Kind::Caddy, 90.0, 1.0, Some(5000.0)),
        ];
        Report {
            machine: Machine {
                cpu: "A".into(),
                cpus: 2,
                virtual_machine: true,
                kernel: "Linux 6.1".into(),
                date: "2026-01-02".into(),
            },
            cores: Cores { proxy: 0, load: 1 },
            command: "loadtest compare".into(),
            rounds: 1,
            seconds: 2.0,
            peers: vec![Peer {
                kind: Kind::Gateway,
                version: "0.1.0".into(),
                remarks: vec!["is slow".into()],
            }],
            missing: vec![Missing { kind: Kind::Envoy, reason: "not installed".into() }],
            traffic: vec![Traffic { mode: Mode::Http1, rate: 20_000.0, rows }],
            handshakes: Vec::new(),
            idle: Vec::new(),
        }
    }

    #[test]
    fn ratios_bounds_and_absences_are_told() {
        let text = terminal(&report());
        for said in [
            "1.20",
            "≥ 40000 (80 %)",
            "* Caddy: at half",
            "400 µs*",
            "Envoy left out: not installed",
            "is slow",
        ] {
            assert!(text.contains(said), "{said} is missing in\n{text}");
        }
        // There is no bare proxy to be compared with.
        assert!(text.contains('–'));
    }

    #[test]
    fn a_page_changes_between_its_marks_alone() {
        let page = format!("# Head\n{BEGIN}\nold\n{END}\nTail\n");
        let once = into_page(&page, &report()).unwrap();
        assert!(once.starts_with("# Head\n") && once.ends_with("Tail\n") && !once.contains("old"));
        assert_eq!(into_page(&once, &report()).unwrap(), once);
        assert!(into_page("no marks", &report()).is_err());
    }
}
