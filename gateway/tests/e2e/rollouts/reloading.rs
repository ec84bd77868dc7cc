//! reloading
