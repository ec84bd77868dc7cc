//! TLS of a listener: certificates from files, chosen by server name, and the rustls configuration around them.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gateway_core::config::model::{self, TlsVersion};
use gateway_core::name::ListenerName;
use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, ServerConfig,
};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Why a certificate, key or authority file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsFileError {
    #[error("cannot read {}: {error}", path.display())]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("{} holds no PEM certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error("{} holds no usable PEM private key: {reason}", path.display())]
    NoKey { path: PathBuf, reason: String },
    #[error("{} is not a certificate that can be used: {reason}", path.display())]
    BadCertificate { path: PathBuf, reason: String },
    #[error("the key in {} does not belong to the certificate in {}", key.display(), cert.display())]
    KeyMismatch { cert: PathBuf, key: PathBuf },
    #[error("the key in {} cannot sign: {reason}", path.display())]
    BadKey { path: PathBuf, reason: String },
}

impl TlsFileError {
    /// The file at fault.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Unreadable { path, .. }
            | Self::NoCertificate { path }
            | Self::NoKey { path, .. }
            | Self::BadCertificate { path, .. }
            | Self::BadKey { path, .. }
            | Self::KeyMismatch { key: path, .. } => path,
        }
    }

    /// What to do about it.
    pub(crate) fn help(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => {
                "relative paths begin at the configuration file; the gateway's user must be able to read it"
            }
            Self::NoCertificate { .. } | Self::BadCertificate { .. } => {
                "it must hold `-----BEGIN CERTIFICATE-----` blocks, leaf first"
            }
            Self::NoKey { .. } | Self::BadKey { .. } => {
                "it must hold one unencrypted PKCS #8, PKCS #1 or SEC1 key in PEM"
            }
            Self::KeyMismatch { .. } => {
                "issue both together, or name the key that was used for the certificate request"
            }
        }
    }
}

/// A certificate chain with its key, and what is said about it.
pub(crate) struct Certificate {
    /// Chain and signing key.
    pub(crate) key: Arc<CertifiedKey>,
    /// DNS names and addresses it covers, lower case; the subject's common name does not count (RFC 9525 §2).
    pub(crate) names: Vec<String>,
    /// End of validity, in seconds since 1970.
    pub(crate) not_after: i64,
    /// Beginning of validity, in seconds since 1970.
    pub(crate) not_before: i64,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Certificate {
    /// Reads a PEM chain, leaf first, and the key that belongs to the leaf.
    ///
    /// # Errors
    /// [`TlsFileError`] names the file that is at fault.
    pub(crate) fn open(cert: &Path, key: &Path) -> Result<Self, TlsFileError> {
        let chain = read_chain(cert)?;
        let facts = Facts::of(&chain[0])
            .map_err(|reason| TlsFileError::BadCertificate { path: cert.into(), reason })?;
        let der = PrivateKeyDer::from_pem_slice(&read(key)?)
            .map_err(|error| TlsFileError::NoKey { path: key.into(), reason: error.to_string() })?;
        let signer = provider()
            .key_provider
            .load_private_key(der)
            .map_err(|error| TlsFileError::BadKey { path: key.into(), reason: error.to_string() })?;
        let certified = CertifiedKey::new(chain, signer);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(_) => return Err(TlsFileError::KeyMismatch { cert: cert.into(), key: key.into() }),
        }
        Ok(Self {
            key: Arc::new(certified),
            names: facts.names,
            not_after: facts.not_after,
            not_before: facts.not_before,
        })
    }

    /// What tells it apart in metrics: its first name.
    pub(crate) fn label(&self) -> String {
        self.names.first().cloned().unwrap_or_else(|| "unnamed".to_owned())
    }

    /// Whether a client that asks for `host` accepts it (RFC 9525 §6.3: a wildcard stands for one left-most label).
    pub(crate) fn covers(&self, host: &str) -> bool {
        if self.names.iter().any(|name| name == host) {
            return true;
        }
        self.names
            .iter()
            .filter_map(|name| name.strip_prefix("*."))
            .any(|parent| host.split_once('.').is_some_and(|(label, rest)| label != "*" && rest == parent))
    }
}

/// What the leaf says of itself.
struct Facts {
    names: Vec<String>,
    not_before: i64,
    not_after: i64,
}

impl Facts {
    fn of(leaf: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|error| error.to_string())?;
        let alternatives = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
        let names = alternatives
            .map_or_else(Vec::new, |names| names.value.general_names.iter().filter_map(name_text).collect());
        let validity = parsed.validity();
        Ok(Self {
            names,
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }
}

fn name_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|octets| std::net::Ipv4Addr::from(octets).to_string()),
            16 => {
                <[u8; 16]>::try_from(*bytes).ok().map(|octets| std::net::Ipv6Addr::from(octets).to_string())
            }
            _ => None,
        },
        _ => None,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsFileError> {
    std::fs::read(path).map_err(|error| TlsFileError::Unreadable { path: path.into(), error })
}

pub(crate) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let bad = |reason: String| TlsFileError::BadCertificate { path: path.into(), reason };
    let chain = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad(error.to_string()))?;
    if chain.is_empty() {
        return Err(TlsFileError::NoCertificate { path: path.into() });
    }
    Ok(chain)
}

/// Reads the authorities in a PEM file.
///
/// # Errors
/// [`TlsFileError`] when it is unreadable, empty, or holds what is no authority.
pub(crate) fn read_authorities(path: &Path) -> Result<Arc<RootCertStore>, TlsFileError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(path)? {
        roots
            .add(certificate)
            .map_err(|error| TlsFileError::BadCertificate { path: path.into(), reason: error.to_string() })?;
    }
    Ok(Arc::new(roots))
}

/// The process's cryptography: the one installed in `main`, or the same where a test did not.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

/// Picks a certificate by server name: exact, then one label of wildcard, then the first (DESIGN §11).
#[derive(Debug)]
struct ByServerName {
    names: HashMap<String, Arc<CertifiedKey>>,
    first: Arc<CertifiedKey>,
}

impl ByServerName {
    fn new(certificates: &[Arc<Certificate>]) -> Option<Self> {
        let first = certificates.first()?.key.clone();
        let mut names = HashMap::new();
        for certificate in certificates {
            for name in &certificate.names {
                names.entry(name.clone()).or_insert_with(|| certificate.key.clone());
            }
        }
        Some(Self { names, first })
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        self.names.get(&name).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.names.get(&format!("*.{parent}"))
        })
    }
}

impl ResolvesServerCert for ByServerName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.find(name));
        Some(named.unwrap_or(&self.first).clone())
    }
}

/// Builds the rustls side of a listener.
///
/// `tickets` outlives reloads, so that clients resume across them; it must be new when `client_auth` changed, since a
/// ticket carries the client's verified identity.
///
/// # Errors
/// A sentence on what rustls refuses; certificates were checked before, so this is rare.
pub(crate) fn server_config(
    tls: &model::Tls,
    certificates: &[Arc<Certificate>],
    client_roots: Option<Arc<RootCertStore>>,
    tickets: Arc<dyn ProducesTickets>,
) -> Result<Arc<ServerConfig>, String> {
    let versions: &[&rustls::SupportedProtocolVersion] = match tls.min_version {
        TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?;
    let builder = match (client_roots, &tls.client_auth) {
        (Some(roots), Some(auth)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            let verifier = if auth.required { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| error.to_string())?)
        }
        _ => builder.with_no_client_auth(),
    };
    let resolver = ByServerName::new(certificates).ok_or("a TLS listener needs a certificate")?;
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = tickets;
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// The keys of session tickets, by listener. They outlive reloads, so that clients resume across them, and rotate every
/// six hours by themselves.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    made: Mutex<HashMap<ListenerName, TicketKeys>>,
}

/// Keys, and a fingerprint of what clients are verified against while they hold.
type TicketKeys = (u64, Arc<dyn ProducesTickets>);

impl Tickets {
    /// The keys of one listener: new ones when its clients are verified against something else than before, since a
    /// ticket carries the identity that was verified.
    pub(crate) fn of(
        &self,
        listener: &ListenerName,
        auth: Option<&model::ClientAuth>,
        roots: Option<&RootCertStore>,
    ) -> Result<Arc<dyn ProducesTickets>, String> {
        let verified_by = fingerprint(auth, roots);
        let mut made = self.made.lock();
        if let Some((known, tickets)) = made.get(listener)
            && *known == verified_by
        {
            return Ok(tickets.clone());
        }
        let tickets = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|error| error.to_string())?;
        made.insert(listener.clone(), (verified_by, tickets.clone()));
        Ok(tickets)
    }
}

fn fingerprint(auth: Option<&model::ClientAuth>, roots: Option<&RootCertStore>) -> u64 {
    let mut hasher = DefaultHasher::new();
    auth.map(|auth| auth.required).hash(&mut hasher);
    for root in roots.iter().flat_map(|roots| &roots.roots) {
        root.subject.hash(&mut hasher);
        root.subject_public_key_info.hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use gateway_core::config::model::At;

    use super::*;

    #[test]
    fn ticket_keys_stay_until_clients_are_verified_differently() {
        let tickets = Tickets::default();
        let https = ListenerName::new("https").expect("a name");
        let auth =
            |required| model::ClientAuth { ca: At { value: PathBuf::new(), span: (0, 0).into() }, required };
        let keys = |auth: Option<&model::ClientAuth>, roots: Option<&RootCertStore>| {
            tickets.of(&https, auth, roots).expect("keys")
        };
        let ticket = keys(None, None).encrypt(b"session").expect("a ticket");
        let opens = |keys: Arc<dyn ProducesTickets>, ticket: &[u8]| keys.decrypt(ticket).is_some();
        assert!(opens(keys(None, None), &ticket), "a reload that changes nothing keeps them");

        let roots = authority();
        assert!(!opens(keys(Some(&auth(false)), Some(&roots)), &ticket), "clients are verified now");
        let ticket = keys(Some(&auth(false)), Some(&roots)).encrypt(b"session").expect("a ticket");
        assert!(opens(keys(Some(&auth(false)), Some(&roots)), &ticket));
        assert!(!opens(keys(Some(&auth(true)), Some(&roots)), &ticket), "a certificate is required now");
        let ticket = keys(Some(&auth(true)), Some(&roots)).encrypt(b"session").expect("a ticket");
        assert!(!opens(keys(Some(&auth(true)), Some(&authority())), &ticket), "others may sign now");
    }

    fn authority() -> RootCertStore {
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut roots = RootCertStore::empty();
        roots.add(params.self_signed(&key).expect("a certificate").der().clone()).expect("an authority");
        roots
    }
}
