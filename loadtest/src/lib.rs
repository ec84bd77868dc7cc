//! Scripted origins and open-loop load. Speaks only HTTP to the gateway, and knows nothing of it.

pub mod budget;
pub mod load;
pub mod origin;
pub mod picture;
pub mod trust;
pub mod units;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
