//! End-to-end tests: the built binary on real sockets, with scripted origins behind it.

#![allow(clippy::unwrap_used, reason = "what does not work ends the test")]

mod access;
mod admin;
mod basic_auth;
mod buffering;
mod checks;
mod commands;
mod compress;
mod connections;
mod demo;
mod ejection;
mod grpc;
mod headers;
mod health;
mod limits;
mod maintenance;
mod malformed;
mod max_in_flight;
mod mirror;
mod mtls;
mod names;
mod policies;
mod proxy_protocol;
mod proxying;
mod rate_limits;
mod relaying;
mod releases;
mod reload;
mod retries;
mod rollouts;
mod routing;
mod shaping;
mod stop;
mod support;
mod tls;
mod uploads;
mod upstream;
mod websocket;
