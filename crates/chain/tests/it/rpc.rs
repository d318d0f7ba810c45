//! Each JSON-RPC method through alloy, as users' tools would ask; and JSON that nobody sane would send.

use std::time::Duration;

use alloy::{
    consensus::Transaction as _,
    eips::{BlockId, BlockNumberOrTag},
    network::TransactionBuilder as _,
    primitives::{Address, B256, Bytes, U256},
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::{
        client::RpcClient,
        types::{Filter, TransactionRequest},
    },
    signers::local::PrivateKeySigner,
    sol_types::SolEvent as _,
};
use sealcast_chain::{Engine, EngineConfig};

use crate::transport::CallTransport;
use sealcast_identity::SigningKey;
use serde_json::{Value, json};

use crate::world::file;

alloy::sol!(
    #[allow(missing_docs, clippy::too_many_arguments)]
    #[derive(Debug)]
    #[sol(rpc)]
    SealcastLedger,
    "../../contracts/SealcastLedger.json"
);

struct Bench {
    _directory: tempfile::TempDir,
    engine: Engine,
    account: Address,
    provider: DynProvider,
}

/// A node, and alloy's own provider with all its fillers on it.
fn bench() -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let signer = PrivateKeySigner::random();
    let account = signer.address();
    let config = EngineConfig { funded: vec![account.into_array()], ..EngineConfig::default() };
    let engine = Engine::open(file(directory.path()), &config).unwrap();
    let client = RpcClient::new(CallTransport::new(engine.clone()), true);
    client.set_poll_interval(Duration::from_millis(5));
    let provider = ProviderBuilder::new().with_simple_nonce_management().wallet(signer).connect_client(client).erased();
    Bench { _directory: directory, engine, account, provider }
}

async fn deploy(bench: &Bench) -> SealcastLedger::SealcastLedgerInstance<DynProvider> {
    let keys = std::array::from_fn(|_| Bytes::from(SigningKey::generate().unwrap().public().xy().to_vec()));
    let [root, ca, operator] = keys;
    SealcastLedger::deploy(bench.provider.clone(), root, ca, operator, 0, Address::ZERO).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_method_through_alloy() {
    let bench = bench();
    let provider = &bench.provider;
    assert_eq!(provider.get_chain_id().await.unwrap(), 7526);
    assert_eq!(provider.get_net_version().await.unwrap(), 7526);
    assert!(provider.get_client_version().await.unwrap().starts_with("sealcast/"));
    assert_eq!(provider.get_block_number().await.unwrap(), 0);
    assert_eq!(provider.get_gas_price().await.unwrap(), 0);
    assert_eq!(provider.get_max_priority_fee_per_gas().await.unwrap(), 0);
    let funds = provider.get_balance(bench.account).await.unwrap();
    assert_eq!(funds, U256::from(10).pow(U256::from(27)));
    let fees = provider.get_fee_history(10, BlockNumberOrTag::Latest, &[50.0]).await.unwrap();
    assert_eq!((fees.base_fee_per_gas, fees.oldest_block), (vec![0, 0], 0));

    // Filters see what comes after them.
    let blocks = provider.new_block_filter().await.unwrap();
    let logs = provider.new_filter(&Filter::new()).await.unwrap();
    let contract = deploy(&bench).await;
    let address = *contract.address();
    assert!(provider.get_code_at(address).await.unwrap().len() > 10_000);
    assert_eq!(provider.get_block_number().await.unwrap(), 1);
    assert_eq!(provider.get_transaction_count(bench.account).await.unwrap(), 1);
    assert_eq!(provider.get_transaction_count(bench.account).pending().await.unwrap(), 1);
    let head = contract.head().call().await.unwrap();
    assert_eq!(B256::from(provider.get_storage_at(address, U256::ZERO).await.unwrap()), head);
    let new_blocks: Vec<B256> = provider.get_filter_changes(blocks).await.unwrap();
    assert_eq!(new_blocks.len(), 1);
    assert_eq!(provider.get_filter_changes::<B256>(blocks).await.unwrap(), Vec::<B256>::new());
    assert!(provider.get_filter_changes::<alloy::rpc::types::Log>(logs).await.unwrap().is_empty());
    assert!(provider.uninstall_filter(blocks).await.unwrap());
    assert!(!provider.uninstall_filter(blocks).await.unwrap());
    assert!(provider.get_filter_changes::<B256>(blocks).await.is_err());

    // Blocks and transactions.
    let block = provider.get_block_by_number(1.into()).full().await.unwrap().unwrap();
    assert_eq!(block.header.hash, new_blocks[0]);
    assert_eq!(block.header.inner.hash_slow(), block.header.hash);
    let parent = provider.get_block_by_number(BlockNumberOrTag::Earliest).await.unwrap().unwrap();
    assert_eq!(block.header.parent_hash, parent.header.hash);
    let by_hash = provider.get_block_by_hash(block.header.hash).await.unwrap().unwrap();
    assert_eq!(by_hash.header, block.header);
    assert_eq!(provider.get_block_by_number(7.into()).await.unwrap(), None);
    let listed = block.transactions.as_transactions().unwrap();
    let hash = *listed[0].inner.tx_hash();
    let found = provider.get_transaction_by_hash(hash).await.unwrap().unwrap();
    assert_eq!((found.block_number, found.inner.signer(), found.inner.nonce()), (Some(1), bench.account, 0));
    let receipt = provider.get_transaction_receipt(hash).await.unwrap().unwrap();
    assert_eq!(
        (receipt.contract_address, receipt.status(), receipt.gas_used),
        (Some(address), true, block.header.gas_used)
    );
    assert_eq!(provider.get_transaction_receipt(B256::ZERO).await.unwrap(), None);
    assert_eq!(provider.get_transaction_by_hash(B256::ZERO).await.unwrap(), None);

    // A plain transfer, with alloy's gas, fee and nonce.
    let transfer = TransactionRequest::default().with_to(Address::repeat_byte(7)).with_value(U256::from(5));
    let receipt = provider.send_transaction(transfer).await.unwrap().get_receipt().await.unwrap();
    assert_eq!((receipt.gas_used, receipt.block_number), (21_000, Some(2)));
    assert_eq!(provider.get_balance(Address::repeat_byte(7)).await.unwrap(), U256::from(5));

    // Logs.
    let filter = Filter::new().address(address).event_signature(SealcastLedger::Entry::SIGNATURE_HASH).from_block(0);
    assert!(provider.get_logs(&filter).await.unwrap().is_empty());
    assert!(provider.get_logs(&Filter::new().at_block_hash(block.header.hash)).await.unwrap().is_empty());
    assert!(provider.get_logs(&Filter::new().at_block_hash(B256::ZERO)).await.is_err());
    assert!(provider.get_logs(&Filter::new().from_block(9).to_block(5)).await.is_err());
    assert!(provider.get_logs(&Filter::new().select(500u64..)).await.unwrap().is_empty());

    // Only the newest state is kept.
    let old = contract.head().block(BlockId::number(0)).call().await.unwrap_err();
    assert!(old.to_string().contains("is not kept"), "{old}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reverts_carry_the_contracts_words() {
    let bench = bench();
    let contract = deploy(&bench).await;
    let call = contract.submit(1, Address::ZERO, 0, Bytes::new(), vec![0; 64].into());
    let error = call.call().await.unwrap_err();
    let decoded = error.as_decoded_error::<SealcastLedger::UnknownDevice>();
    assert_eq!(decoded.unwrap().device, Address::ZERO);
    assert!(call.estimate_gas().await.is_err());
    // The failed estimate has not used up a nonce: the next transaction does not hang.
    assert!(call.send().await.is_err());
    let transfer = TransactionRequest::default().with_to(Address::ZERO).with_value(U256::ZERO);
    bench.provider.send_transaction(transfer).await.unwrap().get_receipt().await.unwrap();
    // Sent nevertheless, it is in a block, failed, with the reason in the receipt.
    let pending = call.gas(1_000_000).send().await.unwrap();
    let hash = *pending.tx_hash();
    assert!(!pending.get_receipt().await.unwrap().status());
    let raw = ask(&bench.engine, "eth_getTransactionReceipt", json!([hash])).await;
    assert!(raw["result"]["revertReason"].as_str().unwrap().len() > 10, "{raw}");
}

async fn ask(engine: &Engine, method: &str, params: Value) -> Value {
    let request = json!({ "jsonrpc": "2.0", "id": "x", "method": method, "params": params }).to_string();
    serde_json::from_slice(&engine.handle(request.as_bytes()).await).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_cannot_run_are_refused_at_once() {
    let bench = bench();
    let wallet = PrivateKeySigner::random();
    let send = async |change: &dyn Fn(&mut alloy::consensus::TxEip1559)| {
        use alloy::{consensus::SignableTransaction as _, eips::eip2718::Encodable2718 as _, signers::SignerSync as _};
        let mut tx = alloy::consensus::TxEip1559 {
            chain_id: 7526,
            gas_limit: 21_000,
            to: Address::ZERO.into(),
            ..Default::default()
        };
        change(&mut tx);
        let signature = wallet.sign_hash_sync(&tx.signature_hash()).unwrap();
        let raw = Bytes::from(alloy::consensus::TxEnvelope::from(tx.into_signed(signature)).encoded_2718());
        ask(&bench.engine, "eth_sendRawTransaction", json!([raw])).await
    };
    let refused = async |change: &dyn Fn(&mut alloy::consensus::TxEip1559), with: &str| {
        let answer = send(change).await;
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(with), "{with}: {answer}");
    };
    refused(&|tx| tx.chain_id = 1, "invalid chain id").await;
    refused(&|tx| tx.gas_limit = 20_999, "intrinsic gas too low").await;
    refused(&|tx| tx.gas_limit = (1 << 24) + 1, "EIP-7825").await;
    refused(&|tx| tx.value = U256::ONE, "insufficient funds").await;
    refused(&|tx| tx.max_fee_per_gas = 1, "insufficient funds").await;
    refused(&|tx| tx.max_fee_per_gas = u128::MAX, "insufficient funds").await;
    refused(&|tx| tx.max_priority_fee_per_gas = 1, "max priority fee").await;
    refused(&|tx| tx.nonce = 500, "nonce too high").await;
    refused(&|tx| tx.input = vec![1; 200_000].into(), "oversized data").await;
    refused(
        &|tx| (tx.to, tx.input, tx.gas_limit) = (alloy::primitives::TxKind::Create, vec![0; 50_000].into(), 1 << 24),
        "max initcode size",
    )
    .await;
    // A nonce that leaves a gap is refused: nothing waits for what may never come.
    refused(&|tx| tx.nonce = 1, "nonce too high").await;
    let mut second = Value::Null;
    for nonce in 0..3 {
        second = send(&|tx| tx.nonce = nonce).await["result"].clone();
        assert!(second.is_string(), "nonce {nonce}");
    }
    let mut progress = bench.engine.progress();
    progress.wait_for(|progress| progress.height > 0).await.unwrap();
    while ask(&bench.engine, "eth_getTransactionReceipt", json!([second])).await["result"].is_null() {
        progress.changed().await.unwrap();
    }
    refused(&|_| {}, "nonce too low").await;
    let count = ask(&bench.engine, "eth_getTransactionCount", json!([wallet.address(), "latest"])).await;
    assert_eq!(count["result"], "0x3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_json_is_answered() {
    let bench = bench();
    let handle = async |request: &[u8]| {
        let answer = bench.engine.handle(request).await;
        if answer.is_empty() { Value::Null } else { serde_json::from_slice::<Value>(&answer).unwrap() }
    };
    let deep = "[".repeat(5000);
    let cases: [(&str, i64); 14] = [
        ("", -32700),
        ("{", -32700),
        (&deep, -32700),
        ("[]", -32600),
        ("1", -32600),
        ("null", -32600),
        (r#"{"jsonrpc":"1.0","id":1,"method":"eth_chainId"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":{},"method":"eth_chainId"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"eth_none"}"#, -32601),
        (r#"{"jsonrpc":"2.0","id":1,"method":"eth_call","params":{}}"#, -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"eth_call"}"#, -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"eth_getCode","params":["0x12"]}"#, -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"eth_sendRawTransaction","params":["0xdeadbeef"]}"#, -32602),
    ];
    for (request, code) in cases {
        let shown: String = request.chars().take(60).collect();
        assert_eq!(handle(request.as_bytes()).await["error"]["code"], code, "{shown}");
    }
    assert_eq!(handle(b"\xff\x00").await["error"]["code"], -32700);
    assert_eq!(handle(&vec![b' '; 2 << 20]).await["error"]["code"], -32600);
    assert_eq!(handle(br#"{"jsonrpc":"2.0","method":"eth_chainId"}"#).await, Value::Null);
    let batch = handle(br#"[{"jsonrpc":"2.0","id":1,"method":"eth_chainId"},7,{"jsonrpc":"2.0","method":"eth_chainId"},{"jsonrpc":"2.0","id":"z","method":"eth_blockNumber"}]"#).await;
    assert_eq!(batch.as_array().unwrap().len(), 3, "{batch}");
    assert_eq!(batch[0]["result"], "0x1d66");
    assert_eq!(batch[1]["error"]["code"], -32600);
    assert_eq!(batch[2], json!({ "jsonrpc": "2.0", "id": "z", "result": "0x0" }));
    let many = format!("[{}]", vec![r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#; 129].join(","));
    assert_eq!(handle(many.as_bytes()).await["error"]["code"], -32600);

    // Any method with any parameters gives an answer.
    let methods = [
        "eth_feeHistory",
        "eth_estimateGas",
        "eth_call",
        "eth_sendRawTransaction",
        "eth_getTransactionCount",
        "eth_getTransactionReceipt",
        "eth_getTransactionByHash",
        "eth_getBlockByNumber",
        "eth_getBlockByHash",
        "eth_getLogs",
        "eth_newFilter",
        "eth_newBlockFilter",
        "eth_getFilterChanges",
        "eth_uninstallFilter",
        "eth_getCode",
        "eth_getBalance",
        "eth_getStorageAt",
    ];
    let max = "0xffffffffffffffff";
    let zero = format!("0x{}", "00".repeat(20));
    let word = format!("0x{}", "ff".repeat(32));
    let params = [
        json!([]),
        json!([null, null, null]),
        json!([max, max, max]),
        json!(["0x", "latest"]),
        json!([-1, 1.5]),
        json!([{}, {}, {}]),
        json!([zero, word, "latest"]),
        json!([word, true]),
        json!(["latest", "yes"]),
        json!([{ "fromBlock": max, "toBlock": max }]),
        json!([{ "fromBlock": "0x0", "toBlock": max, "topics": [[word, null], null, [], word] }]),
        json!([{ "from": zero, "to": zero, "gas": max, "gasPrice": max, "value": word, "nonce": max }, "latest"]),
        json!([{ "to": null, "data": "0xfe" }, "pending"]),
        json!([{ "data": "0x5b600056" }, "latest"]),
        json!([max, "latest", [1e308, -5.0]]),
    ];
    for method in methods {
        for params in &params {
            let answer = ask(&bench.engine, method, params.clone()).await;
            assert!(answer.get("result").is_some() || answer["error"]["code"].is_i64(), "{method} {params}: {answer}");
        }
    }
}
