//! The harness: the built binary in a directory of its own, small clients, and nothing that waits for a time.

pub(crate) mod certificates;
pub(crate) mod config;
pub(crate) mod connection;
pub(crate) mod gateway;
pub(crate) mod metrics;
pub(crate) mod ports;
pub(crate) mod request;
pub(crate) mod traffic;
pub(crate) mod websocket;

pub(crate) use config::{BOTH_LISTENERS, Config, ONE_ORIGIN, one_origin};
pub(crate) use gateway::{Gateway, Place, eventually, own_answer, refused_start};
pub(crate) use loadtest::origin::{Behaviour, Events, Fault, Origin, RawOrigin};
pub(crate) use traffic::Traffic;
