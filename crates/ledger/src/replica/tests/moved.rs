//! The ledger goes on at another contract.

use super::*;

const THERE: LedgerId = LedgerId { chain_id: 1, address: [9; 20] };

#[test]
fn what_is_signed_is_for_the_contract_where_the_ledger_is() {
    let mut scene = Scene::new();
    let (operator, device) = (ID.operator(), scene.device(0));
    scene.create(operator, "plant", &["plant/#"]).unwrap();
    scene.grant(operator, 1, 0).unwrap();
    let moved = Body::Moved(Moved { to: THERE });
    for other in [ID.root(), ID.ca(), device] {
        assert_eq!(scene.say(other, &moved), denied(Kind::Moved, other));
    }
    assert_eq!(*scene.replica().current_id(), ID);
    let body = Body::Anchor(Anchor { group: group(1), root: [1; 32].into(), count: 1 });
    let for_the_former = scene.cast.sign(scene.replica(), device, &body).unwrap();
    assert_eq!(scene.say(operator, &moved), Ok(Event::Moved { to: THERE }));

    assert_eq!(*scene.replica().current_id(), THERE);
    assert_eq!(scene.replica().check(&for_the_former), Err(Refusal::BadSignature));
    assert_eq!(scene.replica().genesis().id, ID, "what the ledger is called stays");
    assert_eq!(scene.replica().name_of(device), Some("1111"));
    // The head goes on with what was signed for the other contract.
    let before = scene.replica().head();
    scene.say(device, &body).unwrap();
    let last = scene.ledger.records().last().unwrap();
    assert_eq!(last.head, Record::next_head(&before, last.index, last.time_s, &last.entry, &THERE));
    let records = scene.ledger.records();
    let contract_at = |index| Record::contract_at(records, ID, index);
    assert_eq!(
        (contract_at(last.index - 1), contract_at(last.index)),
        (ID, THERE),
        "the move itself is for the former one"
    );
    let again = verify(scene.cast.genesis, scene.ledger.records().iter().cloned()).unwrap();
    assert_eq!((again.head(), *again.current_id()), (last.head, THERE));
}
