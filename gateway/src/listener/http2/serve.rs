//! A connection over HTTP/2 from its preface to its end: every request on a task of its own.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection as H2, SendResponse};
use h2::{Reason, RecvStream};
use http::{Request, Response, StatusCode};
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

use super::gather::Gather;
use super::judge::{Fault, judge};
use super::{Exchange, SEND_BUFFER};
use crate::listener::connection::Connection;

/// Windows for uploads: per stream, and for a connection (DESIGN §5).
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// What a client's header fields may take once they are unpacked. A listener's own limit is lower and answered.
const MAX_HEADER_LIST: u32 = 64 << 10;

/// Requests that a client may have under way.
const MAX_STREAMS: u32 = 100;

/// Malformed requests a connection may have over its whole life, however many good ones lie between them.
const MAX_MALFORMED: u32 = 32;

/// How long a connection without a request may take to send its first one when the process stops: told to go elsewhere at
/// once, a client would lose the one that is on its way.
const FIRST_REQUEST: Duration = Duration::from_millis(500);

/// How often within the time an unused connection may last somebody looks whether it is used.
const LOOKS: u32 = 4;

/// Serves a connection until it ends. Once `shutdown` is true, or nobody is left to set it, the client is asked to open
/// its next one elsewhere, and requests that are under way are finished.
///
/// An unused connection is closed when it has been so for `keepalive`, or up to a quarter longer.
pub(crate) async fn serve<S, F, Fut>(
    stream: S,
    connection: Arc<Connection>,
    mut shutdown: ShutdownWatch,
    serve: F,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Exchange) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let transport = Gather::new(stream);
    let Some(h2) = handshake(&transport).await else { return };
    let pause = connection.listener.limits.keepalive / LOOKS;
    let mut serving = Serving::new(h2, transport, connection, serve);
    let (seen, late) = (shutdown.clone(), *shutdown.borrow());
    let begun = serving.begun.clone();
    let stop = pin!(async move {
        // An error says that nobody is left to stop it: the process is ending.
        let _ = shutdown.wait_for(|stopped| *stopped).await;
        if !begun.load(Ordering::Relaxed) {
            tokio::time::sleep(FIRST_REQUEST).await;
        }
    });
    let mut events = Events { stop, seen, late, look: pin!(tokio::time::sleep(pause)), pause, known: None };
    poll_fn(|cx| serving.poll(cx, &mut events)).await;
}

/// Both ends' first words. How long a client may take for its own is the stream's matter.
async fn handshake<S>(transport: &Gather<S>) -> Option<H2<Gather<S>, Bytes>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut handshake = options().handshake(transport.share());
    poll_fn(|cx| {
        let opened = Pin::new(&mut handshake).poll(cx);
        match transport.poll_send(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(None),
            _ => opened.map(Result::ok),
        }
    })
    .await
}

/// What a client may make us do is bounded by the library as well, and its defaults are kept: resets of streams that
/// nobody has looked at yet (`max_pending_accept_reset_streams`, 20: CVE-2023-44487) or that we reset
/// (`max_concurrent_reset_streams`, 50; `max_local_error_reset_streams`, 1024), CONTINUATION frames of a header, empty DATA
/// frames, and small ones (`data_frame_budget`). Whoever passes them is told to calm down, and closed.
fn options() -> Builder {
    let mut options = Builder::new();
    options
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buffer_size(SEND_BUFFER);
    options
}

/// A connection being served.
struct Serving<S, F> {
    h2: H2<Gather<S>, Bytes>,
    transport: Gather<S>,
    connection: Arc<Connection>,
    serve: F,
    /// One share for each open request.
    open: Arc<()>,
    malformed: u32,
    /// Whether the last turn left it to others to add to what waits.
    waited: bool,
    /// Whether a request came in since the last look.
    used: bool,
    /// Whether one ever came in.
    begun: Arc<AtomicBool>,
    unused_looks: u32,
    stopping: bool,
    closing: bool,
}

/// What ends a connection that its client keeps.
///
/// Each poll of a watch or timer takes locks, so they are polled when something happened to them, not whenever a frame
/// comes in.
struct Events<'a, W> {
    stop: Pin<&'a mut W>,
    seen: ShutdownWatch,
    /// Whether the process had begun to stop before the connection began.
    late: bool,
    look: Pin<&'a mut Sleep>,
    pause: Duration,
    /// Who is woken by them.
    known: Option<Waker>,
}

impl<S, F, Fut> Serving<S, F>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Exchange) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    fn new(h2: H2<Gather<S>, Bytes>, transport: Gather<S>, connection: Arc<Connection>, serve: F) -> Self {
        Self {
            h2,
            transport,
            connection,
            serve,
            open: Arc::new(()),
            malformed: 0,
            waited: false,
            used: false,
            begun: Arc::default(),
            unused_looks: 0,
            stopping: false,
            closing: false,
        }
    }

    /// One turn; ready at the end of the connection.
    fn poll<W: Future<Output = ()>>(&mut self, cx: &mut Context<'_>, events: &mut Events<'_, W>) -> Poll<()> {
        let (stopped, look) = events.poll(cx, self.stopping);
        if stopped {
            self.stopping = true;
            self.h2.graceful_shutdown();
        }
        if look && self.is_unused() {
            if self.closing {
                // The client does not even take the farewell.
                return Poll::Ready(());
            }
            self.close(Reason::NO_ERROR);
        }
        if self.poll_requests(cx).is_ready() {
            return Poll::Ready(());
        }
        self.poll_send(cx)
    }

    /// Begins requests that came in; ready when there will be no more, and the last was answered. This is what reads,
    /// and what takes answers from their requests.
    fn poll_requests(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match ready!(self.h2.poll_accept(cx)) {
                Some(Ok((request, respond))) => self.begin(request, respond),
                // That clients just leave is usual.
                Some(Err(_)) | None => return Poll::Ready(()),
            }
        }
    }

    fn begin(&mut self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        if self.closing {
            return;
        }
        self.used = true;
        self.begun.store(true, Ordering::Relaxed);
        let (mut parts, body) = request.into_parts();
        if let Err(fault) = judge(&mut parts) {
            self.refuse(fault, &mut respond);
            return;
        }
        let request = Exchange::new((parts, body), respond, self.connection.clone(), self.open.clone());
        tokio::spawn((self.serve)(request));
    }

    /// Answers a request that is not served.
    fn refuse(&mut self, fault: Fault, respond: &mut SendResponse<Bytes>) {
        self.connection.listener.metrics.bad_requests.count(fault.reason());
        match fault.status() {
            // A client that is gone needs no answer.
            Some(status) => drop(respond.send_response(answer(status), true)),
            None => respond.send_reset(Reason::PROTOCOL_ERROR),
        }
        if fault.is_malformed() {
            self.malformed += 1;
        }
        if self.malformed >= MAX_MALFORMED {
            self.close(Reason::ENHANCE_YOUR_CALM);
        }
    }

    /// Says farewell, once.
    fn close(&mut self, reason: Reason) {
        if !self.closing {
            self.closing = true;
            self.h2.abrupt_shutdown(reason);
        }
    }

    /// Whether nobody has used the connection for long enough.
    fn is_unused(&mut self) -> bool {
        let used = std::mem::take(&mut self.used) || self.h2.has_streams();
        self.unused_looks = if used { 0 } else { self.unused_looks + 1 };
        self.unused_looks >= LOOKS
    }

    /// Sends what the turn has brought. While several requests are open, whoever is ready to run goes first, once: what
    /// they answer leaves in the same packet. Left alone, this task would run after each of them, as whoever is woken
    /// last runs next.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.transport.has_more() {
            return Poll::Pending;
        }
        // One share is our own.
        let several = Arc::strong_count(&self.open) > 2;
        if several && !self.waited {
            self.waited = true;
            // A task that wakes itself goes to the end of the queue.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.waited = false;
        match self.transport.poll_send(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }
}

impl<W: Future<Output = ()>> Events<'_, W> {
    /// Whether the process stops, and whether it is time for a look.
    fn poll(&mut self, cx: &mut Context<'_>, stopping: bool) -> (bool, bool) {
        let unknown = !self.known.as_ref().is_some_and(|known| known.will_wake(cx.waker()));
        if unknown {
            self.known = Some(cx.waker().clone());
        }
        let told = !stopping && (unknown || self.late || self.seen.has_changed().unwrap_or(true));
        let stopped = told && self.stop.as_mut().poll(cx).is_ready();
        let due = unknown || self.look.is_elapsed();
        let look = due && self.look.as_mut().poll(cx).is_ready();
        if look {
            self.look.as_mut().reset(Instant::now() + self.pause.max(Duration::from_millis(1)));
            // Makes it wake this task again.
            let _ = self.look.as_mut().poll(cx);
        }
        (stopped, look)
    }
}

fn answer(status: StatusCode) -> Response<()> {
    let mut answer = Response::new(());
    *answer.status_mut() = status;
    answer
}
