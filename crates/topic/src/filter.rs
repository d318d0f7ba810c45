//! Topic filters: what is subscribed to, and what a group, a rule or a table is for. `+` stands for one level, `#` at the
//! end for all that follow (MQTT 5, section 4.7.1).

use std::cmp::Ordering;

/// Whether a message published to `topic` is one that `filter` asks for; both are valid. `#` matches the level above it
/// too: `a/#` matches `a`. A wildcard does not match a first level that begins with `$` (section 4.7.2).
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for pattern in filter.split('/') {
        match (pattern, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (literal, Some(level)) if literal == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// `Less` if `filter` is more specific than `other`, for two filters that match the same topic: level by level, a literal
/// comes before `+` and `+` before `#`.
#[must_use]
pub fn compare_specificity(filter: &str, other: &str) -> Ordering {
    let rank = |level: &str| match level {
        "#" => 2_u8,
        "+" => 1,
        _ => 0,
    };
    // A filter that ends where the other has `#` is the more specific, and the shorter sequence is the lesser.
    filter.split('/').map(rank).cmp(other.split('/').map(rank))
}

/// The first byte at which a wildcard stands where it may not (sections 4.7.1.2 and 4.7.1.3); `None` for a filter whose
/// wildcards all stand alone.
#[must_use]
pub fn misplaced_wildcard(filter: &str) -> Option<usize> {
    let mut begins = 0;
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let alone = level == "+" || level == "#" && levels.peek().is_none();
        if !alone && let Some(at) = level.find(['+', '#']) {
            return Some(begins + at);
        }
        begins += level.len() + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn matches_as_the_standard_says() {
        for (pattern, yes, no) in [
            ("#", &["a", "a/b", "/", "sealcast/v1"][..], &["$SYS", "$SYS/x"][..]),
            ("+", &["a", "sealcast"], &["a/b", "/", "/a", "$SYS"]),
            ("+/+", &["/", "a/", "/a", "a/b"], &["a", "a/b/c", "$SYS/x"]),
            ("/+", &["/a", "/"], &["a", "/a/b"]),
            ("a/#", &["a", "a/", "a/b", "a/b/c"], &["ab", "b", "A"]),
            ("a/+/c", &["a/b/c", "a//c"], &["a/c", "a/b/c/d", "a/b"]),
            ("a/+/#", &["a/b", "a/b/c"], &["a"]),
            ("a/b", &["a/b"], &["a", "a/b/", "a/B"]),
            ("$SYS/#", &["$SYS", "$SYS/x"], &["a"]),
        ] {
            for topic in yes {
                assert!(matches(pattern, topic), "{pattern} should match {topic}");
            }
            for topic in no {
                assert!(!matches(pattern, topic), "{pattern} should not match {topic}");
            }
        }
    }

    #[test]
    fn finds_the_wildcard_that_does_not_stand_alone() {
        for (bad, at) in
            [("a+", 1), ("+a", 0), ("a/#/b", 2), ("a#", 1), ("#/", 0), ("##", 0), ("a/+b/c", 2), ("ä/b+", 4)]
        {
            assert_eq!(misplaced_wildcard(bad), Some(at), "{bad}");
        }
    }

    #[test]
    fn the_more_specific_comes_first() {
        let ordered = ["a/b/c", "a/b/+", "a/b/#", "a/+/c", "a/+/#", "a/#", "+/b/c", "+/#", "#"];
        for (i, first) in ordered.iter().enumerate() {
            for (j, second) in ordered.iter().enumerate() {
                assert_eq!(compare_specificity(first, second), i.cmp(&j), "{first} {second}");
            }
        }
        assert_eq!(compare_specificity("a", "a/#"), Ordering::Less);
    }

    /// Section 4.7 once more, by recursion.
    fn model(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            (["+", filter @ ..], [_, topic @ ..]) => model(filter, topic),
            ([literal, filter @ ..], [level, topic @ ..]) => literal == level && model(filter, topic),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matches_as_the_model(filter in "(a|b|\\+|)(/(a|b|\\+|)){0,3}(/#)?", topic in "(a|b|)(/(a|b|)){0,4}") {
            prop_assume!(!filter.is_empty() && !topic.is_empty());
            let (patterns, levels): (Vec<_>, Vec<_>) = (filter.split('/').collect(), topic.split('/').collect());
            prop_assert_eq!(matches(&filter, &topic), model(&patterns, &levels));
        }

        #[test]
        fn a_text_is_a_filter_exactly_if_its_wildcards_stand_alone(text in "[a+#/]{1,8}") {
            let levels: Vec<&str> = text.split('/').collect();
            let last = levels.len() - 1;
            let fine = levels.iter().enumerate().all(|(at, level)| match *level {
                "+" => true,
                "#" => at == last,
                other => !other.contains(['+', '#']),
            });
            prop_assert_eq!(misplaced_wildcard(&text).is_none(), fine);
        }
    }
}
