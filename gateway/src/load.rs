//! From a path to a configuration that can be served: the file, what it refers to, and every problem with either.
//!
//! Start-up, `gateway check`, reload and tests all come through [`load`].

mod marks;
mod page;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use gateway_core::config;
use gateway_core::config::model::{self, At, Gateway};
use gateway_core::config::problem::{Code, Problem};
use gateway_core::config::report::Report;
use gateway_core::password::{BadLine, PasswordHash, UsersFile};
use gateway_core::route::rule::HostPattern;
use indexmap::IndexSet;
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use self::marks::Marks;
pub(crate) use self::marks::fingerprint;
use crate::files;
use crate::listener::tls::{self, Certificate, TlsFileError};

/// A certificate that ends sooner is worth a warning.
const EXPIRES_SOON_SECONDS: i64 = 14 * 86_400;

/// A configuration with everything it refers to opened.
#[derive(Debug)]
pub struct Loaded {
    /// As meant.
    pub gateway: Gateway,
    /// As written, with secrets redacted; JSON.
    pub shown: String,
    /// What does not keep it from serving.
    pub warnings: Report,
    /// Every file that was read; a change of any of them is a reason to load again.
    pub files: Vec<PathBuf>,
    /// Of the contents of `files`; what is loaded from other contents has another.
    pub(crate) fingerprint: u64,
    pub(crate) material: Material,
}

/// A chain and its key, in DER.
type ClientKey = (Vec<Vec<u8>>, Vec<u8>);

/// What was read from the files that a configuration names.
#[derive(Debug, Default)]
pub(crate) struct Material {
    certificates: HashMap<(PathBuf, PathBuf), Arc<Certificate>>,
    client_roots: HashMap<PathBuf, Arc<RootCertStore>>,
    upstream_roots: HashMap<PathBuf, Vec<Vec<u8>>>,
    client_keys: HashMap<(PathBuf, PathBuf), ClientKey>,
    pages: HashMap<PathBuf, Bytes>,
    users: HashMap<PathBuf, Vec<(String, PasswordHash)>>,
}

/// Loads the configuration at `path`. Reads files, binds nothing; costs a few milliseconds.
///
/// # Errors
/// A [`Report`] of everything that keeps it from being served.
pub fn load(path: &Path) -> Result<Loaded, Report> {
    let name = path.display().to_string();
    let text = std::fs::read(path).map_err(|error| {
        let problem = Problem::error(Code::File, format!("cannot read {name}: {error}"))
            .help("name another file with -c, or write a first one with `gateway init`");
        Report::new(&name, "", vec![problem])
    })?;
    load_bytes(&name, &text, path)
}

fn load_bytes(name: &str, text: &[u8], path: &Path) -> Result<Loaded, Report> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = std::path::absolute(directory.unwrap_or(Path::new("."))).unwrap_or_default();
    let marks = Marks::default();
    marks.add(path, text);
    let loaded = config::load(name, text, &directory, &marks)?;
    let mut opener = Opener { problems: Vec::new(), material: Material::default(), marks };
    opener.open_all(&loaded.gateway);
    let mut warnings = loaded.warnings;
    warnings.extend(opener.problems);
    if warnings.has_errors() {
        return Err(warnings);
    }
    warnings.extend(uncovered_hosts(&loaded.gateway, &opener.material));
    warnings.extend(files::SHARES.warning(&loaded.gateway.runtime));
    let (files, fingerprint) = opener.marks.finish();
    Ok(Loaded {
        gateway: loaded.gateway,
        shown: loaded.shown,
        warnings,
        fingerprint,
        files,
        material: opener.material,
    })
}

impl Material {
    /// The certificates of a listener, in the order of the file.
    pub(crate) fn certificates(&self, tls: &model::Tls) -> Vec<Arc<Certificate>> {
        tls.certificates
            .iter()
            .filter_map(|pair| self.certificates.get(&(pair.cert.value.clone(), pair.key.value.clone())))
            .cloned()
            .collect()
    }

    pub(crate) fn client_roots(&self, auth: &model::ClientAuth) -> Option<Arc<RootCertStore>> {
        self.client_roots.get(&auth.ca.value).cloned()
    }

    pub(crate) fn upstream_roots(&self, ca: &At<PathBuf>) -> Option<&[Vec<u8>]> {
        self.upstream_roots.get(&ca.value).map(Vec::as_slice)
    }

    /// Chain and key in DER.
    pub(crate) fn client_key(&self, pair: &model::Certificate) -> Option<ClientKey> {
        self.client_keys.get(&(pair.cert.value.clone(), pair.key.value.clone())).cloned()
    }

    /// The text of a page.
    pub(crate) fn page(&self, at: &At<PathBuf>) -> Option<Bytes> {
        self.pages.get(&at.value).cloned()
    }

    /// The users of a password file.
    pub(crate) fn users(&self, file: &At<PathBuf>) -> &[(String, PasswordHash)] {
        self.users.get(&file.value).map_or(&[], Vec::as_slice)
    }
}

/// Opens every file a configuration names; what fails becomes a problem at the place that names it.
struct Opener {
    problems: Vec<Problem>,
    material: Material,
    marks: Marks,
}

impl Opener {
    fn open_all(&mut self, gateway: &Gateway) {
        for tls in gateway.listeners.values().filter_map(|listener| listener.tls.as_ref()) {
            for pair in &tls.certificates {
                self.open_certificate(pair);
            }
            if let Some(auth) = &tls.client_auth {
                self.open_client_roots(&auth.ca);
            }
        }
        for tls in gateway.services.values().filter_map(|service| service.tls.as_ref()) {
            if let Some(ca) = &tls.ca {
                self.open_upstream_roots(ca);
            }
            if let Some(pair) = &tls.client_cert {
                self.open_client_key(pair);
            }
        }
        for auth in gateway.routes.values().filter_map(|route| route.basic_auth.as_ref()) {
            if let Some(file) = &auth.users_file {
                self.open_users(file);
                self.problems.extend(named_twice(auth, self.material.users(file)));
            }
        }
        let maintenance = gateway.routes.values().filter_map(|route| route.maintenance.as_ref());
        for at in maintenance.filter_map(|maintenance| maintenance.page.as_ref()) {
            self.open_page(at);
        }
    }

    fn open_page(&mut self, at: &At<PathBuf>) {
        self.marks.note(&at.value);
        match page::read(&at.value) {
            Ok(text) => drop(self.material.pages.insert(at.value.clone(), text)),
            Err(error) => {
                let problem = Problem::error(Code::File, error.to_string()).at(at.span, "named here");
                self.problems.push(problem.help(error.help()));
            }
        }
    }

    fn open_certificate(&mut self, pair: &model::Certificate) -> Option<Arc<Certificate>> {
        let (cert, key) = (&pair.cert, &pair.key);
        self.marks.note(&cert.value);
        self.marks.note(&key.value);
        let place = (cert.value.clone(), key.value.clone());
        if let Some(known) = self.material.certificates.get(&place) {
            return Some(known.clone());
        }
        match Certificate::open(&cert.value, &key.value) {
            Ok(certificate) => {
                self.problems.extend(validity(cert, &certificate));
                let certificate = Arc::new(certificate);
                self.material.certificates.insert(place, certificate.clone());
                Some(certificate)
            }
            Err(error) => {
                let at = if error.path() == key.value { key } else { cert };
                self.problems.push(file_problem(at, &error));
                None
            }
        }
    }

    fn open_client_roots(&mut self, ca: &At<PathBuf>) {
        self.marks.note(&ca.value);
        match tls::read_authorities(&ca.value) {
            Ok(roots) => drop(self.material.client_roots.insert(ca.value.clone(), roots)),
            Err(error) => self.problems.push(file_problem(ca, &error)),
        }
    }

    fn open_upstream_roots(&mut self, ca: &At<PathBuf>) {
        self.marks.note(&ca.value);
        match tls::read_authorities(&ca.value).and_then(|_| tls::read_chain(&ca.value)) {
            Ok(chain) => {
                let der = chain.iter().map(|certificate| certificate.to_vec()).collect();
                self.material.upstream_roots.insert(ca.value.clone(), der);
            }
            Err(error) => self.problems.push(file_problem(ca, &error)),
        }
    }

    fn open_users(&mut self, file: &At<PathBuf>) {
        self.marks.note(&file.value);
        if self.material.users.contains_key(&file.value) {
            return;
        }
        let path = file.value.display();
        let problem = |message: String, help: &str| {
            Problem::error(Code::File, message).at(file.span, "named here").help(help)
        };
        let UsersFile { users, faults } = match std::fs::read_to_string(&file.value) {
            Ok(text) => UsersFile::read(&text),
            Err(error) => {
                let help = "relative paths begin at the configuration file; it must be UTF-8, and the gateway's user must be able to read it";
                self.problems.push(problem(format!("cannot read {path}: {error}"), help));
                return;
            }
        };
        if users.is_empty() && faults.is_empty() {
            let help = "each line is one user, as `htpasswd -nB -C 12 NAME` prints it";
            self.problems.push(problem(format!("{path} names no user"), help));
        }
        let told =
            |(line, fault): &(usize, BadLine)| problem(format!("{path} line {line} {fault}"), fault.help());
        self.problems.extend(faults.iter().map(told));
        self.material.users.insert(file.value.clone(), users);
    }

    fn open_client_key(&mut self, pair: &model::Certificate) {
        let Some(certificate) = self.open_certificate(pair) else { return };
        let chain = certificate.key.cert.iter().map(|der| der.to_vec()).collect();
        // The pair has just been opened; a key that vanished since is caught by the next reload.
        if let Ok(key) = PrivateKeyDer::from_pem_file(&pair.key.value) {
            let place = (pair.cert.value.clone(), pair.key.value.clone());
            self.material.client_keys.insert(place, (chain, key.secret_der().to_vec()));
        }
    }
}

/// Users that stand in the configuration and in the file: nobody could tell whose password holds.
fn named_twice(auth: &model::BasicAuth, listed: &[(String, PasswordHash)]) -> Option<Problem> {
    let (name, _) = listed.iter().find(|(name, _)| auth.users.contains_key(name))?;
    let file = auth.users_file.as_ref()?;
    let message = format!("the user `{name}` stands in {} too", file.value.display());
    Some(Problem::error(Code::Conflict, message).at(file.span, "and in `users`").help("keep one of them"))
}

fn file_problem(at: &At<PathBuf>, error: &TlsFileError) -> Problem {
    Problem::error(Code::File, error.to_string()).at(at.span, "named here").help(error.help())
}

/// Whether a certificate is about to end, has ended, or has not begun.
fn validity(at: &At<PathBuf>, certificate: &Certificate) -> Option<Problem> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() as i64);
    let left = certificate.not_after - now;
    let message = if left <= 0 {
        format!("this certificate expired {} days ago", -left / 86_400)
    } else if left < EXPIRES_SOON_SECONDS {
        format!("this certificate expires in {} days", left / 86_400)
    } else if certificate.not_before > now {
        "this certificate is not valid yet".to_owned()
    } else {
        return None;
    };
    let problem = Problem::warning(Code::CertificateExpiry, message).at(at.span, "named here");
    Some(problem.help("renew it; the gateway takes up the new file by itself"))
}

/// Hosts that routes name and no certificate of a TLS listener covers.
fn uncovered_hosts(gateway: &Gateway, material: &Material) -> Vec<Problem> {
    let mut problems = Vec::new();
    let hosts: IndexSet<String> =
        gateway.routes.values().flat_map(|route| &route.matches.hosts).map(written).collect();
    for (name, listener) in &gateway.listeners {
        let Some(tls) = &listener.tls else { continue };
        let certificates = material.certificates(tls);
        let missing: Vec<&str> = hosts
            .iter()
            .map(String::as_str)
            .filter(|host| !certificates.iter().any(|certificate| certificate.covers(host)))
            .collect();
        if let (false, Some(first)) = (missing.is_empty(), tls.certificates.first()) {
            let message = format!(
                "no certificate of listener `{name}` covers {}: clients will refuse it",
                missing.join(", ")
            );
            let problem =
                Problem::warning(Code::CertificateHost, message).at(first.cert.span, "served instead");
            problems.push(problem.help("add a certificate for the host, or take it out of the routes"));
        }
    }
    problems
}

fn written(host: &HostPattern) -> String {
    match host {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Wildcard(parent) => format!("*.{parent}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{cert, init};

    /// Loads a file of this repository, its certificates in a directory of their own.
    fn loads(name: &str, certificates: &str) {
        let directory = tempfile::tempdir().expect("a directory");
        let written = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
        let text = std::fs::read_to_string(&written).expect("a file of the repository");
        let made = directory.path().join("certs");
        cert::ensure(&made, &cert::DEFAULT_HOSTS.map(str::to_owned), SystemTime::now()).expect("made");
        let text = text.replace(certificates, &made.display().to_string());
        assert!(!good(directory.path(), &text).gateway.routes.is_empty(), "{name}");
    }

    fn good(directory: &Path, text: &str) -> Loaded {
        let path = directory.join("gateway.yaml");
        std::fs::write(&path, text).expect("written");
        let loaded = load(&path).unwrap_or_else(|report| panic!("{report}"));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        loaded
    }

    #[test]
    fn what_make_run_serves_loads_without_a_warning() {
        loads("config/gateway.yaml", "../certs");
    }

    #[test]
    fn what_compose_serves_loads_without_a_warning() {
        loads("docker/gateway.yaml", "/var/lib/gateway/certs");
    }

    #[test]
    fn what_init_writes_loads_without_a_warning() {
        let directory = tempfile::tempdir().expect("a directory");
        good(directory.path(), init::TEMPLATE);
    }

    #[test]
    fn a_certificate_that_is_not_there_is_reported_where_it_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("gateway.yaml");
        let template = init::TEMPLATE.replace("  # https:", "  https:").replace("  #   ", "    ");
        std::fs::write(&path, &template).expect("written");
        let report = load(&path).expect_err("no certificate");
        let line = template.lines().position(|line| line.contains("tls: {")).map(|line| line + 1);
        assert_eq!(report.to_json()[0]["code"], "gateway::file");
        assert_eq!(report.to_json()[0]["line"].as_u64(), line.map(|line| line as u64));
    }

    /// The warnings about a file whose certificate was made for `host`, so many days ago.
    fn warnings(host: &str, days: u64) -> Vec<(String, String)> {
        let directory = tempfile::tempdir().expect("a directory");
        let then = SystemTime::now() - std::time::Duration::from_secs(days * 86_400);
        cert::ensure(directory.path(), &[host.to_owned()], then).expect("made");
        let path = directory.path().join("gateway.yaml");
        let text = "version: 1\nlisteners: { https: { address: '127.0.0.1:8443', tls: { certificates: [{ cert: cert.pem, key: key.pem }] } } }\n\
             services: { web: { endpoints: ['127.0.0.1:1'] } }\nroutes: { web: { match: { host: shop.example }, service: web } }\n";
        std::fs::write(&path, text).expect("written");
        let loaded = load(&path).unwrap_or_else(|report| panic!("{report}"));
        let told = |problem: &Problem| (problem.code.as_str().to_owned(), problem.to_string());
        loaded.warnings.problems().iter().map(told).collect()
    }

    #[test]
    fn a_certificate_is_warned_of_when_it_ends_soon_or_does_not_fit() {
        assert_eq!(warnings("shop.example", 0), []);
        let [(code, _)] = &warnings("other.example", 0)[..] else { panic!("one warning") };
        assert_eq!(code, "gateway::certificate_host");
        let [(code, message)] = &warnings("shop.example", 365 - 5)[..] else { panic!("one warning") };
        assert_eq!(code, "gateway::certificate_expiry");
        assert!(message.contains("expires in 4 days") || message.contains("expires in 5 days"), "{message}");
        let [(_, message)] = &warnings("shop.example", 365 + 5)[..] else { panic!("one warning") };
        assert!(message.contains("expired"), "{message}");
    }
}
