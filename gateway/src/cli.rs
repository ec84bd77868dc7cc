//! The command line: what can be asked, and the exit status of the answer.
//!
//! Each command is one file below `cli/`. It takes its arguments and a place to write to, and gives nothing or a
//! [`Failure`], which is where exit statuses come from.

pub mod cert;
pub mod check;
pub mod client;
pub mod demo;
pub mod demo_origin;
pub mod explain;
pub mod init;
pub mod kill;
pub mod maintenance;
pub mod reload;
pub mod rollout;
pub mod schema;
pub mod status;
pub mod table;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use http::{HeaderName, HeaderValue, Method, Uri};

use client::AdminAddress;

use crate::server;
use crate::terminal;

/// The configuration file a command takes when none is named.
pub const DEFAULT_CONFIG: &str = "gateway.yaml";

const EXIT_CODES: &str = "\
Exit status:
  0  done
  1  the configuration is bad, or the command could not do its work here
  2  the command line is wrong
  3  the running gateway refused, or none answers";

#[derive(Debug, Parser)]
#[command(name = "gateway", version, about = "A gateway for small teams: TLS, routes, releases, hot reload", after_help = EXIT_CODES)]
#[command(long_about = "\
A gateway for small teams. One YAML file says where it listens, which requests go where, and how traffic is divided \
between releases; a change of the file acts at once, a mistake in it never does.

Begin with `gateway init`, look at what it wrote, then `gateway run`.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(RunArgs),
    Check(CheckArgs),
    Reload(ReloadArgs),
    Status(StatusArgs),
    Explain(ExplainArgs),
    #[command(subcommand)]
    Rollout(rollout::RolloutCommand),
    Kill(kill::KillArgs),
    Maintenance(maintenance::MaintenanceArgs),
    Schema(SchemaArgs),
    Init(InitArgs),
    #[command(subcommand)]
    Cert(CertCommand),
    Completions(CompletionsArgs),
    Demo(DemoArgs),
    DemoOrigin(DemoOriginArgs),
}

/// Serve: read the file, open the listeners, and stay
///
/// Changes of the file act by themselves; a bad file is reported and the old one stays. SIGHUP reloads, SIGTERM stops:
/// listeners close, requests in flight finish, a second signal ends at once.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  gateway run                              gateway.yaml in this directory
  gateway run -c /etc/gateway/gateway.yaml")]
pub struct RunArgs {
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become the command's help")]
    pub config: ConfigArg,
}

/// Check a file: everything that would keep it from being served, all at once
///
/// Opens certificates and resolves names. Binds nothing, contacts nothing but DNS, and changes nothing, so it is safe
/// beside a running gateway and in a pipeline.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  gateway check
  gateway check -c new.yaml --format json   one object with `diagnostics`, for editors and pipelines")]
pub struct CheckArgs {
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become the command's help")]
    pub config: ConfigArg,

    /// How the report is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub format: Format,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people, with the lines of the file underlined
    Text,
    /// For programs
    Json,
}

/// Tell which route takes a request, and why
///
/// Shows the route, the rules that chose it, its limits, the service, the split and the release. The answer comes from
/// the code that routes: from the file when one is named, else from the running gateway.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  gateway explain https://shop.example/api/orders
  gateway explain https://shop.example/api/login -X POST -H 'cookie: gw_id=7f3a'
  gateway explain https://shop.example/ -c new.yaml    before it is served")]
pub struct ExplainArgs {
    /// The address a client would ask for, with scheme and host
    #[arg(value_name = "URL", value_parser = absolute_url)]
    pub url: Uri,

    /// The request's method
    #[arg(short = 'X', long, value_name = "METHOD", default_value = "GET")]
    pub method: Method,

    /// A request header; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,

    /// The address the request comes from [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    pub from: Option<std::net::IpAddr>,

    /// Answer from this file, without a running gateway
    #[arg(short = 'c', long = "config", value_name = "FILE", conflicts_with = "admin")]
    pub config: Option<PathBuf>,

    /// Where the running gateway answers: HOST:PORT or unix:PATH
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<AdminAddress>,

    /// Write the answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// Have the running gateway read its file again, and wait for the outcome
///
/// Prints what changed. A bad file changes nothing: all its errors are printed and the exit status is 1.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  gateway reload
  gateway reload --admin unix:/run/gateway/admin.sock
  gateway reload --json | jq .changed")]
pub struct ReloadArgs {
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become the command's help")]
    pub admin: AdminArgs,

    /// Write the gateway's answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// Show what the running gateway is doing
///
/// Fails with 3 when no gateway answers, so it also serves as a health check.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  gateway status
  gateway status --json | jq .ready")]
pub struct StatusArgs {
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become the command's help")]
    pub admin: AdminArgs,

    /// Write the gateway's answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// Print the JSON Schema of the configuration file
///
/// Editors complete and check the file by it: put `# yaml-language-server: $schema=PATH` into its first line.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  gateway schema > gateway.schema.json")]
pub struct SchemaArgs {}

/// Write a first gateway.yaml into this directory
///
/// Small, annotated, and good as it stands. An existing file is never touched.
#[derive(Debug, Args)]
pub struct InitArgs {}

/// Certificates for development
#[derive(Debug, Subcommand)]
pub enum CertCommand {
    #[allow(missing_docs, reason = "the help is that of its arguments")]
    Dev(CertDevArgs),
}

/// Make a certificate authority of your own and a certificate signed by it
///
/// Writes ca.pem, ca.key, cert.pem and key.pem; the keys are readable by you alone. Run it again at any time: the
/// authority is kept, and the certificate is renewed when it is about to expire or the names have changed. A
/// certificate that this authority did not sign is never overwritten.
///
/// Not for production: nobody else trusts this authority, and nobody should.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  gateway cert dev                               into ./certs
  gateway cert dev --out /tmp/tls app.localhost 192.0.2.7
  curl --cacert certs/ca.pem https://localhost:8443/")]
pub struct CertDevArgs {
    /// The directory to write to
    #[arg(long, value_name = "DIR", default_value = "certs")]
    pub out: PathBuf,

    /// Names and addresses the certificate is for
    #[arg(value_name = "HOST", default_values = cert::DEFAULT_HOSTS)]
    pub hosts: Vec<String>,
}

/// Print a script that completes gateway's commands in a shell
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  gateway completions bash > ~/.local/share/bash-completion/completions/gateway
  gateway completions fish > ~/.config/fish/completions/gateway.fish")]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// See a good release promoted and a bad one rolled back, here and now
///
/// Needs nothing and leaves nothing. In a directory of its own it makes certificates, starts small origins and this
/// gateway, sends it requests over TLS, and tells what it sees: a good release climbs from 10 % to 100 %, a bad one is
/// rolled back by itself, and how many failed requests users saw. Takes about half a minute; Ctrl-C ends it at any time.
///
/// Everything is real but the patience: steps are held for seconds instead of minutes. Fails with 1, and the end of the
/// gateway's log, when a promise is broken.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  gateway demo
  gateway demo --failing 50       a release that fails every other request
  gateway demo --json 2>/dev/null | jq .users.failed")]
pub struct DemoArgs {
    /// The port users connect to, on loopback; the next free one when it is taken, any for 0
    #[arg(long, value_name = "PORT", default_value_t = demo::DEFAULT_PORT)]
    pub port: u16,

    /// How many requests users send in a second
    #[arg(long, value_name = "NUMBER", default_value_t = 200, value_parser = clap::value_parser!(u32).range(100..=2000))]
    pub rate: u32,

    /// Of a hundred requests, how many the bad release fails
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u8).range(30..=100))]
    pub failing: u8,

    /// Write the numbers as JSON when it is over; the story goes to the standard error
    #[arg(long)]
    pub json: bool,
}

/// Serve small origins to try the gateway with
///
/// Each answers /health, /ready and /metrics and what its kind says, and names its release in `x-release`. They listen
/// until SIGINT or SIGTERM.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  gateway demo-origin --all    those config/gateway.yaml names
  gateway demo-origin --listen 127.0.0.1:8043 --release api-43")]
pub struct DemoOriginArgs {
    /// Serve the four origins that config/gateway.yaml sends traffic to
    #[arg(long, conflicts_with_all = ["listen", "release", "kind"])]
    pub all: bool,

    /// The address to listen on; port 0 takes a free one and prints it
    #[arg(long, value_name = "ADDRESS", required_unless_present = "all")]
    pub listen: Option<std::net::SocketAddr>,

    /// The name of the release it plays
    #[arg(long, value_name = "NAME", default_value = "demo")]
    pub release: String,

    /// What it serves
    #[arg(long, value_enum, value_name = "KIND", default_value_t = demo_origin::Kind::Api)]
    pub kind: demo_origin::Kind,
}

/// Which file.
#[derive(Debug, Args)]
pub struct ConfigArg {
    /// The configuration file
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub path: PathBuf,
}

/// Which running gateway.
#[derive(Debug, Args)]
pub struct AdminArgs {
    /// The file whose `admin` says where the gateway answers [default: gateway.yaml, if there is one]
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Where the gateway answers: HOST:PORT or unix:PATH [default: what the file says, else 127.0.0.1:9901]
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<AdminAddress>,
}

/// Why a command ended without success.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What was wrong with a file, ready to be shown as it is; 1.
    #[error("{0}")]
    Report(String),
    /// The command could not do its work here, in a sentence; 1.
    #[error("error: {0}")]
    Failed(String),
    /// The running gateway refused or does not answer, in a sentence; 3.
    #[error("error: {0}")]
    Refused(String),
    /// A second signal ended the gateway before its requests were; 130.
    #[error("ended at once: requests in flight were cut")]
    Cut,
    /// A signal ended the command, which left nothing behind; 130.
    #[error("interrupted; nothing is left behind")]
    Interrupted,
    /// A person stopped a command that only watches; 130.
    #[error("stopped watching; the rollout goes on")]
    Stopped,
    /// The answer could not be written; 1, and 0 when its reader had seen enough.
    #[error("error: cannot write the answer: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The exit status.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            _ if self.is_closed_pipe() => ExitCode::SUCCESS,
            Self::Report(_) | Self::Failed(_) | Self::Output(_) => ExitCode::from(1),
            Self::Refused(_) => ExitCode::from(3),
            Self::Cut | Self::Interrupted | Self::Stopped => ExitCode::from(130),
        }
    }
}

/// Takes the process's arguments, does what they ask, and gives the exit status. What is wrong goes to the standard
/// error; arguments that cannot be understood end the process with 2.
pub fn main() -> ExitCode {
    match dispatch(Cli::parse().command, &mut io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_closed_pipe() {
                // Nobody is left to tell when the standard error is gone too.
                let _ = writeln!(io::stderr(), "{failure}");
            }
            failure.exit_code()
        }
    }
}

fn dispatch(command: Command, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        Command::Run(args) => serve(&args),
        Command::Check(args) => check::run(&args, out),
        Command::Reload(args) => reload::run(&args, out),
        Command::Status(args) => status::run(&args, out),
        Command::Explain(args) => explain::run(&args, out),
        Command::Rollout(command) => rollout::run(&command, out),
        Command::Kill(args) => kill::run(&args, out),
        Command::Maintenance(args) => maintenance::run(&args, out),
        Command::Schema(SchemaArgs {}) => schema::run(out),
        Command::Init(InitArgs {}) => init::run(&PathBuf::from(DEFAULT_CONFIG), out),
        Command::Cert(CertCommand::Dev(args)) => cert::run(&args, out),
        Command::Completions(args) => completions(args.shell, out),
        Command::Demo(args) => demo::run(&args, out),
        Command::DemoOrigin(args) => demo_origin::run(&args, out),
    }
}

fn serve(args: &RunArgs) -> Result<(), Failure> {
    crate::telemetry::process_log::init();
    match crate::server::run(&args.config.path) {
        Ok(server::Ended::Drained) => Ok(()),
        Ok(server::Ended::Cut) => Err(Failure::Cut),
        Err(server::StartError::Configuration(report)) => {
            Err(Failure::Report(terminal::rendered(&report).trim_end().to_owned()))
        }
        Err(error) => Err(Failure::Failed(error.to_string())),
    }
}

fn completions(shell: Shell, out: &mut dyn Write) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "gateway", &mut script);
    Ok(out.write_all(&script)?)
}

fn absolute_url(text: &str) -> Result<Uri, String> {
    let url: Uri = text.parse().map_err(|error| format!("{error}"))?;
    match (url.scheme_str(), url.host()) {
        (Some("http" | "https"), Some(_)) => Ok(url),
        _ => Err("write it whole, like https://shop.example/api".into()),
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write it as `name: value`")?;
    let name = name.trim().parse().map_err(|_| format!("`{name}` is not a header name"))?;
    let value =
        HeaderValue::from_str(value.trim()).map_err(|_| format!("`{value}` is not a header value"))?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_argument_says_what_it_is_for() {
        fn walk(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for argument in command.get_arguments() {
                let helped = argument.get_help().is_some() || argument.get_id() == "help";
                assert!(helped, "{} {} has no help", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }

    #[test]
    fn an_origin_needs_an_address_unless_all_are_meant() {
        assert!(parse("gateway demo-origin").is_err());
        assert!(parse("gateway demo-origin --all").is_ok());
        assert!(parse("gateway demo-origin --listen 127.0.0.1:0").is_ok());
        assert!(parse("gateway demo-origin --all --listen 127.0.0.1:0").is_err());
    }

    #[test]
    fn a_wrong_command_line_is_status_2() {
        assert_eq!(parse("gateway reload --admin nowhere").expect_err("no port").exit_code(), 2);
        assert_eq!(parse("gateway explode").expect_err("no such command").exit_code(), 2);
    }

    #[test]
    fn explain_takes_urls_with_a_host_and_headers_with_a_name() {
        assert!(absolute_url("https://shop.example/api?x=1").is_ok());
        assert!(absolute_url("/api").is_err());
        assert!(absolute_url("ftp://shop.example/").is_err());
        let (name, value) = header("Cookie: gw_id=7:1").expect("a header");
        assert_eq!((name.as_str(), value.to_str().expect("text")), ("cookie", "gw_id=7:1"));
        assert!(header("no colon").is_err());
        assert!(header("bad name: x").is_err());
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure() {
        let failure = |kind| Failure::Output(io::Error::from(kind)).exit_code();
        assert_eq!(failure(io::ErrorKind::BrokenPipe), ExitCode::SUCCESS);
        assert_eq!(failure(io::ErrorKind::StorageFull), ExitCode::from(1));
    }

    #[test]
    fn each_shell_gets_a_script() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            completions(*shell, &mut script).expect("a Vec takes everything");
            assert!(String::from_utf8_lossy(&script).contains("demo-origin"), "{shell}");
        }
    }
}
