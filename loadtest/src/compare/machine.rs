//! The machine: which cores there are, what it is, and limits of this process.

use std::fs;
use std::io;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

/// Open files that are enough for 10 000 idle connections at every proxy.
const PLENTY: u64 = 1 << 17;

/// Where the sides run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Cores {
    /// The proxy's core.
    pub(super) proxy: usize,
    /// The core of the load and the origin.
    pub(super) load: usize,
}

/// What a reader has to know of the machine, and nothing that names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Machine {
    /// The processor's model.
    pub(super) cpu: String,
    /// How many there are.
    pub(super) cpus: usize,
    /// Whether they are virtual.
    pub(super) virtual_machine: bool,
    /// Kernel name and version.
    pub(super) kernel: String,
    /// The day, in UTC.
    pub(super) date: String,
}

impl Cores {
    /// Two of the cores this process may use, of different physical cores if there are such; the only one for both sides
    /// if there is only one.
    pub(super) fn choose() -> io::Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let proxy = cores.next().ok_or_else(|| io::Error::other("this process may use no core"))?;
        let others: Vec<_> = cores.collect();
        let siblings = format!("/sys/devices/system/cpu/cpu{proxy}/topology/thread_siblings_list");
        let siblings = fs::read_to_string(siblings).map(|list| numbers(&list)).unwrap_or_default();
        let load = others.iter().find(|core| !siblings.contains(core)).or(others.first());
        Ok(Self { proxy, load: *load.unwrap_or(&proxy) })
    }
}

/// Binds this thread, and the processes it starts from now on, to a core.
pub(super) fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// Lets this process and those it starts open as many files as the system allows; that number.
pub(super) fn raise_files() -> io::Result<u64> {
    // Only root may have more than the hard limit; a proxy shares out what it has between both of its sides.
    if getrlimit(Resource::Nofile).maximum.is_some_and(|most| most < PLENTY) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(PLENTY), maximum: Some(PLENTY) });
    }
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

impl Machine {
    /// This one, now.
    pub(super) fn here() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        // The version, without what a distribution or a host adds to it.
        let version: String = release.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        Self {
            cpu: field(&info, "model name").unwrap_or("unknown processor").to_owned(),
            cpus: info.lines().filter(|line| line.starts_with("processor")).count(),
            virtual_machine: field(&info, "flags")
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            kernel: format!("Linux {}", version.trim_end_matches('.')),
            date: date().unwrap_or_else(|| "unknown day".to_owned()),
        }
    }
}

fn date() -> Option<String> {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d"]).output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let line = info.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim())
}

/// A list of the kernel's: `0-2,8`.
fn numbers(list: &str) -> Vec<usize> {
    let number = |text: &str| text.trim().parse::<usize>().ok();
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some(number(from)?..=number(to)?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_the_kernel_are_read() {
        assert_eq!(numbers("0-2,8\n"), [0, 1, 2, 8]);
        assert_eq!(numbers("5\n"), [5]);
        assert!(numbers("").is_empty());
    }

    #[test]
    fn the_machine_is_described_without_its_name() {
        let machine = Machine::here();
        assert!(machine.cpus > 0 && machine.kernel.starts_with("Linux "), "{machine:?}");
        assert_eq!(machine.date.len(), "2026-01-01".len());
    }
}
