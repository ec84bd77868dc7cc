//! The gateway: everything that does I/O.

pub mod cli;
