//! Reported faults through the contract: whom it puts out, and what one costs.

use alloy::sol_types::SolCall;
use sealcast_identity::SigningKey;
use sealcast_ledger::{
    Body, DeviceRevoked, Epoch, Event, FaultOutcome, FaultReported, Generation, Granted, GroupNumber, Replica, Revoked,
};

use crate::{
    limits::{SealcastLedger, address, hex_of, request, view},
    world::{Device, World, all, commit, registration},
};

pub fn report(group: GroupNumber, kept_out: bool) -> Body {
    Body::FaultReported(FaultReported { group, generation: Generation(0), epoch: Epoch(0), kept_out })
}

/// Submits a report, and gives what the replica makes of its record.
async fn say(world: &World, device: &Device, body: Body) -> FaultOutcome {
    let record = world.submit(device, body).await.unwrap();
    let mut replica = Replica::new(world.genesis());
    let mut last = None;
    for record in all(&world.ledger).await {
        last = Some((record.index, replica.apply(&record).unwrap()));
    }
    match last {
        Some((index, Event::FaultReported { outcome, .. })) if index == record.index => outcome,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_founds_a_group_anew_and_puts_out_whom_the_replica_does() {
    let world = World::new().await;
    for (name, kept_out, expected) in [("g", false, FaultOutcome::AuthorOut), ("h", true, FaultOutcome::FoundedAnew)] {
        let mut devices = Vec::new();
        for device in 1..=4 {
            devices.push(world.register(&format!("{name}{device}")).await);
        }
        let group = world.group(name, &devices.iter().collect::<Vec<_>>()).await;
        world.submit(&devices[0], commit(group, 0, 100)).await.unwrap();
        let granted = async || {
            let member = address(devices[0].number);
            view(&world.engine, world.id(), SealcastLedger::grantedCall { number: group.get(), member }).await.unwrap()
        };
        let at = async || {
            let at =
                view(&world.engine, world.id(), SealcastLedger::epochOfCall { number: group.get() }).await.unwrap();
            (at.generation, at.epoch)
        };
        for device in &devices[1..3] {
            assert_eq!(say(&world, device, report(group, kept_out)).await, FaultOutcome::Noted);
        }
        assert_eq!((granted().await, at().await), (true, (0, 1)), "two of four are not more than half");
        assert_eq!(say(&world, &devices[3], report(group, kept_out)).await, expected);
        assert_eq!((granted().await, at().await), (kept_out, (1, 0)));
    }
}

/// A thousand members are what one group is made for; 16,777,216 units of gas what one transaction may cost (EIP-7825).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_in_a_group_of_a_thousand_fits_into_a_transaction() {
    const MEMBERS: u64 = 50;
    let world = World::new().await;
    let mut devices = Vec::new();
    for device in 0..MEMBERS {
        devices.push(world.register(&format!("d{device}")).await);
    }
    let group = world.group("g", &devices.iter().collect::<Vec<_>>()).await;
    world.submit(&devices[0], commit(group, 0, 100)).await.unwrap();
    let mut costs = Vec::new();
    for device in [&devices[1], &devices[2]] {
        costs.push(cost_of_report(&world, group, device).await);
        world.submit(device, report(group, false)).await.unwrap();
    }
    let each = costs.iter().max().unwrap() / MEMBERS;
    println!("{costs:?} gas for {MEMBERS} members, at most {each} for each");
    assert!(each * 1_000 < 16_777_216, "{costs:?}");
}

/// A group lives for years, and its devices are replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_that_were_members_once_do_not_make_a_report_dearer() {
    const MEMBERS: usize = 4;
    let world = World::new().await;
    let stays = world.register("stays").await;
    let group = world.group("g", &[&stays]).await;
    world.submit(&stays, commit(group, 0, 100)).await.unwrap();
    let cost = async |turns: std::ops::Range<usize>| {
        for turn in turns {
            let device = world.register(&format!("d{turn}")).await;
            world.by_operator(Body::Granted(Granted { group, device: device.number })).await.unwrap();
            if let Some(old) = turn.checked_sub(MEMBERS) {
                // By the group's owner, by the operator, and by another key.
                let device = world.id().number_of(&format!("d{old}").parse().unwrap());
                let reason = || "replaced".parse().unwrap();
                let end = match old % 3 {
                    0 => world.by_operator(Body::Revoked(Revoked { group, device, reason: reason() })).await,
                    1 => world.by_operator(Body::DeviceRevoked(DeviceRevoked { device, reason: reason() })).await,
                    _ => world.by_ca(registration(&format!("d{old}"), &SigningKey::generate().unwrap())).await,
                };
                end.unwrap();
            }
        }
        cost_of_report(&world, group, &stays).await
    };
    let few = cost(0..5 * MEMBERS).await;
    let many = cost(5 * MEMBERS..20 * MEMBERS).await;
    // One or two that are gone are always there.
    assert!(many < few + few / 10, "{few} gas at first, and then {many}");
}

async fn cost_of_report(world: &World, group: GroupNumber, device: &Device) -> u64 {
    let entry = world.sign(report(group, false), &device.key, device.number).await;
    let call = SealcastLedger::submitCall {
        kind: entry.kind().number(),
        originator: address(entry.originator()),
        nonce: entry.nonce(),
        body: entry.encoded_body().to_vec().into(),
        signature: entry.signature().to_vec().into(),
    };
    gas(world, call.abi_encode()).await
}

async fn gas(world: &World, input: Vec<u8>) -> u64 {
    let call = serde_json::json!({ "to": hex_of(&world.id().address), "input": hex_of(&input) });
    let answer = request(&world.engine, "eth_estimateGas", serde_json::json!([call])).await;
    let gas = answer["result"].as_str().unwrap_or_else(|| panic!("{answer}")).trim_start_matches("0x").to_owned();
    u64::from_str_radix(&gas, 16).unwrap()
}
