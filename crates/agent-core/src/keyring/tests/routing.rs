//! Which way a topic goes.

use super::*;

#[test]
fn a_topic_goes_by_what_the_ledger_and_the_configuration_say() {
    let scene = Scene::new();
    let keyring = scene.member(0);
    for (topic, route) in [
        ("sealcast/v1/keys/1111", Route::Control),
        ("sealcast", Route::Control),
        ("$SYS/uptime", Route::Brokers),
        ("$share", Route::Brokers),
        ("$SYS/open/uptime", Route::Clear),
        ("plant/a", Route::Group(scene.group)),
        // A group's filter wins over `clear`.
        ("plant/door", Route::Group(scene.group)),
        ("open/a", Route::Clear),
    ] {
        assert_eq!(keyring.route(topic), route, "{topic}");
    }
    let Route::Refused(reason) = keyring.route("elsewhere") else { panic!("no group covers it") };
    assert!(reason.text.contains("no group covers elsewhere"), "{reason}");
}

#[test]
fn a_filter_is_uncovered_if_nothing_that_it_matches_may_come() {
    let scene = Scene::new();
    let keyring = scene.member(0);
    for filter in ["plant/#", "+/a", "#", "$share/readers/plant/a", "open/a", "open/#", "$SYS/#", "sealcast/#", "a/#/b"]
    {
        assert_eq!(keyring.uncovered(filter), None, "{filter}");
    }
    for filter in ["elsewhere/#", "$share/readers/elsewhere", "opened"] {
        let why = keyring.uncovered(filter).unwrap();
        assert!(why.cause == Cause::NoGroup && why.text.contains("elsewhere") != (filter == "opened"), "{why}");
    }
}

#[test]
fn the_agents_own_topics_are_below_the_prefix_too_that_the_broker_gets() {
    let scene = Scene::new();
    let keyring = scene.member(0).with_wire(Wire::new("plant/own").unwrap());
    for (topic, route) in [
        ("plant/own/keys/1111", Route::Control),
        ("plant/own", Route::Control),
        ("sealcast/v1/keys/1111", Route::Control),
        ("plant/owner", Route::Group(scene.group)),
        ("plant", Route::Group(scene.group)),
    ] {
        assert_eq!(keyring.route(topic), route, "{topic}");
    }
}

#[test]
fn before_the_ledger_was_read_to_its_end_what_may_be_a_groups_waits() {
    let scene = Scene::new();
    let mut keyring = scene.keyring(0);
    for topic in ["open/a", "elsewhere"] {
        assert!(matches!(keyring.route(topic), Route::Behind(why) if why.text.contains(topic)));
    }
    assert_eq!(keyring.route("plant/a"), Route::Group(scene.group), "that is known");
    assert_eq!(keyring.route("sealcast/v1/ledger"), Route::Control);
    assert_eq!(keyring.route("$SYS/open/uptime"), Route::Clear, "no group covers it");
    let sync = keyring.begin_sync();
    assert!(keyring.set_caught_up(sync));
    assert_eq!(keyring.route("open/a"), Route::Clear);
}

#[test]
fn a_ledger_without_this_devices_registration_was_not_read_to_its_end() {
    let scene = Scene::new();
    let mut keyring = scene.world.keyring(0, Replica::new(scene.world.genesis));
    let sync = keyring.begin_sync();
    assert!(!keyring.set_caught_up(sync));
    assert!(matches!(keyring.route("open/a"), Route::Behind(_)));
    scene.follow(&mut keyring);
    assert!(keyring.set_caught_up(sync));
    assert!(!keyring.is_caught_up_after(sync), "only by a later sync");
    let later = keyring.begin_sync();
    assert!(later > sync && keyring.last_sync() == later);
    assert!(keyring.set_caught_up(later) && keyring.is_caught_up_after(sync));
}

#[test]
fn only_whoever_is_granted_its_group_may_speak_of_a_topic() {
    let mut scene = Scene::new();
    let mut keyring = scene.member(0);
    let second = scene.world.devices[1].id.clone();
    assert!(keyring.may_speak_of(&second, "plant/a"));
    assert!(!keyring.may_speak_of(&second, "elsewhere"));
    scene.world.revoke(scene.group, 1);
    scene.follow(&mut keyring);
    assert!(!keyring.may_speak_of(&second, "plant/a"));
}
