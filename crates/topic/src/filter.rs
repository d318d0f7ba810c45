//! Topic filters: what is subscribed to, and what a group, a rule or a table is for. `+` stands for one level, `#` at the
//! end for all that follow (MQTT 5, section 4.7.1).

use std::cmp::Ordering;

use thiserror::Error;

use crate::name::MAX_TOPIC_BYTES;

/// Why a text is no topic filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FilterError {
    /// No bytes.
    #[error("a topic filter is empty")]
    Empty,
    /// More than [`MAX_TOPIC_BYTES`].
    #[error("a topic filter has {0} bytes, at most {MAX_TOPIC_BYTES} are allowed")]
    TooLong(usize),
    /// Holds U+0000.
    #[error("a topic filter holds a NUL character")]
    Nul,
    /// A wildcard does not fill its level, or levels follow `#`.
    #[error("a wildcard is misplaced: `+` must fill a level, and `#` the last one")]
    Misplaced,
    /// A shared subscription without a name or a filter.
    #[error("a shared subscription must read $share/NAME/FILTER")]
    Share,
}

/// What a SUBSCRIBE or UNSUBSCRIBE names: a filter, or `$share/NAME/FILTER` (section 4.8.2), where each message goes to
/// one of the subscribers under that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// The name of a shared subscription.
    pub share: Option<&'a str>,
    /// What is matched.
    pub filter: &'a str,
}

impl<'a> Subscription<'a> {
    /// Splits and checks it.
    ///
    /// # Errors
    /// [`FilterError`] says which rule it breaks.
    pub fn parse(text: &'a str) -> Result<Self, FilterError> {
        let Some(shared) = text.strip_prefix("$share/") else {
            check_filter(text)?;
            return Ok(Self { share: None, filter: text });
        };
        let (name, filter) = shared.split_once('/').ok_or(FilterError::Share)?;
        if name.is_empty() || filter.is_empty() || name.contains(['+', '#']) {
            return Err(FilterError::Share);
        }
        check_text(text)?;
        check_filter(filter)?;
        Ok(Self { share: Some(name), filter })
    }
}

/// Whether `filter` is a topic filter (sections 4.7.1 and 4.7.3). `$share/...` is not looked at, see
/// [`Subscription::parse`].
///
/// # Errors
/// [`FilterError`] says which rule it breaks.
pub fn check_filter(filter: &str) -> Result<(), FilterError> {
    check_text(filter)?;
    if misplaced_wildcard(filter).is_some() { Err(FilterError::Misplaced) } else { Ok(()) }
}

fn check_text(text: &str) -> Result<(), FilterError> {
    match text.len() {
        0 => Err(FilterError::Empty),
        length if length > MAX_TOPIC_BYTES => Err(FilterError::TooLong(length)),
        _ if text.contains('\0') => Err(FilterError::Nul),
        _ => Ok(()),
    }
}

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

/// Whether some topic is matched by both filters.
#[must_use]
pub fn overlap(filter: &str, other: &str) -> bool {
    let hidden = |one: &str, from: &str| one.starts_with('$') && from.starts_with(['+', '#']);
    if hidden(filter, other) || hidden(other, filter) {
        return false;
    }
    let (mut ours, mut theirs) = (filter.split('/'), other.split('/'));
    loop {
        return match (ours.next(), theirs.next()) {
            // `#` stands for no level too.
            (Some("#"), _) | (_, Some("#")) | (None, None) => true,
            (Some(a), Some(b)) if a == b || a == "+" || b == "+" => continue,
            _ => false,
        };
    }
}

/// Whether every topic that `other` matches is matched by `filter`.
#[must_use]
pub fn covers(filter: &str, other: &str) -> bool {
    if other.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    // Each topic has a first level.
    let other = if other == "#" { "+/#" } else { other };
    let (mut ours, mut theirs) = (filter.split('/'), other.split('/'));
    loop {
        return match (ours.next(), theirs.next()) {
            (Some("#"), _) | (None, None) => true,
            (Some("+"), Some(level)) if level != "#" => continue,
            (Some(level), Some(other)) if level == other => continue,
            _ => false,
        };
    }
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

    /// All filters and topics of few levels: two filters overlap if some topic is matched by both, and one covers the other
    /// if no topic is matched by the other alone.
    #[test]
    fn how_two_filters_stand_to_each_other() {
        let of = |levels: &[&str], most: u32| -> Vec<String> {
            let mut all = vec![String::new()];
            let mut longest = all.clone();
            for _ in 0..most {
                longest = longest
                    .iter()
                    .flat_map(|begin| levels.iter().map(move |level| format!("{begin}/{level}")))
                    .collect();
                all.extend(longest.clone());
            }
            all.iter().filter_map(|text| text.strip_prefix('/').map(str::to_owned)).collect()
        };
        let mut plain = of(&["a", "b", "+"], 3);
        plain.extend(["$a".to_owned(), "$a/+".to_owned()]);
        let open = plain.iter().map(|text| format!("{text}/#")).chain(["#".to_owned()]);
        let filters: Vec<String> = plain.iter().cloned().chain(open).collect();
        let mut topics = of(&["a", "b"], 4);
        topics.extend(["$a".to_owned(), "$a/b".to_owned(), "$a/b/b".to_owned()]);
        for (one, other) in filters.iter().flat_map(|one| filters.iter().map(move |other| (one, other))) {
            let common = topics.iter().any(|topic| matches(one, topic) && matches(other, topic));
            assert_eq!(overlap(one, other), common, "{one} {other}");
            let all = topics.iter().all(|topic| !matches(other, topic) || matches(one, topic));
            assert_eq!(covers(one, other), all, "{one} {other}");
            // One of two that differ is always the more specific.
            if common && one != other {
                assert!(compare_specificity(one, other).is_ne(), "{one} {other}");
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

    #[test]
    fn what_a_subscribe_may_name() {
        let check = |text: &str, expected: Result<(Option<&str>, &str), FilterError>| {
            assert_eq!(Subscription::parse(text).map(|s| (s.share, s.filter)), expected, "{text:?}");
        };
        for filter in ["#", "+", "a/+/b/#", "/", "$SYS/#", "$shared", "$share"] {
            check(filter, Ok((None, filter)));
        }
        check("$share/g/a/+", Ok((Some("g"), "a/+")));
        check("$share/g/#", Ok((Some("g"), "#")));
        check("$share/g//", Ok((Some("g"), "/")));
        for filter in ["a#", "a/#/b", "a+/b", "##", "+a", "$share/g/a/#/b"] {
            check(filter, Err(FilterError::Misplaced));
        }
        for filter in ["$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/a#/a"] {
            check(filter, Err(FilterError::Share));
        }
        for filter in ["a\0", "$share/g\0/a", "$share/g/\0"] {
            check(filter, Err(FilterError::Nul));
        }
        check("", Err(FilterError::Empty));
        check(&"a".repeat(MAX_TOPIC_BYTES), Ok((None, &"a".repeat(MAX_TOPIC_BYTES))));
        check(&"a".repeat(MAX_TOPIC_BYTES + 1), Err(FilterError::TooLong(MAX_TOPIC_BYTES + 1)));
    }

    /// Sections 4.7.1 and 4.7.2 once more, by recursion.
    fn model(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["+" | "#", ..], [first, ..]) if first.starts_with('$') => false,
            _ => levels_match(filter, topic),
        }
    }

    fn levels_match(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            (["+", filter @ ..], [_, topic @ ..]) => levels_match(filter, topic),
            ([literal, filter @ ..], [level, topic @ ..]) => literal == level && levels_match(filter, topic),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matches_as_the_model(
            filter in "(#|(a|b|\\$a|\\+|)(/(a|b|\\$a|\\+|)){0,3}(/#)?)",
            topic in "(a|b|\\$a|)(/(a|b|\\$a|)){0,4}",
        ) {
            prop_assume!(!filter.is_empty() && !topic.is_empty());
            prop_assert_eq!(check_filter(&filter), Ok(()));
            let (patterns, levels): (Vec<_>, Vec<_>) = (filter.split('/').collect(), topic.split('/').collect());
            prop_assert_eq!(matches(&filter, &topic), model(&patterns, &levels));
        }

        #[test]
        fn a_share_matches_as_its_filter_does(name in "[a-z$]{1,3}", filter in "(a|\\+)(/(a|\\+)){0,2}(/#)?") {
            let text = format!("$share/{name}/{filter}");
            let want = Subscription { share: Some(&name), filter: &filter };
            prop_assert_eq!(Subscription::parse(&text), Ok(want));
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
