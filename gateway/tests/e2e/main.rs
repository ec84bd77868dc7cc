//! End-to-end tests: the built binary on real sockets, with scripted origins behind it.

#![allow(clippy::unwrap_used, reason = "what does not work ends the test")]

mod admin;
mod commands;
mod grpc;
mod headers;
mod limits;
mod proxy_protocol;
mod proxying;
mod releases;
mod reload;
mod routing;
mod shaping;
mod stop;
mod support;
mod tls;
mod upstream;
mod websocket;
