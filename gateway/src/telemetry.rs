//! What the gateway tells about itself: metrics, the access log, the process's own log.
//!
//! The request path only adds to counters whose handles were resolved when the snapshot was built, and moves one plain
//! struct into a bounded queue. It takes no lock, formats nothing, and never waits for a disk or a scrape.

pub mod access_log;
pub mod counters;
pub mod family;
pub mod instruments;
pub mod labels;
pub mod metrics;
mod process;
pub mod process_log;
pub(crate) mod rfc3339;
