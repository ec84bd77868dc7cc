//! Scripted origins, open-loop load, and the gateway measured beside others. Speaks only HTTP to the gateway.

pub mod compare;
pub mod load;
pub mod origin;
pub mod trust;
