//! A device on a ledger in memory, with a CA, that keeps a series.

use std::time::Duration;

use sealcast_audit::{Frontier, Sent, SentKind, Series, SeriesSecret, anchor_of, payload_digest};
use sealcast_identity::{Authority, DeviceId, Issued, Root, SigningKey, TrustAnchor};
use sealcast_ledger::{
    Anchor, Authenticity, Body, DeviceRegistered, Genesis, Granted, GroupCreated, GroupNumber, LedgerId, Moved, Number,
    Policy, Record, Serial, testing::MemoryLedger,
};

/// 2026-01-01T00:00:00Z.
pub const NOW_MS: u64 = 1_767_225_600_000;
const DAY: Duration = Duration::from_secs(86_400);
const ID: LedgerId = LedgerId { chain_id: 7526, address: [3; 20] };

pub struct World {
    pub root: TrustAnchor,
    pub authority: Authority,
    operator: SigningKey,
    pub ledger: MemoryLedger,
    key: SigningKey,
    issued: Issued,
    registration: Record,
    pub group: GroupNumber,
    secret: SeriesSecret,
    sent: Vec<Sent>,
    tree: Frontier,
    /// The tree at each anchor, with the anchor's record.
    anchored: Vec<(Frontier, Record)>,
}

pub fn device() -> DeviceId {
    "1111".parse().unwrap()
}

impl World {
    pub fn new() -> Self {
        let root = Root::create("test", NOW_MS, 3650 * DAY).unwrap();
        let authority = root.create_authority("test", NOW_MS, 365 * DAY).unwrap();
        let (key, operator) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let issued = authority.issue_device(&device(), key.public(), NOW_MS, 30 * DAY).unwrap();
        let genesis = Genesis {
            id: ID,
            root: *root.certificate().public_key(),
            ca: *authority.key().public(),
            operator: *operator.public(),
        };
        let mut ledger = MemoryLedger::new(genesis);
        let registration = registration(&device(), &key, &issued);
        let registration = say(&mut ledger, authority.key(), ID.ca(), registration);
        let policy = Policy {
            epoch_max_age_s: None,
            epoch_max_messages: None,
            retention: 3,
            authenticity: Authenticity::Signature,
            ledger_max_age_s: None,
        };
        let filters = vec!["plant/#".parse().unwrap()];
        let body = Body::GroupCreated(GroupCreated { name: "plant".parse().unwrap(), filters, policy });
        say(&mut ledger, &operator, ID.operator(), body);
        let group = GroupNumber::new(1).unwrap();
        let number = ID.number_of(&device());
        say(&mut ledger, &operator, ID.operator(), Body::Granted(Granted { group, device: number }));
        Self {
            root: TrustAnchor::new(root.certificate().clone()).unwrap(),
            authority,
            operator,
            ledger,
            key,
            issued,
            registration,
            group,
            secret: SeriesSecret::generate().unwrap(),
            sent: Vec::new(),
            tree: Frontier::default(),
            anchored: Vec::new(),
        }
    }

    /// Sends messages on `plant/a`, `plant/b` and `plant/c` in turn.
    pub fn send(&mut self, count: usize) {
        for _ in 0..count {
            let index = self.sent.len() as u64;
            let topic = format!("plant/{}", ["a", "b", "c"][self.sent.len() % 3]);
            let payload = format!("payload {index}").into_bytes();
            let sent = Sent::whole(NOW_MS + 1000 * index, SentKind::Message, topic, payload);
            let leaf = self.secret.leaf(index, sent.time_ms, sent.kind, &sent.topic, &sent.digest);
            self.tree.append(leaf.hash());
            self.sent.push(sent);
        }
    }

    pub fn anchor(&mut self) -> Record {
        let root = self.tree.root().unwrap();
        let record = self.anchor_of(root, self.tree.size() as u32);
        self.anchored.push((self.tree.clone(), record.clone()));
        record
    }

    pub fn anchor_of(&mut self, root: [u8; 32], count: u32) -> Record {
        let body = Body::Anchor(Anchor { group: self.group, root: root.into(), count });
        say(&mut self.ledger, &self.key, ID.number_of(&device()), body)
    }

    /// The ledger goes on at another contract.
    pub fn move_to(&mut self, to: LedgerId) {
        say(&mut self.ledger, &self.operator, ID.operator(), Body::Moved(Moved { to }));
    }

    /// What the folder has from this anchor to that one; from the beginning without the first.
    pub fn series(&self, first: Option<usize>, last: usize) -> Series {
        let base = first.map_or_else(Frontier::default, |at| self.anchored[at].0.clone());
        let end = anchor_of(&self.anchored[last].1).unwrap().count as usize;
        Series {
            ledger: ID,
            first_ca: *self.authority.key().public(),
            first_operator: *self.operator.public(),
            chain: [self.issued.certificate.clone(), self.authority.certificate().clone()],
            registration: self.registration.clone(),
            anchors: self.anchored[first.unwrap_or(0)..=last].iter().map(|(_, record)| record.clone()).collect(),
            secret: self.secret.clone(),
            sent: self.sent[usize::try_from(base.size()).unwrap()..end].to_vec(),
            base,
        }
    }

    /// All that the folder has, with the anchors so far.
    pub fn clone_of_series(&self) -> Series {
        let mut series = self.series(None, self.anchored.len() - 1);
        series.sent = self.sent.clone();
        series
    }

    pub fn records(&self) -> &[Record] {
        self.ledger.records()
    }
}

fn registration(device: &DeviceId, key: &SigningKey, issued: &Issued) -> Body {
    Body::DeviceRegistered(DeviceRegistered {
        device: device.clone(),
        public_key: *key.public(),
        certificate: issued.certificate.fingerprint().0.into(),
        serial: Serial::new(&[1]).unwrap(),
        not_after_s: 4_000_000_000,
    })
}

fn say(ledger: &mut MemoryLedger, key: &SigningKey, by: Number, body: Body) -> Record {
    let entry = body.sign(key, by, ledger.replica().next_nonce(by), ledger.replica().current_id()).unwrap();
    ledger.submit(&entry, NOW_MS / 1000 + ledger.replica().height()).unwrap()
}

/// Without its payload.
pub fn digest_only(sent: &Sent) -> Sent {
    Sent { payload: None, digest: payload_digest(sent.payload.as_deref().unwrap()), ..sent.clone() }
}
