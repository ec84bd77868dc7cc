//! Valgrind's Callgrind, which counts the instructions a program runs: the same on a busy machine as on a quiet one.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// A command as it runs under Callgrind. The count goes to the file `out`.
pub(crate) fn under(command: &Command, options: &[&str], out: &Path) -> Command {
    let mut under = Command::new("valgrind");
    under.args(["--quiet", "--tool=callgrind"]);
    under.arg(format!("--callgrind-out-file={}", out.display())).args(options);
    under.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => under.env(name, value),
            None => under.env_remove(name),
        };
    }
    under
}

/// Has a running process under Callgrind do something: `["-i", "on"]` begins to count, `["-d"]` writes a file.
///
/// # Errors
/// With what it said, when it cannot.
pub(crate) fn control(pid: u32, order: &[&str]) -> io::Result<()> {
    let output =
        Command::new("callgrind_control").args(order).arg(pid.to_string()).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("callgrind_control {}: {said}", order.join(" "))))
}

/// How many instructions a file of Callgrind's tells of.
///
/// # Errors
/// When it cannot be read, or tells of none.
pub(crate) fn total(out: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(out)?;
    total_in(&text).ok_or_else(|| io::Error::other("Callgrind has counted nothing"))
}

fn total_in(text: &str) -> Option<u64> {
    let line = text.lines().rev().find_map(|line| line.strip_prefix("totals:"))?;
    line.split_whitespace().next()?.parse().ok().filter(|&total| total > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found_and_nothing_is_no_total() {
        assert_eq!(total_in("version: 1\nsummary: 7\n\nfn=(1) main\n16 400\n\ntotals: 1234\n"), Some(1234));
        assert_eq!(total_in("events: Ir\ntotals: 0\n"), None);
        assert_eq!(total_in("events: Ir\n"), None);
    }

    #[test]
    fn a_command_keeps_its_arguments_and_surroundings() {
        let mut command = Command::new("/bin/true");
        command.args(["a", "b"]).env("KEY", "value");
        let under = under(&command, &["--instr-atstart=no"], Path::new("/tmp/out"));
        let arguments: Vec<_> = under.get_args().map(|argument| argument.to_string_lossy()).collect();
        assert_eq!(
            arguments[2..],
            ["--callgrind-out-file=/tmp/out", "--instr-atstart=no", "/bin/true", "a", "b"]
        );
        assert_eq!(under.get_envs().count(), 1);
    }
}
