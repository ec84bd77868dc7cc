//! End-to-end tests: the built binary on real sockets, with scripted origins behind it.

mod grpc;
mod headers;
mod proxying;
mod routing;
mod support;
mod upstream;
mod websocket;
