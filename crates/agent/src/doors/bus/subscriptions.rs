//! What the doors' session at the broker may be subscribed to.
//!
//! The session goes on when a connection ends, whether the last requests on it arrived or not. So a filter is here from its
//! SUBSCRIBE until the broker has said that it is unsubscribed, or has no such session.

use std::collections::{BTreeMap, BTreeSet};

/// Filters that nobody wants any more. If there are more, the next connection begins a new session.
const MAX_UNWANTED: usize = 1024;

/// See the module.
#[derive(Default)]
pub(super) struct Subscriptions {
    /// Each with the number of its UNSUBSCRIBE, if one was sent on this connection and no SUBSCRIBE after it.
    filters: BTreeMap<String, Option<u64>>,
    unsubscribes: u64,
}

impl Subscriptions {
    /// A new connection. What was not answered on the last one may not have arrived.
    pub(super) fn begin(&mut self, session_present: bool) {
        if session_present {
            self.filters.values_mut().for_each(|unsubscribe| *unsubscribe = None);
        } else {
            self.filters.clear();
        }
    }

    /// A SUBSCRIBE is sent.
    pub(super) fn subscribe(&mut self, filter: String) {
        self.filters.insert(filter, None);
    }

    /// Filters that are to be unsubscribed, because they are not `wanted`.
    pub(super) fn unwanted(&self, wanted: &BTreeSet<String>) -> Vec<String> {
        let unwanted = self.filters.iter().filter(|(filter, sent)| sent.is_none() && !wanted.contains(*filter));
        unwanted.map(|(filter, _)| filter.clone()).collect()
    }

    /// Whether it is better to begin anew than to unsubscribe what is not `wanted`.
    pub(super) fn are_too_many(&self, wanted: &BTreeSet<String>) -> bool {
        self.filters.keys().filter(|filter| !wanted.contains(*filter)).count() > MAX_UNWANTED
    }

    /// The number of the next UNSUBSCRIBE.
    pub(super) fn next_unsubscribe(&self) -> u64 {
        self.unsubscribes
    }

    /// The next UNSUBSCRIBE is sent.
    pub(super) fn unsubscribe(&mut self, filter: &str) {
        if let Some(sent) = self.filters.get_mut(filter) {
            *sent = Some(self.unsubscribes);
        }
        self.unsubscribes += 1;
    }

    /// The broker has done as the UNSUBSCRIBE of that number says.
    pub(super) fn unsubscribed(&mut self, number: u64) {
        self.filters.retain(|_, sent| *sent != Some(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(filters: &[&str]) -> BTreeSet<String> {
        filters.iter().map(ToString::to_string).collect()
    }

    fn unsubscribe(subscriptions: &mut Subscriptions, filter: &str) -> u64 {
        let number = subscriptions.next_unsubscribe();
        subscriptions.unsubscribe(filter);
        number
    }

    #[test]
    fn what_a_listener_left_while_the_connection_was_away_is_unsubscribed_on_the_next() {
        let mut subscriptions = Subscriptions::default();
        for filter in ["a", "b"] {
            subscriptions.subscribe(filter.into());
        }
        assert_eq!(subscriptions.unwanted(&set(&["a", "b"])), [""; 0]);
        subscriptions.begin(true);
        assert_eq!(subscriptions.unwanted(&set(&["b", "c"])), ["a"]);
        unsubscribe(&mut subscriptions, "a");
        assert_eq!(subscriptions.unwanted(&set(&["b"])), [""; 0], "once on a connection");
        // The connection ends before the answer.
        subscriptions.begin(true);
        assert_eq!(subscriptions.unwanted(&set(&["b"])), ["a"]);
        let number = unsubscribe(&mut subscriptions, "a");
        subscriptions.unsubscribed(number);
        subscriptions.begin(true);
        assert_eq!(subscriptions.unwanted(&set(&[])), ["b"]);
        subscriptions.begin(false);
        assert_eq!(subscriptions.unwanted(&set(&[])), [""; 0]);
    }

    #[test]
    fn an_answer_that_comes_after_the_next_subscribe_is_about_the_subscription_before() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.subscribe("a".into());
        let first = unsubscribe(&mut subscriptions, "a");
        subscriptions.subscribe("a".into());
        subscriptions.unsubscribed(first);
        assert_eq!(subscriptions.unwanted(&set(&[])), ["a"]);
        let second = unsubscribe(&mut subscriptions, "a");
        subscriptions.unsubscribed(second);
        subscriptions.begin(true);
        assert_eq!(subscriptions.unwanted(&set(&[])), [""; 0]);
    }

    #[test]
    fn a_broker_that_never_unsubscribes_gets_a_new_session() {
        let mut subscriptions = Subscriptions::default();
        for number in 0..=MAX_UNWANTED {
            assert!(!subscriptions.are_too_many(&set(&["kept"])));
            subscriptions.subscribe(number.to_string());
        }
        assert!(subscriptions.are_too_many(&set(&["kept"])) && !subscriptions.are_too_many(&set(&["7"])));
    }
}
