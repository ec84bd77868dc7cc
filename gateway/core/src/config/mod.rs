//! The configuration: as written, as meant, and what was wrong with it.

pub mod model;
