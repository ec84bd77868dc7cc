//! Where access log lines end up, and what happens when they cannot.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use gateway_core::config::model::AccessLog as Target;

/// At most one complaint in this time.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// How often a file is looked for under its name, and a lost one opened again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// An open target. Only the writer's thread writes to it.
pub(super) struct Sink {
    target: Target,
    /// `None` while the file is deleted and cannot be made again.
    output: Option<File>,
    /// The last write ended within a line.
    torn: bool,
    looked: Instant,
    complained: Option<Instant>,
}

impl Sink {
    /// Opens the target; a file is made when it does not exist, and appended to.
    ///
    /// # Errors
    /// What the operating system says about the file.
    pub(super) fn open(target: Target) -> io::Result<Self> {
        let output = open(&target)?;
        Ok(Self { target, output: Some(output), torn: false, looked: Instant::now(), complained: None })
    }

    /// Opens the file anew under its name, as after a rotation. When that fails, the old one serves on while it exists.
    pub(super) fn reopen(&mut self) {
        match open(&self.target) {
            Ok(output) => {
                self.output = Some(output);
                self.torn = false;
            }
            Err(error) => {
                self.output.take_if(|file| file.metadata().is_ok_and(|metadata| metadata.nlink() == 0));
                self.complain(&error, 0);
            }
        }
    }

    /// Writes whole lines, each with its newline. Gives the number of lines that were lost.
    pub(super) fn write(&mut self, lines: &[u8]) -> u64 {
        self.follow_the_name();
        let (written, error) = match self.write_some(lines) {
            Ok(()) => return 0,
            Err(failed) => failed,
        };
        let (done, rest) = lines.split_at(written);
        self.torn |= done.last().is_some_and(|byte| *byte != b'\n');
        let lost = rest.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.complain(&error, lost);
        lost
    }

    /// Gives how many bytes of `lines` were written before the error.
    fn write_some(&mut self, lines: &[u8]) -> Result<(), (usize, io::Error)> {
        if self.torn {
            // A part of a line may stand in the file; what follows must not be glued to it.
            self.write_all(b"\n").map_err(|(_, error)| (0, error))?;
            self.torn = false;
        }
        self.write_all(lines)
    }

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let Some(output) = &mut self.output else { return Err((0, ErrorKind::NotFound.into())) };
        let mut written = 0;
        while written < bytes.len() {
            match output.write(&bytes[written..]) {
                Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err((written, error)),
            }
        }
        Ok(())
    }

    /// Opens the file again when its name no longer leads to it: it was deleted, renamed, or could not be opened.
    fn follow_the_name(&mut self) {
        let Target::File(path) = &self.target else { return };
        if self.looked.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked = Instant::now();
        if !self.output.as_ref().is_some_and(|file| is_at(file, path)) {
            self.reopen();
        }
    }

    fn complain(&mut self, error: &io::Error, lost: u64) {
        let quiet = self.complained.is_some_and(|last| last.elapsed() < COMPLAIN_EVERY);
        if quiet {
            return;
        }
        self.complained = Some(Instant::now());
        let target = match &self.target {
            Target::Stdout => "stdout".into(),
            Target::File(path) => path.display().to_string(),
        };
        tracing::error!(target, %error, lost, "the access log cannot be written; lines are lost and counted");
    }
}

fn open(target: &Target) -> io::Result<File> {
    match target {
        // A descriptor of our own: the standard library's buffer would hide which lines were written.
        Target::Stdout => io::stdout().as_fd().try_clone_to_owned().map(File::from),
        Target::File(path) => OpenOptions::new().create(true).append(true).open(path),
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_full_disk_loses_the_lines_and_counts_them() {
        let mut sink = Sink::open(Target::File("/dev/full".into())).unwrap();
        assert_eq!(sink.write(b"one\ntwo\n"), 2);
        assert_eq!(sink.write(b"three\n"), 1);
    }

    #[test]
    fn a_torn_line_is_not_glued_to_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        fs::write(&path, "to").unwrap();
        let mut sink = Sink::open(Target::File(path.clone())).unwrap();
        sink.torn = true;
        assert_eq!(sink.write(b"three\n"), 0);
        assert_eq!(sink.write(b"four\n"), 0);
        assert_eq!(read(&path), "to\nthree\nfour\n");
    }

    #[test]
    fn a_deleted_file_is_made_again_without_being_asked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let mut sink = Sink::open(Target::File(path.clone())).unwrap();
        fs::remove_file(&path).unwrap();
        sink.looked -= LOOK_EVERY;
        assert_eq!(sink.write(b"line\n"), 0);
        assert_eq!(read(&path), "line\n");
    }

    #[test]
    fn a_deleted_directory_counts_the_lines_until_it_is_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs/access.log");
        let logs = directory.path().join("logs");
        fs::create_dir(&logs).unwrap();
        let mut sink = Sink::open(Target::File(path.clone())).unwrap();
        fs::remove_dir_all(&logs).unwrap();
        sink.looked -= LOOK_EVERY;
        assert_eq!(sink.write(b"lost\n"), 1);
        fs::create_dir(&logs).unwrap();
        sink.looked -= LOOK_EVERY;
        assert_eq!(sink.write(b"back\n"), 0);
        assert_eq!(read(&path), "back\n");
    }

    #[test]
    fn a_renamed_file_serves_on_when_no_other_can_be_opened() {
        let directory = tempfile::tempdir().unwrap();
        let (path, kept) = (directory.path().join("logs/access.log"), directory.path().join("kept"));
        fs::create_dir(directory.path().join("logs")).unwrap();
        let mut sink = Sink::open(Target::File(path.clone())).unwrap();
        fs::rename(&path, &kept).unwrap();
        fs::remove_dir(directory.path().join("logs")).unwrap();
        sink.reopen();
        assert_eq!(sink.write(b"line\n"), 0);
        assert_eq!(read(&kept), "line\n");
    }

    #[test]
    fn complaints_come_once_a_minute() {
        let mut sink = Sink::open(Target::File("/dev/full".into())).unwrap();
        sink.write(b"one\n");
        let first = sink.complained.unwrap();
        sink.write(b"two\n");
        assert_eq!(sink.complained, Some(first));
        sink.complained = Some(first - COMPLAIN_EVERY);
        sink.write(b"three\n");
        assert!(sink.complained.unwrap() > first);
    }
}
