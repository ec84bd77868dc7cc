//! Instructions counted by Callgrind and held against a committed baseline, so that a regression shows on a machine whose
//! clock cannot be trusted.
//!
//! Cases are those of the program that calls [`run`], which runs itself under Callgrind for each of them; whole requests
//! are those of proxies built beside it.

mod baseline;
pub(crate) mod callgrind;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;

use crate::compare::{self, Trouble};
use baseline::{Baseline, Count, growth, has_grown};

const WHOLE: [&str; 2] = ["whole request: gateway", "whole request: bare Pingora"];

/// Instructions of single steps and of whole requests, beside those of the baseline. Fails when a case has grown by more
/// than 5 %.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Count; without it nothing is done, as benchmarks that measure time are run together with this one.
    #[arg(long)]
    pub count: bool,
    /// Only cases whose name holds this.
    #[arg(value_name = "CASE")]
    only: Option<String>,
    /// Make what is counted the baseline.
    #[arg(long)]
    bless: bool,
    /// The bare Pingora proxy: the example `bare_pingora` of package `loadtest`, built for release. Left out if it is not
    /// there.
    #[arg(long, value_name = "PATH", default_value = "target/release/examples/bare_pingora")]
    bare: PathBuf,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is counted.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The name of each case, and how often `program --case NAME` runs it in the function that is counted.
    pub cases: &'a [(&'a str, u32)],
    /// That function, as Callgrind's `--toggle-collect` wants it.
    pub function: &'a str,
    /// The gateway.
    pub gateway: &'a Path,
    /// The file with the counts to compare with.
    pub baseline: &'a Path,
}

/// Counts, prints a table, and writes the baseline if that is asked for. False when a case has grown. Blocks; every
/// process it starts has ended when it returns.
///
/// # Errors
/// When a case cannot be counted, and when the baseline cannot be used.
pub fn run(arguments: &Arguments, subject: &Subject<'_>) -> Result<bool, Trouble> {
    let (mut baseline, compiler) = (read(subject.baseline)?, compiler()?);
    if !arguments.bless && !baseline.compiler.is_empty() && baseline.compiler != compiler {
        let old = &baseline.compiler;
        eprintln!("the baseline is of {old}, this is {compiler}: it may differ by more than the code");
    }
    let cases: Vec<&str> = subject.cases.iter().map(|(case, _)| *case).chain(WHOLE).collect();
    let counts = table(&wanted(&cases, arguments)?, &baseline, arguments, subject)?;
    if arguments.bless {
        baseline.renew(&cases, &counts, &compiler);
        fs::write(subject.baseline, baseline.text())?;
        return Ok(true);
    }
    let has_grown = |Count { case, instructions }: &&Count| {
        baseline.of(case).is_some_and(|before| has_grown(before, *instructions))
    };
    let grown: Vec<_> = counts.iter().filter(has_grown).map(|count| count.case.as_str()).collect();
    if !grown.is_empty() {
        println!("\ngrown by more than 5 %: {}", grown.join(", "));
    }
    Ok(grown.is_empty())
}

/// The baseline; an empty one where there is none yet.
fn read(path: &Path) -> Result<Baseline, Trouble> {
    match fs::read_to_string(path) {
        Ok(text) => Baseline::parse(&text).map_err(Trouble::Failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Baseline::default()),
        Err(error) => Err(error.into()),
    }
}

/// The cases that are asked for.
fn wanted<'a>(cases: &[&'a str], arguments: &Arguments) -> Result<Vec<&'a str>, Trouble> {
    let Some(only) = &arguments.only else { return Ok(cases.to_vec()) };
    let wanted: Vec<_> = cases.iter().copied().filter(|case| case.contains(only)).collect();
    if wanted.is_empty() {
        return Err(Trouble::Failed(format!("there are only these cases:\n  {}", cases.join("\n  "))));
    }
    Ok(wanted)
}

/// Counts the cases and prints each as soon as it is known.
fn table(
    cases: &[&str],
    baseline: &Baseline,
    arguments: &Arguments,
    subject: &Subject<'_>,
) -> Result<Vec<Count>, Trouble> {
    let width = cases.iter().map(|case| case.len()).max().unwrap_or(0);
    println!("{:width$}  {:>12}  {:>12}  {:>7}", "case", "instructions", "baseline", "change");
    let mut counts = Vec::new();
    for &case in cases {
        let Some(instructions) = count(case, arguments, subject)? else {
            println!("{case:width$}  {:>12}", "not built");
            continue;
        };
        println!("{}", row(case, width, instructions, baseline.of(case)));
        counts.push(Count { case: case.to_owned(), instructions });
    }
    Ok(counts)
}

fn row(case: &str, width: usize, instructions: u64, before: Option<u64>) -> String {
    let Some(before) = before else { return format!("{case:width$}  {instructions:>12}  {:>12}", "new") };
    let change = growth(before, instructions) * 100.0;
    format!("{case:width$}  {instructions:>12}  {before:>12}  {change:>+6.1}%")
}

/// The instructions of one case; `None` when the proxy it is about was not built.
fn count(case: &str, arguments: &Arguments, subject: &Subject<'_>) -> Result<Option<u64>, Trouble> {
    if let Some((_, times)) = subject.cases.iter().find(|(name, _)| *name == case) {
        return Ok(Some(of_case(case, subject.function)? / u64::from(*times)));
    }
    let (gateway, bare) = (subject.gateway, arguments.bare.as_path());
    let (binary, counted): (_, fn(&Path) -> _) = match case {
        case if case == WHOLE[0] => (gateway, compare::instructions_of_gateway),
        _ => (bare, compare::instructions_of_bare),
    };
    if binary.is_file() { counted(binary).map(Some) } else { Ok(None) }
}

/// The instructions of all runs of a case of this program.
fn of_case(case: &str, function: &str) -> Result<u64, Trouble> {
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("callgrind.out");
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--case", case]);
    let toggle = format!("--toggle-collect={function}");
    let output = callgrind::under(&command, &[&toggle], &out).stdin(Stdio::null()).output();
    let output = output.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Trouble::Failed("valgrind is not installed".to_owned()),
        _ => error.into(),
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Trouble::Failed(format!("case {case}: {}", said.trim())));
    }
    callgrind::total(&out).map_err(|error| Trouble::Failed(format!("case {case}: {error}")))
}

/// The compiler, as it calls itself.
fn compiler() -> Result<String, Trouble> {
    let output = Command::new("rustc").arg("--version").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
