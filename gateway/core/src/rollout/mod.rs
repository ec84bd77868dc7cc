//! Rollouts that judge themselves: how much traffic a new release gets, and when it loses all of it.
//!
//! One [`Rollout`] exists per service (or per non-stable release of a fixed split). It is told what happened as running
//! totals, what time it is, and what the file says; it answers with a weight and with [`Change`]s. It reads no clock,
//! draws no random number and does no I/O, and its memory does not grow with traffic.
//!
//! ```text
//! counts ─Sample→ evidence ─→ tests, fuses ─→ judge ─Verdict→ machine ─Change→ weight, record
//! ```
//!
//! The formulas, their sources and what they cannot see are told in `docs/rollouts.md`.

pub mod bound;
pub mod command;
pub mod evidence;
pub mod fuse;
pub mod judge;
pub mod machine;
pub mod plan;
pub mod record;
pub mod reload;
pub mod state;
pub mod test;

pub use command::Command;
pub use evidence::{Counts, Sample};
pub use judge::{Breach, Evidence, Judge, Verdict};
pub use machine::{Rollout, Status};
pub use plan::Plan;
pub use record::{Cause, Change, Manual, Record};
pub use reload::{Reloaded, Target};
pub use state::{Hold, Refusal, Stage, State};
