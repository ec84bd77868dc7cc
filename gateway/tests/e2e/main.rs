//! End-to-end tests: the built binary on real sockets, with scripted origins behind it.

mod routing;
mod support;
