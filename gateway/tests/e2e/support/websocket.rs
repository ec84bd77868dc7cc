//! A WebSocket client.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::connection::Handshake;
use super::gateway::PATIENCE;

/// An open WebSocket.
pub(crate) struct WebSocket(WebSocketStream<TlsStream<TcpStream>>);

impl WebSocket {
    /// Opens one for shop.example; an answer other than 101 is [`Error::Http`].
    pub(crate) async fn connect(
        handshake: Handshake,
        path: &str,
        headers: &[(&'static str, &'static str)],
    ) -> Result<Self, Error> {
        let mut request = format!("wss://shop.example{path}").into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse()?);
        }
        let stream = handshake.connect().await.map_err(Error::Io)?;
        let opened = timeout(PATIENCE, client_async(request, stream)).await;
        opened.expect("the gateway answers the handshake").map(|(socket, _)| Self(socket))
    }

    pub(crate) async fn send(&mut self, message: Message) {
        self.0.send(message).await.expect("the WebSocket takes messages");
    }

    /// The next message; `None` once it is closed.
    pub(crate) async fn next(&mut self) -> Option<Result<Message, Error>> {
        timeout(PATIENCE, self.0.next()).await.expect("the WebSocket says something")
    }

    /// Sends a text and takes what comes back.
    pub(crate) async fn echo(&mut self, text: &str) -> String {
        self.send(Message::text(text)).await;
        match self.next().await {
            Some(Ok(Message::Text(text))) => text.to_string(),
            other => panic!("no text came back: {other:?}"),
        }
    }

    /// Waits until the other side closes it; gives the code it says.
    pub(crate) async fn closed(&mut self, patience: Duration) -> Option<u16> {
        let closed = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return None,
                }
            }
        };
        timeout(patience, closed).await.expect("the WebSocket is closed")
    }

    /// Closes it from this side and waits until it is closed.
    pub(crate) async fn close(mut self) {
        self.0.close(None).await.expect("the WebSocket can be closed");
        while let Some(Ok(_)) = self.next().await {}
    }
}
