//! The EVM network that the experiment's ledger is on, if it is not the embedded one.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use sealcast_chain::Wallet;
use sealcast_ledger_client::Channel as _;
use sealcast_node::{
    endpoint::{Endpoint, EndpointUrl},
    files::{self, Mode},
    tls,
};
use serde_json::{Value, json};

/// One unit of the network's currency, in wei.
const ONE: &str = "0xde0b6b3a7640000";
/// How long it may take until the account has it.
const PATIENCE: Duration = Duration::from_secs(60);

/// See the module.
#[derive(clap::Args)]
pub struct NetworkArgs {
    /// Have the ledger on this EVM network, http(s):// or ws(s)://. It has to be a node for development, such as anvil or geth
    /// --dev: its own account pays for the entries.
    #[arg(long, value_name = "URL")]
    pub rpc: Option<EndpointUrl>,
    /// When a block of that network counts as one that stays: latest, safe, finalized, or so many blocks on top of it.
    #[arg(long, value_name = "WHEN", default_value = "latest", requires = "rpc")]
    pub finality: String,
}

/// Makes the account of a hub that is to start in `dir`, and has the development node at `url` give it something.
pub async fn fund(url: &EndpointUrl, dir: &Path) -> Result<()> {
    let wallet = Wallet::generate();
    files::create_dir(dir)?;
    files::write(&dir.join("relay.key"), hex::encode(*wallet.secret()).as_bytes(), Mode::Secret)?;
    let account = format!("0x{}", hex::encode(wallet.address()));
    let node = Endpoint::new(url, tls::system_roots)?;
    let accounts = ask(&node, "eth_accounts", json!([])).await?;
    let Some(payer) = accounts.get(0) else {
        bail!(
            "--rpc {url}: the node has no account of its own to pay for the entries: it must be one for development (anvil, geth --dev)"
        )
    };
    ask(&node, "eth_sendTransaction", json!([{ "from": payer, "to": account, "value": ONE }])).await?;
    let paid = async {
        while ask(&node, "eth_getBalance", json!([account, "latest"])).await? == json!("0x0") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, paid).await.unwrap_or_else(|_| bail!("--rpc {url}: the node makes no blocks"))
}

async fn ask(node: &Endpoint, method: &str, params: Value) -> Result<Value> {
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let answer = node.call(serde_json::to_vec(&request)?).await.with_context(|| method.to_owned())?;
    let mut answer: Value = serde_json::from_slice(&answer).with_context(|| method.to_owned())?;
    if let Some(error) = answer.get("error") {
        bail!("the node refused {method}: {error}");
    }
    ensure!(answer.get("result").is_some(), "{method}: no result");
    Ok(answer["result"].take())
}
