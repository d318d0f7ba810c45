//! MQTT over WebSocket (MQTT 5, section 6): the content of binary messages, as a stream of bytes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use futures_util::{Sink as _, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config, client_async_with_config,
    tungstenite::{
        self, Message,
        client::IntoClientRequest as _,
        handshake::server::{Callback, ErrorResponse, Request, Response},
        http::{
            HeaderMap, HeaderValue, StatusCode,
            header::{HeaderName, SEC_WEBSOCKET_PROTOCOL},
        },
        protocol::WebSocketConfig,
    },
};

/// The subprotocols of MQTT. Clients of MQTT 3.1 may ask for the second one.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];
/// Allocated for each connection.
const READ_BUFFER: usize = 4 << 10;
/// Bytes that are sent as one message.
const CHUNK: usize = 256 << 10;
/// A client may put several packets into one message.
const MORE_PACKETS: usize = 64 << 10;

/// A WebSocket with MQTT in it. What is written leaves at the next flush at the latest.
pub struct WebSocket<S> {
    messages: WebSocketStream<S>,
    /// The rest of the last message.
    rest: Bytes,
}

/// Answers a client's handshake. `admit` looks at its headers, and says why it is refused.
///
/// # Errors
/// The client is refused, or does not speak MQTT over WebSocket.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    max_packet_bytes: usize,
    admit: impl FnOnce(&HeaderMap) -> Result<(), String> + Unpin,
) -> Result<WebSocket<S>> {
    match accept_hdr_async_with_config(stream, Greeter(admit), Some(config(max_packet_bytes))).await {
        Ok(messages) => Ok(WebSocket { messages, rest: Bytes::new() }),
        Err(tungstenite::Error::Http(refusal)) => {
            let reason = refusal.body().as_deref().unwrap_or_default();
            bail!("{}", String::from_utf8_lossy(reason).trim_end())
        }
        Err(error) => Err(anyhow!(error).context("no WebSocket handshake")),
    }
}

/// Makes the handshake with the server at `url`, `ws://` or `wss://`, whose stream is open.
///
/// # Errors
/// It does not speak MQTT over WebSocket there.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    url: &str,
    max_packet_bytes: usize,
) -> Result<WebSocket<S>> {
    let mut request = url.into_client_request().context("the address of a WebSocket")?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOLS[0]));
    match client_async_with_config(request, stream, Some(config(max_packet_bytes))).await {
        Ok((messages, _)) => Ok(WebSocket { messages, rest: Bytes::new() }),
        Err(tungstenite::Error::Http(answer)) => {
            bail!("no WebSocket at {url}: the server answers with status {}", answer.status())
        }
        Err(error) => Err(anyhow!(error).context(format!("no WebSocket with MQTT at {url}"))),
    }
}

fn config(max_packet_bytes: usize) -> WebSocketConfig {
    let max = Some(max_packet_bytes.saturating_add(MORE_PACKETS));
    let config = WebSocketConfig::default().max_message_size(max).max_frame_size(max);
    config.read_buffer_size(READ_BUFFER).write_buffer_size(0)
}

/// Looks at a client's handshake.
struct Greeter<F>(F);

impl<F: FnOnce(&HeaderMap) -> Result<(), String>> Callback for Greeter<F> {
    fn on_request(self, request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        let Some(subprotocol) = subprotocol(request.headers()) else {
            return Err(refusal(StatusCode::BAD_REQUEST, "the WebSocket subprotocol has to be mqtt".to_owned()));
        };
        (self.0)(request.headers()).map_err(|reason| refusal(StatusCode::FORBIDDEN, reason))?;
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
        Ok(response)
    }
}

fn refusal(status: StatusCode, reason: String) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(reason + "\n"));
    *response.status_mut() = status;
    response
}

/// The first one that the client offers and that is spoken here.
fn subprotocol(headers: &HeaderMap) -> Option<&'static str> {
    const NAME: HeaderName = SEC_WEBSOCKET_PROTOCOL;
    let offered = headers.get_all(NAME).iter().filter_map(|value| value.to_str().ok()).flat_map(|list| list.split(','));
    offered.map(str::trim).find_map(|offer| SUBPROTOCOLS.into_iter().find(|known| *known == offer))
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.rest.is_empty() {
            match ready!(Pin::new(&mut this.messages).poll_next(cx)) {
                Some(Ok(Message::Binary(content))) => this.rest = content,
                // MQTT 5, 6: "the receiver MUST close the Network Connection".
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a text message")));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let taken = this.rest.split_to(this.rest.len().min(buffer.remaining()));
        buffer.put_slice(&taken);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut messages = Pin::new(&mut self.get_mut().messages);
        let chunk = bytes.get(..CHUNK).unwrap_or(bytes);
        ready!(messages.as_mut().poll_ready(cx)).map_err(io::Error::other)?;
        messages.start_send(Message::Binary(Bytes::copy_from_slice(chunk))).map_err(io::Error::other)?;
        Poll::Ready(Ok(chunk.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().messages).poll_flush(cx).map_err(io::Error::other)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().messages).poll_close(cx).map_err(io::Error::other)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures_util::{SinkExt as _, StreamExt as _};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio_tungstenite::{client_async, tungstenite::client::IntoClientRequest as _};

    use super::*;

    type Client = WebSocketStream<DuplexStream>;

    /// What becomes of a handshake that offers `subprotocols`.
    async fn meet(
        subprotocols: &'static str,
        refusal: Option<&str>,
    ) -> (Result<WebSocket<DuplexStream>>, Result<Client, tungstenite::Error>) {
        let (near, far) = tokio::io::duplex(64 << 10);
        let mut request = "ws://localhost/mqtt".into_client_request().unwrap();
        if !subprotocols.is_empty() {
            request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocols));
        }
        let admit = |_: &HeaderMap| refusal.map_or(Ok(()), |reason| Err(reason.to_owned()));
        let (server, client) = tokio::join!(accept(near, 1000, admit), client_async(request, far));
        (server, client.map(|(client, _)| client))
    }

    #[tokio::test]
    async fn bytes_go_both_ways_however_they_are_cut() {
        let (server, client) = meet("mqtt", None).await;
        let (mut server, mut client) = (server.unwrap(), client.unwrap());
        for part in ["he", "", "llo wor"] {
            client.send(Message::binary(part.as_bytes())).await.unwrap();
        }
        client.send(Message::Ping(Bytes::new())).await.unwrap();
        client.send(Message::binary(&b"ld"[..])).await.unwrap();
        let mut read = [0; 11];
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"hello world");
        server.write_all(b"fine").await.unwrap();
        server.flush().await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::Pong(Bytes::new()));
        assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(&b"fine"[..]));
        let (closed, read) = tokio::join!(client.close(None), server.read(&mut read));
        closed.unwrap();
        assert_eq!(read.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_mqtt_does_not_allow_ends_the_connection() {
        for message in [Message::text("hello"), Message::binary(vec![0; 1000 + MORE_PACKETS + 1])] {
            let (server, client) = meet("mqtt", None).await;
            let (mut server, mut client) = (server.unwrap(), client.unwrap());
            let (_, read) = tokio::join!(client.send(message), async {
                let read = server.read(&mut [0; 1]).await.map_err(drop);
                drop(server);
                read
            });
            assert_eq!(read, Err(()));
        }
    }

    #[tokio::test]
    async fn the_subprotocol_is_one_of_mqtts_and_who_is_refused_learns_why() {
        for offered in ["mqtt", "chat, mqtt", "mqttv3.1,mqtt"] {
            assert!(meet(offered, None).await.1.is_ok(), "{offered}");
        }
        for (offered, refusal, status) in [("", None, 400), ("chat", None, 400), ("mqtt", Some("no web pages"), 403)] {
            let (server, client) = meet(offered, refusal).await;
            let said = server.err().unwrap().to_string();
            assert_eq!(said, refusal.unwrap_or("the WebSocket subprotocol has to be mqtt"));
            let Err(tungstenite::Error::Http(answer)) = client else { panic!("{offered}") };
            assert_eq!(answer.status(), status);
        }
    }

    #[tokio::test]
    async fn a_client_speaks_with_a_server() {
        let (near, far) = tokio::io::duplex(64 << 10);
        let (server, client) =
            tokio::join!(accept(near, 1000, |_| Ok(())), connect(far, "ws://localhost:1/mqtt", 1000));
        let (mut server, mut client) = (server.unwrap(), client.unwrap());
        client.write_all(b"hello").await.unwrap();
        client.flush().await.unwrap();
        let mut read = [0; 5];
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"hello");
    }

    #[tokio::test]
    async fn a_client_learns_why_there_is_no_web_socket() {
        let (mut near, far) = tokio::io::duplex(64 << 10);
        let server = async {
            assert!(near.read(&mut [0; 1000]).await.unwrap() > 0);
            near.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        };
        let ((), client) = tokio::join!(server, connect(far, "ws://localhost:1/mqtt", 1000));
        assert!(client.err().unwrap().to_string().contains("404"));
    }
}
