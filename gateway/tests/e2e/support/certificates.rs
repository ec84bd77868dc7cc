//! Certificates for tests, made anew in each process: one authority for servers, one for clients.

use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig};

/// A certificate with its key.
pub(crate) struct Leaf {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
}

impl Leaf {
    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        KeyPair::from_pem(&self.key_pem).expect("the key was just made").into()
    }

    /// Writes `NAME.pem` and `NAME.key`.
    pub(crate) fn write(&self, directory: &Path, name: &str) {
        fs::write(directory.join(format!("{name}.pem")), &self.certificate_pem).unwrap();
        fs::write(directory.join(format!("{name}.key")), &self.key_pem).unwrap();
    }
}

/// An authority that signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A new certificate for these names.
    pub(crate) fn sign(&self, names: &[&str]) -> Leaf {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.issue(&CertificateParams::new(names).unwrap())
    }

    /// A new certificate for a person of this organisation.
    pub(crate) fn sign_person(&self, organisation: &str, name: &str) -> Leaf {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, organisation);
        params.distinguished_name.push(DnType::CommonName, name);
        self.issue(&params)
    }

    fn issue(&self, params: &CertificateParams) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Leaf {
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }
}

/// The certificates every test may use.
pub(crate) struct Certificates {
    /// Signs what servers show.
    pub(crate) authority: Authority,
    /// Signs what clients show.
    pub(crate) clients: Authority,
    /// For shop.example, *.shop.example, localhost and 127.0.0.1.
    pub(crate) shop: Leaf,
    /// For other.example.
    pub(crate) other: Leaf,
    /// A client's, signed by `clients`.
    pub(crate) client: Leaf,
    /// Alice's of the Shop, signed by `clients`.
    pub(crate) alice: Leaf,
    /// Of somebody whose name looks like more than one, signed by `clients`.
    pub(crate) mallory: Leaf,
}

static CERTIFICATES: LazyLock<Certificates> = LazyLock::new(|| {
    let (authority, clients) = (Authority::new(), Authority::new());
    Certificates {
        shop: authority.sign(&["shop.example", "*.shop.example", "localhost", "127.0.0.1"]),
        other: authority.sign(&["other.example"]),
        client: clients.sign(&["client.example"]),
        alice: clients.sign_person("Shop", "alice"),
        mallory: clients.sign_person("Shop", "alice,O=Shop\r\nx-admin: zoë"),
        authority,
        clients,
    }
});

/// The certificates of this process.
pub(crate) fn certificates() -> &'static Certificates {
    &CERTIFICATES
}

impl Certificates {
    /// Writes `ca.pem`, `clients.pem`, and `shop`, `other` and `client` with their keys.
    pub(crate) fn write(&self, directory: &Path) {
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join("ca.pem"), self.authority.pem()).unwrap();
        fs::write(directory.join("clients.pem"), self.clients.pem()).unwrap();
        self.shop.write(directory, "shop");
        self.other.write(directory, "other");
        self.client.write(directory, "client");
    }
}

/// TLS for an origin, for shop.example and the loopback, that offers these protocols.
pub(crate) fn origin_tls(alpn: &[&str]) -> ServerConfig {
    let shop = &certificates().shop;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![shop.certificate.clone()], shop.key())
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}
