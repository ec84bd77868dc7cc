//! What a new configuration changes.
