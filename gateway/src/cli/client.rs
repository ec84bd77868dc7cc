//! The admin API seen from the command line: where the running gateway answers, and one call at a time.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use gateway_core::config::model::Secret;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::{AdminArgs, DEFAULT_CONFIG, Failure};

/// Where a gateway answers when nothing else is said.
pub const DEFAULT_ADMIN: &str = "127.0.0.1:9901";

/// The environment variable that holds the token, before the file's `admin.token`.
pub const TOKEN_VARIABLE: &str = "GATEWAY_ADMIN_TOKEN";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A reload resolves names and reads certificates before it answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// An admin listener as the command line names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddress {
    /// `HOST:PORT`.
    Tcp(String),
    /// `unix:PATH`.
    Unix(PathBuf),
}

impl FromStr for AdminAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "write HOST:PORT or unix:PATH, like 127.0.0.1:9901";
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(FORM) } else { Ok(Self::Unix(path.into())) };
        }
        let (host, port) = text.rsplit_once(':').ok_or(FORM)?;
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(FORM);
        }
        // A gateway that listens on every address is asked on this machine's own.
        Ok(Self::Tcp(match host {
            "0.0.0.0" => format!("127.0.0.1:{port}"),
            "[::]" => format!("[::1]:{port}"),
            _ => text.to_owned(),
        }))
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The part of a configuration file that says where its gateway answers. All else in it may be wrong: a broken file is
/// just what `gateway reload` is asked to report.
#[derive(Debug, Default, Deserialize)]
struct File {
    #[serde(default)]
    admin: Admin,
}

#[derive(Debug, Default, Deserialize)]
struct Admin {
    listen: Option<String>,
    token: Option<String>,
}

/// A running gateway's admin listener.
#[derive(Debug)]
pub struct Client {
    address: AdminAddress,
    token: Option<Secret>,
}

/// What the gateway answered.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body; text that is no JSON becomes a JSON string.
    pub body: Value,
}

impl Answer {
    /// The sentence for an answer the command has no use for (RFC 9457: `detail`, else `title`).
    pub fn refusal(&self) -> Failure {
        let said = [&self.body["detail"], &self.body["title"], &self.body];
        let sentence = said.iter().find_map(|said| said.as_str()).unwrap_or_default().trim();
        let remedy = match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                format!("; put its token into {TOKEN_VARIABLE}")
            }
            _ => String::new(),
        };
        let colon = if sentence.is_empty() { "" } else { ": " };
        Failure::Refused(format!("the gateway refused with {}{colon}{sentence}{remedy}", self.status))
    }
}

impl Client {
    /// Finds the gateway: `--admin`, else `admin.listen` of the file, else [`DEFAULT_ADMIN`]. The token comes from
    /// [`TOKEN_VARIABLE`], else from the file.
    ///
    /// # Errors
    /// [`Failure::Failed`] when a file was named and cannot be read.
    pub fn locate(args: &AdminArgs) -> Result<Self, Failure> {
        let path = args.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG));
        let file = match std::fs::read_to_string(path) {
            Ok(text) => serde_saphyr::from_str::<File>(&text).unwrap_or_default(),
            Err(error) if args.config.is_some() => {
                return Err(Failure::Failed(format!("cannot read {}: {error}", path.display())));
            }
            Err(_) => File::default(),
        };
        Ok(Self::from_parts(args.admin.clone(), file.admin, path, |name| std::env::var(name).ok()))
    }

    fn from_parts(
        named: Option<AdminAddress>,
        file: Admin,
        path: &Path,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let referred = |reference: &str| match reference.split_once(':')? {
            ("env", name) => environment(name),
            ("file", secret) => {
                std::fs::read_to_string(beside(path, secret)).ok().map(|text| text.trim_end().into())
            }
            _ => None,
        };
        let filled = |text: String| expand(&text, &referred).filter(|text| !text.is_empty());
        let listen = || match file.listen.and_then(filled)?.parse().ok()? {
            AdminAddress::Unix(socket) => Some(AdminAddress::Unix(beside(path, socket))),
            tcp => Some(tcp),
        };
        let default = || AdminAddress::Tcp(DEFAULT_ADMIN.to_owned());
        let token = environment(TOKEN_VARIABLE).filter(|token| !token.is_empty());
        Self {
            address: named.or_else(listen).unwrap_or_else(default),
            token: token.or_else(|| file.token.and_then(filled)).map(Secret),
        }
    }

    /// Asks once and waits for the whole answer, at most a minute.
    ///
    /// # Errors
    /// [`Failure::Refused`] with a remedy when none answers.
    pub fn call(&self, method: Method, path: &str) -> Result<Answer, Failure> {
        self.blocking(method, path, None)
    }

    /// As [`Self::call`], with a JSON body.
    ///
    /// # Errors
    /// As for [`Self::call`].
    pub fn send(&self, method: Method, path: &str, body: &Value) -> Result<Answer, Failure> {
        self.blocking(method, path, Some(body))
    }

    fn blocking(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.ask(method, path, body))
    }

    /// As [`Self::call`], from asynchronous code; with a JSON body if one is given.
    ///
    /// # Errors
    /// As for [`Self::call`].
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        let answer = async {
            match &self.address {
                AdminAddress::Tcp(address) => {
                    let stream = self.connected(TcpStream::connect(address)).await?;
                    self.exchange(stream, self.request(method, path, address, body)).await
                }
                AdminAddress::Unix(socket) => {
                    let stream = self.connected(UnixStream::connect(socket)).await?;
                    self.exchange(stream, self.request(method, path, "localhost", body)).await
                }
            }
        };
        timeout(ANSWER_TIMEOUT, answer).await.unwrap_or_else(|_| {
            let waited = ANSWER_TIMEOUT.as_secs();
            Err(Failure::Refused(format!("the gateway at {} did not answer in {waited} s", self.address)))
        })
    }

    async fn connected<S>(&self, connecting: impl Future<Output = io::Result<S>>) -> Result<S, Failure> {
        let outcome = timeout(CONNECT_TIMEOUT, connecting).await;
        outcome.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(|error| {
            let remedy = match error.kind() {
                io::ErrorKind::PermissionDenied => "run this as the gateway's user",
                _ => "start one with `gateway run`, or say where it is with --admin or -c",
            };
            let reason = error.to_string();
            let reason = reason.split(" (os error").next().unwrap_or_default().to_lowercase();
            Failure::Refused(format!("no gateway answers at {} ({reason}): {remedy}", self.address))
        })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        host: &str,
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, host);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.0));
        }
        request = request.header(header::ACCEPT, "application/json");
        match body {
            Some(body) => {
                let request = request.header(header::CONTENT_TYPE, "application/json");
                request.body(Full::from(body.to_string()))
            }
            None => request.body(Full::default()),
        }
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        request: Result<Request<Full<Bytes>>, http::Error>,
    ) -> Result<Answer, Failure> {
        let request = request.map_err(|error| Failure::Failed(format!("cannot ask the gateway: {error}")))?;
        let broken = |error: hyper::Error| {
            Failure::Refused(format!("the gateway at {} broke off its answer: {error}", self.address))
        };
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(broken)?;
        tokio::spawn(connection);

        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
        let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
        Ok(Answer { status, body: serde_json::from_slice(&body).unwrap_or_else(|_| text()) })
    }
}

/// Relative paths of a file are relative to it.
fn beside(file: &Path, path: impl AsRef<Path>) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(path)
}

/// Fills in `${env:NAME}`, `${file:PATH}` and, for what is unset or empty, `${env:NAME:-default}`; `None` when a
/// reference stays without a value.
fn expand(text: &str, referred: &impl Fn(&str) -> Option<String>) -> Option<String> {
    let Some((before, rest)) = text.split_once("${") else { return Some(text.to_owned()) };
    let (reference, after) = rest.split_once('}')?;
    let (reference, default) = match reference.split_once(":-") {
        Some((reference, default)) => (reference, Some(default.to_owned())),
        None => (reference, None),
    };
    let value = referred(reference).filter(|value| !value.is_empty()).or(default)?;
    Some(format!("{before}{value}{}", expand(after, referred)?))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::SocketAddr;

    use axum::Router;
    use axum::http::HeaderMap;
    use axum::routing::{get, post};

    use super::*;

    /// Serves `app` on a free port for as long as the test runs.
    pub(crate) fn admin_api(app: Router) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        listener.set_nonblocking(true).expect("set");
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                axum::serve(listener, app).await
            })
        });
        address
    }

    pub(crate) fn args_for(address: SocketAddr) -> AdminArgs {
        AdminArgs { config: None, admin: Some(AdminAddress::Tcp(address.to_string())) }
    }

    fn client(address: SocketAddr, token: Option<&str>) -> Client {
        Client {
            address: AdminAddress::Tcp(address.to_string()),
            token: token.map(|token| Secret(token.into())),
        }
    }

    fn located(
        named: Option<&str>,
        listen: Option<&str>,
        token: Option<&str>,
        variable: Option<&str>,
    ) -> Client {
        let named = named.map(|text| text.parse().expect("an address"));
        let file = Admin { listen: listen.map(Into::into), token: token.map(Into::into) };
        Client::from_parts(named, file, Path::new("/etc/gateway/gateway.yaml"), |name| match name {
            TOKEN_VARIABLE => variable.map(Into::into),
            "PORT" => Some("9902".into()),
            _ => None,
        })
    }

    #[test]
    fn the_option_outranks_the_file_and_the_file_the_default() {
        let address = |client: Client| client.address.to_string();
        assert_eq!(address(located(Some("10.0.0.1:1"), Some("10.0.0.2:2"), None, None)), "10.0.0.1:1");
        assert_eq!(address(located(None, Some("10.0.0.2:2"), None, None)), "10.0.0.2:2");
        assert_eq!(address(located(None, Some("127.0.0.1:${env:PORT}"), None, None)), "127.0.0.1:9902");
        assert_eq!(address(located(None, Some("${env:UNSET}"), None, None)), DEFAULT_ADMIN);
        assert_eq!(address(located(None, None, None, None)), DEFAULT_ADMIN);
    }

    #[test]
    fn a_socket_in_the_file_is_relative_to_the_file() {
        let client = located(None, Some("unix:run/admin.sock"), None, None);
        assert_eq!(client.address, AdminAddress::Unix("/etc/gateway/run/admin.sock".into()));
    }

    #[test]
    fn a_wildcard_address_is_asked_on_loopback() {
        assert_eq!("0.0.0.0:9901".parse(), Ok(AdminAddress::Tcp("127.0.0.1:9901".into())));
        assert_eq!("[::]:9901".parse(), Ok(AdminAddress::Tcp("[::1]:9901".into())));
        assert!("9901".parse::<AdminAddress>().is_err());
        assert!("unix:".parse::<AdminAddress>().is_err());
    }

    #[test]
    fn the_token_comes_from_the_environment_then_from_the_file() {
        let token = |file, variable| located(None, None, Some(file), variable).token.map(|token| token.0);
        assert_eq!(token("file", Some("variable")).as_deref(), Some("variable"));
        assert_eq!(token("file", None).as_deref(), Some("file"));
        assert_eq!(token("${env:UNSET:-}", None), None);
        assert_eq!(token("a${env:UNSET:-b}c", None).as_deref(), Some("abc"));
        assert_eq!(token("${env:UNSET}", None), None);
    }

    #[test]
    fn a_token_in_a_file_beside_the_configuration_is_read_and_never_shown() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("token"), "secret\n").expect("written");
        let file = Admin { listen: None, token: Some("${file:token}".into()) };
        let client = Client::from_parts(None, file, &directory.path().join("gateway.yaml"), |_| None);
        assert_eq!(client.token.as_ref().map(|token| token.0.as_str()), Some("secret"));
        assert!(!format!("{client:?}").contains("secret"));
    }

    #[test]
    fn a_broken_file_still_says_where_its_gateway_answers() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("gateway.yaml");
        std::fs::write(&path, "admin: { listen: '127.0.0.1:1234', what: 1 }\nroutes: 7\n").expect("written");
        let client = Client::locate(&AdminArgs { config: Some(path), admin: None }).expect("found");
        assert_eq!(client.address, AdminAddress::Tcp("127.0.0.1:1234".into()));
    }

    #[test]
    fn a_file_that_was_named_must_be_readable() {
        let args = AdminArgs { config: Some("/nowhere/gateway.yaml".into()), admin: None };
        let failure = Client::locate(&args).expect_err("not there");
        assert!(failure.to_string().contains("cannot read /nowhere/gateway.yaml"), "{failure}");
    }

    #[test]
    fn a_call_carries_the_token_and_the_host() {
        let echo = |headers: HeaderMap| async move {
            let text =
                |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            axum::Json(serde_json::json!([text(header::AUTHORIZATION), text(header::HOST)]))
        };
        let address = admin_api(Router::new().route("/v1/status", get(echo)));

        let answer = client(address, Some("secret")).call(Method::GET, "/v1/status").expect("answered");

        assert_eq!(answer.body, serde_json::json!(["Bearer secret", address.to_string()]));
    }

    #[test]
    fn a_unix_socket_is_as_good_as_a_port() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("admin.sock");
        let socket = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        socket.set_nonblocking(true).expect("set");
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::UnixListener::from_std(socket).expect("a listener");
                axum::serve(listener, Router::new().route("/v1/status", get(|| async { "fine" }))).await
            })
        });
        let client = Client { address: AdminAddress::Unix(path), token: None };
        assert_eq!(client.call(Method::GET, "/v1/status").expect("answered").body, "fine");
    }

    #[test]
    fn a_body_is_sent_as_json() {
        let echo = |headers: HeaderMap, body: String| async move {
            let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or("none");
            format!("{kind}: {body}")
        };
        let client = client(admin_api(Router::new().route("/v1/kill", axum::routing::put(echo))), None);
        let said = client.send(Method::PUT, "/v1/kill", &serde_json::json!({"on": true})).expect("answered");
        assert_eq!(said.body, "application/json: {\"on\":true}");
        assert_eq!(client.call(Method::PUT, "/v1/kill").expect("answered").body, "none: ");
    }

    #[test]
    fn nobody_there_is_one_sentence_with_a_remedy() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("an address");
        drop(free);

        let failure = client(address, None).call(Method::GET, "/v1/status").expect_err("nobody there");

        let sentence = failure.to_string();
        assert!(
            sentence.starts_with(&format!("error: no gateway answers at {address} (connection refused): ")),
            "{sentence}"
        );
        assert!(sentence.contains("`gateway run`") && !sentence.contains('\n'), "{sentence}");
        assert_eq!(failure.exit_code(), std::process::ExitCode::from(3));
    }

    #[test]
    fn a_problem_is_shown_as_its_detail() {
        let problem = r#"{"title": "Unauthorized", "detail": "this call needs the token"}"#;
        let app = Router::new()
            .route("/v1/reload", post(move || async move { (StatusCode::UNAUTHORIZED, problem) }));
        let answer = client(admin_api(app), None).call(Method::POST, "/v1/reload").expect("answered");
        assert_eq!(
            answer.refusal().to_string(),
            "error: the gateway refused with 401 Unauthorized: this call needs the token; \
             put its token into GATEWAY_ADMIN_TOKEN"
        );
    }
}
