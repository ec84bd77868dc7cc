//! What the kernel says a process took: CPU time of all its threads and children, and memory.

use std::fs;
use std::io;
use std::path::Path;

/// The processes of one program: the one that was started, and all it started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tree(Vec<u32>);

/// Memory of a tree, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Memory {
    /// Resident, what is shared counted in each process.
    pub(super) resident: u64,
    /// Resident, what is shared divided among those that share it.
    pub(super) proportional: u64,
}

impl Tree {
    /// The process `root` and all that descend from it now.
    pub(super) fn of(root: u32) -> io::Result<Self> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // A process that has ended meanwhile is nobody's child.
            if let Some(stat) =
                fs::read_to_string(format!("/proc/{pid}/stat")).ok().as_deref().and_then(Stat::parse)
            {
                parents.push((pid, stat.parent));
            }
        }
        Ok(Self(descendants(root, &parents)))
    }

    /// The processes, the first one first.
    pub(super) fn processes(&self) -> &[u32] {
        &self.0
    }

    /// CPU time so far, in nanoseconds: from the scheduler's statistics of every thread, or, where the kernel keeps none,
    /// from the clock ticks of the processes.
    ///
    /// # Errors
    /// When a process has ended.
    pub(super) fn cpu_nanoseconds(&self) -> io::Result<u64> {
        self.0.iter().try_fold(0, |sum, pid| {
            let directory = format!("/proc/{pid}");
            let spent = match scheduled(Path::new(&directory))? {
                Some(spent) => spent,
                None => ticks(Path::new(&directory))?,
            };
            Ok(sum + spent)
        })
    }

    /// Memory now.
    ///
    /// # Errors
    /// When a process has ended.
    pub(super) fn memory(&self) -> io::Result<Memory> {
        let mut memory = Memory::default();
        for pid in &self.0 {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            let of = |name| kibibytes(&rollup, name).ok_or_else(|| unreadable("smaps_rollup"));
            memory.resident += of("Rss:")? << 10;
            memory.proportional += of("Pss:")? << 10;
        }
        Ok(memory)
    }
}

/// CPU time of the calling thread, in nanoseconds; 0 when the kernel does not keep it.
pub(super) fn own_nanoseconds() -> u64 {
    fs::read_to_string("/proc/thread-self/schedstat").ok().and_then(|text| first_number(&text)).unwrap_or(0)
}

fn unreadable(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} reads differently than expected"))
}

fn descendants(root: u32, parents: &[(u32, u32)]) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(pid, of)| *of == parent && *pid != root).map(|(pid, _)| pid));
        next += 1;
    }
    found
}

/// The time of all threads that live; `None` when the kernel does not keep it.
fn scheduled(process: &Path) -> io::Result<Option<u64>> {
    let mut sum = 0;
    for thread in fs::read_dir(process.join("task"))? {
        match fs::read_to_string(thread?.path().join("schedstat")) {
            Ok(text) => sum += first_number(&text).ok_or_else(|| unreadable("schedstat"))?,
            // Either the thread has ended, or no thread has such a file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok((sum > 0).then_some(sum))
}

/// As above, to a hundredth of a second (`USER_HZ` is 100 on every architecture Linux is used on here).
fn ticks(process: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(process.join("stat"))?;
    let stat = Stat::parse(&text).ok_or_else(|| unreadable("stat"))?;
    Ok((stat.user_ticks + stat.system_ticks) * 10_000_000)
}

fn first_number(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

fn kibibytes(rollup: &str, name: &str) -> Option<u64> {
    rollup.lines().find_map(|line| first_number(line.strip_prefix(name)?))
}

/// What is used of `/proc/PID/stat` (proc(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    user_ticks: u64,
    system_ticks: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name may hold anything, parentheses and spaces too; the last one closes it.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<_> = rest.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok());
        Some(Self {
            parent: u32::try_from(number(4)?).ok()?,
            user_ticks: number(14)?,
            system_ticks: number(15)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_hides_no_field() {
        let text = "77 (a) b (c)) S 12 77 77 0 -1 4194560 900 0 3 0 250 31 0 0 20 0 4 0 1000 1 2 3\n";
        assert_eq!(Stat::parse(text), Some(Stat { parent: 12, user_ticks: 250, system_ticks: 31 }));
        assert_eq!(Stat::parse("77 (short) S 12"), None);
    }

    #[test]
    fn descendants_are_found_over_generations_and_no_others() {
        let parents = [(1, 0), (10, 1), (11, 10), (12, 11), (20, 1), (13, 10)];
        assert_eq!(descendants(10, &parents), [10, 11, 13, 12]);
        assert_eq!(descendants(99, &parents), [99]);
    }

    #[test]
    fn memory_is_read_by_its_name() {
        let rollup = "55-7f rollup\nRss:     5120 kB\nPss:    1000 kB\nPss_Dirty:   400 kB\n";
        assert_eq!((kibibytes(rollup, "Rss:"), kibibytes(rollup, "Pss:")), (Some(5120), Some(1000)));
        assert_eq!(kibibytes(rollup, "Swap:"), None);
    }

    #[test]
    fn work_of_a_thread_counts_for_its_process() {
        let tree = Tree::of(std::process::id()).unwrap();
        let before = tree.cpu_nanoseconds().unwrap();
        let (done, worker) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let mut sum = 0_u64;
            while worker.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                sum = std::hint::black_box(sum.wrapping_add(1));
            }
        });
        while tree.cpu_nanoseconds().unwrap() < before + 20_000_000 {
            std::thread::yield_now();
        }
        drop(done);
        thread.join().unwrap();
        let memory = tree.memory().unwrap();
        assert!(memory.proportional > 0 && memory.proportional <= memory.resident, "{memory:?}");
    }
}
