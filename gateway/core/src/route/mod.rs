//! From a request to its route.

pub mod path;
pub mod query;
pub mod rule;
pub mod table;
