//! `sealcast watch`: a running hub, in a terminal. It is a client of the console's HTTP API, like the console's page, and
//! it changes nothing.
//!
//! | module | what |
//! | --- | --- |
//! | `client`, `sse` | the API: sign-in, state, live feed |
//! | `follow` | one stream of updates, over interruptions |
//! | `hub_view` | what is known: updates applied to the state |
//! | `ui`, `screen`, `words` | what is chosen, and the picture of it |
//! | `terminal`, `plain` | where it goes: a terminal, or lines |
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod client;
#[cfg(test)]
mod fixture;
mod follow;
mod hub_view;
mod plain;
mod screen;
mod sse;
mod terminal;
mod ui;
mod words;

use std::{
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustls::{ClientConfig, RootCertStore};
use sealcast_console::Token;
use sealcast_node::{
    KeyFiles, PassphraseArgs,
    files::{self, Source},
    output::Reader,
    shutdown,
    tls::{self, Identity},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use self::client::{Client, ConsoleUrl, Credential};

/// Updates that wait for the terminal. The feed waits behind them.
const WAITING_UPDATES: usize = 64;

/// `sealcast watch`.
#[derive(clap::Args)]
pub struct Options {
    /// Where the console is, as `sealcast up` prints it: https://, or http:// on this machine.
    #[arg(env = "SEALCAST_CONSOLE_URL", value_name = "URL", default_value = "http://127.0.0.1:8088")]
    url: ConsoleUrl,
    /// File with a token of the console, a reader's or an operator's; `-` for standard input.
    #[arg(long, env = "SEALCAST_CONSOLE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Sign in by the certificate in this folder, which `sealcast enroll` made: of a device that the hub's `hub.toml` names
    /// (`console.certificates`).
    #[arg(long, value_name = "DIR", conflicts_with = "token_file")]
    identity: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// The root certificate of a console at https://, which is `root.pem` of the hub's folder [default: root.pem of the
    /// folder of --identity].
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Print each event as one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Shows the hub until the person quits or the process is told to end.
pub async fn run(options: Options) -> Result<()> {
    let client = options.client()?;
    let (sender, mut updates) = mpsc::channel(WAITING_UPDATES);
    let stop = CancellationToken::new();
    let follower = tokio::spawn(follow::run(client, sender, stop.clone()));
    let is_terminal = std::io::stdout().is_terminal() && !options.json;
    let shown = if is_terminal { terminal::run(&mut updates).await } else { lines(&mut updates, options.json).await };
    drop(updates);
    stop.cancel();
    let followed = follower.await.context("following the hub has failed")?;
    shown.and(followed.with_context(|| format!("the console at {}", options.url)))
}

async fn lines(updates: &mut mpsc::Receiver<follow::Update>, as_json: bool) -> Result<()> {
    let mut stop = pin!(shutdown::requested());
    let mut printer = plain::LinePrinter::default();
    loop {
        let next = tokio::select! {
            () = &mut stop => return Ok(()),
            next = updates.recv() => next,
        };
        let Some(next) = next else { return Ok(()) };
        // Whoever reads the lines has enough: the session ends with them.
        if plain::print(&mut printer, next, as_json)? == Reader::Closed {
            return Ok(());
        }
    }
}

impl Options {
    fn client(&self) -> Result<Client> {
        let Some(dir) = &self.identity else {
            let token = Credential::Token(self.token()?);
            return Ok(Client::new(self.url.clone(), &self.tls(None)?, token));
        };
        ensure!(self.url.is_tls(), "a certificate is shown in TLS only: give the console's https:// address");
        let chain = files::certificates(&dir.join("device.pem"))?;
        let chain: Vec<Vec<u8>> = chain.iter().map(|certificate| certificate.der().to_vec()).collect();
        let key = KeyFiles::new(self.passphrase.passphrase_file.as_deref())?.read(&dir.join("device.key"))?;
        let tls = self.tls(Some(&Identity { chain: &chain, key: &key }))?;
        Ok(Client::new(self.url.clone(), &tls, Credential::Certificate))
    }

    fn token(&self) -> Result<Token> {
        match self.token_file.as_deref() {
            Some(path) if path == Path::new("-") => {
                let mut text = Zeroizing::new(String::new());
                std::io::stdin().take(1024).read_to_string(&mut text).context("standard input")?;
                Token::parse(&text).context("standard input")
            }
            Some(path) => Token::read(path, Source::FileOrPipe),
            None => Err(anyhow!(
                "give the file of a token with --token-file: the first `sealcast up` printed one for readers, and `sealcast \
                 console token --dir HUB` makes a new one"
            )),
        }
    }

    fn tls(&self, identity: Option<&Identity<'_>>) -> Result<Arc<ClientConfig>> {
        if !self.url.is_tls() {
            return tls::client_with(Arc::new(RootCertStore::empty()), None, &[]);
        }
        let path = self.root.clone().or_else(|| Some(self.identity.as_ref()?.join("root.pem")));
        let path = path.context("give the hub's root certificate with --root: root.pem of the hub's folder")?;
        tls::client(files::certificate(&path)?.der(), identity)
    }
}
