//! The gateway's binary.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything else: whoever asks for cryptography first would otherwise decide for the whole process.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("error: another cryptography provider is installed already");
        return ExitCode::FAILURE;
    }
    gateway::cli::main()
}
