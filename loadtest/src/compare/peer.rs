//! Who takes part: where each proxy is found, how it is configured for the one job, and how it is started.

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use super::arguments::Arguments;
use super::certificates::Certificates;

/// The host all requests are for.
pub(super) const HOST: &str = "shop.example";

/// A kind of proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// This project's.
    Gateway,
    /// Pingora doing nothing but proxying.
    Pingora,
    Nginx,
    #[value(name = "haproxy")]
    Haproxy,
    Envoy,
    Caddy,
}

/// What a configuration is filled in with.
pub(super) struct Site<'a> {
    pub(super) directory: &'a Path,
    pub(super) http: u16,
    pub(super) https: u16,
    pub(super) metrics: u16,
    pub(super) releases: [SocketAddr; 2],
    pub(super) certificates: &'a Certificates,
    /// Files a process may open.
    pub(super) files: u64,
}

impl Kind {
    pub(super) const ALL: [Self; 6] =
        [Self::Gateway, Self::Pingora, Self::Nginx, Self::Haproxy, Self::Envoy, Self::Caddy];

    /// As it is called in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Pingora => "bare Pingora",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Envoy => "Envoy",
            Self::Caddy => "Caddy",
        }
    }

    /// What it does not do of the job, by its nature.
    pub(super) fn lacks(self) -> Option<&'static str> {
        match self {
            Self::Pingora => Some("only proxies: no routes, split, limit, request id, log or metrics"),
            Self::Nginx => Some("its metrics are the eight counters of stub_status"),
            Self::Caddy => Some("no rate limit: that is a plugin Debian does not package"),
            Self::Gateway | Self::Haproxy | Self::Envoy => None,
        }
    }

    /// Its binary, if it is there.
    pub(super) fn binary(self, arguments: &Arguments) -> Option<PathBuf> {
        let given = |path: &Path| path.is_file().then(|| path.to_owned());
        match self {
            Self::Gateway => given(&arguments.gateway),
            Self::Pingora => given(&arguments.bare),
            Self::Envoy => given(&arguments.envoy).or_else(|| installed("envoy")),
            Self::Nginx => installed("nginx"),
            Self::Haproxy => installed("haproxy"),
            Self::Caddy => installed("caddy"),
        }
    }

    /// The version a binary says it has; its line as a whole where none is found in it.
    pub(super) fn version(self, binary: &Path) -> String {
        let argument = match self {
            Self::Pingora => return "0.9.1".to_owned(), // as Cargo.lock has it; the example has no options
            Self::Nginx | Self::Haproxy => "-v",
            Self::Caddy => "version",
            Self::Gateway | Self::Envoy => "--version",
        };
        let Ok(output) = Command::new(binary).arg(argument).output() else { return "unknown".to_owned() };
        let text = [output.stdout, output.stderr].concat();
        version_in(&String::from_utf8_lossy(&text))
    }

    /// Writes its configuration; the command that starts it in the foreground.
    pub(super) fn command(self, binary: &Path, site: &Site<'_>) -> std::io::Result<Command> {
        let mut command = Command::new(binary);
        let config = |name: &str, template: &str| {
            let path = site.directory.join(name);
            std::fs::write(&path, filled(template, site))?;
            std::io::Result::Ok(path)
        };
        match self {
            Self::Gateway => {
                command
                    .args(["run", "-c"])
                    .arg(config("gateway.yaml", include_str!("../../peers/gateway.yaml"))?);
            }
            Self::Pingora => {
                command
                    .arg(format!("127.0.0.1:{}", site.http))
                    .arg(format!("127.0.0.1:{}", site.https))
                    .args([&site.certificates.cert, &site.certificates.key])
                    .arg(site.releases[0].to_string());
            }
            Self::Nginx => {
                let errors = site.directory.join("error.log");
                let path = config("nginx.conf", include_str!("../../peers/nginx.conf"))?;
                command.arg("-e").arg(errors).arg("-p").arg(site.directory).arg("-c").arg(path);
            }
            Self::Haproxy => {
                command
                    .args(["-db", "-f"])
                    .arg(config("haproxy.cfg", include_str!("../../peers/haproxy.cfg"))?);
            }
            Self::Envoy => {
                let path = config("envoy.yaml", include_str!("../../peers/envoy.yaml"))?;
                command.arg("-c").arg(path).args(["--concurrency", "1", "--disable-hot-restart"]);
                command.args(["--log-level", "warn", "--file-flush-interval-msec", "1000"]);
            }
            Self::Caddy => {
                let path = config("Caddyfile", include_str!("../../peers/Caddyfile"))?;
                command.args(["run", "--adapter", "caddyfile", "--config"]).arg(path);
                command.env("GOMAXPROCS", "1").env("HOME", site.directory);
            }
        }
        Ok(command)
    }

    /// Where its access log is; HAProxy's goes to its standard output. The bare proxy has none.
    pub(super) fn access_log(self, directory: &Path) -> Option<PathBuf> {
        match self {
            Self::Pingora => None,
            Self::Haproxy => Some(directory.join("stdout")),
            _ => Some(directory.join("access.log")),
        }
    }

    /// The path of its metrics; the bare proxy has none.
    pub(super) fn metrics(self) -> Option<&'static str> {
        match self {
            Self::Pingora => None,
            Self::Envoy => Some("/stats/prometheus"),
            _ => Some("/metrics"),
        }
    }
}

fn installed(name: &str) -> Option<PathBuf> {
    // Debian keeps servers where only root's PATH leads.
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    places.map(|place| place.join(name)).find(|path| path.is_file())
}

/// The first word with a number, a dot and a number.
fn version_in(text: &str) -> String {
    let versioned = |word: &&str| {
        let mut parts = word.split('.');
        let numbered =
            |part: Option<&str>| part.is_some_and(|part| part.starts_with(|c: char| c.is_ascii_digit()));
        numbered(parts.next()) && numbered(parts.next())
    };
    let separators = |c: char| c.is_whitespace() || matches!(c, '/' | ',' | ';');
    let words = text.split(separators).map(|word| word.trim_start_matches('v'));
    let found =
        words.clone().find(versioned).unwrap_or_else(|| text.lines().next().unwrap_or_default().trim());
    // What a distribution appends names its package, not the version.
    found.split(['-', '+']).next().unwrap_or(found).to_owned()
}

fn filled(template: &str, site: &Site<'_>) -> String {
    let path = |path: &Path| path.display().to_string();
    // nginx takes it only from root, and its worker could not read the directory as somebody else.
    let user = if rustix::process::geteuid().is_root() { "root" } else { "nobody" };
    let values = [
        ("host", HOST.to_owned()),
        ("directory", path(site.directory)),
        ("http", site.http.to_string()),
        ("https", site.https.to_string()),
        ("metrics", site.metrics.to_string()),
        ("stable", site.releases[0].to_string()),
        ("canary", site.releases[1].to_string()),
        ("stable_port", site.releases[0].port().to_string()),
        ("canary_port", site.releases[1].port().to_string()),
        ("cert", path(&site.certificates.cert)),
        ("key", path(&site.certificates.key)),
        ("both", path(&site.certificates.both)),
        ("files", site.files.to_string()),
        ("user", user.to_owned()),
    ];
    let mut text = template.to_owned();
    for (name, value) in values {
        text = text.replace(&["{{", name, "}}"].concat(), &value);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_binaries_say() {
        for (said, version) in [
            ("nginx version: nginx/1.22.1", "1.22.1"),
            ("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/", "2.6.12"),
            ("2.6.2\n", "2.6.2"),
            ("v2.8.4 h1:q3pe0wpBj1OcHFZ3n\n", "2.8.4"),
            ("gateway 0.1.0", "0.1.0"),
            ("\n/usr/bin/envoy  version: 9e55809/1.40.0/Clean/RELEASE/BoringSSL\n", "1.40.0"),
        ] {
            assert_eq!(version_in(said), version, "{said}");
        }
    }

    #[test]
    fn every_placeholder_of_every_template_is_filled() {
        let directory = tempfile::tempdir().unwrap();
        let certificates = Certificates::create(directory.path(), HOST).unwrap();
        let releases = [SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 1], 2))];
        let site = Site {
            directory: directory.path(),
            http: 3,
            https: 4,
            metrics: 5,
            releases,
            certificates: &certificates,
            files: 6,
        };
        for kind in Kind::ALL {
            kind.command(Path::new("/bin/true"), &site).unwrap();
        }
        let mut seen = 0;
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(!text.contains("{{"), "{}: {text}", path.display());
            seen += usize::from(text.contains(HOST));
        }
        assert_eq!(seen, 5);
    }
}
