//! JSON-RPC in the text messages of one WebSocket. An answer is told by the id of its request.

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context as _, Result, anyhow};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::Uri;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

use super::url::host_and_port;
use crate::tls::Stream;

/// The longest answer.
const MAX_ANSWER_BYTES: usize = 32 << 20;
/// Requests that wait for the connection.
const MAX_WAITING: usize = 1_024;

/// The end that makes requests.
pub(super) struct Requests(mpsc::Sender<Waiting>);

struct Waiting {
    request: Vec<u8>,
    answer: oneshot::Sender<Result<Vec<u8>>>,
}

/// What tells an answer. Of a batch the id of its first message does.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ids {
    One { id: Value },
    Batch(Vec<Ids>),
}

impl Requests {
    pub(super) async fn exchange(&self, request: Vec<u8>) -> Result<Vec<u8>> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Waiting { request, answer }).await.context("the connection's task has ended")?;
        answered.await.context("the connection was lost")?
    }
}

/// The two ends of an endpoint at `uri`: one for requests, and the task that carries them.
pub(super) fn open(uri: Uri, tls: Arc<ClientConfig>) -> (Requests, impl Future<Output = ()>) {
    let (requests, waiting) = mpsc::channel(MAX_WAITING);
    (Requests(requests), carry(uri, tls, waiting))
}

/// Connects when there is a request, and again for the next one after a connection is lost.
async fn carry(uri: Uri, tls: Arc<ClientConfig>, mut waiting: mpsc::Receiver<Waiting>) {
    while let Some(first) = waiting.recv().await {
        match connect(&uri, tls.clone()).await {
            Ok(socket) => converse(socket, first, &mut waiting).await,
            Err(error) => drop(first.answer.send(Err(error))),
        }
    }
}

async fn connect(uri: &Uri, tls: Arc<ClientConfig>) -> Result<WebSocketStream<Box<dyn Stream>>> {
    let (host, port) = host_and_port(uri)?;
    let tcp = TcpStream::connect((host.as_str(), port)).await.context("no connection")?;
    tcp.set_nodelay(true)?;
    let stream: Box<dyn Stream> = match uri.scheme_str() {
        Some("wss") => {
            let name = ServerName::try_from(host).context("the URL's host")?;
            Box::new(
                tokio_rustls::TlsConnector::from(tls).connect(name, tcp).await.context("the TLS handshake failed")?,
            )
        }
        _ => Box::new(tcp),
    };
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_ANSWER_BYTES)).max_frame_size(Some(MAX_ANSWER_BYTES));
    let opened = client_async_with_config(uri, stream, Some(config)).await;
    opened.map(|(socket, _)| socket).context("no WebSocket there")
}

/// Until the connection is lost. Who waits for an answer then learns that by its end of the channel.
async fn converse(mut socket: WebSocketStream<Box<dyn Stream>>, first: Waiting, waiting: &mut mpsc::Receiver<Waiting>) {
    let mut answers: HashMap<String, oneshot::Sender<Result<Vec<u8>>>> = HashMap::new();
    let mut next = Some(first);
    loop {
        if let Some(Waiting { request, answer }) = next.take() {
            let (Some(id), Ok(text)) = (id_of(&request), String::from_utf8(request)) else {
                drop(answer.send(Err(anyhow!("a request without an id"))));
                continue;
            };
            answers.insert(id, answer);
            if socket.send(Message::text(text)).await.is_err() {
                return;
            }
        }
        // Those who gave up waiting.
        answers.retain(|_, answer| !answer.is_closed());
        tokio::select! {
            request = waiting.recv() => match request {
                Some(request) => next = Some(request),
                None => return,
            },
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    if let Some(answer) = id_of(text.as_bytes()).and_then(|id| answers.remove(&id)) {
                        drop(answer.send(Ok(text.as_bytes().to_vec())));
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
        }
    }
}

fn id_of(message: &[u8]) -> Option<String> {
    match serde_json::from_slice(message).ok()? {
        Ids::One { id } => Some(id.to_string()),
        Ids::Batch(ids) => ids.into_iter().find_map(|ids| match ids {
            Ids::One { id } => Some(id.to_string()),
            Ids::Batch(_) => None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::id_of;

    #[test]
    fn an_answer_has_the_id_of_its_request() {
        let id = |text: &str| id_of(text.as_bytes());
        assert_eq!(id(r#"{"method":"eth_chainId","params":[],"id":7,"jsonrpc":"2.0"}"#).as_deref(), Some("7"));
        assert_eq!(id(r#"{"jsonrpc":"2.0","id":7,"result":"0x1"}"#).as_deref(), Some("7"));
        assert_eq!(id(r#"[{"jsonrpc":"2.0","id":"a"},{"id":"b"}]"#).as_deref(), Some("\"a\""));
        for text in ["", "{}", "[]", "7", r#"{"jsonrpc":"2.0","method":"eth_subscription"}"#] {
            assert_eq!(id(text), None, "{text}");
        }
    }
}
