//! Configurations of tests: plain YAML with placeholders.

use loadtest::origin::{Origin, RawOrigin};

/// A gateway's configuration as a test writes it.
///
/// Placeholders: `{https}`, `{http}` and `{admin}` are reserved addresses, `{https-port}` and its like their ports,
/// `{dir}` the gateway's directory (with `certs/` in it), and `{NAME}` the address of an origin given by that name.
/// What the YAML leaves out is put in: version, admin, state, access log, and a TLS listener `https` on `{https}`.
#[derive(Clone, Default)]
pub(crate) struct Config {
    yaml: String,
    values: Vec<(String, String)>,
    pub(crate) environment: Vec<(String, String)>,
}

const USUAL: [(&str, &str); 5] = [
    ("version:", "version: 1\n"),
    ("admin:", "admin: { listen: \"{admin}\" }\n"),
    ("state:", "state: { path: \"{dir}/state\" }\n"),
    ("access_log:", "access_log: { path: \"{dir}/access.log\", format: json }\n"),
    (
        "listeners:",
        "listeners:\n  https:\n    address: \"{https}\"\n    tls: { certificates: [ { cert: certs/shop.pem, key: certs/shop.key } ] }\n",
    ),
];

/// The usual listeners: TLS, and plain HTTP beside it.
pub(crate) const BOTH_LISTENERS: &str = r#"
listeners:
  https:
    address: "{https}"
    tls: { certificates: [ { cert: certs/shop.pem, key: certs/shop.key } ] }
  http: { address: "{http}" }
"#;

impl Config {
    pub(crate) fn new(yaml: impl Into<String>) -> Self {
        Self { yaml: yaml.into(), ..Self::default() }
    }

    /// Puts an origin's address where its name stands in braces.
    pub(crate) fn origin(self, origin: &Origin) -> Self {
        self.value(origin.name(), origin.address())
    }

    /// Puts a raw origin's address where `{NAME}` stands.
    pub(crate) fn raw_origin(self, name: &str, origin: &RawOrigin) -> Self {
        self.value(name, origin.address())
    }

    /// Puts `value` where `{NAME}` stands.
    pub(crate) fn value(mut self, name: &str, value: &str) -> Self {
        self.values.push((format!("{{{name}}}"), value.to_owned()));
        self
    }

    /// Sets a variable in the gateway's environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same values with other YAML.
    pub(crate) fn with_yaml(&self, yaml: impl Into<String>) -> Self {
        Self { yaml: yaml.into(), ..self.clone() }
    }

    /// The same with one text in place of another.
    pub(crate) fn replace(&self, from: &str, to: &str) -> Self {
        assert!(self.yaml.contains(from), "the configuration does not hold `{from}`");
        self.with_yaml(self.yaml.replace(from, to))
    }

    /// The file's text.
    pub(crate) fn render(&self, reserved: &[(String, String)]) -> String {
        let mut text = String::new();
        for (key, usual) in USUAL {
            let written = self.yaml.lines().any(|line| line.starts_with(key));
            if !written {
                text.push_str(usual);
            }
        }
        text.push_str(&self.yaml);
        for (placeholder, value) in self.values.iter().chain(reserved) {
            text = text.replace(placeholder, value);
        }
        text
    }
}

impl From<&str> for Config {
    fn from(yaml: &str) -> Self {
        Self::new(yaml)
    }
}

impl From<String> for Config {
    fn from(yaml: String) -> Self {
        Self::new(yaml)
    }
}

impl From<&Config> for Config {
    fn from(config: &Config) -> Self {
        config.clone()
    }
}

/// Everything of shop.example to one service with one origin.
pub(crate) fn one_origin(origin: &Origin) -> Config {
    Config::new(ONE_ORIGIN).value("origin", origin.address())
}

/// Everything of shop.example to the service `api` at `{origin}`.
pub(crate) const ONE_ORIGIN: &str = r#"
services:
  api: { endpoints: ["{origin}"] }
routes:
  all: { match: { host: shop.example }, service: api }
"#;
