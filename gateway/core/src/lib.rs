//! Decisions of the gateway, from plain values.
//!
//! Nothing here opens a socket, reads a clock or draws a random number: time, chance and files are handed in.
//! `gateway` does the input and output around it.

pub mod config;
pub mod name;
pub mod rollout;
pub mod route;
pub mod unit;
