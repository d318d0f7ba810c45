//! The console: where it is served, its token, and the calls of the operator's process.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use axum::{
    Extension, Router,
    body::Bytes,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse as _, Response},
    routing::post,
};
use clap::Subcommand;
use sealcast_chain::Ledger;
use sealcast_console::{CALL_PATH, Call, Console, MAX_CALL_BYTES, Records, Shown, Token, first_token, use_token};
use sealcast_hub_core::{Holder, SharedReplica, holder_of};
use sealcast_identity::Certificate;
use sealcast_node::{
    files::{self, Mode},
    output,
    tls::HostPort,
};
use tokio::net::TcpListener;
use tracing::warn;

use crate::{
    config,
    https::{self, Peer},
};

/// `sealcast console`.
#[derive(Subcommand)]
pub enum Command {
    /// Make a new token by which readers sign in. The former one is void, and whoever signed in by it is signed out.
    Token {
        /// The hub's folder.
        #[arg(long, env = "SEALCAST_HUB", value_name = "DIR", default_value = "hub")]
        dir: PathBuf,
        /// Write the token into this file, which only its owner can read, instead of printing it.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command. The hub may run meanwhile.
pub fn run(command: &Command) -> Result<()> {
    let Command::Token { dir, out, json } = command;
    ensure!(
        dir.join("issuing.pem").exists(),
        "{} is not a hub's folder: start the hub first (`sealcast up --dir {0}`)",
        dir.display()
    );
    let token = Token::generate()?;
    let Some(out) = out else {
        use_token(dir, &token)?;
        return output::outcome(*json, &serde_json::json!({ "token": token.reveal() }), token.reveal());
    };
    // The former token holds until somebody has the new one.
    files::write(out, format!("{}\n", token.reveal()).as_bytes(), Mode::Secret)?;
    use_token(dir, &token)?;
    let file = out.display().to_string();
    let words = format!("{file} has the token: whoever reads it can sign in to the console");
    output::outcome(*json, &serde_json::json!({ "token": null, "file": file }), &words)
}

/// Where the console is served, before it is.
pub struct Bound {
    listener: TcpListener,
    /// Where it listens.
    pub address: SocketAddr,
    /// For a browser.
    pub url: String,
    /// Whether over TLS.
    pub is_tls: bool,
    /// The readers' token, if it was made now.
    pub token: Option<Token>,
}

impl Bound {
    /// Binds the address; `None` if it is the default one and taken.
    pub async fn open(dir: &Path, config: &config::Console, names: &[String]) -> Result<Option<Self>> {
        let listener = match TcpListener::bind(config.listen).await {
            Ok(listener) => listener,
            Err(error) if !config.is_chosen => {
                warn!(
                    "no console is served: {} cannot be listened on ({error}). Choose another address with listen in \
                     [console] of hub.toml, or \"\" for no console",
                    config.listen
                );
                return Ok(None);
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("the console cannot listen on {} (console.listen)", config.listen));
            }
        };
        let (address, is_tls) = (listener.local_addr()?, config.is_tls());
        let host = match is_tls {
            true => names.first().context("the hub has no name")?.clone(),
            false => address.ip().to_string(),
        };
        let scheme = if is_tls { "https" } else { "http" };
        let url = format!("{scheme}://{}", HostPort { host, port: address.port() });
        let token = first_token(dir)?;
        Ok(Some(Self { listener, address, url, is_tls, token }))
    }

    /// Serves until the hub ends.
    pub async fn serve(
        self,
        console: Arc<Console>,
        tls: Arc<rustls::ServerConfig>,
        max_host: usize,
        tasks: sealcast_node::Tasks,
    ) {
        let limits = https::Limits {
            name: "the console",
            refusal: "connection to the console refused: this address has as many as it may",
            max_connections: 256,
            max_host,
            max_body_bytes: 16 << 10,
            step: Duration::from_secs(5),
            // A feed goes on as long as its session.
            longest: Duration::from_secs(13 * 3600),
        };
        let router = sealcast_console::router(console).layer(middleware::map_request(shown));
        https::serve(self.listener, self.is_tls.then_some(tls), router, limits, tasks).await;
    }
}

/// Tells the console which certificate the client has shown.
async fn shown(mut request: Request) -> Request {
    let peer = request.extensions().get::<Peer>().and_then(|Peer(der)| der.clone());
    request.extensions_mut().insert(Shown(peer.and_then(|der| Certificate::from_der(&der).ok())));
    request
}

/// What reads the ledger for the console.
pub fn records(ledger: Ledger) -> Records {
    Box::new(move |from, most| {
        let ledger = ledger.clone();
        Box::pin(async move { Ok(ledger.records(from, most).await?) })
    })
}

struct Calls {
    console: Arc<Console>,
    replica: SharedReplica,
}

/// The route for the operator's process.
pub fn calls(console: Arc<Console>, replica: SharedReplica) -> Router {
    Router::new().route(CALL_PATH, post(call)).with_state(Arc::new(Calls { console, replica }))
}

async fn call(State(calls): State<Arc<Calls>>, Extension(Peer(shown)): Extension<Peer>, body: Bytes) -> Response {
    let shown = shown.and_then(|der| Certificate::from_der(&der).ok());
    let is_operator = shown.is_some_and(|shown| {
        let replica = calls.replica.read().unwrap_or_else(PoisonError::into_inner);
        matches!(holder_of(&replica, &shown), Ok(Holder::Operator))
    });
    if !is_operator {
        return (StatusCode::FORBIDDEN, "show the operator's certificate in TLS\n").into_response();
    }
    let parsed = (body.len() <= MAX_CALL_BYTES).then(|| serde_json::from_slice::<Call>(&body));
    let Some(Ok(asked)) = parsed else {
        return (StatusCode::BAD_REQUEST, "that is no call of the operator's process\n").into_response();
    };
    match calls.console.call(asked).await.map(|orders| serde_json::to_string(&orders)) {
        Some(Ok(orders)) => ([(header::CONTENT_TYPE, "application/json")], orders).into_response(),
        Some(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        None => (StatusCode::CONFLICT, "another process with the operator's key is connected, with another token\n")
            .into_response(),
    }
}
