//! What the demo leaves nothing of: a directory with certificates and a configuration, and a gateway that serves it.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::super::client::{AdminAddress, Client};
use super::super::{AdminArgs, Failure, cert};
use super::origins::Addresses;

/// How long a gateway may take until it serves, and until it has ended.
const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(5);

/// How often its state is asked for.
const LOOK: Duration = Duration::from_millis(50);

/// How many ports are tried beyond the one wished for.
const PORTS: u16 = 100;

/// How many lines of a gateway's log are told when it broke a promise.
const TAIL: usize = 25;

/// A configuration in force: which releases play which role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deployment {
    pub(super) stable: &'static str,
    pub(super) canary: &'static str,
}

/// Where the gateway can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) https: u16,
    pub(super) admin: u16,
}

/// The directory and the gateway.
pub(super) struct Stage {
    pub(super) ports: Ports,
    pub(super) ca: PathBuf,
    origins: Addresses,
    admin: Client,
    // The gateway ends before its directory goes.
    gateway: Child,
    directory: TempDir,
}

/// What of `GET /v1/rollouts/shop` the demo tells.
#[derive(Debug, Deserialize)]
pub(super) struct Rollout {
    pub(super) canary: Option<String>,
    pub(super) state: String,
    pub(super) weight: f64,
    pub(super) evidence: Seen,
    pub(super) history: Vec<Change>,
}

/// One change of the rollout, as the admin API tells it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Change {
    /// In seconds since the Unix epoch.
    pub(super) at: f64,
    pub(super) canary: Option<String>,
    pub(super) to: String,
    /// The canary's share from then on, 0 to 100.
    pub(super) weight: f64,
    /// In a word, and in a sentence.
    pub(super) cause: String,
    pub(super) why: String,
    pub(super) evidence: Seen,
}

impl Change {
    /// When, since the Unix epoch.
    pub(super) fn time(&self) -> Duration {
        Duration::try_from_secs_f64(self.at).unwrap_or_default()
    }
}

/// What was seen of the canary in the step under way.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Seen {
    pub(super) canary: gateway_core::rollout::Counts,
}

impl Stage {
    /// Makes certificates, writes the configuration and starts the gateway, which serves when this returns.
    ///
    /// # Errors
    /// [`Failure::Failed`] with the end of the gateway's log when it does not serve.
    pub(super) async fn set(wished: u16, origins: Addresses, first: Deployment) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new().prefix("gateway-demo-").tempdir()?;
        let hosts = cert::DEFAULT_HOSTS.map(str::to_owned);
        let certificates = cert::ensure(&directory.path().join("certs"), &hosts, SystemTime::now())
            .map_err(|error| Failure::Failed(error.to_string()))?;
        let ports = Ports { https: free_port(wished)?, admin: free_port(0)? };
        let file = directory.path().join("gateway.yaml");
        fs::write(&file, configuration(ports, &origins, first))?;
        let admin = AdminAddress::Tcp(format!("127.0.0.1:{}", ports.admin));
        let admin = Client::locate(&AdminArgs { config: Some(file), admin: Some(admin) })?;
        let gateway = start(directory.path())?;
        let mut stage = Self { ports, ca: certificates.ca, origins, admin, gateway, directory };
        stage.wait_until_ready().await?;
        Ok(stage)
    }

    async fn wait_until_ready(&mut self) -> Result<(), Failure> {
        let ready = async {
            loop {
                if let Some(status) = self.gateway.try_wait()? {
                    return Err(self.broken(&format!("the gateway ended with {status}")));
                }
                let answer = self.admin.ask(Method::GET, "/readyz", None).await;
                if answer.is_ok_and(|answer| answer.status == StatusCode::OK) {
                    return Ok(());
                }
                sleep(LOOK).await;
            }
        };
        match timeout(START, ready).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.broken(&format!("the gateway is not ready after {} s", START.as_secs()))),
        }
    }

    /// Deploys: writes a new file into the place of the old one. `note` is a comment in it.
    ///
    /// # Errors
    /// [`Failure::Output`] when it cannot be written.
    pub(super) fn deploy(&self, deployment: Deployment, note: &str) -> io::Result<()> {
        let text = format!("# {note}\n{}", configuration(self.ports, &self.origins, deployment));
        let fresh = self.directory.path().join("gateway.yaml.new");
        fs::write(&fresh, text)?;
        fs::rename(fresh, self.directory.path().join("gateway.yaml"))
    }

    /// The rollout of the shop as it is now.
    ///
    /// # Errors
    /// [`Failure::Refused`] when the gateway does not say.
    pub(super) async fn rollout(&self) -> Result<Rollout, Failure> {
        let answer = self.admin.ask(Method::GET, "/v1/rollouts/shop", None).await?;
        if answer.status != StatusCode::OK {
            return Err(answer.refusal());
        }
        let odd =
            |error| Failure::Refused(format!("the gateway tells of its rollout in an unknown way: {error}"));
        serde_json::from_value(answer.body).map_err(odd)
    }

    /// The rollout of the shop as soon as it is as asked for; `look` sees it on the way there.
    ///
    /// # Errors
    /// [`Failure::Failed`] with `promise` when that takes longer than `limit`.
    pub(super) async fn rollout_when(
        &self,
        limit: Duration,
        promise: &str,
        mut look: impl FnMut(&Rollout) -> io::Result<bool>,
    ) -> Result<Rollout, Failure> {
        let wait = async {
            loop {
                let rollout = self.rollout().await?;
                if look(&rollout)? {
                    return Ok(rollout);
                }
                sleep(LOOK).await;
            }
        };
        match timeout(limit, wait).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::Failed(format!("{promise} within {} s", limit.as_secs()))),
        }
    }

    /// How often the gateway has refused the file's wish for a release that was rolled back.
    ///
    /// # Errors
    /// [`Failure::Refused`] when the gateway does not say.
    pub(super) async fn refusals(&self) -> Result<u64, Failure> {
        let answer = self.admin.ask(Method::GET, "/metrics", None).await?;
        Ok(counter(answer.body.as_str().unwrap_or_default(), "rollout_refused_total{service=\"shop\"}"))
    }

    /// A sentence about a broken promise, with what the gateway wrote last.
    pub(super) fn broken(&self, reason: &str) -> Failure {
        let log = fs::read_to_string(self.directory.path().join("gateway.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
        Failure::Failed(format!("{reason}\n\nWhat the gateway wrote last:\n{tail}"))
    }

    /// Stops the gateway, waits for its end, and removes the directory.
    ///
    /// # Errors
    /// [`Failure::Output`] when the directory stays.
    pub(super) async fn strike(mut self) -> Result<(), Failure> {
        if let Some(id) = self.gateway.id().and_then(|id| id.try_into().ok()) {
            // SAFETY: a plain system call; the id is that of a child that was not waited for, so it is nobody else's.
            unsafe { libc::kill(id, libc::SIGTERM) };
        }
        if timeout(STOP, self.gateway.wait()).await.is_err() {
            self.gateway.kill().await?;
        }
        Ok(self.directory.close()?)
    }
}

/// This program's own `run`, in a process group of its own: a Ctrl-C in the terminal is for the demo, which then stops it.
fn start(directory: &Path) -> io::Result<Child> {
    let log = File::create(directory.join("gateway.log"))?;
    Command::new(std::env::current_exe()?)
        .args(["run", "-c"])
        .arg(directory.join("gateway.yaml"))
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// A port of loopback nobody listens on: `wished` or one of the next ones; any, for 0.
fn free_port(wished: u16) -> Result<u16, Failure> {
    let bound = (wished..=wished.saturating_add(PORTS))
        .find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    match bound {
        Some(listener) => Ok(listener.local_addr()?.port()),
        None => Err(Failure::Failed(format!(
            "the ports from {wished} on are all taken; choose others with --port"
        ))),
    }
}

/// The file, with holds as short as the evidence allows.
fn configuration(ports: Ports, origins: &Addresses, deployment: Deployment) -> String {
    let Addresses { shop_1, shop_2, shop_3, media, web } = origins;
    let Ports { https, admin } = ports;
    let Deployment { stable, canary } = deployment;
    format!(
        r#"version: 1
admin: {{ listen: "127.0.0.1:{admin}" }}
state: {{ path: state }}
runtime: {{ drain: 1s }}
access_log: {{ path: off }}
listeners:
  https:
    address: "127.0.0.1:{https}"
    tls: {{ certificates: [{{ cert: certs/cert.pem, key: certs/key.pem }}] }}
services:
  shop:
    releases:
      shop-1: {{ endpoints: ["{shop_1}"] }}
      shop-2: {{ endpoints: ["{shop_2}"] }}
      shop-3: {{ endpoints: ["{shop_3}"] }}
    stable: {stable}
    canary: {canary}
    rollout:
      steps:
        - {{ weight: 10%, hold: 5s, min_requests: 60 }}
        - {{ weight: 50%, hold: 5s, min_requests: 100 }}
        - {{ weight: 100%, hold: 5s, min_requests: 200 }}
      sticky: {{ header: x-user-id }}
      guard: {{ error_rate: {{ warn: 1%, max: 5% }}, consecutive_failures: 5 }}
      failover: {{ to: stable }}
  media: {{ endpoints: ["{media}"] }}
  web: {{ endpoints: ["{web}"] }}
routes:
  shop: {{ match: {{ host: localhost, prefix: /api }}, service: shop }}
  media: {{ match: {{ host: localhost, prefix: /media }}, service: media }}
  web: {{ match: {{ host: localhost }}, service: web }}
"#
    )
}

/// The value of a series in the Prometheus text format; 0 when there is none.
fn counter(metrics: &str, series: &str) -> u64 {
    let value = |line: &str| line.strip_prefix(series)?.trim().parse::<f64>().ok();
    metrics.lines().find_map(value).map_or(0, |value| value as u64)
}

#[cfg(test)]
mod tests {
    use gateway_core::config::model::{Plan, Traffic};

    use super::*;

    fn addresses() -> Addresses {
        let address = |port| (Ipv4Addr::LOCALHOST, port).into();
        Addresses {
            shop_1: address(1001),
            shop_2: address(1002),
            shop_3: address(1003),
            media: address(1004),
            web: address(1005),
        }
    }

    #[test]
    fn the_file_is_good_and_names_the_roles() {
        let directory = tempfile::tempdir().expect("a directory");
        let hosts = cert::DEFAULT_HOSTS.map(str::to_owned);
        cert::ensure(&directory.path().join("certs"), &hosts, SystemTime::now()).expect("certificates");
        let deployment = Deployment { stable: "shop-2", canary: "shop-3" };
        let text = configuration(Ports { https: 8443, admin: 9901 }, &addresses(), deployment);
        let file = directory.path().join("gateway.yaml");
        fs::write(&file, text).expect("a file");

        let gateway =
            crate::load::load(&file).map(|loaded| loaded.gateway).map_err(|report| report.to_string());

        let gateway = gateway.unwrap_or_else(|report| panic!("{report}"));
        let (_, shop) = gateway.services.iter().find(|(name, _)| name.as_str() == "shop").expect("the shop");
        assert_eq!(shop.stable.as_str(), "shop-2");
        assert!(matches!(&shop.traffic, Traffic::Canary { canary, plan: Plan::Steps(steps) }
            if canary.as_str() == "shop-3" && steps.len() == 3));
        assert!(shop.rollout.failover.is_some());
    }

    #[test]
    fn a_taken_port_gives_way_to_the_next_free_one() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let wished = taken.local_addr().expect("an address").port();
        let found = free_port(wished).expect("one of the next is free");
        assert!(found > wished && found <= wished + PORTS, "{wished} {found}");
    }

    #[test]
    fn a_counter_is_found_by_its_whole_name_and_labels() {
        let text = "a_total{service=\"shop\"} 3\nb_total{service=\"shop\"} 7\n";
        assert_eq!(counter(text, "b_total{service=\"shop\"}"), 7);
        assert_eq!(counter(text, "c_total{service=\"shop\"}"), 0);
    }
}
