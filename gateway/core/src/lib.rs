//! Decisions of the gateway, from plain values.
//!
//! Nothing here opens a socket, reads a clock or draws a random number: time, chance and files are handed in.
//! `gateway` does the input and output around it.

pub mod client_ip;
pub mod config;
pub mod content_coding;
pub mod endpoint;
pub mod h2_watch;
pub mod health;
pub mod hop_by_hop;
pub mod http1;
pub mod name;
pub mod outcome;
pub mod password;
pub mod proxy_protocol;
pub mod request_id;
pub mod rollout;
pub mod route;
pub mod split;
pub mod template;
pub mod trace_context;
pub mod unit;
pub mod websocket;
