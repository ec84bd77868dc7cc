//! Ports of the loopback for proxies: below those the kernel hands out to clients, and locked against other runs.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};

const FIRST: u16 = 18_000;
const COUNT: u16 = 14_000;

/// A port that is ours until the value is dropped.
#[derive(Debug)]
pub(super) struct Port {
    /// Its number.
    pub(super) number: u16,
    _lock: File,
}

impl Port {
    /// A port nobody listens on.
    ///
    /// # Errors
    /// When all are taken.
    pub(super) fn reserve() -> io::Result<Self> {
        // The tests of the gateway lock theirs in the same place.
        let directory = std::env::temp_dir().join("gateway-e2e-ports");
        fs::create_dir_all(&directory)?;
        let begin = std::process::id() % u32::from(COUNT);
        for step in 0..u32::from(COUNT) {
            let number = FIRST + ((begin + step * 97) % u32::from(COUNT)) as u16;
            let lock = File::create(directory.join(number.to_string()))?;
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "no port is free"))
    }
}
