//! The gateway: everything that does I/O.
