//! Which subscriptions match a topic: a trie over filter levels.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sealcast_mqtt::Qos;

use crate::packets::Subscribed;
use crate::topic::{self, Reserved};

/// A session, here and in the journal.
pub(crate) type SessionId = u64;
/// An in-process subscriber.
pub(crate) type LocalId = u64;

/// One session that gets a message, over all its subscriptions that match.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub session: SessionId,
    pub qos: Qos,
    pub retain_as_published: bool,
    pub subscription_ids: Vec<u32>,
    /// The shared subscriptions that have picked it, as `$share/<name>/<filter>`.
    pub shares: Vec<Arc<str>>,
}

struct Share {
    /// `$share/<name>/<filter>`.
    text: Arc<str>,
    members: Vec<(SessionId, Subscribed)>,
    next: usize,
}

impl Share {
    /// One member, in turn, of those whom `readiness` gives the highest value.
    fn pick(&mut self, readiness: &Readiness<'_>) -> Option<(SessionId, Subscribed)> {
        let count = self.members.len();
        let turn = |step: usize| self.members.get((self.next + step) % count.max(1));
        // The first of the readiest: `max_by_key` would give the last.
        let chosen = (0..count).rev().max_by_key(|step| turn(*step).map(|(id, options)| readiness(*id, options)))?;
        let member = turn(chosen).copied()?;
        self.next = (self.next + chosen + 1) % count;
        Some(member)
    }
}

/// How much a member of a share is to be preferred.
pub(crate) type Readiness<'a> = dyn Fn(SessionId, &Subscribed) -> u8 + 'a;

#[derive(Default)]
struct Node {
    children: HashMap<Box<str>, Node>,
    sessions: BTreeMap<SessionId, Subscribed>,
    shares: BTreeMap<Box<str>, Share>,
    locals: Vec<LocalId>,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.sessions.is_empty() && self.shares.is_empty() && self.locals.is_empty()
    }
}

/// All subscriptions of the broker.
#[derive(Default)]
pub(crate) struct Router {
    root: Node,
    reserved: Reserved,
}

/// What matches a topic.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    pub targets: BTreeMap<SessionId, Target>,
    pub locals: Vec<LocalId>,
}

impl Router {
    pub(crate) fn new(reserved: Reserved) -> Self {
        Self { root: Node::default(), reserved }
    }

    /// Whether one filter matches a topic, by the same rules as [`Self::matches`].
    pub(crate) fn filter_matches(&self, filter: &str, topic: &str) -> bool {
        self.reserved.matches(filter, topic)
    }

    /// Whether a topic lies below a reserved level.
    pub(crate) fn is_control(&self, topic: &str) -> bool {
        self.reserved.names(topic)
    }

    fn node(&mut self, filter: &str) -> &mut Node {
        filter.split('/').fold(&mut self.root, |node, level| node.children.entry(level.into()).or_default())
    }

    /// Adds or replaces a subscription; true if it is new.
    pub(crate) fn insert(
        &mut self,
        session: SessionId,
        share: Option<&str>,
        filter: &str,
        options: Subscribed,
    ) -> bool {
        let node = self.node(filter);
        let Some(group) = share else { return node.sessions.insert(session, options).is_none() };
        let share = node.shares.entry(group.into()).or_insert_with(|| Share {
            text: format!("$share/{group}/{filter}").into(),
            members: Vec::new(),
            next: 0,
        });
        if let Some(member) = share.members.iter_mut().find(|member| member.0 == session) {
            member.1 = options;
            return false;
        }
        share.members.push((session, options));
        true
    }

    pub(crate) fn insert_local(&mut self, local: LocalId, filter: &str) {
        self.node(filter).locals.push(local);
    }

    pub(crate) fn remove(&mut self, session: SessionId, share: Option<&str>, filter: &str) {
        Self::prune(&mut self.root, &mut filter.split('/'), &mut |node| match share {
            None => drop(node.sessions.remove(&session)),
            Some(group) => {
                if let Some(share) = node.shares.get_mut(group) {
                    share.members.retain(|member| member.0 != session);
                    if share.members.is_empty() {
                        node.shares.remove(group);
                    }
                }
            }
        });
    }

    pub(crate) fn remove_local(&mut self, local: LocalId, filter: &str) {
        Self::prune(&mut self.root, &mut filter.split('/'), &mut |node| node.locals.retain(|id| *id != local));
    }

    fn prune<'a>(node: &mut Node, levels: &mut impl Iterator<Item = &'a str>, change: &mut impl FnMut(&mut Node)) {
        match levels.next() {
            None => change(node),
            Some(level) => {
                if let Some(child) = node.children.get_mut(level) {
                    Self::prune(child, levels, change);
                    if child.is_empty() {
                        node.children.remove(level);
                    }
                }
            }
        }
    }

    /// Whom these shares (as [`Target::shares`] names them) pick now; one that has no members picks nobody.
    pub(crate) fn members(&mut self, shares: &[Arc<str>], readiness: &Readiness<'_>) -> Matches {
        let mut found = Matches::default();
        for text in shares {
            let Ok((Some(group), filter)) = topic::parse_filter(text) else { continue };
            let node = filter.split('/').try_fold(&mut self.root, |node, level| node.children.get_mut(level));
            if let Some(share) = node.and_then(|node| node.shares.get_mut(group)) {
                Self::collect_share(share, readiness, &mut found);
            }
        }
        found
    }

    /// Everyone who gets a message on `topic` from `publisher`. A share picks one member, in turn, of those whom
    /// `readiness` gives the highest value.
    pub(crate) fn matches(&mut self, topic: &str, publisher: Option<SessionId>, readiness: &Readiness<'_>) -> Matches {
        let mut found = Matches::default();
        let levels: Vec<&str> = topic.split('/').collect();
        let wildcards = !self.reserved.covers(topic);
        Self::walk(&mut self.root, &levels, wildcards, publisher, readiness, &mut found);
        found
    }

    fn walk(
        node: &mut Node,
        levels: &[&str],
        wildcards: bool,
        publisher: Option<SessionId>,
        readiness: &Readiness<'_>,
        found: &mut Matches,
    ) {
        // `a/#` matches `a` too.
        if wildcards && let Some(rest) = node.children.get_mut("#") {
            Self::collect(rest, publisher, readiness, found);
        }
        let Some((level, rest)) = levels.split_first() else {
            Self::collect(node, publisher, readiness, found);
            return;
        };
        if let Some(child) = node.children.get_mut(*level) {
            Self::walk(child, rest, true, publisher, readiness, found);
        }
        if wildcards && let Some(child) = node.children.get_mut("+") {
            Self::walk(child, rest, true, publisher, readiness, found);
        }
    }

    fn collect(node: &mut Node, publisher: Option<SessionId>, readiness: &Readiness<'_>, found: &mut Matches) {
        for (session, subscribed) in &node.sessions {
            if !(subscribed.options.no_local && publisher == Some(*session)) {
                Self::add(found, *session, subscribed);
            }
        }
        for share in node.shares.values_mut() {
            Self::collect_share(share, readiness, found);
        }
        found.locals.extend_from_slice(&node.locals);
    }

    fn collect_share(share: &mut Share, readiness: &Readiness<'_>, found: &mut Matches) {
        if let Some((session, subscribed)) = share.pick(readiness) {
            Self::add(found, session, &subscribed).shares.push(share.text.clone());
        }
    }

    fn add<'a>(found: &'a mut Matches, session: SessionId, subscribed: &Subscribed) -> &'a mut Target {
        let target = found.targets.entry(session).or_insert(Target {
            session,
            qos: Qos::AtMostOnce,
            retain_as_published: false,
            subscription_ids: Vec::new(),
            shares: Vec::new(),
        });
        target.qos = target.qos.max(subscribed.options.qos);
        target.retain_as_published |= subscribed.options.retain_as_published;
        target.subscription_ids.extend(subscribed.id);
        target
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn options(qos: Qos) -> Subscribed {
        Subscribed::new(qos)
    }

    proptest! {
        #[test]
        fn agrees_with_matching_one_by_one(
            filters in proptest::collection::vec(
                "(\\$|)(a|b|r|\\+|)(/(a|b|\\+|)){0,3}(/#|)".prop_filter("valid", |f| crate::topic::validate_filter(f).is_ok()),
                0..12,
            ),
            removed in proptest::collection::vec(any::<bool>(), 12),
            topic in "(\\$|)(a|b|r|)(/(a|b|)){0,4}".prop_filter("valid", |t| crate::topic::parse_topic(t).is_ok()),
        ) {
            let mut router = Router::new(Reserved::new(vec!["r".into()]));
            for (id, filter) in filters.iter().enumerate() {
                router.insert(id as u64, None, filter, options(Qos::AtLeastOnce));
            }
            let mut want = Vec::new();
            for (id, filter) in filters.iter().enumerate() {
                if removed[id] {
                    router.remove(id as u64, None, filter);
                } else if router.filter_matches(filter, &topic) {
                    want.push(id as u64);
                }
            }
            let found: Vec<u64> = router.matches(&topic, None, &|_, _| 1).targets.into_keys().collect();
            prop_assert_eq!(found, want);
        }
    }

    #[test]
    fn a_share_takes_turns_among_the_readiest() {
        let mut router = Router::default();
        for session in 1..=3 {
            assert!(router.insert(session, Some("g"), "a/#", options(Qos::AtLeastOnce)));
        }
        let mut pick = |readiness: &Readiness<'_>| {
            let found = router.matches("a/b", None, readiness);
            assert_eq!(found.targets.len(), 1);
            found.targets.into_keys().next()
        };
        assert_eq!([pick(&|_, _| 2), pick(&|_, _| 2), pick(&|_, _| 2)], [Some(1), Some(2), Some(3)]);
        let second = |id, _: &Subscribed| u8::from(id == 2);
        assert_eq!([pick(&second), pick(&second)], [Some(2), Some(2)]);
        assert!(pick(&|_, _| 0).is_some());
        for session in 1..=3 {
            router.remove(session, Some("g"), "a/#");
        }
        assert!(router.root.is_empty());
    }
}
