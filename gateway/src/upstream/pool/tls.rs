//! TLS towards origins: whom they are verified against, and who we say we are.

use std::sync::{Arc, OnceLock};

use gateway_core::config::model::Protocol;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::listener::tls::provider;

/// Builds what all connections of a service have in common, and with it their memory of sessions to resume.
///
/// `ca` and the chain of `client` are DER; without `ca` the system's authorities count.
///
/// # Errors
/// A sentence on what rustls refuses; files were checked before, so this is rare.
pub(crate) fn client_config(
    protocol: Protocol,
    ca: Option<&[Vec<u8>]>,
    client: Option<&(Vec<Vec<u8>>, Vec<u8>)>,
) -> Result<Arc<ClientConfig>, String> {
    let roots = ca.map_or_else(|| Ok(system()), |ca| authorities(ca).map(Arc::new))?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let mut config = match client {
        Some((chain, key)) => {
            let chain = chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
            let key = PrivateKeyDer::try_from(key.clone())?;
            builder.with_client_auth_cert(chain, key).map_err(|error| error.to_string())?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![match protocol {
        Protocol::Http1 => b"http/1.1".to_vec(),
        Protocol::H2 | Protocol::H2c => b"h2".to_vec(),
    }];
    Ok(Arc::new(config))
}

fn authorities(ca: &[Vec<u8>]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for der in ca {
        roots.add(CertificateDer::from(der.clone())).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

/// The system's authorities, read when a service first asks for them.
fn system() -> Arc<RootCertStore> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let read = || {
        let mut roots = RootCertStore::empty();
        match rustls_native_certs::load_native_certs() {
            Ok(found) => drop(roots.add_parsable_certificates(found)),
            Err(error) => tracing::error!(%error, "the system's authorities cannot be read"),
        }
        if roots.is_empty() {
            tracing::warn!("the system names no authorities: origins with TLS need `ca`");
        }
        Arc::new(roots)
    };
    SYSTEM.get_or_init(read).clone()
}
