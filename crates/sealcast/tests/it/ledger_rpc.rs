//! The embedded ledger, as Ethereum's tools see it: `cast` and viem read blocks, logs and receipts, call and send.

use std::process::Command;

use serde_json::Value;

use crate::{
    harness::{Hub, output, succeed},
    node,
};

/// An account that has nothing, as nothing costs anything here.
const KEY: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
const ARTIFACT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/SealcastLedger.json");

/// A hub that serves its ledger, with one group on it: the URL, and the contract's address.
fn hub() -> (Hub, String, String) {
    let hub = Hub::start_with(&[], |dir| {
        std::fs::write(dir.join("hub.toml"), "[ledger]\nlisten = '127.0.0.1:0'\n").unwrap();
    });
    hub.operate(&["group", "create", "room", "--filter", "room/#"]);
    let url = format!("http://{}", hub.ready["ledger_rpc"].as_str().unwrap());
    let address = hub.ready["ledger"].as_str().unwrap().split_once(':').unwrap().1.to_owned();
    (hub, url, address)
}

#[test]
fn cast_reads_calls_and_sends() {
    let (_hub, url, address) = hub();
    let program = node::cast();
    let cast = |args: &[&str]| succeed(Command::new(&program).args(args).env("ETH_RPC_URL", &url)).trim().to_owned();
    let json = |args: &[&str]| serde_json::from_str::<Value>(&cast(args)).unwrap();
    assert_eq!(cast(&["chain-id"]), "7526");
    assert!(cast(&["client"]).starts_with("sealcast/"));
    assert_eq!(cast(&["call", &address, "height()(uint64)"]), "1");
    let logs = json(&["logs", "--json", "--from-block", "0", "--address", &address]);
    let hash = logs[0]["transactionHash"].as_str().unwrap();
    let receipt = json(&["receipt", "--json", hash]);
    assert_eq!((&receipt["status"], &receipt["logs"][0]["data"]), (&"0x1".into(), &logs[0]["data"]));
    let number = cast(&["block-number"]);
    let block = json(&["block", "--json", &number]);
    assert_eq!(block["hash"], receipt["blockHash"]);
    assert!(cast(&["code", &address]).len() > 10_000);
    let free = ["--gas-price", "0", "--priority-gas-price", "0"];
    let sent = json(
        &[
            &["send", "--json", "--private-key", KEY],
            &free[..],
            &[
                &address,
                "submit(uint8,address,uint64,bytes,bytes)",
                "1",
                &address,
                "0",
                "0x",
                "0x",
                "--gas-limit",
                "200000",
            ],
        ]
        .concat(),
    );
    assert_eq!(sent["status"], "0x0", "the contract takes no such entry");
    let refused = output(Command::new(&program).args(["call", "--rpc-url", &url, &address, "epochOf(uint16)", "9"]));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("execution reverted"), "{refused:?}");
}

const VIEM: &str = r#"
import { createPublicClient, createWalletClient, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { readFileSync } from "node:fs";

const [url, address, artifact, key] = process.argv.slice(2);
const { abi } = JSON.parse(readFileSync(artifact, "utf8"));
const transport = http(url);
const client = createPublicClient({ transport, pollingInterval: 50 });
const id = await client.getChainId();
const filter = await client.createContractEventFilter({ address, abi, eventName: "Entry", fromBlock: 0n });
const block = await client.getBlock({ includeTransactions: true });
const [entry] = await client.getContractEvents({ address, abi, eventName: "Entry", fromBlock: 0n });
const receipt = await client.getTransactionReceipt({ hash: entry.transactionHash });
const height = await client.readContract({ address, abi, functionName: "height" });
const account = privateKeyToAccount(key);
const wallet = createWalletClient({ account, transport });
const args = [1, address, 0n, "0x", "0x"];
const refused = await client
  .simulateContract({ address, abi, functionName: "submit", args, account })
  .then(() => "", (error) => error.walk((inner) => inner.data?.errorName)?.data?.errorName);
const hash = await wallet.sendTransaction({ to: account.address, value: 0n, chain: null });
const sent = await client.waitForTransactionReceipt({ hash });
const changes = await client.getFilterChanges({ filter });
await client.uninstallFilter({ filter });
console.log(JSON.stringify({
  id, refused, sent: sent.status, changes: changes.length, height: Number(height),
  kind: entry.args.kind, status: receipt.status, transactions: block.transactions.length,
}));
"#;

#[test]
fn viem_reads_calls_and_sends() {
    let (_hub, url, address) = hub();
    let dir = node::viem();
    let script = dir.join("ledger.mjs");
    std::fs::write(&script, VIEM).unwrap();
    let said = succeed(Command::new("node").arg(script).args([&url, &address, ARTIFACT, KEY]).current_dir(dir));
    let expected = serde_json::json!({
        "id": 7526, "refused": "BadLength", "sent": "success", "changes": 0, "height": 1,
        "kind": 4, "status": "success", "transactions": 1,
    });
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), expected);
}
