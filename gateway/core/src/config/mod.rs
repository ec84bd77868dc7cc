//! The configuration: as written, as meant, and what was wrong with it.
//!
//! ```text
//! bytes ─document→ Node ─expand→ Node ─decode→ raw::File ─meaning→ model::Gateway
//! ```
//!
//! [`load`] goes the whole way, for start-up, `gateway check`, reload and tests alike, and reports everything that is
//! wrong at once.

pub mod changes;
mod decode;
mod document;
mod excerpt;
mod expand;
mod host;
mod leaf;
mod meaning;
pub mod model;
pub mod problem;
mod raw;
pub mod report;
mod schema;
mod shown;
mod unsupported;

use std::path::Path;

pub use expand::{Process, World};
pub use report::Report;
pub use schema::schema;

use decode::Decode;
use expand::Expander;
use problem::{Code, Problem};

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// What it means.
    pub gateway: model::Gateway,
    /// What to think about; holds no error.
    pub warnings: Report,
    /// The file as JSON text without its secrets, to be shown.
    pub shown: String,
}

/// How strictly to read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Takes keys of the grammar that this version does not act on yet.
    pub allow_unsupported: bool,
}

/// Reads a configuration. `name` is how reports call the file, `dir` where its relative paths begin.
///
/// # Errors
/// Everything that is wrong, warnings included, in the order of the file.
pub fn load(name: &str, source: impl AsRef<[u8]>, dir: &Path, world: &dyn World) -> Result<Loaded, Report> {
    load_with(name, source, dir, world, Options::default())
}

/// Reads a configuration as [`load`] does, with other [`Options`].
///
/// # Errors
/// Everything that is wrong, warnings included, in the order of the file.
pub fn load_with(
    name: &str,
    source: impl AsRef<[u8]>,
    dir: &Path,
    world: &dyn World,
    options: Options,
) -> Result<Loaded, Report> {
    let source = source.as_ref();
    match std::str::from_utf8(source) {
        Ok(text) => load_text(name, text, dir, world, options),
        Err(error) => {
            let text = String::from_utf8_lossy(source);
            let at = (error.valid_up_to(), 1).into();
            let problem = Problem::error(Code::Syntax, "the file is not UTF-8").at(at, "from here");
            Err(Report::new(name, &text, vec![problem]))
        }
    }
}

fn load_text(
    name: &str,
    source: &str,
    dir: &Path,
    world: &dyn World,
    options: Options,
) -> Result<Loaded, Report> {
    let mut problems = Vec::new();
    let Some(mut root) = document::parse(source, &mut problems) else {
        return Err(Report::new(name, source, problems));
    };
    let mut expander = Expander { source, dir, world, problems: &mut problems, secrets: Vec::new() };
    expander.expand(&mut root);
    let Expander { secrets, .. } = expander;
    if !options.allow_unsupported {
        unsupported::check(&root, &mut problems);
    }
    let file = raw::File::decode(&root, &mut problems);
    if file.is_some() {
        raw::check_required(&root, &mut problems);
    }
    let gateway = file.map(|file| meaning::gateway(&file, dir, &mut problems));
    expand::redact(&mut problems, &secrets);
    let mut report = Report::new(name, source, problems);
    report.hide(&shown::secrets(&root));
    match gateway {
        Some(gateway) if !report.has_errors() => {
            Ok(Loaded { gateway, warnings: report, shown: shown::redacted(&root) })
        }
        _ => Err(report),
    }
}
