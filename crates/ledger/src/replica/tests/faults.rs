//! What comes of reported faults.

use super::*;

/// Group 1 with so many devices granted, in which the first has made two commits.
fn scene(devices: usize) -> Scene {
    let cast = Cast::new(ID, devices).unwrap();
    let mut scene = Scene { ledger: MemoryLedger::new(cast.genesis), cast };
    scene.create(ID.operator(), "plant", &["plant/#"]).unwrap();
    for device in 0..devices {
        scene.register(device, &[device as u8]).unwrap();
        scene.grant(ID.operator(), 1, device).unwrap();
    }
    for epoch in 0..2 {
        scene.commit(0, 1, 0, epoch).unwrap();
    }
    scene
}

impl Scene {
    fn report(&mut self, device: usize, epoch: u64, kept_out: bool) -> Result<FaultOutcome, Refusal> {
        self.report_at(device, epoch, kept_out, 1_700_000_000)
    }

    fn report_at(&mut self, device: usize, epoch: u64, kept_out: bool, time_s: u64) -> Result<FaultOutcome, Refusal> {
        let (group, generation) = (group(1), self.plant().generation);
        let body = Body::FaultReported(FaultReported { group, generation, epoch: Epoch(epoch), kept_out });
        let entry = self.cast.sign(self.replica(), self.device(device), &body).unwrap();
        let mut before = self.replica().clone();
        let record = self.ledger.submit(&entry, time_s)?;
        match before.apply(&record).unwrap() {
            Event::FaultReported { outcome, .. } => Ok(outcome),
            other => panic!("{other:?}"),
        }
    }

    fn plant(&self) -> &Group {
        self.replica().group(group(1)).unwrap()
    }

    fn is_member(&self, device: usize) -> bool {
        self.replica().is_granted(group(1), self.device(device))
    }
}

#[test]
fn more_than_half_put_the_author_out_and_found_the_group_anew() {
    let mut scene = scene(4);
    assert_eq!(scene.report(1, 1, false), Ok(FaultOutcome::Noted));
    assert_eq!(scene.report(1, 1, false), Ok(FaultOutcome::Noted), "nobody counts twice");
    assert_eq!(scene.report(2, 1, false), Ok(FaultOutcome::Noted), "two of four are half");
    assert_eq!((scene.plant().generation, scene.plant().epoch), (Generation(0), Epoch(2)));
    assert_eq!(scene.report(3, 0, false), Ok(FaultOutcome::AuthorOut), "of another commit of the same author");
    assert_eq!((scene.plant().generation, scene.plant().epoch), (Generation(1), Epoch(0)));
    assert_eq!([0, 1, 2, 3].map(|device| scene.is_member(device)), [false, true, true, true]);
    let last = scene.replica().height() - 1;
    assert_eq!(scene.plant().revoked_at(scene.device(0)), Some(last));
    assert_eq!(scene.plant().distrusted, Some(scene.device(0)));
    let line =
        scene.replica().about_originator(scene.device(0)).last().map(|summary| scene.replica().describe(summary));
    assert!(line.unwrap().ends_with("as more than half say: it is founded anew, without 1111"));
    // The operator may take it in again. What was said of the generation before does not count any more.
    scene.grant(ID.operator(), 1, 0).unwrap();
    scene.commit(0, 1, 1, 0).unwrap();
    assert_eq!(scene.report(1, 0, false), Ok(FaultOutcome::Noted));
}

#[test]
fn whoever_is_kept_out_costs_nobody_its_grant() {
    let mut scene = scene(4);
    for (device, kept_out) in [(1, false), (2, true)] {
        assert_eq!(scene.report(device, 1, kept_out), Ok(FaultOutcome::Noted));
    }
    assert_eq!(scene.report(3, 1, true), Ok(FaultOutcome::FoundedAnew));
    assert!(scene.is_member(0));
    assert_eq!(scene.plant().distrusted, Some(scene.device(0)));
    scene.reset(ID.operator(), 1).unwrap();
    assert_eq!(scene.plant().distrusted, None);
}

#[test]
fn only_members_count_and_only_by_their_last_word_of_the_last_hours() {
    let mut scene = scene(5);
    scene.commit(1, 1, 0, 2).unwrap();
    // Of devices that are members no longer nothing counts.
    scene.report(4, 1, false).unwrap();
    scene.revoke_device(ID.ca(), 4).unwrap();
    assert_eq!(scene.report(1, 1, false), Ok(FaultOutcome::Noted));
    // Whoever has come to another author since does not blame the first any more.
    assert_eq!(scene.report(1, 2, false), Ok(FaultOutcome::Noted));
    let start = 1_700_000_000;
    assert_eq!(scene.report_at(2, 1, false, start), Ok(FaultOutcome::Noted));
    assert_eq!(scene.report_at(1, 1, false, start + 1), Ok(FaultOutcome::Noted));
    assert_eq!(scene.report_at(3, 1, false, start + 1 + REPORT_LIFE_S), Ok(FaultOutcome::Noted), "one is too old");
    assert_eq!(scene.report_at(2, 1, false, start + 1 + REPORT_LIFE_S), Ok(FaultOutcome::AuthorOut));
}

#[test]
fn a_report_names_a_commit_of_the_present_generation() {
    let mut scene = scene(3);
    let wrong = |generation, epoch| Refusal::WrongEpoch {
        expected_generation: generation,
        expected_epoch: 2,
        got_generation: generation,
        got_epoch: epoch,
    };
    assert_eq!(scene.report(1, 2, false), Err(wrong(0, 2)));
    let body = |epoch| {
        let (group, generation) = (group(1), Generation(1));
        Body::FaultReported(FaultReported { group, generation, epoch: Epoch(epoch), kept_out: false })
    };
    assert!(matches!(scene.say(scene.device(1), &body(0)), Err(Refusal::WrongEpoch { got_generation: 1, .. })));
    assert_eq!(scene.say(ID.operator(), &body(0)), denied(Kind::FaultReported, ID.operator()));
    scene.revoke(ID.operator(), 1, 1).unwrap();
    assert!(matches!(scene.report(1, 0, false), Err(Refusal::NotGranted { .. })));
}
