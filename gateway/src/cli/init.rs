//! `gateway init`: a first configuration file.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use super::Failure;

/// What is written.
pub const TEMPLATE: &str = include_str!("init/gateway.yaml");

/// Writes [`TEMPLATE`] to `path`, which must not exist.
///
/// # Errors
/// [`Failure::Failed`] when there is something at `path` already or it cannot be written.
pub fn run(path: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let shown = path.display();
    let created = OpenOptions::new().write(true).create_new(true).open(path);
    created.and_then(|mut file| file.write_all(TEMPLATE.as_bytes())).map_err(|error| {
        Failure::Failed(match error.kind() {
            ErrorKind::AlreadyExists => format!("{shown} is there already, and it stays as it is"),
            _ => format!("cannot write {shown}: {error}"),
        })
    })?;
    writeln!(out, "wrote {shown}: read it, point `endpoints` at your application, then `gateway run`")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_file_is_never_touched() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("gateway.yaml");
        std::fs::write(&path, "mine").expect("written");

        let failure = run(&path, &mut Vec::new()).expect_err("it is there");

        assert!(failure.to_string().contains("is there already"), "{failure}");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "mine");
    }

    #[test]
    fn the_template_is_written_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("gateway.yaml");
        run(&path, &mut Vec::new()).expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), TEMPLATE);
    }
}
