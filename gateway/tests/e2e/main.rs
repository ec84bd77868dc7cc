//! End-to-end tests: the built binary on real sockets, with scripted origins behind it.

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
mod stop;
mod support;
mod tls;
mod upstream;
mod websocket;
