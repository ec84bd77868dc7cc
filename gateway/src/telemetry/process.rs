//! `process_*`: what the kernel says about this process. From Linux's `/proc`; what cannot be read is not shown.

use std::fs;

use super::family::expose_one;

/// Units of times in `/proc/*/stat`: USER_HZ, 100 on every architecture Rust's Linux targets run on (proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// Writes the process metrics under `namespace`.
pub(super) fn expose(namespace: &str, text: &mut String) {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (stat, status) = (read("/proc/self/stat"), read("/proc/self/status"));
    let ticks = |field| stat_field(&stat, field).map(|ticks| ticks / TICKS_PER_SECOND);
    let cpu = ticks(14).zip(ticks(15)).map(|(user, system)| user + system);
    let start = ticks(22).zip(line_value(&read("/proc/stat"), "btime")).map(|(since, boot)| boot + since);
    let kibibytes = |name| line_value(&status, name).map(|kibibytes| kibibytes * 1024.0);
    // One of the open descriptors is the directory being read.
    let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1) as f64);
    let max = line_value(&read("/proc/self/limits"), "Max open files");

    let metrics = [
        ("process_cpu_seconds_total", "counter", "CPU time spent, user and system.", cpu),
        ("process_start_time_seconds", "gauge", "When the process began, in Unix time.", start),
        ("process_threads", "gauge", "Threads of the process.", line_value(&status, "Threads:")),
        ("process_resident_memory_bytes", "gauge", "Memory held in RAM.", kibibytes("VmRSS:")),
        ("process_virtual_memory_bytes", "gauge", "Address space in use.", kibibytes("VmSize:")),
        ("process_open_fds", "gauge", "File descriptors in use.", open),
        ("process_max_fds", "gauge", "File descriptors the process may use.", max),
    ];
    for (name, kind, help, value) in metrics {
        if let Some(value) = value {
            expose_one(text, namespace, name, help, kind, value);
        }
    }
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
        let mut text = String::new();
        expose("ns", &mut text);
        for name in
            ["cpu_seconds_total", "start_time_seconds", "resident_memory_bytes", "open_fds", "max_fds"]
        {
            let line = text.lines().find(|line| line.starts_with(&format!("ns_process_{name} ")));
            assert!(line.is_some(), "{name} is missing in {text}");
        }
        assert!(line_value(&text, "ns_process_start_time_seconds").is_some_and(|start| start > 1.6e9));
    }
}
