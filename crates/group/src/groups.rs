use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sealcast_identity::{Certificate, DeviceId, PublicKey, SigningKey, TrustAnchor};
use sealcast_ledger::{
    Body, Commit, Epoch, Generation, Genesis, GroupNumber, Hash, KeysPublished, LedgerId, Number, Record, Replica,
};
use zeroize::Zeroizing;

use crate::{
    GroupRefusal, LeftReason, Notice, Output, RestoreError, epochs,
    inboxes::Inboxes,
    mls::Engine,
    own::OwnKeys,
    packages::Packages,
    public::{Place, Seat},
    slot::Slot,
    standing::may_be_in,
    stored::{Changes, Stored, decode, encode, sha256},
    trust::Trust,
    wire,
};

/// Most outputs of an inbox, key or notice kind that wait for the driver; the oldest notices go first.
const MAX_OUTPUTS: usize = 65_536;

/// How far this device's clock may be ahead of the ledger's.
const CLOCK_TOLERANCE_S: u64 = 60;

/// Where the index of the next ledger entry is stored.
const NEXT: &str = "ledger/next";

/// Who this device is.
pub struct Me {
    /// Its id.
    pub device: DeviceId,
    /// Its key.
    pub key: SigningKey,
    /// Its certificate chain, DER, leaf first, without the root.
    pub chain: Vec<Vec<u8>>,
    /// The roots that members' certificates may lead to.
    pub anchors: Vec<TrustAnchor>,
}

/// A record that does not come in its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutOfOrder {
    /// It is not the next one.
    #[error("ledger entry {index} came instead of entry {expected}: pass on each entry once, in order")]
    Record {
        /// Index that is needed.
        expected: u64,
        /// Index that came.
        index: u64,
    },
    /// The replica is at another place.
    #[error("ledger entry {index} came with a replica of {height} entries: pass it on as soon as the replica has it")]
    Replica {
        /// Index that came.
        index: u64,
        /// The replica's height.
        height: u64,
    },
}

/// All MLS groups of one device. See the crate's documentation.
///
/// The driver calls `handle_*`, then takes all outputs with [`poll_output`](Self::poll_output), and calls
/// [`handle_timeout`](Self::handle_timeout) at the time that [`poll_timeout`](Self::poll_timeout) names. Times are in
/// milliseconds since the Unix epoch.
///
/// What the ledger says is read from the driver's replica, which comes with each call. It goes in step with the records:
/// [`handle_record`](Self::handle_record) follows `Replica::apply` before the next record is applied. So a commit is
/// judged by what the ledger says at its entry, and what it said before is told by the indices that the replica keeps.
///
/// After a restart it is made again from what was persisted, and needs the ledger from entry
/// [`next_entry`](Self::next_entry) on; earlier ones are passed over, so that the driver can pass on all records while it
/// makes its replica again. It hands out again all epochs that are retained: forget any keys that it does not (the device
/// may have left just before it stopped).
pub struct Groups {
    pub(crate) device: DeviceId,
    pub(crate) number: Number,
    /// SHA-256 of the certificate that its leaves and key packages get.
    pub(crate) certificate: [u8; 32],
    key: PublicKey,
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) ledger: LedgerId,
    pub(crate) trust: Trust,
    pub(crate) engine: Engine,
    /// Index of the next ledger entry.
    next: u64,
    /// When the last one came.
    pub(crate) heard_ms: u64,
    pub(crate) own: OwnKeys,
    pub(crate) packages: Packages,
    pub(crate) slots: BTreeMap<GroupNumber, Slot>,
    pub(crate) inboxes: Inboxes,
    pub(crate) changes: Changes,
    outputs: VecDeque<Output>,
    /// Key packages that made a commit fail, and those that were complained about.
    pub(crate) bad: BTreeSet<[u8; 32]>,
    pub(crate) live: bool,
    /// Groups that a Welcome of ours does not get through to.
    pub(crate) undelivered: BTreeSet<GroupNumber>,
    pub(crate) timeout_ms: Option<u64>,
}

impl Groups {
    /// Takes up the stored state: all values that were persisted, by key. Nothing is stored at the first start.
    ///
    /// Outputs at once the keys of all epochs that are retained, and this device's key broadcast. Welcomes that may not have
    /// gone out follow with the next record, or when it is [live](Self::set_live).
    pub fn new(
        me: Me,
        genesis: &Genesis,
        stored: impl IntoIterator<Item = (String, Zeroizing<Vec<u8>>)>,
        now_ms: u64,
    ) -> Result<Self, RestoreError> {
        let stored = Stored::new(stored);
        let ledger = genesis.id;
        let name = encode(&ledger.to_string());
        if stored.get("ledger/id").is_some_and(|found| found != name.as_slice()) {
            return Err(RestoreError::OtherLedger);
        }
        let certificate = sha256(leaf_of(&me.chain)?);
        let trust = Trust::new(me.anchors);
        let engine = Engine::new(&me.key, &me.chain, trust.clone())?;
        let mut groups = Self {
            number: ledger.number_of(&me.device),
            device: me.device,
            certificate,
            key: *me.key.public(),
            chain: me.chain,
            ledger,
            trust,
            next: stored.get(NEXT).map_or(Ok(0), |bytes| decode(NEXT, bytes))?,
            heard_ms: now_ms,
            own: OwnKeys::restore(&stored, &engine)?,
            engine,
            packages: Packages::default(),
            slots: BTreeMap::new(),
            inboxes: Inboxes::default(),
            changes: Changes::default(),
            outputs: VecDeque::new(),
            bad: BTreeSet::new(),
            live: false,
            undelivered: BTreeSet::new(),
            timeout_ms: None,
        };
        groups.changes.put("ledger/id".to_owned(), name);
        groups.save_next();
        groups.restore_slots(&stored, now_ms)?;
        groups.publish_keys();
        Ok(groups)
    }

    fn restore_slots(&mut self, stored: &Stored, now_ms: u64) -> Result<(), RestoreError> {
        for (key, bytes) in stored.under("slot/") {
            let group = key.strip_prefix("slot/").and_then(|number| number.parse().ok());
            let group: GroupNumber = group.ok_or_else(|| RestoreError::corrupt(key))?;
            let ledger = self.ledger;
            let id = |generation| ledger.mls_group_id(group, Generation(generation));
            let mut slot = Slot::restore(group, bytes, &self.engine, id, stored)?;
            let retained = epochs::restore(group, slot.public.voids, stored)?;
            slot.epochs = retained.iter().map(|keys| keys.epoch.0).collect();
            for keys in retained {
                self.output(Output::Epoch(keys));
            }
            slot.followed_ms = now_ms;
            self.slots.insert(group, slot);
        }
        Ok(())
    }

    /// Index of the next ledger entry that is needed.
    pub fn next_entry(&self) -> u64 {
        self.next
    }

    /// The MLS epoch of a group that this device is a member of.
    pub fn epoch(&self, group: GroupNumber) -> Option<Epoch> {
        self.slots.get(&group).and_then(Slot::epoch).filter(|epoch| *epoch > 0).map(Epoch)
    }

    /// Whether the driver believes that it has all of the ledger. Nothing is submitted while it is not: what happened
    /// meanwhile would make it void. A new `Groups` is not live.
    pub fn set_live(&mut self, replica: &Replica, live: bool, now_ms: u64) {
        self.live = live;
        if live {
            self.send_due(replica);
        }
        self.evaluate(replica, now_ms);
    }

    /// Takes the next record, which the replica has just accepted. Records before [`next_entry`](Self::next_entry) are
    /// passed over.
    pub fn handle_record(&mut self, replica: &Replica, record: &Record, now_ms: u64) -> Result<(), OutOfOrder> {
        let (expected, index, height) = (self.next, record.index, replica.height());
        if index < expected {
            return Ok(());
        }
        if index > expected {
            return Err(OutOfOrder::Record { expected, index });
        }
        if height != index + 1 {
            return Err(OutOfOrder::Replica { index, height });
        }
        // Before a later commit: whoever was added by an earlier one can follow from there.
        self.send_due(replica);
        (self.next, self.heard_ms) = (height, now_ms);
        self.save_next();
        let originator = record.entry.originator();
        match record.entry.body() {
            Body::GroupCreated(_) => {
                if let Some(created) = replica.groups().last() {
                    self.handle_created(created.number, created.generation, index, record.time_s);
                }
            }
            Body::Commit(commit) => {
                let place = Place { entry: index, time_s: record.time_s, author: originator };
                self.handle_commit(replica, commit, &place, now_ms);
            }
            Body::GroupReset(reset) => self.handle_reset(replica, reset.group, reset.reason.as_str(), record),
            Body::FaultReported(report) => self.handle_report(replica, report.group, record),
            Body::KeysPublished(keys) => self.handle_published(replica, originator, &keys.key_package, now_ms),
            Body::Reading(_) | Body::Anchor(_) | Body::LimitsSet(_) => return Ok(()),
            _ => (),
        }
        self.evaluate(replica, now_ms);
        Ok(())
    }

    /// Takes a retained `sealcast/v1/keys/<device>` payload. `device`: the topic's.
    pub fn handle_keys(&mut self, replica: &Replica, device: &DeviceId, bytes: &[u8], now_ms: u64) {
        if *device == self.device || bytes.is_empty() {
            return;
        }
        match self.packages.take(device, bytes, &self.trust, replica, now_ms) {
            Ok(true) => self.evaluate(replica, now_ms),
            Ok(false) => (),
            Err(refusal) => self.notice(Some(device.clone()), None, Notice::Refused(refusal)),
        }
    }

    fn handle_published(&mut self, replica: &Replica, publisher: Number, key_package: &Hash, now_ms: u64) {
        let Some(publisher) = replica.device(publisher) else { return };
        if let Err(refusal) = self.packages.settle(&publisher.id, key_package, &self.trust, now_ms) {
            self.notice(Some(publisher.id.clone()), None, Notice::Refused(refusal));
        }
    }

    /// Takes a retained `sealcast/v1/inbox/<this device>/<group>/<committer>` payload.
    ///
    /// Whoever made the commit that adds this device is on the ledger: a Welcome from anybody else's place is refused.
    /// Nor is one taken for a group that this device may not be in. While the driver is not [live](Self::set_live) the
    /// ledger may yet name the group, so until then it is held, within bounds.
    pub fn handle_inbox(
        &mut self,
        replica: &Replica,
        group: GroupNumber,
        committer: &DeviceId,
        bytes: &[u8],
        now_ms: u64,
    ) {
        if bytes.is_empty() {
            return;
        }
        if self.live && !may_be_in(replica, group, &self.certificate_on_ledger(replica)) {
            let why = "there is no such group, or this device is not granted it";
            let refusal = GroupRefusal::Inbox { group, why };
            self.notice(Some(self.device.clone()), Some(group), Notice::Refused(refusal));
            return;
        }
        self.take_welcome(replica, group, committer, bytes, now_ms);
        self.evaluate(replica, now_ms);
    }

    /// The ledger refused an entry that was submitted for [`Output::Submit`]. `reason`: for a person.
    ///
    /// If the refusal could be about a copy while another one was taken, nothing is lost: the record will come.
    pub fn handle_refused(&mut self, replica: &Replica, body: &Body, reason: &str, now_ms: u64) {
        let group = match body {
            Body::Commit(commit) => {
                self.commit_refused(commit.group, &commit.commit, now_ms);
                Some(commit.group)
            }
            Body::FaultReported(report) => Some(report.group),
            Body::KeysPublished(_) => None,
            _ => return,
        };
        self.notice(Some(self.device.clone()), group, Notice::EntryRefused(reason.to_owned()));
        self.evaluate(replica, now_ms);
    }

    /// This device has another certificate for the same key. As soon as the ledger has it, each leaf of this device gets it
    /// by a commit of its own, and a key package with it is published. Until then the leaves stay as they are, and good.
    ///
    /// `chain`: DER, leaf first, without the root.
    pub fn renew(&mut self, replica: &Replica, chain: Vec<Vec<u8>>, now_ms: u64) -> Result<(), GroupRefusal> {
        let leaf = leaf_of(&chain)?;
        if Certificate::from_der(leaf).is_ok_and(|leaf| *leaf.public_key() != self.key) {
            return Err(GroupRefusal::Malformed("the new certificate is for another key"));
        }
        self.certificate = sha256(leaf);
        self.engine.renew(&chain, self.trust.clone());
        self.chain = chain;
        self.evaluate(replica, now_ms);
        Ok(())
    }

    /// The certificate that the ledger has for our key: ours, or while one of the two lags behind, another one.
    pub(crate) fn certificate_on_ledger(&self, replica: &Replica) -> [u8; 32] {
        let registered = replica.device(self.number).filter(|device| device.key == self.key);
        registered.map_or(self.certificate, |device| *device.certificate.as_bytes())
    }

    /// Whether the ledger has our certificate: before that nobody takes it for ours.
    pub(crate) fn is_registered(&self, replica: &Replica) -> bool {
        self.certificate_on_ledger(replica) == self.certificate
    }

    /// Our seat in a group, which may have an older certificate of ours.
    pub(crate) fn own_seat<'a>(&self, replica: &Replica, slot: &'a Slot) -> Option<&'a Seat> {
        let device = replica.device(self.number).filter(|device| device.key == self.key);
        let is_older = |seat: &Seat| {
            let registered = device.and_then(|device| device.registration_of(&Hash::from(seat.certificate)));
            registered.is_some_and(|registered| registered.revocation.is_none())
        };
        slot.public.seats.values().find(|seat| seat.certificate == self.certificate || is_older(seat))
    }

    /// Names the groups for which the broker refuses Welcomes of this device. It adds nobody to them until they are
    /// delivered, since each try would be another epoch for all members and another Welcome that does not arrive. Other
    /// members still may, in their turn.
    pub fn set_undelivered(&mut self, replica: &Replica, groups: BTreeSet<GroupNumber>, now_ms: u64) {
        if self.undelivered != groups {
            self.undelivered = groups;
            self.evaluate(replica, now_ms);
        }
    }

    /// This device has done more than its stored state knows, so that the state is an old copy: it drops all keys, and asks its
    /// groups to add it again. Why it is known, for a person. Takes effect with the next call.
    pub fn begin_anew(&mut self, why: &str) {
        self.own.lose(&self.engine, &mut self.changes);
        self.inboxes = Inboxes::default();
        for (number, slot) in &mut self.slots {
            let was_member = slot.epoch().is_some_and(|epoch| epoch > 0);
            slot.forget(*number, &mut self.changes);
            slot.save(*number, &mut self.changes);
            if was_member {
                self.outputs.push_back(Output::Left { group: *number, reason: LeftReason::Outdated });
            }
        }
        self.notice(Some(self.device.clone()), None, Notice::Outdated(why.to_owned()));
    }

    /// Asks for a new epoch of this group, for instance because its limit of messages is reached.
    pub fn request_update(&mut self, replica: &Replica, group: GroupNumber, now_ms: u64) {
        if let Some(slot) = self.slots.get_mut(&group) {
            slot.update_requested = true;
        }
        self.evaluate(replica, now_ms);
    }

    /// The time has come that [`poll_timeout`](Self::poll_timeout) named.
    pub fn handle_timeout(&mut self, replica: &Replica, now_ms: u64) {
        self.evaluate(replica, now_ms);
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.timeout_ms
    }

    /// What to do next. A [`Output::Persist`] must be durable before any later output is acted upon.
    pub fn poll_output(&mut self) -> Option<Output> {
        // Outputs are made from changes that came before them: all changes first is always in order.
        match self.changes.take() {
            Some(writes) => Some(Output::Persist(writes)),
            None => self.outputs.pop_front(),
        }
    }

    pub(crate) fn output(&mut self, output: Output) {
        if self.outputs.len() >= MAX_OUTPUTS
            && let Some(position) = self.outputs.iter().position(|output| matches!(output, Output::Notice { .. }))
        {
            self.outputs.remove(position);
        }
        self.outputs.push_back(output);
    }

    pub(crate) fn notice(&mut self, device: Option<DeviceId>, group: Option<GroupNumber>, notice: Notice) {
        self.output(Output::Notice { device, group, notice });
    }

    pub(crate) fn publish_keys(&mut self) {
        if let Some(key) = self.own.current().filter(|key| key.certificate == self.certificate) {
            let bytes = wire::write_keys(&key.message, &self.chain);
            self.output(Output::PublishKeys { bytes });
        }
    }

    pub(crate) fn submit_keys(&mut self, now_ms: u64) {
        self.own.submitted_ms = Some(now_ms);
        if let Some(key) = self.own.current() {
            let (key_package, certificate) = (Hash::from(key.hash()), Hash::from(key.certificate));
            let body = KeysPublished { key_package, certificate, rejoin: key.rejoin };
            self.output(Output::Submit(Body::KeysPublished(body)));
        }
    }

    pub(crate) fn submit_commit(&mut self, group: GroupNumber, slot: &Slot, commit: Vec<u8>) {
        let (generation, epoch) = (slot.generation(), slot.on_ledger());
        self.output(Output::Submit(Body::Commit(Commit { group, generation, epoch, commit })));
    }

    /// Sends the Welcomes that may not have gone out before this device was started.
    fn send_due(&mut self, replica: &Replica) {
        let due = self.slots.iter_mut().filter_map(|(group, slot)| Some((*group, slot.take_letters_due()?)));
        for (group, letters) in due.collect::<Vec<_>>() {
            self.send(replica, group, &letters.letters);
        }
    }

    pub(crate) fn send(&mut self, replica: &Replica, group: GroupNumber, letters: &[crate::slot::Letter]) {
        for letter in letters {
            if let Some(device) = replica.device(letter.recipient()) {
                let (device, bytes) = (device.id.clone(), letter.payload.clone());
                self.output(Output::PublishInbox { device, group, bytes });
            }
        }
    }

    fn save_next(&mut self) {
        self.changes.put(NEXT.to_owned(), encode(&self.next));
    }

    /// The ledger's time, seconds since 1970, or a little less: clocks differ, and a commit that comes too early by the
    /// ledger's clock is void.
    pub(crate) fn ledger_now_s(&self, replica: &Replica, now_ms: u64) -> u64 {
        let since_s = now_ms.saturating_sub(self.heard_ms) / 1000;
        replica.last_time_s().saturating_add(since_s).max((now_ms / 1000).saturating_sub(CLOCK_TOLERANCE_S))
    }

    /// Wakes up when [`ledger_now_s`](Self::ledger_now_s) is this time.
    pub(crate) fn wake_at_ledger_s(&mut self, replica: &Replica, time_s: u64) {
        let by_ledger_ms =
            self.heard_ms.saturating_add(time_s.saturating_sub(replica.last_time_s()).saturating_mul(1000));
        let by_clock_ms = time_s.saturating_add(CLOCK_TOLERANCE_S).saturating_mul(1000);
        self.wake_at(by_ledger_ms.min(by_clock_ms));
    }

    pub(crate) fn wake_at(&mut self, at_ms: u64) {
        self.timeout_ms = Some(self.timeout_ms.map_or(at_ms, |known| known.min(at_ms)));
    }
}

fn leaf_of(chain: &[Vec<u8>]) -> Result<&[u8], GroupRefusal> {
    chain.first().map(Vec::as_slice).ok_or(GroupRefusal::Malformed("this device has no certificate"))
}
