//! Where something listens, where something is reached, and ranges of addresses.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::host_fault;
use crate::config::decode::{Fault, Leaf};
use crate::config::host::host_name;
use crate::config::model::{Address, Socket};

impl Leaf for Socket {
    const WHAT: &'static str = "an address";

    fn parse(text: &str) -> Result<Self, Fault> {
        match text.strip_prefix("unix:") {
            Some("") => Err(Fault::new("the path of the unix socket is missing")
                .help("for example unix:/run/gateway/admin.sock")),
            Some(path) => Ok(Self::Unix(path.into())),
            None => listen_address(text).map(Self::Tcp),
        }
    }
}

text_schema!(
    Socket,
    "IP address and port, or `unix:` and a path.",
    ["127.0.0.1:9901", "unix:/run/gateway/admin.sock"]
);

impl Leaf for Address {
    const WHAT: &'static str = "an endpoint";

    fn parse(text: &str) -> Result<Self, Fault> {
        const FORMS: &str =
            "an endpoint is 10.0.0.7:8000, [2001:db8::7]:8000, web:3000 or unix:/run/app.sock";
        if let Some(path) = text.strip_prefix("unix:") {
            let absolute = path.starts_with('/');
            return if absolute {
                Ok(Self::Unix(path.into()))
            } else {
                Err(Fault::new("the path of a unix socket begins with `/`").help(FORMS))
            };
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let help = format!("write `{}`; https is `tls: {{}}` of the service", rest.trim_end_matches('/'));
            return Err(Fault::new(format!("an endpoint has no scheme `{scheme}://`")).help(help));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return if address.port() == 0 {
                Err(Fault::new("port 0 cannot be connected to"))
            } else {
                Ok(Self::Ip(address))
            };
        }
        let (host, port) =
            text.rsplit_once(':').ok_or_else(|| Fault::new(format!("`{text}` has no port")).help(FORMS))?;
        let port = port.parse().ok().filter(|&port: &u16| port != 0);
        let port =
            port.ok_or_else(|| Fault::new(format!("`{text}` has no port from 1 to 65535")).help(FORMS))?;
        let host = host_name(host).map_err(host_fault).map_err(|fault| fault.help(FORMS))?;
        Ok(Self::Name { host, port })
    }
}

text_schema!(
    Address,
    "IP address and port, host name and port, or `unix:` and a path.",
    ["10.0.0.7:8000", "web:3000", "unix:/run/app.sock"]
);

pub(super) fn listen_address(text: &str) -> Result<SocketAddr, Fault> {
    text.parse().map_err(|_| {
        let fault = Fault::new(format!("`{text}` is not an IP address with a port"));
        match text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
            Ok(port) => {
                fault.help(format!("did you mean `[::]:{port}` (all addresses) or `127.0.0.1:{port}`?"))
            }
            Err(_) => fault.help("for example [::]:443, 0.0.0.0:80 or 127.0.0.1:8080"),
        }
    })
}

pub(super) fn name_server(text: &str) -> Result<SocketAddr, Fault> {
    const DNS: u16 = 53;
    let address = text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS)));
    address.ok().filter(|address| address.port() != 0).ok_or_else(|| {
        Fault::new(format!("`{text}` is not the address of a name server"))
            .help("for example 10.0.0.2, 127.0.0.1:5353 or [2001:db8::53]:53")
    })
}

pub(super) fn cidr(text: &str) -> Result<IpNet, Fault> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let net = net.map_err(|_| {
        Fault::new(format!("`{text}` is not a range of addresses"))
            .help("for example 10.0.0.0/8 or 2001:db8::/32")
    })?;
    match net.trunc() {
        whole if whole == net => Ok(net),
        whole => Err(Fault::new(format!("`{text}` names one address and a range at once"))
            .help(format!("write `{whole}` for the range or `{}` for the address", net.addr()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_server_has_port_53_unless_it_says_another() {
        let read = |text: &str| name_server(text).ok().map(|address| address.to_string());
        assert_eq!(read("10.0.0.2").as_deref(), Some("10.0.0.2:53"));
        assert_eq!(read("2001:db8::53").as_deref(), Some("[2001:db8::53]:53"));
        assert_eq!(read("127.0.0.1:5353").as_deref(), Some("127.0.0.1:5353"));
        for text in ["", "dns.example", "10.0.0.2:0", "10.0.0", "udp://10.0.0.2"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_of_every_kind() {
        let read = |text: &str| <Address as Leaf>::parse(text).ok().map(|address| address.to_string());
        for text in
            ["10.0.0.7:8000", "[2001:db8::7]:8000", "web:3000", "unix:/run/app.sock", "my_app.internal:1"]
        {
            assert_eq!(read(text).as_deref(), Some(text));
        }
        assert_eq!(read("Web.Example.:80").as_deref(), Some("web.example:80"));
        for text in
            ["", "web", "web:0", "web:65536", "unix:app.sock", "http://web:80", "::1:80", "user@web:80"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
