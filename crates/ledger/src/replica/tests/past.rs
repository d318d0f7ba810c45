//! Since when something holds.

use super::*;

fn name(number: u8) -> [u8; 1] {
    [number]
}

#[test]
fn a_grant_that_ended_says_when() {
    let mut scene = Scene::new();
    let (operator, device) = (ID.operator(), scene.device(0));
    scene.create(operator, "plant", &["plant/#"]).unwrap();
    scene.create(operator, "mill", &["mill/#"]).unwrap();
    let ended = |scene: &Scene| [1, 2].map(|number| scene.replica().group(group(number)).unwrap().revoked_at(device));
    let last = |scene: &Scene| Some(scene.replica().height() - 1);
    assert_eq!(ended(&scene), [None, None], "never granted");
    scene.grant(operator, 1, 0).unwrap();
    assert_eq!(ended(&scene), [None, None]);
    scene.revoke(operator, 1, 0).unwrap();
    let revoked = last(&scene);
    scene.grant(operator, 2, 0).unwrap();
    assert_eq!(ended(&scene), [revoked, None]);
    // A grant that had ended ended then, whatever happens to the device.
    scene.revoke_device(operator, 0).unwrap();
    let device_revoked = last(&scene);
    assert_eq!(ended(&scene), [revoked, device_revoked]);
    scene.register(0, b"again").unwrap();
    scene.grant(operator, 1, 0).unwrap();
    assert_eq!(ended(&scene), [None, device_revoked]);
    scene.register(0, b"renewed").unwrap();
    assert_eq!(ended(&scene), [None, device_revoked], "the key is the same");
    scene.cast.keys.insert(device, SigningKey::generate().unwrap());
    scene.register(0, b"renewed").unwrap();
    assert_eq!(ended(&scene), [last(&scene), device_revoked]);
}

#[test]
fn every_certificate_that_a_device_ever_had_is_known_until_it_is_revoked() {
    let mut scene = Scene::new();
    let (operator, number) = (ID.operator(), scene.device(2));
    let revocation = |scene: &Scene, certificate: u8| {
        let certificate = Hash::of(&name(certificate));
        let device = scene.replica().device_by_certificate(&certificate).unwrap();
        assert_eq!(device.number, number);
        device.registration_of(&certificate).unwrap().revocation
    };
    let last = |scene: &Scene, cause| {
        let (at, time_s) = (scene.replica().height() - 1, scene.replica().last_time_s());
        Some(Revocation { at, time_s, cause })
    };
    for certificate in 0..3 {
        scene.register(2, &name(certificate)).unwrap();
    }
    assert_eq!([0, 1, 2].map(|certificate| revocation(&scene, certificate)), [None; 3], "the key is the same");
    scene.revoke_device(operator, 2).unwrap();
    let revoked = last(&scene, RevocationCause::DeviceRevoked);
    scene.register(2, &name(3)).unwrap();
    let height = scene.replica().height();
    scene.cast.keys.insert(number, SigningKey::generate().unwrap());
    scene.register(2, &name(4)).unwrap();
    let rekeyed = last(&scene, RevocationCause::OtherKey);
    let found = [0, 1, 2, 3, 4].map(|certificate| revocation(&scene, certificate));
    assert_eq!(found, [revoked, revoked, revoked, rekeyed, None], "what has ended does not end again");
    // One that comes back is good again.
    scene.register(2, &name(0)).unwrap();
    assert_eq!(revocation(&scene, 0), None);
    let past = scene.replica().past(height);
    let then = [2, 3].map(|certificate| past.registration_of(number, &Hash::of(&name(certificate))).unwrap());
    assert_eq!(then.map(|registration| past.revocation(registration)), [revoked, None], "before the other key came");
}

#[test]
fn a_certificate_that_another_device_has_now_is_not_forgotten_with_the_first() {
    let mut scene = Scene::new();
    scene.register(0, b"shared").unwrap();
    scene.register(1, b"shared").unwrap();
    for certificate in 0..9 {
        scene.register(0, &name(certificate)).unwrap();
    }
    let holder = scene.replica().device_by_certificate(&Hash::of(b"shared")).unwrap();
    assert_eq!(holder.number, scene.device(1));
}

#[test]
fn what_was_granted_at_an_earlier_time_is_remembered() {
    let mut scene = Scene::new();
    let (operator, device) = (ID.operator(), scene.device(0));
    scene.create(operator, "plant", &["plant/#"]).unwrap();
    let created = scene.replica().height();
    for _ in 0..20 {
        scene.grant(operator, 1, 0).unwrap();
        scene.revoke(operator, 1, 0).unwrap();
    }
    scene.grant(operator, 1, 0).unwrap();
    scene.revoke_device(operator, 0).unwrap();
    let grant = |height| scene.replica().past(height).grant(group(1), device);
    assert_eq!((grant(0), grant(created)), (Grant::Never, Grant::Never));
    for round in 0..21 {
        let granted = created + 2 * round;
        assert_eq!(grant(granted + 1), Grant::Granted, "round {round}");
        assert_eq!(grant(granted + 2), Grant::Ended { at: granted + 1 }, "round {round}");
    }
    assert_eq!(grant(u64::MAX), scene.replica().present().grant(group(1), device));
    assert_eq!(scene.replica().present().grant(group(2), device), Grant::Never, "there is no such group");
}

#[test]
fn what_was_published_and_registered_at_an_earlier_time_is_remembered() {
    let mut scene = Scene::new();
    let device = scene.device(0);
    let before = scene.replica().height();
    scene.publish(0, b"first", b"certificate").unwrap();
    for keys in 0..40 {
        scene.publish(0, &name(keys), b"certificate").unwrap();
    }
    let lost = scene.replica().height();
    scene.publish_to_rejoin(0, b"lost", b"certificate").unwrap();
    let renewed = scene.replica().height();
    scene.register(0, b"renewed").unwrap();
    scene.register(0, b"renewed again").unwrap();
    let past = |height| scene.replica().past(height);
    let published = |height, keys: &[u8]| past(height).keys(&Hash::of(keys)).map(|keys| keys.at);
    assert_eq!(published(before, b"first"), None);
    assert_eq!(published(before + 1, b"first"), Some(before));
    assert_eq!(published(u64::MAX, b"first"), Some(before), "nothing that came later evicts it");
    let rejoin = |height| past(height).rejoin(device);
    assert_eq!([lost, lost + 1, u64::MAX].map(rejoin), [None, Some(lost), Some(lost)]);
    let certificate = |height| past(height).registration(device).map(|registration| registration.certificate);
    assert_eq!(certificate(renewed), Some(Hash::of(b"certificate")));
    assert_eq!(certificate(renewed + 1), Some(Hash::of(b"renewed")));
    let holder = |height, certificate: &[u8]| past(height).holder(&Hash::of(certificate)).map(|device| device.number);
    assert_eq!(holder(renewed, b"renewed"), None);
    assert_eq!(holder(renewed + 1, b"renewed"), Some(device));
    assert_eq!(holder(u64::MAX, b"renewed"), Some(device), "it had it before");
    assert!(scene.replica().device(device).unwrap().has_published());
    assert!(!scene.replica().device(scene.device(1)).unwrap().has_published());
}
