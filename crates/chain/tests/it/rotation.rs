//! The keys of the CA and of the operator change, by the contract and by the replica alike.

use sealcast_identity::SigningKey;
use sealcast_ledger::{
    Body, KeyRotated, LedgerId, Number, Record, Refusal,
    testing::{Cast, MemoryLedger},
};
use sealcast_ledger_client::SubmitError;

use crate::world::{World, all, commit, group, registration};

fn refusal(result: Result<Record, SubmitError>) -> Refusal {
    match result {
        Err(SubmitError::Refused(refusal)) => refusal,
        other => panic!("must be refused: {other:?}"),
    }
}

fn key() -> SigningKey {
    SigningKey::generate().unwrap()
}

/// `whose` gets `new`, says `by` with `key`.
async fn rotate(
    world: &World,
    by: Number,
    key: &SigningKey,
    whose: Number,
    new: &SigningKey,
) -> Result<Record, SubmitError> {
    let rotated = KeyRotated::to(new, whose, &world.id()).unwrap();
    world.ledger.submit(&world.sign(Body::KeyRotated(rotated), key, by).await).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_rotation_the_new_key_is_taken_and_the_old_one_refused() {
    let world = World::new().await;
    let id = world.id();
    let (root, ca, operator) = (id.root(), id.ca(), id.operator());
    let device = world.register("1111").await;
    let g = world.group("g", &[&device]).await;
    let (new_ca, new_operator) = (key(), key());
    let genesis = world.ledger.genesis().await.unwrap();

    rotate(&world, root, &world.keys.root, ca, &new_ca).await.unwrap();
    rotate(&world, operator, &world.keys.operator, operator, &new_operator).await.unwrap();
    assert_eq!(refusal(world.by_ca(registration("1112", &key())).await), Refusal::BadSignature);
    assert_eq!(refusal(world.by_operator(group("h", &["h/#"])).await), Refusal::BadSignature);
    assert_eq!(refusal(rotate(&world, operator, &world.keys.operator, operator, &key()).await), Refusal::BadSignature);
    let by_new = async |body, key, by| world.ledger.submit(&world.sign(body, key, by).await).await;
    by_new(registration("1112", &key()), &new_ca, ca).await.unwrap();
    by_new(group("h", &["h/#"]), &new_operator, operator).await.unwrap();

    // What was granted stays granted, the nonces go on, and the head begins with the first keys.
    world.submit(&device, commit(g, 0, 10)).await.unwrap();
    assert_eq!(world.ledger.genesis().await.unwrap(), genesis);
    assert_eq!(world.ledger.key_of(operator).await.unwrap(), *new_operator.public());
    let replica = world.replica().await;
    assert!(replica.is_granted(g, device.number));
    for number in [root, ca, operator] {
        assert_eq!(world.ledger.nonce_of(number).await.unwrap(), replica.next_nonce(number));
        assert_eq!(world.ledger.key_of(number).await.unwrap(), *replica.key_of(number).unwrap());
    }
    // A second one.
    let third = key();
    rotate(&world, operator, &new_operator, operator, &third).await.unwrap();
    by_new(group("i", &["i/#"]), &third, operator).await.unwrap();
    assert_eq!(all(&world.ledger).await.len() as u64, world.replica().await.height());
}

/// Each is refused by both for the same reason. Whoever may rotate one key may not rotate the other: two keys make a member.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_rotates_a_key_and_no_key_is_taken_that_did_not_sign() {
    let world = World::new().await;
    let id = world.id();
    let (root, ca, operator) = (id.root(), id.ca(), id.operator());
    let device = world.register("1111").await;
    let keys = [(root, &world.keys.root), (ca, &world.keys.ca), (operator, &world.keys.operator)];
    let by = |number: Number| keys.iter().find(|(known, _)| *known == number).map_or(&device.key, |(_, key)| key);
    let new = key();
    let agreed = async |body: Body, originator: Number| {
        let expected = world.replica().await.preview(originator, &body).unwrap_err();
        let said = refusal(world.ledger.submit(&world.sign(body.clone(), by(originator), originator).await).await);
        assert_eq!(said, expected, "{body:?} by {originator}");
        said
    };
    for whose in [root, ca, operator, device.number] {
        for originator in [root, ca, operator, device.number] {
            if [(ca, root), (operator, operator)].contains(&(whose, originator)) {
                continue;
            }
            let body = Body::KeyRotated(KeyRotated::to(&new, whose, &id).unwrap());
            assert_eq!(agreed(body, originator).await, Refusal::NotAuthorized { kind: 13, originator });
        }
    }
    for (originator, used) in keys {
        let body = Body::KeyRotated(KeyRotated::to(used, ca, &id).unwrap());
        assert_eq!(agreed(body, root).await, Refusal::KeyInUse { originator });
    }
    let elsewhere = LedgerId { chain_id: id.chain_id + 1, ..id };
    for (whose, ledger) in [(operator, &id), (ca, &elsewhere)] {
        let proof = KeyRotated::to(&new, whose, ledger).unwrap().proof;
        let rotated = KeyRotated { whose: ca, public_key: *new.public(), proof };
        assert_eq!(agreed(Body::KeyRotated(rotated), root).await, Refusal::BadProof);
    }
    // The root says nothing else.
    assert_eq!(agreed(registration("1112", &new), root).await, Refusal::NotAuthorized { kind: 1, originator: root });
    assert_eq!(agreed(group("g", &["g/#"]), root).await, Refusal::NotAuthorized { kind: 4, originator: root });
}

/// The replica alone: whoever delivers the records cannot pass off an entry of the old key.
#[test]
fn a_replica_follows_a_rotation() {
    let cast = Cast::new(LedgerId { chain_id: 1, address: [7; 20] }, 1).unwrap();
    let id = cast.genesis.id;
    let mut ledger = MemoryLedger::new(cast.genesis);
    let new = key();
    let rotated = Body::KeyRotated(KeyRotated::to(&new, id.operator(), &id).unwrap());
    ledger.submit(&cast.sign(ledger.replica(), id.operator(), &rotated).unwrap(), 1).unwrap();
    let old = cast.sign(ledger.replica(), id.operator(), &group("g", &["g/#"])).unwrap();
    assert_eq!(ledger.submit(&old, 2).unwrap_err(), Refusal::BadSignature);
    let signed = group("g", &["g/#"]).sign(&new, id.operator(), 1, &id).unwrap();
    ledger.submit(&signed, 2).unwrap();
    let history = ledger.replica().about_originator(id.operator());
    let words: Vec<_> = history.iter().map(|summary| ledger.replica().describe(summary)).collect();
    let fingerprint = hex::encode(&new.public().fingerprint()[..8]);
    assert_eq!(
        words,
        [format!("operator gave operator the key {fingerprint}"), "operator created group g (1)".to_owned()]
    );
    let verified = sealcast_ledger::verify(cast.genesis, ledger.records().to_vec()).unwrap();
    assert_eq!(verified.key_of(id.operator()), Some(new.public()));
}
