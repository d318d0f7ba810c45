use std::time::{Duration, Instant};

use sealcast_chain::stored_records;
use sealcast_ledger::Refusal;
use sealcast_ledger_client::SubmitError;

use crate::world::{World, all, commit, file};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_go_in_and_come_out() {
    let world = World::new().await;
    assert_eq!(world.ledger.head().await.unwrap().hash, world.genesis().head());
    assert_eq!(world.ledger.genesis().await.unwrap(), world.genesis());
    let mut watch = world.ledger.watch(0);
    let device = world.register("1111").await;
    assert_eq!(watch.next().await.unwrap().len(), 1);
    let group = world.group("hsu0001", &[&device]).await;
    let record = world.submit(&device, commit(group, 0, 1000)).await.unwrap();
    let replica = world.replica().await;
    assert_eq!(replica.head(), record.head);
    assert_eq!(world.ledger.head().await.unwrap().hash, record.head);
    assert_eq!(world.ledger.head().await.unwrap().height, 4);

    // So does its file, beside the engine.
    let file = rusqlite::Connection::open(file(world.directory.path())).unwrap();
    assert_eq!(stored_records(&file, world.id().address).unwrap(), all(&world.ledger).await);
    assert_eq!(stored_records(&file, [7; 20]).unwrap(), []);

    // The same entry again gives the same record; another one with a used nonce is refused.
    assert_eq!(world.ledger.submit(&record.entry).await.unwrap(), record);
    let late = world.submit(&device, commit(group, 0, 1001)).await;
    assert!(
        matches!(late, Err(SubmitError::Refused(Refusal::WrongEpoch { expected_epoch: 1, got_epoch: 0, .. }))),
        "{late:?}"
    );

    // New records reach a watcher of the same process at once, not when it asks again a quarter of a second later. The
    // machine may be busy now and then, so most of them are looked at.
    let mut watch = world.ledger.watch(4);
    let mut late = Vec::new();
    for epoch in 1..16 {
        let entry = world.sign(commit(group, epoch, 10), &device.key, device.number).await;
        let ledger = world.ledger.clone();
        let submitted = tokio::spawn(async move { ledger.submit(&entry).await.map(|record| (record, Instant::now())) });
        let seen = watch.next().await.unwrap();
        let seen_at = Instant::now();
        let (record, returned_at) = submitted.await.unwrap().unwrap();
        assert_eq!(seen, [record]);
        late.push(seen_at.saturating_duration_since(returned_at));
    }
    late.sort_unstable();
    let median = late[late.len() / 2];
    assert!(median < Duration::from_millis(60), "seen so long after the submission returned: {late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_commit_fits() {
    let world = World::new().await;
    let device = world.register("1111").await;
    let group = world.group("g", &[&device]).await;
    // The body is the commit and five words around it.
    let longest = sealcast_ledger::MAX_BODY_BYTES - 5 * 32;
    let record = world.submit(&device, commit(group, 0, longest)).await.unwrap();
    assert_eq!(record.entry.encoded_body().len(), sealcast_ledger::MAX_BODY_BYTES);
    world.replica().await;
}
