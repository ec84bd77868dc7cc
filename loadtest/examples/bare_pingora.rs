//! The floor of `loadtest compare`: what Pingora costs when it only proxies. No routes, no limits, no log, no metrics.
//! Allocator, cryptography and pool are the gateway's, so that the difference is what the gateway does.

use async_trait::async_trait;
use pingora::listeners::tls::TlsSettings;
use pingora::modules::http::HttpModules;
use pingora::prelude::{HttpPeer, Result, Server};
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::configuration::ServerConf;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Bare(HttpPeer);

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.0.clone()))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [http, https, cert, key, origin] = arguments.as_slice() else {
        return Err("usage: bare_pingora HTTP HTTPS CERT KEY ORIGIN".into());
    };
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| "another provider is installed")?;
    let conf = ServerConf { threads: 1, upstream_keepalive_pool_size: 4096, ..ServerConf::default() };
    let mut peer = HttpPeer::new(origin.parse::<std::net::SocketAddr>()?, false, String::new());
    peer.options.idle_timeout = Some(std::time::Duration::from_secs(4));
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut proxy = http_proxy_service(&server.configuration, Bare(peer));
    proxy.add_tcp(http);
    let mut tls = TlsSettings::intermediate(cert, key)?;
    tls.enable_h2();
    proxy.add_tls_with_settings(https, None, tls);
    server.add_service(proxy);
    server.run_forever();
}
