//! Which subscriptions match a topic: a trie over filter levels.

mod share;
mod target;

use std::collections::{BTreeMap, HashMap};

use crate::packets::Subscribed;
use crate::topic::{self, Reserved};
use share::Share;

pub(crate) use share::{Judge, Subscriber};
pub use target::SessionId;
pub(crate) use target::Target;

/// An in-process subscriber.
pub type LocalId = u64;

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

    /// Adds or replaces a subscription. A shared one is to be replaced when its client comes and goes.
    pub(crate) fn insert(&mut self, subscriber: &Subscriber, share: Option<&str>, filter: &str, options: Subscribed) {
        let Some(name) = share else {
            self.node(filter).sessions.insert(subscriber.session, options);
            return;
        };
        let shares = &mut self.node(filter).shares;
        let share = shares.entry(name.into()).or_insert_with(|| Share::new(name, filter));
        share.insert(subscriber, options);
        if share.is_empty() {
            self.remove(subscriber, Some(name), filter);
        }
    }

    pub(crate) fn insert_local(&mut self, local: LocalId, filter: &str) {
        self.node(filter).locals.push(local);
    }

    pub(crate) fn remove(&mut self, subscriber: &Subscriber, share: Option<&str>, filter: &str) {
        Self::prune(&mut self.root, &mut filter.split('/'), &mut |node| match share {
            None => drop(node.sessions.remove(&subscriber.session)),
            Some(name) => {
                if let Some(share) = node.shares.get_mut(name) {
                    share.remove(subscriber);
                    if share.is_empty() {
                        node.shares.remove(name);
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
    pub(crate) fn member(&mut self, share: &str, judge: &dyn Judge) -> Option<Target> {
        self.share(share)?.pick(judge)
    }

    /// The members of a share that its next pick asks for room.
    pub(crate) fn next_members(&mut self, share: &str) -> Vec<SessionId> {
        self.share(share).map(|share| share.next_members()).unwrap_or_default()
    }

    fn share(&mut self, text: &str) -> Option<&mut Share> {
        let (name, filter) = topic::parse_filter(text).ok()?;
        let node = filter.split('/').try_fold(&mut self.root, |node, level| node.children.get_mut(level))?;
        node.shares.get_mut(name?)
    }

    /// Everyone who gets a message on `topic` from `publisher`. A share picks one member, as `judge` has it.
    pub(crate) fn matches(&mut self, topic: &str, publisher: Option<SessionId>, judge: &dyn Judge) -> Matches {
        let mut found = Matches::default();
        let levels: Vec<&str> = topic.split('/').collect();
        let wildcards = !self.reserved.covers(topic);
        Self::walk(&mut self.root, &levels, wildcards, publisher, judge, &mut found);
        found
    }

    fn walk(
        node: &mut Node,
        levels: &[&str],
        wildcards: bool,
        publisher: Option<SessionId>,
        judge: &dyn Judge,
        found: &mut Matches,
    ) {
        // `a/#` matches `a` too.
        if wildcards && let Some(rest) = node.children.get_mut("#") {
            Self::collect(rest, publisher, judge, found);
        }
        let Some((level, rest)) = levels.split_first() else {
            Self::collect(node, publisher, judge, found);
            return;
        };
        if let Some(child) = node.children.get_mut(*level) {
            Self::walk(child, rest, true, publisher, judge, found);
        }
        if wildcards && let Some(child) = node.children.get_mut("+") {
            Self::walk(child, rest, true, publisher, judge, found);
        }
    }

    fn collect(node: &mut Node, publisher: Option<SessionId>, judge: &dyn Judge, found: &mut Matches) {
        for (session, subscribed) in &node.sessions {
            if !(subscribed.options.no_local && publisher == Some(*session)) {
                let targets = found.sessions.entry(*session).and_modify(|target| target.merge(subscribed));
                targets.or_insert_with(|| Target::new(*session, subscribed, None));
            }
        }
        found.shares.extend(node.shares.values_mut().filter_map(|share| share.pick(judge)));
        found.locals.extend_from_slice(&node.locals);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sealcast_mqtt::Qos;

    use super::*;

    fn options(qos: Qos) -> Subscribed {
        Subscribed::new(qos)
    }

    fn subscriber(session: SessionId) -> Subscriber {
        Subscriber { device: "d".into(), session, online: true }
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
                router.insert(&subscriber(id as u64), None, filter, options(Qos::AtLeastOnce));
            }
            let mut want = Vec::new();
            for (id, filter) in filters.iter().enumerate() {
                if removed[id] {
                    router.remove(&subscriber(id as u64), None, filter);
                } else if router.filter_matches(filter, &topic) {
                    want.push(id as u64);
                }
            }
            let found: Vec<u64> = router.matches(&topic, None, &share::tests::Fake::default()).sessions.into_keys().collect();
            prop_assert_eq!(found, want);
        }
    }
}
