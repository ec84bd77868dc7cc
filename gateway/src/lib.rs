//! The gateway: everything that does I/O.

pub mod cli;
pub mod limits;
pub mod load;
pub mod rehearsal;
pub mod server;
pub mod telemetry;

mod admin;
mod explain;
mod files;
mod health;
mod listener;
mod maintenance;
mod message;
mod passwords;
mod proxy;
mod reload;
mod rollouts;
mod runtime;
mod snapshot;
mod terminal;
mod upstream;
mod wire;
