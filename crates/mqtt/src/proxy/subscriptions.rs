//! What a client is subscribed to, as far as it is known here.

use std::collections::BTreeSet;

use sealcast_topic::matches;

/// Most filters that are noted for one session; of further ones the client gets nothing of the agent's own, and no copy of
/// a message beside that of another filter.
pub const MAX_SUBSCRIPTIONS: usize = 1024;

/// The subscriptions of one session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subscriptions {
    /// As the client named them, shared ones too.
    granted: BTreeSet<Box<str>>,
    /// Topics that the broker delivered without a filter that is known here: of a session that this process has not seen
    /// begin, the filters are learnt from what they bring.
    learnt: BTreeSet<Box<str>>,
}

impl Subscriptions {
    /// The filters that the broker granted, as the client named them.
    pub fn granted(&self) -> impl Iterator<Item = &str> {
        self.granted.iter().map(AsRef::as_ref)
    }

    /// The broker granted `filter`.
    pub(super) fn grant(&mut self, filter: &str) {
        self.learnt.retain(|topic| !matches(filter, topic));
        if self.len() < MAX_SUBSCRIPTIONS {
            self.granted.insert(filter.into());
        }
    }

    /// The broker delivered a message of `topic`: how many of the granted filters match it, shared ones too.
    pub(super) fn delivered(&mut self, topic: &str) -> usize {
        let (mut alone, mut one_of_several) = (0, 0);
        for filter in &self.granted {
            if matches(filter, topic) {
                alone += 1;
            } else if shared(filter).is_some_and(|filter| matches(filter, topic)) {
                one_of_several += 1;
            }
        }
        if alone == 0 && self.len() < MAX_SUBSCRIPTIONS {
            self.learnt.insert(topic.into());
        }
        alone + one_of_several
    }

    /// The client ended `filter`. What was learnt from it goes too; what another filter brings is learnt again.
    pub(super) fn end(&mut self, filter: &str) {
        self.granted.remove(filter);
        self.learnt.retain(|topic| !matches(filter, topic));
    }

    /// Whether the client is to have a message of the agent's own. Which of its clients a shared subscription's message is for
    /// only the broker knows.
    pub(super) fn wants(&self, topic: &str) -> bool {
        self.learnt.contains(topic) || self.granted.iter().any(|filter| matches(filter, topic))
    }

    /// Whether the broker granted `filter`.
    pub(super) fn has(&self, filter: &str) -> bool {
        self.granted.contains(filter)
    }

    fn len(&self) -> usize {
        self.granted.len() + self.learnt.len()
    }
}

/// Those that were granted earlier.
impl<T: AsRef<str>> FromIterator<T> for Subscriptions {
    fn from_iter<I: IntoIterator<Item = T>>(filters: I) -> Self {
        let mut subscriptions = Self::default();
        filters.into_iter().for_each(|filter| subscriptions.grant(filter.as_ref()));
        subscriptions
    }
}

/// The filter within a shared subscription, which was checked when it was asked for (MQTT 5 4.8.2).
fn shared(filter: &str) -> Option<&str> {
    let (_, filter) = filter.strip_prefix("$share/")?.split_once('/')?;
    Some(filter)
}

/// Whether what is subscribed to by `filter`, also as one of several clients that share it, brings messages of `topic`.
pub(super) fn is_for(filter: &str, topic: &str) -> bool {
    matches(shared(filter).unwrap_or(filter), topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_filter_that_matches_counts_once() {
        let filters = ["a/+", "a/#", "a/b", "a/b", "$share/g/a/b", "$share/h/#", "c", "$SYS/#"];
        let mut all = Subscriptions::from_iter(filters);
        for (topic, matching) in [("a/b", 5), ("c", 2), ("d", 1), ("$SYS/x", 1)] {
            assert_eq!(all.delivered(topic), matching, "{topic}");
        }
        all.end("a/#");
        all.end("$share/g/a/b");
        assert_eq!(all.delivered("a/b"), 3);
    }

    #[test]
    fn of_a_shared_subscription_the_topics_are_learnt_from_what_it_brings() {
        let mut shared = Subscriptions::from_iter(["$share/g/a/b"]);
        assert!(!shared.wants("a/b"));
        assert_eq!(shared.delivered("a/b"), 1);
        assert!(shared.wants("a/b"));
    }

    #[test]
    fn what_was_learnt_stands_for_a_filter_until_that_is_known() {
        let mut resumed = Subscriptions::default();
        assert_eq!(resumed.delivered("a/b"), 0);
        assert!(resumed.wants("a/b"));
        resumed.grant("a/#");
        assert_eq!((resumed.len(), resumed.delivered("a/b"), resumed.len()), (1, 1, 1));
        resumed.delivered("c");
        resumed.end("+");
        assert!(!resumed.wants("c"));
    }

    #[test]
    fn they_are_bounded() {
        let mut many = Subscriptions::default();
        for number in 0..2 * MAX_SUBSCRIPTIONS {
            many.delivered(&format!("a/{number}"));
            many.grant(&format!("b/{number}"));
        }
        assert_eq!(many.len(), MAX_SUBSCRIPTIONS);
    }
}
