//! Which member of a shared subscription gets a message (MQTT 5, §4.8.2).
//!
//! A pick must not cost as much as there are members: a device may have a thousand sessions in one share. So members that
//! are online stand apart from those that are away, those of one device stand together, and only [`MAX_LOOKED`] of each
//! are asked for room, in turn.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::target::{SessionId, Target};
use crate::packets::Subscribed;

/// Members that are online, and members that are away, of which one pick asks whether they have room.
const MAX_LOOKED: usize = 64;

/// A session that subscribes.
#[derive(Clone, Debug)]
pub(crate) struct Subscriber {
    pub device: Arc<str>,
    pub session: SessionId,
    pub online: bool,
}

/// What is asked of the members of a share.
pub(crate) trait Judge {
    /// Whether publishers wait for sessions of this device.
    fn waits_for(&self, device: &str) -> bool;
    /// Whether the message can go to others.
    fn serves_others(&self) -> bool;
    /// Whether the message can wait for a member that is away.
    fn waits(&self) -> bool;
    /// Whether a member that has subscribed like this is asked at all.
    fn accepts(&self, subscribed: &Subscribed) -> bool;
    /// Whether it has room for the message.
    fn has_room(&self, session: SessionId, share: &str) -> bool;
}

type Sessions = BTreeMap<SessionId, Subscribed>;

/// Members that get messages in turn.
#[derive(Default)]
struct Circle {
    devices: BTreeMap<Arc<str>, Sessions>,
    /// After this one the next turn begins.
    last: Option<(Arc<str>, SessionId)>,
}

impl Circle {
    fn insert(&mut self, subscriber: &Subscriber, subscribed: Subscribed) {
        self.devices.entry(subscriber.device.clone()).or_default().insert(subscriber.session, subscribed);
    }

    fn remove(&mut self, subscriber: &Subscriber) {
        if let Some(sessions) = self.devices.get_mut(&subscriber.device) {
            sessions.remove(&subscriber.session);
            if sessions.is_empty() {
                self.devices.remove(&subscriber.device);
            }
        }
    }

    /// All in their turn, of devices for which `of` holds: it is asked once for each device.
    fn in_turn<'a>(
        &'a self,
        of: &'a dyn Fn(&str) -> bool,
    ) -> impl Iterator<Item = (&'a Arc<str>, SessionId, &'a Subscribed)> {
        let (device, session) = self.last.as_ref().map_or(("", 0), |(device, session)| (device, *session));
        let members = |(device, sessions): (&'a Arc<str>, &'a Sessions), range: (Bound<u64>, Bound<u64>)| {
            sessions.range(range).map(move |(session, subscribed)| (device, *session, subscribed))
        };
        let all = move |found| members(found, (Bound::Unbounded, Bound::Unbounded));
        let own = self.devices.get_key_value(device).filter(|(device, _)| of(device));
        let later = own.map(|found| members(found, (Bound::Excluded(session), Bound::Unbounded)));
        let earlier = own.map(|found| members(found, (Bound::Unbounded, Bound::Included(session))));
        let after = self.devices.range::<str, _>((Bound::Excluded(device), Bound::Unbounded));
        let before = self.devices.range::<str, _>((Bound::Unbounded, Bound::Excluded(device)));
        let others = after.chain(before).filter(|(device, _)| of(device)).flat_map(all);
        later.into_iter().flatten().chain(others).chain(earlier.into_iter().flatten())
    }
}

pub(super) struct Share {
    /// `$share/<name>/<filter>`.
    text: Arc<str>,
    online: Circle,
    /// Those at QoS 0 are not among them: they would get nothing.
    away: Circle,
}

impl Share {
    pub(super) fn new(name: &str, filter: &str) -> Self {
        let text = format!("$share/{name}/{filter}").into();
        Self { text, online: Circle::default(), away: Circle::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.online.devices.is_empty() && self.away.devices.is_empty()
    }

    /// Adds a member, or replaces what is known of it.
    pub(super) fn insert(&mut self, subscriber: &Subscriber, subscribed: Subscribed) {
        self.remove(subscriber);
        if subscriber.online {
            self.online.insert(subscriber, subscribed);
        } else if subscribed.keeps() {
            self.away.insert(subscriber, subscribed);
        }
    }

    pub(super) fn remove(&mut self, subscriber: &Subscriber) {
        self.online.remove(subscriber);
        self.away.remove(subscriber);
    }

    /// One member: of a device for which publishers wait, before others; with room, before others; online, before others.
    pub(super) fn pick(&mut self, judge: &dyn Judge) -> Option<Target> {
        let mut found = self.pick_of(&|device| judge.waits_for(device), judge);
        if found.is_none() && judge.serves_others() {
            found = self.pick_of(&|device| !judge.waits_for(device), judge);
        }
        let (session, subscribed) = found?;
        Some(Target::new(session, &subscribed, Some(self.text.clone())))
    }

    pub(super) fn next_members(&self) -> Vec<SessionId> {
        let circles = [&self.online, &self.away].into_iter();
        let members = circles.flat_map(|circle| circle.in_turn(&|_| true).take(MAX_LOOKED));
        members.map(|(_, session, _)| session).collect()
    }

    fn pick_of(&mut self, of: &dyn Fn(&str) -> bool, judge: &dyn Judge) -> Option<(SessionId, Subscribed)> {
        let mut full = None;
        for circle in std::iter::once(&mut self.online).chain(judge.waits().then_some(&mut self.away)) {
            let (mut last, mut found) = (None, None);
            for (device, session, subscribed) in circle.in_turn(of).take(MAX_LOOKED) {
                last = Some((device, session));
                if !judge.accepts(subscribed) {
                    continue;
                }
                if judge.has_room(session, &self.text) {
                    found = Some((session, *subscribed));
                    break;
                }
                full = full.or(Some((session, *subscribed)));
            }
            // Where nobody has room, the next pick asks others, if there are any.
            if let Some((device, session)) = last {
                circle.last = Some((device.clone(), session));
            }
            if found.is_some() {
                return found;
            }
        }
        full
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    use sealcast_mqtt::Qos;

    use super::*;

    /// Sessions below `full_below` have no room; devices that begin with `o` are outsiders.
    #[derive(Default)]
    pub(in super::super) struct Fake {
        full_below: SessionId,
        at_qos_0: bool,
        looked: Cell<usize>,
    }

    impl Judge for Fake {
        fn waits_for(&self, device: &str) -> bool {
            !device.starts_with('o')
        }
        fn serves_others(&self) -> bool {
            true
        }
        fn waits(&self) -> bool {
            !self.at_qos_0
        }
        fn accepts(&self, _: &Subscribed) -> bool {
            true
        }
        fn has_room(&self, session: SessionId, _: &str) -> bool {
            self.looked.set(self.looked.get() + 1);
            session >= self.full_below
        }
    }

    fn insert(share: &mut Share, device: &str, sessions: std::ops::Range<SessionId>, online: bool, qos: Qos) {
        for session in sessions {
            share.insert(&Subscriber { device: device.into(), session, online }, Subscribed::new(qos));
        }
    }

    fn picks(share: &mut Share, judge: &Fake, count: usize) -> Vec<SessionId> {
        (0..count).map_while(|_| share.pick(judge)).map(|target| target.session).collect()
    }

    #[test]
    fn members_take_turns_over_all_devices() {
        let mut share = Share::new("s", "q");
        insert(&mut share, "b", 1..3, true, Qos::AtLeastOnce);
        insert(&mut share, "a", 3..4, true, Qos::AtLeastOnce);
        insert(&mut share, "c", 4..6, true, Qos::AtLeastOnce);
        assert_eq!(picks(&mut share, &Fake::default(), 7), [3, 1, 2, 4, 5, 3, 1]);
        // One that leaves does not confuse the turn.
        share.remove(&Subscriber { device: "b".into(), session: 1, online: true });
        assert_eq!(picks(&mut share, &Fake::default(), 3), [2, 4, 5]);
    }

    #[test]
    fn online_members_with_room_are_first_and_outsiders_last() {
        let mut share = Share::new("s", "q");
        insert(&mut share, "outsider", 100..104, true, Qos::AtLeastOnce);
        assert_eq!(picks(&mut share, &Fake::default(), 1), [100]);
        insert(&mut share, "d", 0..2, false, Qos::AtLeastOnce);
        insert(&mut share, "d", 10..12, true, Qos::AtLeastOnce);
        let full_below = |full_below| Fake { full_below, ..Fake::default() };
        assert_eq!(picks(&mut share, &full_below(0), 3), [10, 11, 10]);
        assert_eq!(picks(&mut share, &full_below(11), 2), [11, 11]);
        insert(&mut share, "d", 20..21, false, Qos::AtLeastOnce);
        assert_eq!(picks(&mut share, &full_below(12), 2), [20, 20], "away with room, before online without");
        assert!((10..12).contains(&picks(&mut share, &full_below(50), 1)[0]), "publishers wait, and for no outsider");
        // Who comes and goes is in one place only.
        insert(&mut share, "d", 10..12, false, Qos::AtLeastOnce);
        insert(&mut share, "d", 20..21, true, Qos::AtLeastOnce);
        assert_eq!(picks(&mut share, &full_below(0), 2), [20, 20]);
    }

    #[test]
    fn who_would_lose_the_message_does_not_get_it() {
        let mut share = Share::new("s", "q");
        insert(&mut share, "d", 1..3, false, Qos::AtMostOnce);
        assert!(share.is_empty());
        insert(&mut share, "d", 3..4, false, Qos::AtLeastOnce);
        assert_eq!(picks(&mut share, &Fake::default(), 2), [3, 3]);
        let at_qos_0 = Fake { at_qos_0: true, ..Fake::default() };
        assert_eq!(picks(&mut share, &at_qos_0, 1), [0; 0]);
        insert(&mut share, "outsider", 1..3, true, Qos::AtMostOnce);
        assert_eq!(picks(&mut share, &at_qos_0, 2), [1, 2]);
    }

    #[test]
    fn a_pick_looks_at_a_bounded_number_and_the_next_one_at_others() {
        let mut share = Share::new("s", "q");
        insert(&mut share, "d", 0..1000, false, Qos::AtLeastOnce);
        insert(&mut share, "outsider", 1000..2000, false, Qos::AtLeastOnce);
        let judge = Fake { full_below: 990, ..Fake::default() };
        for round in 1..=15 {
            let [picked] = picks(&mut share, &judge, 1)[..] else { panic!("nobody") };
            assert_eq!((judge.looked.get(), picked), (round * MAX_LOOKED, (round as u64 - 1) * MAX_LOOKED as u64));
        }
        assert_eq!(picks(&mut share, &judge, 2), [990, 991]);
    }
}
