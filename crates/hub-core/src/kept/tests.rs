use sealcast_identity::{Certificate, SigningKey, other_form};
use sealcast_ledger::{Body, DatedWelcome, Number, WELCOME_HEAD_BYTES};

use super::*;
use crate::testing::Site;

/// A ledger with the group 1, and devices of which 0 and 1 are granted it.
struct World {
    site: Site,
    keys: Vec<SigningKey>,
    certificates: Vec<Certificate>,
    kept: Kept,
}

impl World {
    fn new() -> Self {
        let mut world = Self { site: Site::new(), keys: Vec::new(), certificates: Vec::new(), kept: Kept::default() };
        world.site.group("g", "g/#");
        for device in 0..3 {
            world.register(device);
        }
        for device in 0..2 {
            world.site.grant(GroupNumber::new(1).unwrap(), name(device));
        }
        world
    }

    fn id(&self) -> LedgerId {
        self.site.id()
    }

    fn number(&self, device: usize) -> Number {
        self.site.number(name(device))
    }

    fn register(&mut self, device: usize) {
        let (key, certificate, _) = self.site.register(name(device));
        self.keys.truncate(device);
        self.certificates.truncate(device);
        self.keys.push(key);
        self.certificates.push(certificate);
    }

    /// A message comes. Whether it is kept now.
    fn comes(&mut self, topic: &ControlTopic<'_>, payload: &[u8]) -> bool {
        let topic = topic.to_string();
        let changes = self.kept.judge(self.site.replica(), &topic, payload.to_vec().into());
        changes.into_iter().for_each(|change| self.kept.apply(change));
        self.kept.places.get(&topic).is_some_and(|place| place.payload == payload)
    }

    fn welcome(&self, from: usize, to: usize, signer: usize, bytes: usize) -> Vec<u8> {
        self.welcome_at(9, &vec![7; bytes], (from, to), signer)
    }

    fn welcome_at(&self, height: u64, welcome: &[u8], (from, to): (usize, usize), signer: usize) -> Vec<u8> {
        let group = GroupNumber::new(1).unwrap();
        let route = WelcomeRoute { group, addressee: self.number(to), committer: self.number(from) };
        route.sign(DatedWelcome { height, welcome }, &self.keys[signer], &self.id()).unwrap()
    }

    fn topics(&self, node: &str, after: u64) -> Vec<String> {
        self.kept.page(node, after).messages.into_iter().map(|place| place.topic).collect()
    }
}

fn name(device: usize) -> &'static str {
    ["1111", "1112", "1113"][device]
}

fn inbox(to: usize, from: usize) -> ControlTopic<'static> {
    ControlTopic::Inbox { device: name(to), group: "1", committer: name(from) }
}

#[test]
fn only_the_newest_word_of_its_author_is_kept() {
    let mut world = World::new();
    let (id, number) = (world.id(), world.number(0));
    let topic = ControlTopic::Checkpoint { device: name(0) };
    let signed = |number_of: u64, key: &SigningKey| Checkpoint::new(number_of).unwrap().sign(number, key, &id).unwrap();
    let (old, new, forged) = (signed(1, &world.keys[0]), signed(2, &world.keys[0]), signed(9, &world.keys[1]));
    assert!(world.comes(&topic, &old));
    assert!(!world.comes(&topic, &forged) && !world.comes(&topic, b"garbage") && !world.comes(&topic, b""));
    let (fields, signature) = new.split_last_chunk().unwrap();
    let malleated = [fields, &other_form(signature)].concat();
    assert!(!world.comes(&topic, &malleated), "its author asks for its own, and would publish that again and again");
    assert!(world.comes(&topic, &new));
    assert!(!world.comes(&topic, &old));

    let said =
        |time_ms, key: &SigningKey| AttestedHead { time_ms, height: 1, head: Hash::of(b"") }.sign(key, &id).unwrap();
    let operator = world.site.operator.clone();
    let (first, forged, second) = (said(5, &operator), said(7, &world.keys[0]), said(6, &operator));
    assert!(world.comes(&ControlTopic::Head, &first));
    assert!(!world.comes(&ControlTopic::Head, &forged));
    assert!(world.comes(&ControlTopic::Head, &second));
    assert!(!world.comes(&ControlTopic::Head, &first));
    assert_eq!(world.topics(name(0), 0), [topic.to_string(), ControlTopic::Head.to_string()]);
    assert_eq!(world.topics(name(1), 0), [ControlTopic::Head.to_string()], "another device's checkpoint");
}

/// After the device has another key, what it signed with the former one gives way.
#[test]
fn a_word_by_a_former_key_gives_way() {
    let mut world = World::new();
    let (id, number) = (world.id(), world.number(2));
    let topic = ControlTopic::Checkpoint { device: name(2) };
    let signed = |number_of, key: &SigningKey| Checkpoint::new(number_of).unwrap().sign(number, key, &id).unwrap();
    let former = signed(9, &world.keys[2]);
    assert!(world.comes(&topic, &former));
    world.register(2);
    let present = signed(1, &world.keys[2]);
    assert!(world.comes(&topic, &present));
    assert!(!world.comes(&topic, &former));
}

#[test]
fn a_welcome_is_kept_if_its_committer_signed_it_and_both_are_granted() {
    let mut world = World::new();
    let (genuine, forged) = (world.welcome(0, 1, 0, 100), world.welcome(0, 1, 2, 100));
    assert!(!world.comes(&inbox(1, 0), &forged));
    assert!(world.comes(&inbox(1, 0), &genuine));
    assert!(!world.comes(&inbox(1, 0), &forged) && !world.comes(&inbox(1, 0), b""));
    for (from, to) in [(0, 2), (2, 1)] {
        let outsiders = world.welcome(from, to, from, 100);
        assert!(!world.comes(&inbox(to, from), &outsiders), "{from} to {to}");
    }
    assert_eq!(world.topics(name(1), 0), [inbox(1, 0).to_string()]);
    assert!(world.topics(name(0), 0).is_empty() && world.topics(name(2), 0).is_empty());
    let topic = inbox(1, 0).to_string();
    assert!(world.kept.has(&topic, &Hash::of(&genuine)) && !world.kept.has(&topic, &Hash::of(&forged)));
}

/// At somebody else's broker anybody can publish again what a member has signed once.
#[test]
fn an_older_welcome_takes_no_newer_ones_place() {
    let mut world = World::new();
    let way = (0, 1);
    let welcomes = [(5, b"older"), (6, b"newer"), (6, b"again"), (7, b"later")]
        .map(|(at, text)| world.welcome_at(at, text, way, 0));
    let [older, newer, again, later] = &welcomes;
    assert!(world.comes(&inbox(1, 0), older) && world.comes(&inbox(1, 0), newer));
    assert!(!world.comes(&inbox(1, 0), older));
    assert!(world.comes(&inbox(1, 0), again), "of one height, the one that came last");
    let mut claimed = older.clone();
    claimed[8] = 9;
    assert!(!world.comes(&inbox(1, 0), &claimed), "the height is signed");
    assert!(world.comes(&inbox(1, 0), later));
    for earlier in [older, newer, again] {
        assert!(!world.comes(&inbox(1, 0), earlier));
    }
}

/// With another key its committer may have lost what it knew of the ledger, or have had its former key stolen.
#[test]
fn a_welcome_by_a_former_key_gives_way_however_late_it_is() {
    let mut world = World::new();
    let former = world.welcome_at(u64::MAX, b"former", (1, 0), 1);
    assert!(world.comes(&inbox(0, 1), &former));
    world.register(1);
    world.site.grant(GroupNumber::new(1).unwrap(), name(1));
    let present = world.welcome_at(1, b"present", (1, 0), 1);
    assert!(world.comes(&inbox(0, 1), &present));
    assert!(!world.comes(&inbox(0, 1), &former));
}

/// The room is full of one member's Welcomes, here of as many addressees as it likes.
#[test]
fn one_committer_pushes_out_its_own_welcomes() {
    let mut world = World::new();
    let big = MAX_WELCOME_BYTES - WELCOME_HEAD_BYTES;
    let genuine = world.welcome(0, 1, 0, big);
    assert!(world.comes(&inbox(1, 0), &genuine));
    // As if they had come: a signature of each would take long.
    for addressee in 0..40 {
        let topic =
            ControlTopic::Inbox { device: &format!("a{addressee}"), group: "1", committer: name(1) }.to_string();
        let dropped = world.kept.make_room(&topic, name(1), MAX_WELCOME_BYTES);
        dropped.into_iter().for_each(|change| world.kept.apply(change));
        let place = Place { topic, sequence: world.kept.last + 1, payload: vec![0; MAX_WELCOME_BYTES].into() };
        world.kept.apply(Change::Put(place));
        assert!(world.kept.welcome_bytes <= MAX_WELCOMES_BYTES);
    }
    assert_eq!(world.topics(name(1), 0), [inbox(1, 0).to_string()]);
    assert!(world.topics("a39", 0).len() == 1 && world.topics("a0", 0).is_empty());
}

#[test]
fn keys_are_kept_when_the_ledger_names_them_whichever_comes_first() {
    let mut world = World::new();
    let topic = ControlTopic::Keys { device: name(0) };
    let certificate = world.site.replica().device(world.number(0)).unwrap().certificate;
    let (own, other) = (world.certificates[0].der().to_vec(), world.certificates[1].der().to_vec());
    let key = world.keys[0].clone();
    let named = |world: &mut World, package: &[u8]| {
        let body = KeysPublished { key_package: Hash::of(package), certificate, rejoin: false };
        world.site.submit(&Body::KeysPublished(body), world.number(0), &key);
    };
    named(&mut world, b"first");
    let first = broadcast(b"first", &own);
    for appended in [&b"x"[..], b"\0\0\0\x02x", b"\0\0\0", &[0; 4 * KeysPublished::MAX_PARTS]] {
        let spoilt = [&first, appended].concat();
        assert!(!world.comes(&topic, &spoilt), "nobody could read it, and the device's own would come too late");
    }
    assert!(!world.comes(&topic, &broadcast(b"first", &other)), "with another device's certificate");
    assert!(world.comes(&topic, &first));
    let next = broadcast(b"second", &own);
    assert!(!world.comes(&topic, &next));
    assert!(world.kept.has(&topic.to_string(), &Hash::of(&next)), "it waits for the ledger");
    assert_eq!(world.kept.judge_early(world.site.replica()), []);
    named(&mut world, b"second");
    let changes = world.kept.judge_early(world.site.replica());
    changes.into_iter().for_each(|change| world.kept.apply(change));
    assert_eq!(world.kept.payload(&topic.to_string()), Some(&*next));
    assert!(
        !world.comes(&topic, &first) && !world.comes(&topic, &broadcast(b"third", &own)),
        "an older one, an unnamed one"
    );
    assert_eq!((world.topics(name(1), 0).len(), world.topics(name(0), 0).len()), (1, 0));
}

/// A key broadcast.
fn broadcast(package: &[u8], certificate: &[u8]) -> Vec<u8> {
    let length = |part: &[u8]| u32::try_from(part.len()).unwrap().to_be_bytes();
    [&length(package), package, &length(certificate), certificate].concat()
}

/// Every message comes once over pages that are cut by their size, and after that only what is new.
#[test]
fn a_node_gets_all_that_is_kept_for_it_page_by_page() {
    let mut world = World::new();
    for at in 0..9 {
        let topic = ControlTopic::Inbox { device: name(1), group: "1", committer: &format!("c{at}") }.to_string();
        let payload = vec![at; MAX_PAGE_BYTES / 2 - 1];
        world.kept.apply(Change::Put(Place { topic, sequence: u64::from(at) + 1, payload: payload.into() }));
    }
    let (mut after, mut pages, mut seen) = (0, 0, Vec::new());
    loop {
        let page = world.kept.page(name(1), after);
        seen.extend(page.messages.iter().map(|place| place.payload[0]));
        (after, pages) = (page.next, pages + 1);
        if !page.more {
            break;
        }
    }
    assert_eq!((seen, pages), ((0..9).collect::<Vec<u8>>(), 5));
    let restored = Kept::restored(world.kept.places.values().cloned());
    assert_eq!(restored.page(name(1), after).messages, []);
    assert_eq!(restored.page(name(1), 0), world.kept.page(name(1), 0));
    let genuine = world.welcome(0, 1, 0, 10);
    assert!(world.comes(&inbox(1, 0), &genuine));
    assert_eq!(world.topics(name(1), after), [inbox(1, 0).to_string()]);
}
