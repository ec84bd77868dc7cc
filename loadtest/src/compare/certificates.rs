//! An authority and a certificate for one run: ECDSA P-256, as everybody uses now.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::Trouble;
use super::drive::Tls;

/// Files for the proxies, and trust for the clients.
pub(super) struct Certificates {
    /// The chain.
    pub(super) cert: PathBuf,
    /// The key.
    pub(super) key: PathBuf,
    /// Chain and key in one file.
    pub(super) both: PathBuf,
    authority: CertificateDer<'static>,
    host: String,
}

impl Certificates {
    /// Writes a certificate for `host` into `directory`.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub(super) fn create(directory: &Path, host: &str) -> Result<Self, Trouble> {
        let refused = |error: rcgen::Error| Trouble::Failed(format!("no certificate for {host}: {error}"));
        let key = KeyPair::generate().map_err(refused)?;
        let mut authority = CertificateParams::new(Vec::new()).map_err(refused)?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "loadtest compare");
        let root = authority.self_signed(&key).map_err(refused)?;
        let issuer = Issuer::new(authority, key);

        let leaf_key = KeyPair::generate().map_err(refused)?;
        let mut leaf = CertificateParams::new(vec![host.to_owned()]).map_err(refused)?;
        leaf.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        let leaf = leaf.signed_by(&leaf_key, &issuer).map_err(refused)?;

        let path = |name: &str| directory.join(name);
        let files = Self {
            cert: path("cert.pem"),
            key: path("key.pem"),
            both: path("both.pem"),
            authority: root.der().clone(),
            host: host.to_owned(),
        };
        let (chain, key) = (leaf.pem(), leaf_key.serialize_pem());
        fs::write(&files.cert, &chain)?;
        fs::write(&files.key, &key)?;
        fs::write(&files.both, [chain, key].concat())?;
        Ok(files)
    }

    /// A client that asks for one protocol by ALPN. It offers AES-128-GCM first, as browsers do where it is quick, and
    /// X25519 alone, so that every peer does the same work. With `resume` it keeps tickets.
    ///
    /// # Errors
    /// When the authority is not one.
    pub(super) fn client(&self, alpn: &[u8], resume: bool) -> Result<Tls, Trouble> {
        let refused = |error: rustls::Error| Trouble::Tls(error.to_string());
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).map_err(refused)?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .map_err(refused)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        if !resume {
            config.resumption = Resumption::disabled();
        }
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        Ok(Tls { config: Arc::new(config), name })
    }
}

fn provider() -> CryptoProvider {
    use aws_lc_rs::cipher_suite::{
        TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };
    CryptoProvider {
        cipher_suites: vec![
            TLS13_AES_128_GCM_SHA256,
            TLS13_AES_256_GCM_SHA384,
            TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    }
}
