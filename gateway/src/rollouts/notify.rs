//! Webhooks: tells others about rollouts, in order for each of them, and keeps nothing waiting.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use gateway_core::config::model::{Notify, NotifyFormat};
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_rustls::TlsConnector;

use super::events::Event;
use crate::listener::tls::provider;
use crate::telemetry::instruments::CounterBy;
use crate::telemetry::labels::Notification;

/// Messages that may wait for one receiver.
const QUEUE: usize = 64;

/// A receiver that has nothing to hear for so long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(300);

/// How long a receiver may take for one try, and the pauses before further ones.
#[derive(Debug, Clone, Copy)]
struct Patience {
    limit: Duration,
    pauses: [Duration; 2],
}

const PATIENCE: Patience =
    Patience { limit: Duration::from_secs(5), pauses: [Duration::from_secs(1), Duration::from_secs(4)] };

/// Sends messages to webhooks, each receiver's by a task of its own.
pub(crate) struct Notifier {
    patience: Patience,
    results: Arc<CounterBy<Notification>>,
    receivers: Mutex<HashMap<String, mpsc::Sender<Message>>>,
}

struct Message {
    service: String,
    body: Bytes,
}

impl Notifier {
    /// A notifier that counts what becomes of its messages.
    pub(crate) fn new(results: Arc<CounterBy<Notification>>) -> Self {
        Self { patience: PATIENCE, results, receivers: Mutex::default() }
    }

    /// Queues a message; when too many wait for the same receiver already, it is dropped. Needs a runtime.
    pub(crate) fn notify(&self, receiver: &Notify, event: &Event) {
        let message = Message { service: event.service.to_string(), body: body(receiver.format, event) };
        let url = &receiver.url.0;
        let mut receivers = self.receivers.lock();
        receivers.retain(|_, queue| !queue.is_closed());
        let queue = receivers.entry(url.clone()).or_insert_with(|| self.begin(url));
        let refused = match queue.try_send(message) {
            Ok(()) => return,
            // It was about to be forgotten.
            Err(TrySendError::Closed(message)) => {
                *queue = self.begin(url);
                queue.try_send(message).is_err()
            }
            Err(TrySendError::Full(_)) => true,
        };
        if refused {
            self.results.count(Notification::Dropped);
            let (service, to) = (&event.service, shown(url));
            tracing::error!(%service, to, "a notification was dropped: too many are waiting for this webhook");
        }
    }

    fn begin(&self, url: &str) -> mpsc::Sender<Message> {
        let (sender, queue) = mpsc::channel(QUEUE);
        tokio::spawn(deliver_all(url.to_owned(), queue, self.patience, self.results.clone()));
        sender
    }
}

/// The event itself, or what Slack shows.
fn body(format: NotifyFormat, event: &Event) -> Bytes {
    let json = match format {
        NotifyFormat::Json => serde_json::to_vec(event),
        NotifyFormat::Slack => serde_json::to_vec(&serde_json::json!({ "text": event.text })),
    };
    // Names, numbers and text are always JSON.
    json.unwrap_or_default().into()
}

/// As much of a URL as may be logged: its path and query are where webhooks keep their secret.
fn shown(url: &str) -> String {
    let uri = url.parse::<Uri>().unwrap_or_default();
    format!("{}://{}/…", uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default())
}

async fn deliver_all(
    url: String,
    mut queue: mpsc::Receiver<Message>,
    patience: Patience,
    results: Arc<CounterBy<Notification>>,
) {
    while let Ok(Some(message)) = tokio::time::timeout(FORGET_AFTER, queue.recv()).await {
        match deliver(&url, &message.body, patience).await {
            Ok(()) => results.count(Notification::Sent),
            Err(error) => {
                results.count(Notification::Failed);
                let (service, to) = (message.service, shown(&url));
                tracing::error!(service, to, %error, "a notification could not be delivered");
            }
        }
    }
}

/// Why a message was not taken. It never holds the URL.
#[derive(Debug, thiserror::Error)]
enum Undelivered {
    #[error("it answered {0}")]
    Refused(StatusCode),
    #[error("it did not answer in time")]
    Late,
    #[error("it cannot be reached: {0}")]
    Unreachable(#[from] io::Error),
    #[error("it does not speak HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("the URL cannot be used")]
    Url,
}

impl Undelivered {
    /// Whether another try may end otherwise.
    fn may_pass(&self) -> bool {
        match self {
            Self::Refused(status) => {
                status.is_server_error()
                    || matches!(*status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
            }
            Self::Url => false,
            Self::Late | Self::Unreachable(_) | Self::Http(_) => true,
        }
    }
}

/// Tries until it is taken, it never will be, or patience is at its end.
async fn deliver(url: &str, body: &Bytes, patience: Patience) -> Result<(), Undelivered> {
    let mut pauses = patience.pauses.into_iter();
    loop {
        let tried = tokio::time::timeout(patience.limit, post(url, body.clone())).await;
        let Err(error) = tried.unwrap_or(Err(Undelivered::Late)) else { return Ok(()) };
        match pauses.next().filter(|_| error.may_pass()) {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return Err(error),
        }
    }
}

/// Posts once, over a connection of its own: messages are few and far between.
async fn post(url: &str, body: Bytes) -> Result<(), Undelivered> {
    let uri: Uri = url.parse().map_err(|_| Undelivered::Url)?;
    let host = uri.host().ok_or(Undelivered::Url)?.trim_matches(['[', ']']);
    let secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let request = request(&uri, body)?;
    let socket = TcpStream::connect((host, port)).await?;
    if !secure {
        return exchange(socket, request).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| Undelivered::Url)?;
    exchange(TlsConnector::from(trust()?).connect(name, socket).await?, request).await
}

fn request(uri: &Uri, body: Bytes) -> Result<Request<Full<Bytes>>, Undelivered> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    // Never what may stand before an `@`.
    let host =
        uri.authority().and_then(|authority| authority.as_str().rsplit('@').next()).unwrap_or_default();
    Request::post(path)
        .header(HOST, host)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("gateway/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(body))
        .map_err(|_| Undelivered::Url)
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(), Undelivered>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    connection.abort();
    let status = answer?.status();
    if status.is_success() { Ok(()) } else { Err(Undelivered::Refused(status)) }
}

/// The authorities this system trusts, read when the first message needs them.
fn trust() -> io::Result<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs()?);
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(CONFIG.get_or_init(|| Arc::new(config)).clone())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use gateway_core::config::model::{NotifyEvent, Secret};
    use gateway_core::name::{ReleaseName, ServiceName};
    use gateway_core::rollout::{Cause, Change, Evidence, State};
    use gateway_core::unit::Weight;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::rollouts::events::Events;
    use crate::telemetry::metrics::Metrics;

    const IMPATIENT: Patience = Patience { limit: Duration::from_secs(60), pauses: [Duration::ZERO; 2] };

    fn event() -> Arc<Event> {
        let change = Change {
            at: Duration::from_secs(1_800_000_000),
            canary: ReleaseName::new("b").ok(),
            stable: ReleaseName::new("a").unwrap(),
            from: State::Completed,
            to: State::RolledBack,
            weight: Weight::ZERO,
            cause: Cause::Aborted,
            evidence: Evidence::default(),
        };
        Events::default().publish(&ServiceName::new("api").unwrap(), change)
    }

    fn receiver(address: &str, format: NotifyFormat) -> Notify {
        Notify {
            url: Secret(format!("http://{address}/hook/s3cret")),
            format,
            on: vec![NotifyEvent::RolledBack],
        }
    }

    /// Answers one request with a status and gives what was posted.
    async fn answer(listener: &TcpListener, status: &str) -> (String, serde_json::Value) {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        loop {
            socket.read_buf(&mut received).await.unwrap();
            let text = String::from_utf8_lossy(&received);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            if let Ok(json) = serde_json::from_str(body) {
                let head = head.to_owned();
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                socket.write_all(answer.as_bytes()).await.unwrap();
                return (head, json);
            }
        }
    }

    /// Waits until so many messages ended like this.
    async fn counted(metrics: &Metrics, result: &str, count: usize) {
        let line = format!("notifications_total{{result=\"{result}\"}} {count}\n");
        while !metrics.encode("").contains(&line) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_webhook_gets_the_event_as_json_or_a_sentence_for_slack() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let notifier = Notifier::new(Arc::default());
        let event = event();
        notifier.notify(&receiver(&address, NotifyFormat::Json), &event);
        let (head, json) = answer(&listener, "200 OK").await;
        assert!(head.starts_with("POST /hook/s3cret HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("host: {address}\r\n")), "{head}");
        assert_eq!(json, serde_json::to_value(&*event).unwrap());
        notifier.notify(&receiver(&address, NotifyFormat::Slack), &event);
        let (_, json) = answer(&listener, "204 No Content").await;
        assert_eq!(json, serde_json::json!({ "text": event.text }));
    }

    #[tokio::test]
    async fn a_webhook_that_fails_is_tried_three_times_and_one_that_refuses_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let trying =
            |url: String| tokio::spawn(async move { deliver(&url, &Bytes::from("{}"), IMPATIENT).await });
        let second_time = trying(url.clone());
        answer(&listener, "503 Busy").await;
        answer(&listener, "200 OK").await;
        assert!(second_time.await.unwrap().is_ok());
        let in_vain = trying(url.clone());
        for _ in 0..3 {
            answer(&listener, "500 Broken").await;
        }
        assert!(matches!(in_vain.await.unwrap(), Err(Undelivered::Refused(status)) if status == 500));
        let refused = trying(url);
        answer(&listener, "404 Not Found").await;
        assert!(matches!(refused.await.unwrap(), Err(Undelivered::Refused(status)) if status == 404));
    }

    #[tokio::test]
    async fn a_silent_webhook_keeps_nobody_waiting_and_what_it_cannot_take_is_dropped() {
        let (silent, lively) = (
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        );
        let metrics = Metrics::new(SystemTime::now());
        let notifier = Notifier { patience: IMPATIENT, ..Notifier::new(metrics.notifications()) };
        let to = |listener: &TcpListener| {
            receiver(&listener.local_addr().unwrap().to_string(), NotifyFormat::Json)
        };
        let event = event();
        for _ in 0..QUEUE + 2 {
            notifier.notify(&to(&silent), &event);
        }
        counted(&metrics, "dropped", 2).await;
        notifier.notify(&to(&lively), &event);
        answer(&lively, "200 OK").await;
        counted(&metrics, "sent", 1).await;
    }

    #[test]
    fn the_secret_of_a_url_is_not_shown() {
        assert_eq!(shown("https://user:pw@hooks.example:8443/T0/s3cret?key=1"), "https://hooks.example/…");
        let error = Undelivered::Refused(StatusCode::NOT_FOUND);
        assert_eq!(error.to_string(), "it answered 404 Not Found");
    }
}
