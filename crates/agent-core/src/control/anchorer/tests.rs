use super::*;
use crate::testing::{START_MS, World};

const RULES: AnchorRules = AnchorRules { every_messages: 10, every_ms: 60_000, keep_ms: 1_000, payloads: true };

struct Scene {
    world: World,
    group: GroupNumber,
    anchorer: Anchorer,
    now_ms: u64,
}

impl Scene {
    fn new() -> Self {
        let (world, group) = World::with_group(1);
        Self { world, group, anchorer: Anchorer::new(Some(RULES)), now_ms: START_MS }
    }

    fn series(&self, new: u64, drawn: Option<u32>) -> Vec<SeriesState> {
        let drawn = drawn.map(|count| (Hash::of(b"root"), count));
        vec![SeriesState { group: self.group, new, first_ms: (new > 0).then_some(START_MS), drawn }]
    }

    fn poll(&mut self) -> (Vec<Write>, Option<Effect>, Vec<Body>) {
        let mut submitted = Vec::new();
        let (own, replica) = (self.world.own(0), self.world.ledger.replica());
        let (writes, effect) = self.anchorer.poll(&own, replica, self.now_ms, |body| submitted.push(body));
        (writes, effect, submitted)
    }

    /// The disk is asked, and says this.
    fn list(&mut self, series: Vec<SeriesState>) {
        assert_eq!(self.poll(), (vec![], Some(Effect::ListSeries), vec![]));
        assert_eq!(self.poll(), (vec![], None, vec![]));
        self.anchorer.handle_series(series);
    }

    fn anchor(&self, count: u32) -> Anchor {
        Anchor { group: self.group, root: Hash::of(b"root"), count }
    }
}

#[test]
fn a_root_is_drawn_when_there_are_enough_messages_or_enough_time_has_passed() {
    let mut scene = Scene::new();
    let due = |scene: &Scene| Write::DrawAnchor { group: scene.group, forget_before_ms: scene.now_ms - 1_000 };
    scene.list(scene.series(9, None));
    assert_eq!(scene.poll(), (vec![], None, vec![]));
    assert_eq!(scene.anchorer.poll_timeout(), Some(START_MS + 60_000));
    scene.anchorer.handle_changed();
    scene.list(scene.series(10, None));
    assert_eq!(scene.poll(), (vec![due(&scene)], Some(Effect::ListSeries), vec![]));

    scene.anchorer.handle_series(scene.series(1, None));
    scene.now_ms += 59_999;
    assert_eq!(scene.poll(), (vec![], None, vec![]));
    scene.now_ms += 1;
    assert_eq!(scene.poll(), (vec![due(&scene)], Some(Effect::ListSeries), vec![]));
    scene.anchorer.handle_series(scene.series(0, None));
    scene.now_ms += 1_000_000;
    assert_eq!((scene.poll(), scene.anchorer.poll_timeout()), ((vec![], None, vec![]), None));
}

#[test]
fn a_drawn_root_is_submitted_once_and_again_after_a_refusal_or_a_restart() {
    let mut scene = Scene::new();
    let wanted = vec![Body::Anchor(scene.anchor(7))];
    scene.list(scene.series(0, Some(7)));
    assert_eq!(scene.poll(), (vec![], None, wanted.clone()));
    assert_eq!(scene.poll(), (vec![], None, vec![]));
    scene.anchorer.handle_refused(scene.now_ms);
    assert_eq!(scene.poll(), (vec![], None, vec![]));
    scene.now_ms += RETRY_MS;
    assert_eq!(scene.poll(), (vec![], None, wanted.clone()));

    scene.anchorer = Anchorer::new(Some(RULES));
    scene.list(scene.series(0, Some(7)));
    assert_eq!(scene.poll().2, wanted);
    let Anchor { group, root, count } = scene.anchor(7);
    assert_eq!(scene.anchorer.handle_own(&scene.anchor(7)), Some(Write::Anchored { group, root, count }));
    scene.list(scene.series(0, None));
    assert_eq!(scene.poll(), (vec![], None, vec![]));
}

#[test]
fn without_a_grant_nothing_is_submitted_until_there_is_one() {
    let mut scene = Scene::new();
    scene.world.revoke(scene.group, 0);
    scene.list(scene.series(0, Some(7)));
    assert_eq!(scene.poll(), (vec![], None, vec![]));
    scene.world.grant(scene.group, 0);
    assert_eq!(scene.poll(), (vec![], None, vec![]));
    scene.anchorer.look_again();
    assert_eq!(scene.poll().2, [Body::Anchor(scene.anchor(7))]);
}

#[test]
fn without_rules_nothing_is_asked_for() {
    let mut scene = Scene::new();
    scene.anchorer = Anchorer::new(None);
    assert_eq!((scene.poll(), scene.anchorer.poll_timeout()), ((vec![], None, vec![]), None));
    assert_eq!(scene.anchorer.handle_own(&scene.anchor(1)), None);
}
