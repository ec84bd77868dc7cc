//! `process_*`: what the kernel says about this process. From Linux's `/proc`; what cannot be read is not shown.

use std::fs;

use prometheus::proto::{MetricFamily, MetricType};

use super::family::{counter, family, gauge};

/// Units of times in `/proc/*/stat`: USER_HZ, 100 on every architecture Rust's Linux targets run on (proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// The process metrics as they are now. One that cannot be read is without samples.
pub(super) fn collect() -> [MetricFamily; 7] {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (stat, status) = (read("/proc/self/stat"), read("/proc/self/status"));
    let ticks = |field| stat_field(&stat, field).map(|ticks| ticks / TICKS_PER_SECOND);
    let cpu = ticks(14).zip(ticks(15)).map(|(user, system)| user + system);
    let start = ticks(22).zip(line_value(&read("/proc/stat"), "btime")).map(|(since, boot)| boot + since);
    let kibibytes = |name| line_value(&status, name).map(|kibibytes| kibibytes * 1024.0);
    // One of the open descriptors is the directory being read.
    let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1) as f64);
    let max = line_value(&read("/proc/self/limits"), "Max open files");

    [
        count("process_cpu_seconds_total", "CPU time spent, user and system.", cpu),
        level("process_start_time_seconds", "When the process began, in Unix time.", start),
        level("process_threads", "Threads of the process.", line_value(&status, "Threads:")),
        level("process_resident_memory_bytes", "Memory held in RAM.", kibibytes("VmRSS:")),
        level("process_virtual_memory_bytes", "Address space in use.", kibibytes("VmSize:")),
        level("process_open_fds", "File descriptors in use.", open),
        level("process_max_fds", "File descriptors the process may use.", max),
    ]
}

fn count(name: &str, help: &str, value: Option<f64>) -> MetricFamily {
    family(name, help, MetricType::COUNTER, value.map(counter).into_iter().collect())
}

fn level(name: &str, help: &str, value: Option<f64>) -> MetricFamily {
    family(name, help, MetricType::GAUGE, value.map(gauge).into_iter().collect())
}

/// A field of `/proc/self/stat`, numbered from 1 as in proc(5), from 3 on: the name before may hold blanks and brackets.
fn stat_field(stat: &str, field: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(field.checked_sub(3)?)?.parse().ok()
}

/// The first number after `name` on the line that begins with it.
fn line_value(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::family::encode;

    #[test]
    fn a_process_name_with_blanks_and_brackets_shifts_nothing() {
        let stat = "42 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 7 0 12345 0";
        assert_eq!(stat_field(stat, 14), Some(250.0));
        assert_eq!(stat_field(stat, 15), Some(50.0));
        assert_eq!(stat_field(stat, 20), Some(7.0));
        assert_eq!(stat_field(stat, 22), Some(12345.0));
        assert_eq!(stat_field("", 14), None);
        assert_eq!(stat_field("1 (x) S", 99), None);
    }

    #[test]
    fn values_are_found_by_the_start_of_their_line() {
        let limits =
            "Max processes   5 5 processes\nMax open files            1024                 4096  files\n";
        assert_eq!(line_value(limits, "Max open files"), Some(1024.0));
        assert_eq!(line_value("VmRSS:\t  2048 kB\n", "VmRSS:"), Some(2048.0));
        assert_eq!(line_value("Max open files  unlimited", "Max open files"), None);
    }

    #[test]
    fn this_process_has_memory_descriptors_and_an_age() {
        let text = encode("ns", collect().into());
        for name in
            ["cpu_seconds_total", "start_time_seconds", "resident_memory_bytes", "open_fds", "max_fds"]
        {
            let line = text.lines().find(|line| line.starts_with(&format!("ns_process_{name} ")));
            assert!(line.is_some(), "{name} is missing in {text}");
        }
        assert!(line_value(&text, "ns_process_start_time_seconds").is_some_and(|start| start > 1.6e9));
    }
}
