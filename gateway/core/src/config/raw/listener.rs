//! `listeners`: addresses, TLS and what one client may take.

use super::value::ClientAuthMode;
use crate::config::decode::{List, mapping};
use crate::config::leaf::{FieldName, FilePath, ListenAddress, Period};
use crate::config::model::{At, TlsVersion};
use crate::unit::ByteSize;

mapping! {
    /// An address and protocol to accept connections on.
    pub(crate) struct Listener {
        /// IP address and port; `[::]:443` is every address, IPv4 included.
        address: At<ListenAddress>,
        /// Makes it an https listener. Default: plain HTTP.
        tls: Option<At<Tls>>,
        /// Answers everything with a 308 to the https listener. Default: false.
        redirect_https: Option<At<bool>>,
        /// A PROXY header (v1 or v2) comes first; only `client_ip.trusted_proxies` may send it. Default: false.
        proxy_protocol: Option<At<bool>>,
        /// What one client may take.
        limits: Option<Limits>,
    }

    /// TLS of a listener.
    pub(crate) struct Tls {
        /// Chosen by server name; the first answers unknown and absent names. Files are watched.
        certificates: List<Certificate>,
        /// The lowest version accepted: `"1.2"` or `"1.3"`. Default: "1.2".
        min_version: Option<TlsVersion>,
        /// Certificates of clients (mTLS). Default: not asked for.
        client_auth: Option<At<ClientAuth>>,
    }

    /// A certificate chain and its key, as PEM files.
    pub(crate) struct Certificate {
        /// The chain, leaf first.
        cert: At<FilePath>,
        /// Its private key: PKCS #8, PKCS #1 or SEC1.
        key: At<FilePath>,
    }

    /// Certificates of clients (mTLS).
    pub(crate) struct ClientAuth {
        /// The authorities that may have signed them, as a PEM file. Required unless `mode` is `off`.
        ca: Option<At<FilePath>>,
        /// Whether a client must show one. Default: required.
        mode: Option<ClientAuthMode>,
        /// Fields in which services are told of it; clients cannot write them, on any listener. Default: none.
        headers: Option<ClientHeaders>,
    }

    /// Fields in which services are told of a client's certificate.
    pub(crate) struct ClientHeaders {
        /// Its subject by RFC 4514, such as `CN=alice,O=Shop`. Default: not told.
        subject: Option<At<FieldName>>,
        /// Its SHA-256 in lower-case hexadecimal. Default: not told.
        fingerprint: Option<At<FieldName>>,
    }

    /// What one client may take of a listener.
    pub(crate) struct Limits {
        /// TLS handshake, PROXY header included. Default: 10s.
        handshake: Option<At<Period>>,
        /// Request headers, from the first byte to the last; more is 408. Default: 10s.
        header: Option<At<Period>>,
        /// Request line and headers together; more is 431. Default: 32KiB.
        header_size: Option<At<ByteSize>>,
        /// Header fields; more is 431. Default: 100.
        header_fields: Option<At<u32>>,
        /// Length of the request target; more is 414. Default: 8KiB.
        uri: Option<At<ByteSize>>,
        /// Silence in the middle of a request body; more is 408. Default: 30s.
        body_idle: Option<At<Period>>,
        /// Silence between requests. Default: 75s.
        keepalive: Option<At<Period>>,
        /// Requests on one connection. Default: 1000.
        keepalive_requests: Option<At<u32>>,
        /// Connections from one address at a time. Default: 1000.
        connections_per_ip: Option<At<u32>>,
    }
}
