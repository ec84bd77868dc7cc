//! `loadtest compare`: the gateway beside other proxies that do the same job, on this machine, in one run.
//!
//! The proxy has one core to itself; the load and the origin share another. Rounds are interleaved, so that what the
//! machine does meanwhile hits all alike, and medians are told. CPU time is the kernel's account of the proxy's processes.

mod accounting;
mod arguments;
mod certificates;
mod drive;
mod instructions;
mod machine;
mod measure;
mod peer;
mod ports;
mod process;
mod proof;
mod report;
mod table;
mod wire;

pub use arguments::Arguments;
pub use instructions::{instructions_of_bare, instructions_of_gateway};

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The system refused something.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// TLS could not be set up.
    #[error("TLS: {0}")]
    Tls(String),
    /// A proxy did not do its part.
    #[error("{0}")]
    Failed(String),
    /// It was interrupted.
    #[error("stopped")]
    Stopped,
}

/// Compares, prints the table, and writes the files that were asked for. Blocks; every proxy it starts has ended when it
/// returns. It ends soon after `stop` becomes true.
///
/// # Errors
/// When nothing can be compared, and when a file cannot be written. A peer that is not there, or that fails, is named in
/// the table instead.
pub fn run(arguments: &Arguments, stop: &Arc<AtomicBool>) -> Result<(), Trouble> {
    let report = measure::compare(arguments, stop)?;
    print!("{}", table::terminal(&report));
    if let Some(path) = &arguments.json {
        let json = serde_json::to_string_pretty(&report).map_err(io::Error::from)?;
        std::fs::write(path, json + "\n")?;
    }
    if let Some(path) = &arguments.markdown {
        let page = std::fs::read_to_string(path)?;
        std::fs::write(path, table::into_page(&page, &report)?)?;
    }
    Ok(())
}
