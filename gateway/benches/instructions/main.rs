//! Counts the instructions of the steps a request takes, and of whole requests: `make instructions`.

mod cases;
#[path = "../support/entry.rs"]
mod entry;
#[path = "../support/routes.rs"]
mod routes;
mod site;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use loadtest::instructions::{Arguments, Subject, run};

use crate::cases::{CASES, Case};

/// As in the gateway itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    arguments: Arguments,
}

fn main() -> ExitCode {
    // Under Callgrind: one case, and nothing else.
    if let [flag, name] = &env::args().skip(1).collect::<Vec<_>>()[..]
        && flag == "--case"
        && let Some(case) = CASES.iter().find(|case| case.name == *name)
    {
        rehearse(case);
        return ExitCode::SUCCESS;
    }
    let cases: Vec<_> = CASES.iter().map(|case| (case.name, case.times)).collect();
    let subject = Subject {
        cases: &cases,
        function: "*counted_by_callgrind*",
        gateway: Path::new(env!("CARGO_BIN_EXE_gateway")),
        baseline: Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/instructions.txt")),
    };
    let CommandLine { arguments } = CommandLine::parse();
    if !arguments.count {
        println!("instructions are counted by `make instructions`");
        return ExitCode::SUCCESS;
    }
    match run(&arguments, &subject) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(trouble) => {
            eprintln!("error: {trouble}");
            ExitCode::from(2)
        }
    }
}

/// Runs a case: first what is made once and memory that is not yet there, uncounted.
fn rehearse(case: &Case) {
    let warm_up = 1 + case.times / 10;
    let mut work = (case.make)(warm_up + case.times);
    for _ in 0..warm_up {
        work();
    }
    counted_by_callgrind(&mut *work, case.times);
}

/// Callgrind counts what happens in here, on this thread.
#[inline(never)]
fn counted_by_callgrind(work: &mut dyn FnMut(), times: u32) {
    for _ in 0..times {
        work();
    }
}
