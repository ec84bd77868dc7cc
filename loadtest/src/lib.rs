//! Scripted origins, open-loop load, and the gateway measured beside others. Speaks only HTTP to the gateway.

pub mod budget;
pub mod compare;
pub mod instructions;
pub mod load;
pub mod origin;
pub mod picture;
pub mod trust;
pub mod units;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
