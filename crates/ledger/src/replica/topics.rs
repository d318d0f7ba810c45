//! Which group a topic belongs to: the filters of all groups, as a tree of their levels.

use std::collections::BTreeMap;

use crate::{GroupNumber, TopicFilter};

/// See the module. No two groups have the same filter.
#[derive(Debug, Clone, Default)]
pub(super) struct Topics {
    root: Node,
}

#[derive(Debug, Clone, Default)]
struct Node {
    /// By level, `+` and `#` too.
    children: BTreeMap<Box<str>, Node>,
    /// The group of the filter that ends here.
    group: Option<GroupNumber>,
}

impl Topics {
    pub(super) fn insert(&mut self, filter: &TopicFilter, group: GroupNumber) {
        let levels = filter.as_str().split('/');
        let node = levels.fold(&mut self.root, |node, level| node.children.entry(level.into()).or_default());
        node.group = Some(group);
    }

    /// The group whose filter matches `topic` and is most specific.
    pub(super) fn find(&self, topic: &str) -> Option<GroupNumber> {
        if topic.is_empty() { None } else { self.root.find(Some(topic)) }
    }
}

impl Node {
    /// `rest`: the levels below this one. The order of the calls is that of
    /// [`compare_specificity`](TopicFilter::compare_specificity).
    fn find(&self, rest: Option<&str>) -> Option<GroupNumber> {
        let below = match rest {
            None => self.group,
            Some(rest) => {
                let (level, rest) = rest.split_once('/').map_or((rest, None), |(level, rest)| (level, Some(rest)));
                let found = |level| self.children.get(level).and_then(|child: &Self| child.find(rest));
                found(level).or_else(|| found("+"))
            }
        };
        // `a/#` matches `a` too.
        below.or_else(|| self.children.get("#")?.group)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_looking_at_every_filter(
            filters in proptest::collection::btree_set("(a|b|\\+|)(/(a|b|\\+|)){0,3}(/#|)", 0..12),
            topic in "(a|b|)(/(a|b|)){0,4}",
        ) {
            let filters: Vec<TopicFilter> = filters.iter().filter_map(|filter| filter.parse().ok()).collect();
            let number = |at: usize| GroupNumber::new(u16::try_from(at).unwrap() + 1).unwrap();
            let mut topics = Topics::default();
            filters.iter().enumerate().for_each(|(at, filter)| topics.insert(filter, number(at)));
            let matching = filters.iter().enumerate().filter(|(_, filter)| filter.matches(&topic));
            let expected = matching.min_by(|(_, a), (_, b)| a.compare_specificity(b)).map(|(at, _)| number(at));
            prop_assert_eq!(topics.find(&topic), expected);
        }
    }
}
