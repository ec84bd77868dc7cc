//! Ports of the loopback that no other test takes: below those the kernel hands out, and locked across processes.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 18_000;
const COUNT: u16 = 14_000;

/// A port that is ours until the value is dropped. Nothing listens on it yet.
pub(crate) struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// A port nobody listens on.
    pub(crate) fn reserve() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let directory = std::env::temp_dir().join("gateway-e2e-ports");
        fs::create_dir_all(&directory).expect("the directory of port locks can be made");
        // Processes begin at different places, so that they seldom meet.
        let begin = (std::process::id() as u16).wrapping_mul(97);
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = FIRST + begin.wrapping_add(step) % COUNT;
            let lock =
                File::create(directory.join(number.to_string())).expect("a port's lock file can be made");
            let free = lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok();
            if free {
                return Self { number, _lock: lock };
            }
        }
        panic!("no port is free between {FIRST} and {}", FIRST + COUNT);
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// The port on the IPv4 loopback.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}
