//! `gateway schema`: the grammar of the configuration file, for editors.

use std::io::Write;

use super::Failure;

/// Writes the JSON Schema.
///
/// # Errors
/// When it cannot be written.
pub fn run(out: &mut dyn Write) -> Result<(), Failure> {
    Ok(writeln!(out, "{:#}", gateway_core::config::schema())?)
}
