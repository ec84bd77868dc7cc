//! `loadtest origin`: something to send load to.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::str::FromStr;

use clap::Args;
use loadtest::origin::{Controlled, Delay, Ending, Mix, Origin, Plan};

use crate::Problem;

const EXAMPLES: &str = "\
Examples:
  loadtest origin --mix 200:98,500:2 --latency lognormal:20ms,0.5
  loadtest origin --fail-from 1000 --fail-with reset
  loadtest origin --listen v41=127.0.0.1:9001 --listen v42=127.0.0.1:9002 --control 127.0.0.1:9000

The control port tells what the origins have done, and changes one of them or all from the next request on:
  curl http://127.0.0.1:9000/
  curl -X PUT http://127.0.0.1:9000/v42 -d '{\"mix\": \"200:90,500:10\", \"latency\": \"200ms\"}'
Keys: mix, latency, fail_from, fail_with, body_bytes, echo, headers. What is left out is as without any option.";

/// Answer as told until interrupted
///
/// Speaks HTTP/1.1 and HTTP/2 on the same port, and names itself in `x-release`. What looks random is the same in every
/// run.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Serve {
    /// Where to listen, and the name in `x-release`, else `origin`; several times for several origins
    #[arg(long, value_name = "[NAME=]ADDRESS", default_value = "127.0.0.1:8000")]
    listen: Vec<Place>,
    /// How exchanges end, by weight: a status, `close` or `reset` without an answer, `truncate` in the middle of the body
    #[arg(long, value_name = "ENDING:WEIGHT,…", default_value = "200")]
    mix: Mix,
    /// How long they take: 20ms, uniform:5ms..50ms, exponential:20ms (mean), lognormal:20ms,0.5 (median and sigma)
    #[arg(long, value_name = "TIMES", default_value = "0s")]
    latency: Delay,
    /// From this request on, end as --fail-with says; the first is 1
    #[arg(long, value_name = "N")]
    fail_from: Option<u64>,
    /// What happens from --fail-from on
    #[arg(long, value_name = "ENDING", default_value = "500", requires = "fail_from")]
    fail_with: Ending,
    /// Bytes in each body, instead of a short text
    #[arg(long, value_name = "N", conflicts_with = "echo")]
    body_bytes: Option<u64>,
    /// Describe each request in JSON instead
    #[arg(long)]
    echo: bool,
    /// A field of each answer
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Listen here for orders
    #[arg(long, value_name = "ADDRESS")]
    control: Option<SocketAddr>,
}

/// A name and where it listens.
#[derive(Debug, Clone)]
struct Place {
    name: String,
    address: SocketAddr,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, address) = text.split_once('=').unwrap_or(("origin", text));
        let address =
            address.parse().map_err(|_| format!("`{address}` is not an address like 127.0.0.1:8000"))?;
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            return Err(format!("`{name}` is not a name; use letters, digits, `-`, `_` and `.`"));
        }
        Ok(Self { name: name.to_owned(), address })
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it as `name: value`")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

pub(crate) async fn run(arguments: Serve) -> Result<ExitCode, Problem> {
    let plan = Plan {
        mix: arguments.mix,
        latency: arguments.latency,
        fail_from: arguments.fail_from,
        fail_with: arguments.fail_with,
        body_bytes: arguments.body_bytes,
        echo: arguments.echo,
        headers: arguments.headers.into_iter().collect(),
    };
    let origins = start(&arguments.listen, &plan).await?;
    let control = match arguments.control {
        Some(address) => {
            let controlled = Controlled::new(origins, &plan).listen(address).await;
            let (address, control) = controlled.map_err(|error| format!("{address}: {error}"))?;
            println!("control listens on {address}");
            tokio::spawn(control)
        }
        None => tokio::spawn(async move {
            let _origins = origins;
            std::future::pending().await
        }),
    };
    tokio::signal::ctrl_c().await?;
    control.abort();
    Ok(ExitCode::SUCCESS)
}

async fn start(places: &[Place], plan: &Plan) -> Result<Vec<Origin>, Problem> {
    let mut origins: Vec<Origin> = Vec::new();
    for Place { name, address } in places {
        if origins.iter().any(|origin| origin.name() == name) {
            return Err(format!("two origins are called `{name}`; write --listen NAME=ADDRESS").into());
        }
        let origin = Origin::script(plan.behaviour()?).named(name).listen(*address).try_start().await;
        let origin = origin.map_err(|error| format!("{address}: {error}"))?;
        println!("{} listens on {}", origin.name(), origin.address());
        origins.push(origin);
    }
    Ok(origins)
}
