//! Nodes of EVM networks.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

use super::{Port, Process, cluster::installed, output, succeed, until};
use crate::node;

const GETH: &str = "github.com/ethereum/go-ethereum/cmd/geth@v1.17.8";
/// The keys of the first two accounts that anvil gives 10,000 units, from the phrase that all development nodes use.
const ACCOUNTS: [&str; 2] = [
    "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
];

/// An anvil, at the Osaka upgrade.
pub struct Anvil {
    _process: Process,
    port: Port,
}

impl Anvil {
    /// One that makes a block as soon as there is a transaction, unless `options` say something else.
    pub fn start(options: &[&str]) -> Self {
        let port = Port::reserve();
        let mut command = Command::new(node::anvil());
        command.args(["--silent", "--hardfork", "osaka", "--port", &port.number()]).args(options);
        let anvil = Self { _process: Process::start(&mut command), port };
        until("anvil answers", || anvil.try_ask("eth_chainId", &json!([])).is_some());
        anvil
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// What it answers to a request.
    pub fn ask(&self, method: &str, params: &Value) -> Value {
        self.try_ask(method, params).unwrap()
    }

    fn try_ask(&self, method: &str, params: &Value) -> Option<Value> {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let args = ["-s", "-H", "content-type: application/json", "-d", &request, &self.url()];
        let answer: Value = serde_json::from_slice(&output(Command::new("curl").args(args)).stdout).ok()?;
        answer.get("result").cloned()
    }

    /// Takes back the newest blocks and makes as many others, without their transactions.
    pub fn reorganise(&self, depth: u64) {
        self.ask("anvil_reorg", &json!([depth, []]));
    }

    /// The key of an account that can pay, in a file of `dir`.
    pub fn key_file(dir: &Path, account: usize) -> String {
        let path = dir.join(format!("account{account}.key"));
        std::fs::write(&path, ACCOUNTS[account]).unwrap();
        succeed(Command::new("chmod").arg("600").arg(&path));
        path.display().to_string()
    }
}

/// A geth of its own network, which makes a block as soon as there is a transaction, and its URL. `None` where there is no Go
/// to install it by.
pub fn geth(dir: &Path) -> Option<(Process, Port)> {
    let program = installed(GETH, "geth")?;
    let port = Port::reserve();
    let mut command = Command::new(program);
    command.args(["--dev", "--http", "--http.addr", "127.0.0.1", "--http.port", &port.number()]);
    command.args(["--ipcdisable", "--port", "0", "--authrpc.port", "0", "--verbosity", "1", "--datadir"]).arg(dir);
    let process = Process::start(&mut command);
    until("geth answers", || std::net::TcpStream::connect(port.address()).is_ok());
    Some((process, port))
}
