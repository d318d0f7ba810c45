//! Many entries in one transaction: the contract takes or refuses each by itself.

use sealcast_identity::SigningKey;
use sealcast_ledger::{Body, Granted, GroupNumber, Number, Refusal, SignedEntry};
use sealcast_ledger_client::SubmitError;

use crate::{
    faults::report,
    world::{Device, World, commit, group, registration},
};

fn blocks(world: &World) -> u64 {
    world.engine.progress().borrow().height
}

/// Signed by the CA, with its next nonces.
async fn registrations<'a>(
    world: &World,
    names: impl IntoIterator<Item = (String, &'a SigningKey)>,
) -> Vec<SignedEntry> {
    let id = world.id();
    let first = world.ledger.nonce_of(id.ca()).await.unwrap();
    (first..)
        .zip(names)
        .map(|(nonce, (name, key))| registration(&name, key).sign(&world.keys.ca, id.ca(), nonce, &id).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_entries_at_once_keep_their_order_and_share_blocks() {
    let world = World::new().await;
    let keys: Vec<_> = (0..100).map(|at| (format!("d{at}"), SigningKey::generate().unwrap())).collect();
    let entries = registrations(&world, keys.iter().map(|(name, key)| (name.clone(), key))).await;
    let before = blocks(&world);
    let results = world.ledger.submit_all(&entries).await;
    let records: Vec<_> = results.into_iter().map(Result::unwrap).collect();
    for (index, (record, entry)) in records.iter().zip(&entries).enumerate() {
        assert_eq!((record.index, &record.entry), (index as u64, entry));
    }
    let used = blocks(&world) - before;
    assert!(used < 10, "100 entries took {used} blocks");
    assert_eq!(world.replica().await.devices().count(), 100);

    // What is on the ledger already is found there.
    let again: Vec<_> = world.ledger.submit_all(&entries).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(again, records);
    assert_eq!(world.ledger.height().await.unwrap(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_entry_keeps_only_its_originators_others_out() {
    let world = World::new().await;
    let [pump, lamp] = [world.register("pump").await, world.register("lamp").await];
    let number = world.group("g", &[&pump]).await;
    let id = world.id();
    let nonce = world.ledger.nonce_of(id.operator()).await.unwrap();
    let by_operator = |body: Body, nonce| body.sign(&world.keys.operator, id.operator(), nonce, &id).unwrap();
    let grant = |device: Number| Body::Granted(Granted { group: number, device });
    let entries = [
        by_operator(grant(lamp.number), nonce),
        by_operator(grant(pump.number), nonce + 1),
        by_operator(group("h", &["h/#"]), nonce + 2),
        world.sign(commit(number, 0, 100), &pump.key, pump.number).await,
        world.sign(commit(number, 0, 100), &lamp.key, lamp.number).await,
    ];
    let before = blocks(&world);
    let results = world.ledger.submit_all(&entries).await;
    assert_eq!(blocks(&world) - before, 1);
    let refusals: Vec<_> = results
        .into_iter()
        .map(|result| match result {
            Ok(_) => None,
            Err(SubmitError::Refused(refusal)) => Some(refusal),
            Err(other) => panic!("{other}"),
        })
        .collect();
    let already = Refusal::AlreadyGranted { group: number.get(), device: pump.number };
    let behind = Refusal::BadNonce { expected: nonce + 1, got: nonce + 2 };
    let late = wrong_epoch(0, 1);
    assert_eq!(refusals, [None, Some(already), Some(behind), None, Some(late)]);
    assert_eq!(world.replica().await.height(), world.ledger.height().await.unwrap());
}

/// In the next generation or epoch, and spoken of the first.
fn wrong_epoch(expected_generation: u32, expected_epoch: u64) -> Refusal {
    Refusal::WrongEpoch { expected_generation, expected_epoch, got_generation: 0, got_epoch: 0 }
}

/// Reports cost by their group's members, which nobody knows before: here each is dearer than an entry is taken for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_into_the_gas_of_one_transaction_goes_into_several() {
    const MEMBERS: usize = 140;
    let world = World::new().await;
    let (devices, number) = crowd(&world, MEMBERS).await;
    world.submit(&devices[0], commit(number, 0, 100)).await.unwrap();
    let mut entries = Vec::new();
    for device in &devices {
        entries.push(world.sign(report(number, true), &device.key, device.number).await);
    }
    let before = blocks(&world);
    let results = world.ledger.submit_all(&entries).await;
    assert!(blocks(&world) - before > 10, "all went into one transaction");
    // One more than half found the group anew. The others speak of a generation that is over.
    for (at, result) in results.into_iter().enumerate() {
        match result {
            Ok(record) => assert!(at <= MEMBERS / 2 && record.entry == entries[at], "{at}: {record:?}"),
            Err(SubmitError::Refused(refusal)) => {
                assert_eq!((at > MEMBERS / 2, refusal), (true, wrong_epoch(1, 0)));
            }
            Err(other) => panic!("{at}: {other}"),
        }
    }
    world.replica().await;
}

/// A group of so many devices.
async fn crowd(world: &World, members: usize) -> (Vec<Device>, GroupNumber) {
    let id = world.id();
    let names: Vec<_> = (0..members).map(|at| format!("d{at}")).collect();
    let devices: Vec<_> = names
        .iter()
        .map(|name| Device { number: id.number_of(&name.parse().unwrap()), key: SigningKey::generate().unwrap() })
        .collect();
    let entries = registrations(world, names.into_iter().zip(devices.iter().map(|device| &device.key))).await;
    let number = world.group("g", &[]).await;
    let nonce = world.ledger.nonce_of(id.operator()).await.unwrap();
    let grants = (nonce..).zip(&devices).map(|(nonce, device)| {
        let body = Body::Granted(Granted { group: number, device: device.number });
        body.sign(&world.keys.operator, id.operator(), nonce, &id).unwrap()
    });
    let entries: Vec<_> = entries.into_iter().chain(grants).collect();
    for result in world.ledger.submit_all(&entries).await {
        result.unwrap();
    }
    (devices, number)
}
