use super::*;
use crate::Opener;

fn sender(leaf: u32, epoch: u64) -> SenderKey {
    let leaf = LeafIndex::new(leaf).expect("14 bits");
    SenderKey { group: GroupNumber(1), epoch: EpochId { generation: 0, epoch }, leaf, class: QosClass::AtMostOnce }
}

fn at(start: u32, counter: u32, time_ms: u64) -> Order {
    let epoch = EpochId { generation: 0, epoch: 0 };
    Order { time_ms, epoch, start: Start::new(start).expect("24 bits"), counter }
}

fn is(windows: &Windows, sender: &SenderKey, order: Order, seen: Seen) -> bool {
    windows.check(sender, &order).is_ok_and(|found| found == seen)
}

#[test]
fn a_window_dropped_for_room_leaves_a_floor() {
    let mut windows = Windows::default();
    let total = MAX_WINDOWS as u32 + 1;
    for i in 0..total {
        windows.mark(sender(i % 16_384, u64::from(i / 16_384)), &at(1, 50, 1000), true);
    }
    assert!(windows.count <= MAX_WINDOWS);
    let first = sender(0, 0);
    assert!(windows.get(&first).is_some_and(|state| state.windows.is_empty()), "the least used went");
    for (start, counter, time_ms, seen) in
        [(1, 50, 1000, Seen::Done), (1, 49, 999, Seen::Done), (2, 0, 1000, Seen::Done), (1, 51, 1001, Seen::New)]
    {
        assert!(is(&windows, &first, at(start, counter, time_ms), seen), "start {start} counter {counter}");
    }
    // What is marked late, for a window that went, does not lower the floor.
    windows.mark(first, &at(1, 3, 900), true);
    assert!(is(&windows, &first, at(1, 4, 900), Seen::Done));
    windows.mark(first, &at(1, 60, 1001), false);
    assert!(is(&windows, &first, at(1, 60, 1001), Seen::Delivered));
    // The start has a window again, which does not know what the one before has seen.
    assert!(is(&windows, &first, at(1, 50, 1000), Seen::Done));
}

/// Whoever knows the group's key can invent starts in a group without signatures.
#[test]
fn invented_starts_take_no_more_room_and_let_nothing_pass_twice() {
    let (mut windows, sender) = (Windows::default(), sender(0, 0));
    let genuine: Vec<Order> = (0..8).map(|counter| at(7, counter, 1000 + u64::from(counter))).collect();
    genuine[..4].iter().for_each(|order| windows.mark(sender, order, true));
    for start in 100..200 {
        windows.mark(sender, &at(start, 0, 900), true);
    }
    assert_eq!(windows.count, MAX_STARTS);
    assert!(genuine[..4].iter().all(|order| is(&windows, &sender, *order, Seen::Done)));
    assert!(genuine[4..].iter().all(|order| is(&windows, &sender, *order, Seen::New)), "the sender goes on");
}

/// What the windows of the last few starts know is not lost when another one's is dropped.
#[test]
fn a_floor_does_not_reach_the_windows_of_before() {
    let (mut windows, sender) = (Windows::default(), sender(0, 0));
    for start in 0..MAX_STARTS as u32 {
        windows.mark(sender, &at(start, 5, 1000), true);
    }
    windows.mark(sender, &at(0, 6, 5000), true);
    windows.mark(sender, &at(100, 0, 6000), true);
    assert!(is(&windows, &sender, at(1, 5, 1000), Seen::Done), "dropped, as the one that was used least");
    assert!(is(&windows, &sender, at(2, 4, 900), Seen::New), "late, and not seen");
    assert!(is(&windows, &sender, at(2, 5, 1000), Seen::Done));
    assert!(is(&windows, &sender, at(0, 5, 1000), Seen::Done));
}

#[test]
fn a_sender_too_many_is_refused() {
    let mut windows = Windows::default();
    for i in 0..MAX_SENDERS as u32 {
        assert!(windows.restore(sender(i % 16_384, u64::from(i / 16_384)), SenderState::default()));
    }
    let one_more = sender(0, 99);
    assert!(windows.check(&one_more, &at(0, 0, 0)).is_err());
    windows.mark(one_more, &at(0, 0, 0), true);
    assert_eq!(windows.states.len(), MAX_SENDERS);
    assert!(is(&windows, &sender(0, 0), at(0, 0, 0), Seen::New));
    windows.retain(|sender| sender.epoch.epoch > 0);
    assert!(is(&windows, &one_more, at(0, 0, 0), Seen::New));
}

#[test]
fn a_mark_dropped_for_room_leaves_a_floor() {
    let mut marks = Marks::default();
    let key = |i: usize| MarkKey::new(MarkOf::Retained, GroupNumber(1), "1111", &i.to_string());
    let epoch = EpochId { generation: 0, epoch: 1 };
    let mark = |time_ms: u64| Mark {
        order: Order { epoch, ..at(0, time_ms as u32, time_ms) },
        sender: SenderTag::new(GroupNumber(1), "1111"),
        retained_in: Some(GroupNumber(1)),
        done: false,
    };
    for i in 0..=MAX_MARKS {
        marks.mark(key(i), mark(1000 + i as u64));
    }
    assert!(marks.marks.len() < MAX_MARKS);
    assert!(marks.newer_than(&key(0), &mark(1000), 0).is_some(), "cannot be told from a rollback");
    assert!(marks.newer_than(&key(0), &mark(1000 + MAX_MARKS as u64), 0).is_none());
    assert_eq!(marks.check_will(&key(0), &mark(1000)), Seen::Done);
}

fn retained(group: GroupNumber, time_ms: u64, sender: &str) -> Mark {
    Mark { order: at(1, 0, time_ms), sender: SenderTag::new(group, sender), retained_in: Some(group), done: false }
}

/// What the broker has of another member, too: nobody remembers that a newer one of the topic was dropped.
#[test]
fn a_dropped_mark_keeps_out_what_is_older_of_all_members_of_its_group() {
    let (group, other) = (GroupNumber(1), GroupNumber(2));
    let key = |of, group, topic: &str| MarkKey::new(of, group, "valve", topic);
    let mut marks = Marks::default();
    for i in 0..=MAX_MARKS {
        marks.mark(key(MarkOf::Retained, group, &i.to_string()), retained(group, 2_000 + i as u64, "flooder"));
    }
    let is_kept_out = |group, sender, time_ms, tolerance_ms| {
        let key = key(MarkOf::Retained, group, "0");
        marks.newer_than(&key, &retained(group, time_ms, sender), tolerance_ms).is_some()
    };
    assert!(is_kept_out(group, "valve", 1_999, 0));
    assert!(!is_kept_out(group, "valve", 1_999, 60_000), "as with a mark, their clocks may differ");
    assert!(!is_kept_out(group, "valve", 2_000 + MAX_MARKS as u64, 0));
    assert!(!is_kept_out(other, "valve", 1_999, 0), "nobody of the other group was dropped");
    let will = Mark { retained_in: None, ..retained(group, 1_999, "valve") };
    assert_eq!(marks.check_will(&key(MarkOf::Will, group, "0"), &will), Seen::New, "wills are their sender's alone");
}

/// A member of one group says many topics with RETAIN: what a client knows of other groups' topics must not go for that.
#[test]
fn marks_of_one_group_do_not_push_out_those_of_another() {
    let mark = retained;
    let valve = |of, sender| MarkKey::new(of, GroupNumber(2), sender, "valve/state");
    let mut marks = Marks::default();
    for i in 0..=MAX_MARKS {
        let topic = format!("flood/{i}");
        marks.mark(MarkKey::new(MarkOf::Retained, GroupNumber(1), "", &topic), mark(GroupNumber(1), 2_000, "flooder"));
    }
    // Sealed before the flood, as a will is when its client connects, and a retained message long before it is asked for.
    let will = marks.check_will(&valve(MarkOf::Will, "valve"), &mark(GroupNumber(2), 1_999, "valve"));
    assert_eq!(will, Seen::New, "the will of a device of another group is taken for a replay");
    let older = marks.newer_than(&valve(MarkOf::Retained, ""), &mark(GroupNumber(2), 1_999, "valve"), 60_000);
    assert_eq!(older, None, "a retained message of another group is taken for an older one");
}

#[test]
fn floors_are_stored_when_they_rise() {
    let mut opener = Opener::new();
    let mark = |opener: &mut Opener, i: usize| {
        let of = if i.is_multiple_of(2) { MarkOf::Retained } else { MarkOf::Will };
        let sender = SenderTag::new(GroupNumber(7), "1111");
        let retained_in = (of == MarkOf::Retained).then_some(GroupNumber(7));
        let mark = Mark { order: at(1, 0, 1_000 + i as u64), sender, retained_in, done: true };
        opener.marks.mark(MarkKey::new(of, GroupNumber(7), "1111", &i.to_string()), mark);
    };
    (0..MAX_MARKS).for_each(|i| mark(&mut opener, i));
    let mut stored: BTreeMap<_, _> = opener.changes().rows.into_iter().map(|row| (row.key, row.value)).collect();
    mark(&mut opener, MAX_MARKS);
    let changes = opener.changes();
    assert!(!changes.replace_all, "only what has changed is stored");
    stored.extend(changes.rows.into_iter().map(|row| (row.key, row.value)));
    let rows = stored.iter().filter_map(|(key, value)| Some((&**key, &**value.as_ref()?)));
    assert_eq!(opener.marks.floors_ms.len(), 2, "the sender's and the group's");
    for again in [Opener::restore(rows), Opener::import(&opener.export())].map(Result::unwrap) {
        assert_eq!((&again.marks.floors_ms, &again.marks.marks), (&opener.marks.floors_ms, &opener.marks.marks));
    }
}
