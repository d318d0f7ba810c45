//! What a client is told of a message beside what was sent.

use sealcast_mqtt::{Packet, Properties, Property, Qos, Text};
use sealcast_seal::{Content, Purpose, QosClass};

use super::{
    delivering::seal_content,
    rig::{Fleet, Rig, publish, settings},
};
use crate::{
    session::{Annotate, Session, Settings},
    testing::START_MS,
    values::{CHECK, DELETED, SENDER},
};

/// The names of the user properties with which a client gets this of a sender whose agent says `check`.
fn told(annotate: Annotate, purpose: Purpose, check: Option<&str>, retain: bool) -> Option<Vec<String>> {
    let fleet = Fleet::new();
    let mut rig = Rig::new(&fleet, 1);
    rig.session = Session::new(Settings { annotate, ..settings() }, rig.values.rules(), rig.now);
    rig.connect(None);
    let user = |name, value| Property::User(Text::new(name).unwrap(), Text::new(value).unwrap());
    let props: Properties = [user("unit", "Cel")].into_iter().chain(check.map(|check| user(CHECK, check))).collect();
    let props = props.encode().unwrap();
    let content = Content { purpose, class: QosClass::AtMostOnce, retain, props: &props, payload: b"" };
    let frame = seal_content(&mut fleet.keyring(0), &content, START_MS);
    rig.broker(&Packet::Publish(publish("plant/t", Qos::AtMostOnce, retain, &frame)));
    let Some(Packet::Publish(publish)) = rig.to_client.last() else { return None };
    let names = publish.properties.iter().filter_map(|property| match property {
        Property::User(name, _) => Some(name.as_str().to_owned()),
        _ => None,
    });
    Some(names.collect())
}

#[test]
fn by_default_only_what_is_flagged_has_more_than_was_sent() {
    let told = |annotate, check, retain| told(annotate, Purpose::Message, check, retain).unwrap();
    for (annotate, check, names) in [
        (Annotate::None, None, &["unit"][..]),
        (Annotate::None, Some("flag:step"), &["unit"]),
        (Annotate::Flagged, None, &["unit"]),
        (Annotate::Flagged, Some("pass"), &["unit"]),
        (Annotate::Flagged, Some("flag:step"), &["unit", CHECK, SENDER]),
        (Annotate::All, None, &["unit", SENDER]),
        (Annotate::All, Some("pass"), &["unit", CHECK, SENDER]),
    ] {
        assert_eq!(told(annotate, check, false), names, "{annotate:?} {check:?}");
    }
    assert_eq!(told(Annotate::default(), None, true), ["unit"]);
    assert_eq!(told(Annotate::default(), Some("flag:step"), true), ["unit", "sealcast-age-ms", CHECK, SENDER]);
}

#[test]
fn a_deletion_is_told_to_whoever_can_see_that_it_is_one() {
    let told = |annotate| told(annotate, Purpose::Tombstone, None, false);
    assert_eq!(told(Annotate::Flagged), Some(vec!["unit".into(), DELETED.into(), SENDER.into()]));
    assert_eq!(told(Annotate::None), Some(vec!["unit".into()]));
}
