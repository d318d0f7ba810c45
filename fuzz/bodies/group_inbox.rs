//! What a device takes from MQTT beside the ledger: inboxes with Welcomes, and key broadcasts.
//!
//! `fuzz/fixtures/group.bin` is device 1112 just before its Welcome comes: its stored state, the ledger, and the payloads
//! that are retained. Whatever it is given, the only epochs that it may ever have keys of are those of the genuine Welcome.

#[path = "genuine.rs"]
mod genuine;

use std::sync::OnceLock;

use sealcast_group::{EpochKeys, GroupNumber, Groups, Me, Output};
use sealcast_identity::{DeviceId, PublicKey, SigningKey, TrustAnchor};
use sealcast_ledger::{Genesis, LedgerId, Record, Replica};
use zeroize::Zeroizing;

use self::genuine::{changed, parts};

/// When the fixture was made, Unix ms.
pub const NOW_MS: u64 = 1_767_225_600_000;
pub const LEDGER: LedgerId = LedgerId { chain_id: 5318, address: [7; 20] };

/// Parts, each behind its length as u32: PKCS#8, leaf, issuing CA, root, operator's key, the inbox, the key broadcasts of
/// 1111 and 1113, the number of records as u32, the records, then key and value of each stored row.
const FIXTURE: &[u8] = include_bytes!("../fixtures/group.bin");

const MAX_OPERATIONS: usize = 8;
const MAX_OUTPUTS: usize = 1000;

struct World {
    pkcs8: &'static [u8],
    chain: [&'static [u8]; 2],
    anchor: TrustAnchor,
    genesis: Genesis,
    inbox: &'static [u8],
    keys: [&'static [u8]; 2],
    records: Vec<Record>,
    store: Vec<(&'static [u8], &'static [u8])>,
}

/// `what u8 | length u16 | bytes`, again and again.
pub fn run(data: &[u8]) {
    let world = world();
    let (mut groups, replica) = start(world);
    let mut bytes = data;
    for _ in 0..MAX_OPERATIONS {
        let Some(([what, high, low], rest)) = bytes.split_first_chunk::<3>() else { break };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (part, rest) = rest.split_at(rest.len().min(length));
        bytes = rest;
        let group = GroupNumber::new(if what & 0x80 == 0 { 1 } else { 2 }).expect("not 0");
        let [first, third] = [device("1111"), device("1113")];
        let committer = if what & 0x40 == 0 { &first } else { &third };
        match what & 7 {
            0 => groups.handle_inbox(&replica, group, committer, part, NOW_MS),
            1 => groups.handle_keys(&replica, &first, part, NOW_MS),
            2 => groups.handle_inbox(&replica, group, committer, &changed(world.inbox, part), NOW_MS),
            3 => groups.handle_keys(&replica, &first, &changed(world.keys[0], part), NOW_MS),
            4 => groups.handle_keys(&replica, &third, &changed(world.keys[usize::from(what >> 7)], part), NOW_MS),
            5 => groups.handle_timeout(&replica, NOW_MS + 60_000),
            _ => groups.request_update(&replica, group, NOW_MS),
        }
        take(&mut groups);
    }
}

fn start(world: &World) -> (Groups, Replica) {
    let me = Me {
        device: device("1112"),
        key: SigningKey::from_pkcs8_der(world.pkcs8).expect("a key"),
        chain: world.chain.map(<[u8]>::to_vec).to_vec(),
        anchors: vec![world.anchor.clone()],
    };
    let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
    let store = world.store.iter().map(|(key, value)| (text(key), Zeroizing::new(value.to_vec())));
    let mut groups = Groups::new(me, &world.genesis, store, NOW_MS).expect("its own state");
    let mut replica = Replica::new(world.genesis);
    for record in &world.records {
        replica.apply_without_signature_check(record).expect("a ledger");
        groups.handle_record(&replica, record, NOW_MS).expect("in order");
    }
    groups.set_live(&replica, true, NOW_MS);
    (groups, replica)
}

fn take(groups: &mut Groups) {
    for _ in 0..MAX_OUTPUTS {
        match groups.poll_output() {
            Some(Output::Epoch(keys)) => {
                assert!(genuine().contains(&keys), "keys of an epoch that never was: {keys:?}")
            }
            Some(Output::Notice { notice, .. }) => assert!(!notice.to_string().is_empty()),
            Some(_) => {}
            None => return,
        }
    }
    panic!("it goes in circles");
}

/// The epochs that the genuine Welcome gives.
fn genuine() -> &'static [EpochKeys] {
    static GENUINE: OnceLock<Vec<EpochKeys>> = OnceLock::new();
    GENUINE.get_or_init(|| {
        let world = world();
        let (mut groups, replica) = start(world);
        let (group, committer) = (GroupNumber::new(1).expect("not 0"), device("1111"));
        groups.handle_inbox(&replica, group, &committer, world.inbox, NOW_MS);
        let outputs = std::iter::from_fn(|| groups.poll_output());
        let epochs: Vec<_> =
            outputs.filter_map(|output| if let Output::Epoch(keys) = output { Some(keys) } else { None }).collect();
        assert!(!epochs.is_empty(), "the genuine Welcome is taken");
        epochs
    })
}

fn device(id: &str) -> DeviceId {
    id.parse().expect("a device id")
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let mut parts = parts(FIXTURE);
        let mut next = || parts.next().expect("a part");
        let (pkcs8, leaf, issuing, root, operator) = (next(), next(), next(), next(), next());
        let (inbox, keys) = (next(), [next(), next()]);
        let count = u32::from_be_bytes(next().try_into().expect("four bytes"));
        let records = (0..count).map(|_| Record::decode(next()).expect("a record")).collect();
        let mut store = Vec::new();
        while let (Some(key), Some(value)) = (parts.next(), parts.next()) {
            store.push((key, value));
        }
        let issuer = sealcast_identity::Certificate::from_der(issuing).expect("a certificate");
        let operator = PublicKey::from_uncompressed(operator).expect("a key");
        let anchor = TrustAnchor::from_der(root).expect("a root");
        World {
            pkcs8,
            chain: [leaf, issuing],
            genesis: Genesis { id: LEDGER, root: *anchor.root().public_key(), ca: *issuer.public_key(), operator },
            anchor,
            inbox,
            keys,
            records,
            store,
        }
    })
}
