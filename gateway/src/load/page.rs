//! Pages of HTML that the configuration names.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;

/// A page larger than this was never meant to be one.
const MAX_BYTES: u64 = 1 << 20;

/// Why a file is no page.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoPage {
    #[error("cannot read {path}: {error}")]
    Unreadable { path: String, error: io::Error },
    #[error("{path} is not a file")]
    NoFile { path: String },
    #[error("{path} is larger than 1 MiB")]
    TooLarge { path: String },
    #[error("{path} is empty")]
    Empty { path: String },
    #[error("{path} is not UTF-8")]
    NotText { path: String },
}

impl NoPage {
    /// What to do.
    pub(super) fn help(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } | Self::NoFile { .. } => {
                "the path is relative to the configuration file; check name and permissions"
            }
            Self::TooLarge { .. } => "a page is kept in memory: put images and styles elsewhere",
            Self::Empty { .. } => "write the page, or leave the key out",
            Self::NotText { .. } => "pages are sent as UTF-8: save the file in it",
        }
    }
}

/// Reads a page. What is not a plain file is not opened, so that nothing waits for a pipe.
pub(super) fn read(file: &Path) -> Result<Bytes, NoPage> {
    let path = file.display().to_string();
    let unreadable = |error| NoPage::Unreadable { path: path.clone(), error };
    if !std::fs::metadata(file).map_err(unreadable)?.is_file() {
        return Err(NoPage::NoFile { path });
    }
    let mut text = Vec::new();
    File::open(file).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut text)).map_err(unreadable)?;
    match text.len() as u64 {
        0 => Err(NoPage::Empty { path }),
        length if length > MAX_BYTES => Err(NoPage::TooLarge { path }),
        _ if std::str::from_utf8(&text).is_err() => Err(NoPage::NotText { path }),
        _ => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_a_file_of_text_within_bounds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("page.html");
        let reads = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            read(&path)
        };
        assert_eq!(&reads("<h1>Zurück</h1>".as_bytes()).unwrap()[..], "<h1>Zurück</h1>".as_bytes());
        assert!(reads(&vec![b' '; MAX_BYTES as usize]).is_ok());
        assert!(matches!(reads(&vec![b' '; MAX_BYTES as usize + 1]), Err(NoPage::TooLarge { .. })));
        assert!(matches!(reads(b""), Err(NoPage::Empty { .. })));
        assert!(matches!(reads(b"\xff\xfe"), Err(NoPage::NotText { .. })));
        assert!(matches!(read(directory.path()), Err(NoPage::NoFile { .. })));
        assert!(matches!(read(&directory.path().join("nothing")), Err(NoPage::Unreadable { .. })));
    }
}
