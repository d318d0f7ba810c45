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
fn the_last_eight_certificates_before_the_present_one_are_known() {
    let mut scene = Scene::new();
    let number = scene.device(2);
    let first = scene.replica().height();
    for certificate in 0..10 {
        scene.register(2, &name(certificate)).unwrap();
    }
    let known = |scene: &Scene, certificate: u8| {
        let certificate = Hash::of(&name(certificate));
        let device = scene.replica().device_by_certificate(&certificate)?;
        assert_eq!(device.number, number);
        Some(device.replaced_at(&certificate))
    };
    assert_eq!(known(&scene, 0), None, "too long ago");
    for certificate in 1..9 {
        assert_eq!(known(&scene, certificate), Some(Some(first + u64::from(certificate) + 1)));
    }
    assert_eq!(known(&scene, 9), Some(None), "the present one");
    // One that comes back is the present one again, and the one that it replaces comes last.
    scene.register(2, &name(5)).unwrap();
    assert_eq!(known(&scene, 5), Some(None));
    assert_eq!(known(&scene, 9), Some(Some(first + 10)));
    assert_eq!(known(&scene, 1), Some(Some(first + 2)), "there is still room for it");
    scene.register(2, &name(5)).unwrap();
    assert_eq!(known(&scene, 9), Some(Some(first + 10)), "the same again replaces nothing");
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
    assert_eq!(scene.replica().device(scene.device(0)).unwrap().replaced_at(&Hash::of(b"shared")), None);
}

#[test]
fn publications_are_those_of_the_present_certificate_newest_first() {
    let mut scene = Scene::new();
    let device = scene.device(0);
    let published = |scene: &Scene| scene.replica().publications(device).map(|keys| keys.key_package).collect();
    let hashes = |keys: &[u8]| keys.iter().map(|key| Hash::of(&[*key])).collect::<Vec<_>>();
    let has_published = |scene: &Scene| scene.replica().device(device).unwrap().has_published();
    assert_eq!((published(&scene), has_published(&scene)), (hashes(&[]), false));
    scene.publish(0, b"a", b"certificate").unwrap();
    scene.publish(0, b"b", b"certificate").unwrap();
    assert_eq!(published(&scene), hashes(b"ba"));
    scene.register(0, b"renewed").unwrap();
    assert_eq!((published(&scene), has_published(&scene)), (hashes(&[]), true));
    scene.publish(0, b"c", b"renewed").unwrap();
    assert_eq!(published(&scene), hashes(b"c"));
    scene.revoke_device(ID.operator(), 0).unwrap();
    scene.register(0, b"certificate").unwrap();
    assert_eq!(published(&scene), hashes(b"ba"));
    for keys in 0..14 {
        scene.publish(0, &name(keys), b"certificate").unwrap();
    }
    // Of the last sixteen one is under the certificate between.
    let newest: Vec<u8> = (0..14).rev().chain([b'b']).collect();
    assert_eq!(published(&scene), hashes(&newest));
}
