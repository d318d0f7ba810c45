//! Which subscriptions match a topic: a trie over filter levels.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sealcast_mqtt::Qos;

use crate::message::{Message, delivery_cost};
use crate::packets::Subscribed;
use crate::topic::{self, Reserved};

/// A session, here and in the journal.
pub(crate) type SessionId = u64;
/// An in-process subscriber.
pub(crate) type LocalId = u64;

/// One copy of a message: for a session by all its ordinary subscriptions that match, or for the member that a shared
/// subscription has picked, which is a subscription of its own (MQTT 5, §4.8.2).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub session: SessionId,
    pub qos: Qos,
    pub retain_as_published: bool,
    pub subscription_ids: Vec<u32>,
    /// The shared subscription, as `$share/<name>/<filter>`.
    pub share: Option<Arc<str>>,
}

impl Target {
    fn new(session: SessionId, subscribed: &Subscribed, share: Option<Arc<str>>) -> Self {
        Self {
            session,
            qos: subscribed.options.qos,
            retain_as_published: subscribed.options.retain_as_published,
            subscription_ids: Vec::from_iter(subscribed.id),
            share,
        }
    }

    /// What it would count against a byte limit.
    pub(crate) fn cost(&self, message: &Message) -> usize {
        message.cost() + delivery_cost(self.share.as_deref(), &self.subscription_ids)
    }

    /// Another ordinary subscription of the session matches too.
    fn merge(&mut self, subscribed: &Subscribed) {
        self.qos = self.qos.max(subscribed.options.qos);
        self.retain_as_published |= subscribed.options.retain_as_published;
        self.subscription_ids.extend(subscribed.id);
    }
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

    fn target(&mut self, readiness: &Readiness<'_>) -> Option<Target> {
        let (session, subscribed) = self.pick(readiness)?;
        Some(Target::new(session, &subscribed, Some(self.text.clone())))
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
    /// By ordinary subscriptions.
    pub sessions: BTreeMap<SessionId, Target>,
    /// By shared subscriptions, one each.
    pub shares: Vec<Target>,
    pub locals: Vec<LocalId>,
}

impl Matches {
    pub(crate) fn targets(&self) -> impl Iterator<Item = &Target> {
        self.sessions.values().chain(&self.shares)
    }

    /// Nothing goes to this session; false if nothing did.
    pub(crate) fn pass_over(&mut self, session: SessionId) -> bool {
        let before = self.shares.len();
        self.shares.retain(|target| target.session != session);
        self.sessions.remove(&session).is_some() || self.shares.len() < before
    }
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

    /// Whom a share (as [`Target::share`] names it) picks now; nobody if it has no members.
    pub(crate) fn member(&mut self, share: &str, readiness: &Readiness<'_>) -> Option<Target> {
        let (group, filter) = topic::parse_filter(share).ok()?;
        let node = filter.split('/').try_fold(&mut self.root, |node, level| node.children.get_mut(level))?;
        node.shares.get_mut(group?)?.target(readiness)
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
                let targets = found.sessions.entry(*session).and_modify(|target| target.merge(subscribed));
                targets.or_insert_with(|| Target::new(*session, subscribed, None));
            }
        }
        found.shares.extend(node.shares.values_mut().filter_map(|share| share.target(readiness)));
        found.locals.extend_from_slice(&node.locals);
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
            let found: Vec<u64> = router.matches(&topic, None, &|_, _| 1).sessions.into_keys().collect();
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
            assert_eq!((found.sessions.len(), found.shares.len()), (0, 1));
            found.shares.first().map(|target| target.session)
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
