//! How many files the process may have open (sockets are files), and how they are shared out.
//!
//! Clients get so many that a connection of each of them to an origin always finds its file: who is connected is served to
//! the end, and who comes too late is turned away before anything runs short. A client with many requests under way on
//! one HTTP/2 connection may take more than its share, but never of what is kept back.

use std::os::fd::RawFd;
use std::sync::LazyLock;

use gateway_core::config::model::Runtime;
use gateway_core::config::problem::{Code, Problem};

/// What every process needs for itself: listeners, admin, logs, state, health checks, name servers.
const LEAST_RESERVE: u64 = 64;

/// Idle connections to origins are worth no more than this, of each protocol.
const MOST_IDLE: u64 = 4096;

/// Files of one client: its own, and the origin's.
const EACH: u64 = 2;

/// What the limit of this process is shared out to; the limit is raised as far as the system lets it.
pub(crate) static SHARES: LazyLock<Shares> = LazyLock::new(|| Shares::of(raised()));

/// A limit of open files, shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shares {
    limit: u64,
    /// Kept back.
    reserve: u64,
    /// Connections of clients, where the file names no number.
    pub(crate) connections: u32,
    /// The same where it does: all but the reserve, for most of many clients may be idle.
    most: u32,
    /// Idle connections to origins, of each protocol.
    pub(crate) idle: usize,
}

impl Shares {
    /// An eighth is kept back, an eighth is for idle connections to origins, the rest for clients.
    fn of(limit: u64) -> Self {
        let reserve = (limit / 8).max(LEAST_RESERVE);
        let idle = (limit / 16).min(MOST_IDLE);
        let connections = |files: u64| u32::try_from(files).unwrap_or(u32::MAX).max(1);
        Self {
            limit,
            reserve,
            connections: connections(limit.saturating_sub(reserve + 2 * idle) / EACH),
            most: connections(limit.saturating_sub(reserve)),
            idle: usize::try_from(idle).unwrap_or(usize::MAX).max(1),
        }
    }

    /// Whether a connection has to be given up because only what is kept back is left, of which clients get half at most.
    ///
    /// The system gives every file the lowest number there is, so a number tells how many are open.
    pub(crate) fn are_used_up_by(&self, file: RawFd) -> bool {
        u64::try_from(file).is_ok_and(|number| number >= self.limit.saturating_sub(self.reserve / 2))
    }

    /// How many clients may be connected, by the file's word and never more than there is room for.
    pub(crate) fn max_connections(&self, runtime: &Runtime) -> u32 {
        runtime.max_connections.as_ref().map_or(self.connections, |asked| asked.value.min(self.most))
    }

    /// A warning when the file asks for more connections than there is room for.
    pub(crate) fn warning(&self, runtime: &Runtime) -> Option<Problem> {
        let asked = runtime.max_connections.as_ref().filter(|asked| asked.value > self.most)?;
        let Self { limit, most, .. } = self;
        let message =
            format!("{} connections need more open files than the {limit} allowed here", asked.value);
        let help = format!("{most} are taken; raise the hard limit (LimitNOFILE, ulimit -Hn)");
        Some(Problem::warning(Code::TooManyFiles, message).at(asked.span, "too many here").help(help))
    }
}

/// Raises the soft limit to the hard one, and gives what holds then.
fn raised() -> u64 {
    /// What Linux gives where nobody says otherwise.
    const USUAL: u64 = 1024;
    let mut limit = libc::rlimit { rlim_cur: USUAL, rlim_max: USUAL };
    // SAFETY: the pointer is to a value that outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return USUAL;
    }
    let wanted = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
    // SAFETY: as above; the call only reads it.
    let is_raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &wanted) } == 0;
    if is_raised { limit.rlim_max } else { limit.rlim_cur }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_out_is_never_more_than_there_is() {
        for limit in [256, 1024, 4096, 65_536, 1 << 20, 1 << 30] {
            let Shares { connections, idle, .. } = Shares::of(limit);
            let used = u64::from(connections) * EACH + 2 * idle as u64;
            assert!(used + LEAST_RESERVE <= limit, "{limit}: {connections} clients, {idle} idle");
            assert!(u64::from(connections) > limit / 5, "{limit}: {connections} clients");
        }
    }

    #[test]
    fn half_of_what_is_kept_back_is_never_given_away() {
        let shares = Shares::of(1024);
        assert!(!shares.are_used_up_by(959) && shares.are_used_up_by(960));
    }

    #[test]
    fn the_least_and_the_largest_limit_make_sense() {
        assert_eq!(Shares::of(0), Shares { limit: 0, reserve: 64, connections: 1, most: 1, idle: 1 });
        assert_eq!(Shares::of(libc::RLIM_INFINITY).connections, u32::MAX);
    }
}
