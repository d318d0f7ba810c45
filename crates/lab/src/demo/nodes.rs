//! Enrolment, the broadcast of keys, and what the contract says of it all.

use std::{collections::BTreeMap, time::Duration, time::Instant};

use anyhow::{Context as _, Result, ensure};
use sealcast_agent::{Folder, enroll};
use sealcast_identity::DeviceId;
use sealcast_ledger::{Event, Hash};
use sealcast_node::{KeyFiles, output};
use sealcast_operator::device;
use sealcast_topic::ControlTopic;
use serde_json::json;

use super::{
    report::{LedgerEnd, Report},
    world::{self, NODES, World},
};
use crate::app::PATIENCE;

/// Figures 5 to 7.
pub async fn enrol(world: &mut World, report: &mut Report) -> Result<()> {
    const FIGURE: &str = "Fig 5-7";
    report.chapter(FIGURE, "four nodes enrol at the CA; the contract gives each its number").await?;
    let mut keys = Vec::new();
    for name in NODES {
        let id: DeviceId = name.parse()?;
        let token = world.invite(&id)?;
        let dir = world.node_dir(&id);
        world.enroll(&token, &dir).await?;
        let own = Folder::open(&dir)?;
        keys.push((name.to_owned(), hex::encode(own.public_key.fingerprint())));
        if name == NODES[0] {
            let again =
                enroll::enroll(&world.hub.url, &token, &dir.with_extension("again"), &KeyFiles::default(), None).await;
            let said = again.map_or_else(|error| format!("{error:#}"), |_| "enrolled twice".into());
            report.check(FIGURE, "an enrolment token works once", true, said.contains("401"))?;
            std::fs::remove_dir_all(dir.with_extension("again")).context("the refused device's folder")?;
        }
        world.start_node(id, &world::agent_toml()).await?;
    }
    world.operator.catch_up().await?;
    let replica = &world.operator.replica;
    let rows: Vec<device::Row> = replica.devices().map(|device| device::row(replica, device)).collect();
    if report.narrates() {
        report.end_wait();
        output::line("")?;
        device::table(&rows)?;
        output::line("")?;
    }
    let on_ledger: BTreeMap<String, String> =
        rows.iter().map(|row| (row.device.clone(), row.public_key_sha256.clone())).collect();
    report.check(FIGURE, "the ledger has each node's own public key", keys.into_iter().collect(), on_ledger)?;
    let active = rows.iter().filter(|row| row.state == device::State::Active).count();
    report.check(FIGURE, "all four are active", NODES.len(), active)?;
    let id = replica.genesis().id;
    let expected: Vec<String> =
        NODES.iter().map(|name| Ok(id.number_of(&name.parse()?).to_string())).collect::<Result<_>>()?;
    let mut numbers: Vec<String> = rows.iter().map(|row| row.number.clone()).collect();
    let mut sorted = expected.clone();
    sorted.sort();
    numbers.sort();
    report.check(FIGURE, "contract numbers are those that anybody can compute", sorted, numbers)
}

/// The public keys go to everybody over MQTT, apart from the messages.
pub async fn broadcast_keys(world: &mut World, report: &mut Report) -> Result<()> {
    const FIGURE: &str = "Fig 5-7";
    let start = Instant::now();
    let (ledger, seen) = loop {
        world.operator.catch_up().await?;
        let replica = &world.operator.replica;
        let ledger: BTreeMap<String, String> = replica
            .devices()
            .filter_map(|device| {
                Some((device.id.to_string(), replica.latest_keys(device.number)?.key_package.to_string()))
            })
            .collect();
        let text = |keys: BTreeMap<DeviceId, Hash>| -> BTreeMap<String, String> {
            keys.into_iter().map(|(device, hash)| (device.to_string(), hash.to_string())).collect()
        };
        let seen: Vec<_> = world.nodes.iter().map(|node| text(node.agent.keys_seen())).collect();
        if ledger.len() == NODES.len() && seen.iter().all(|keys| *keys == ledger) || start.elapsed() > PATIENCE {
            break (ledger, seen);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    for (device, hash) in &ledger {
        report.tell(&format!(
            "{}  key package {}",
            ControlTopic::Keys { device },
            hash.trim_start_matches("0x").get(..32).unwrap_or(hash)
        ))?;
    }
    report.check(FIGURE, "all four nodes see the same broadcast keys, and the ledger has them", vec![ledger; 4], seen)
}

/// Figure 11.
pub async fn contract_records(world: &mut World, report: &mut Report) -> Result<()> {
    const FIGURE: &str = "Fig 11";
    report.chapter(FIGURE, "the contract's records of 1113, read back from the chain").await?;
    let group = world.group("hsu0001")?;
    // The members may be about to turn the epoch once more: compared when they and the ledger are at the same one.
    let start = Instant::now();
    let epochs = loop {
        world.members_agree(group, &[0, 1, 2]).await?;
        let on_chain = world.operator.replica.group(group).context("hsu0001")?.epoch.0;
        let own = |index: usize| -> Result<Option<u64>> {
            let epochs = world.node(index)?.agent.data().epochs();
            Ok(epochs.iter().find(|(of, _)| *of == group).map(|(_, id)| id.epoch))
        };
        let epochs = [own(0)?, own(1)?, own(2)?];
        if epochs == [Some(on_chain); 3] || start.elapsed() > PATIENCE {
            break epochs;
        }
    };
    let replica = &world.operator.replica;
    let number = world.operator.device(&NODES[2].parse()?)?.number;
    let summaries = replica.about_originator(number);
    let entries: Vec<device::Entry> = summaries.iter().map(|summary| device::Entry::new(replica, summary)).collect();
    for entry in &entries {
        report.tell(&format!("{:>3}  {}  {}", entry.index, output::utc(entry.time_s), entry.entry))?;
    }
    let about = |wanted: fn(&Event) -> bool| summaries.iter().any(|summary| wanted(&summary.event));
    report.check(
        FIGURE,
        "registration, keys and grant of 1113 are on the chain",
        [true; 3],
        [
            about(|event| matches!(event, Event::DeviceRegistered { .. })),
            about(|event| matches!(event, Event::KeysPublished { .. })),
            about(|event| matches!(event, Event::Granted { .. })),
        ],
    )?;
    let on_chain = replica.group(group).context("hsu0001")?.epoch.0;
    let commits =
        replica.about_group(group).iter().filter(|summary| matches!(summary.event, Event::Committed { .. })).count();
    report.tell(&format!("hsu0001: {commits} key exchanges, epoch {on_chain}"))?;
    report.check(
        FIGURE,
        "the members' epoch is the contract's, and each epoch is one key exchange on it",
        json!({ "members": [on_chain, on_chain, on_chain], "key_exchanges": on_chain }),
        json!({ "members": epochs, "key_exchanges": commits }),
    )
}

/// The end. Nobody writes any more, and the readings that were written last are waited for.
pub async fn verify_ledger(world: &mut World, report: &mut Report) -> Result<()> {
    const FIGURE: &str = "the end";
    report.chapter(FIGURE, "the ledger, verified from its first entry").await?;
    let start = Instant::now();
    let (height, head, heads) = loop {
        // Before the ledger is read: what no longer waits then is on it.
        let waiting: Vec<u64> = world.nodes.iter().map(|node| node.agent.readings_waiting()).collect::<Result<_>>()?;
        world.operator.catch_up().await?;
        let (height, head) = (world.operator.replica.height(), world.operator.replica.head());
        let heads: Vec<(u64, String)> = world
            .nodes
            .iter()
            .map(|node| node.agent.data().with_replica(|replica| (replica.height(), replica.head().to_string())))
            .collect();
        let all_written = waiting.iter().all(|count| *count == 0);
        if all_written && heads.iter().all(|(of, _)| *of == height) || start.elapsed() > PATIENCE {
            break (height, head, heads);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let verified = sealcast_ledger::verify(*world.operator.replica.genesis(), world.operator.records.clone());
    let verified = verified.is_ok_and(|replica| replica.head() == head);
    report.tell(&format!("{height} entries, head {head}"))?;
    report.check(FIGURE, "every signature, every rule and the chain of heads hold", true, verified)?;
    let expected = vec![(height, head.to_string()); world.nodes.len()];
    report.check(FIGURE, "all nodes hold the same ledger", expected, heads)?;
    ensure!(height > 0, "the ledger is empty");
    report.ledger = Some(LedgerEnd { height, head: head.to_string(), verified });
    Ok(())
}
