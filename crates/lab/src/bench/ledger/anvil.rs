//! A development node of Ethereum, where one is installed.

use std::{
    io,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use sealcast_node::endpoint::EndpointUrl;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// The first account that development nodes give something, from the phrase that all of them use.
pub const ACCOUNT: [u8; 32] = [
    0xac, 0x09, 0x74, 0xbe, 0xc3, 0x9a, 0x17, 0xe3, 0x6b, 0xa4, 0xa6, 0xb4, 0xd2, 0x38, 0xff, 0x94, 0x4b, 0xac, 0xb4,
    0x78, 0xcb, 0xed, 0x5e, 0xfc, 0xae, 0x78, 0x4d, 0x7b, 0xf4, 0xf2, 0xff, 0x80,
];

/// One that runs, and ends with this.
pub struct Anvil {
    /// Where it listens.
    pub url: EndpointUrl,
    _process: Child,
}

impl Anvil {
    /// Starts `anvil` with the rules of Osaka, on a port that is free. `None` if there is none on PATH.
    pub async fn start() -> Result<Option<Self>> {
        let mut command = Command::new("anvil");
        command.args(["--hardfork", "osaka", "--port", "0"]).kill_on_drop(true);
        let mut process = match command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            spawned => spawned.context("anvil cannot be started")?,
        };
        let mut lines = BufReader::new(process.stdout.take().context("anvil's output")?).lines();
        let end = Instant::now() + PATIENCE;
        let address = loop {
            let rest = end.saturating_duration_since(Instant::now());
            let line = timeout(rest, lines.next_line()).await.context("anvil does not say where it listens")??;
            let Some(line) = line else { bail!("anvil ended before it listened") };
            if let Some(address) = line.trim().strip_prefix("Listening on ") {
                break address.to_owned();
            }
        };
        // What nobody reads would stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let url = format!("http://{address}").parse().context("anvil's address")?;
        Ok(Some(Self { url, _process: process }))
    }
}
