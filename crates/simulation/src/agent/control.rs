//! The control plane's steps: committed, however long the disk takes, and then done.

use sealcast_agent_core::{
    Cause, Frame, Retained, Route, Step, Uncommitted, Why,
    control::{Effect, Input, Write},
    sealed_again, session,
    values::Unsent,
};
use sealcast_group::Notice;
use sealcast_ledger::GroupNumber;

use super::{Agent, Around, Process, Stop, fatal};
use crate::disk::{Disk, Failed, Writes};

/// A write that the agent cannot go on without is tried again after so long, ms.
const RETRY_MS: u64 = 500;

impl Agent {
    pub(super) fn run_control(&mut self, around: &mut Around<'_>) -> Result<bool, Stop> {
        let device = self.device;
        let Some((process, disk)) = self.parts() else { return Ok(false) };
        let now = around.now;
        let (step, waited) = match process.stuck.take() {
            Some((step, again_ms)) if now.run_ms < again_ms => {
                process.stuck = Some((step, again_ms));
                return Ok(false);
            }
            Some((step, _)) => (Some(step), true),
            None => (process.control.poll(&mut process.keyring, now.unix_ms)?, false),
        };
        let Some(step) = step else { return Ok(false) };
        match step.commit(|writes| disk.commit(&Writes::Control(writes), now.run_ms)) {
            Ok(effects) => {
                for effect in effects {
                    disk.before_effect().map_err(|_| Stop::Died)?;
                    process.perform(disk, around, device, effect)?;
                }
                if waited {
                    process.control.handle(Input::Resumed);
                }
            }
            Err(Uncommitted { error, step }) => return process.wait_for_disk(error, step, now.run_ms),
        }
        Ok(true)
    }

    /// The hub pushes something to the agent, whatever the broker carries.
    pub fn push(&mut self, input: Input) {
        if let Some(process) = &mut self.process {
            process.control.handle(input);
        }
    }
}

impl Process {
    fn wait_for_disk(&mut self, failed: Failed, step: Step<Write, Effect>, run_ms: u64) -> Result<bool, Stop> {
        if let Some(stop) = fatal(failed) {
            return Err(stop);
        }
        self.keyring.stall();
        self.stuck = Some((step, run_ms + RETRY_MS));
        Ok(false)
    }

    fn perform(&mut self, disk: &mut Disk, around: &mut Around<'_>, device: usize, effect: Effect) -> Result<(), Stop> {
        match effect {
            // What a lost connection swallows is not missed.
            Effect::Publish { topic, payload } => drop(self.link.publish(&topic, true, payload)),
            Effect::Ask { sync, from, most } => self.ask(around, sync, from, most),
            Effect::AskKept { question, have, .. } => self.ask_kept(around, question, have),
            Effect::Submit(entry) => self.submit(around, entry),
            Effect::ListSeries => self.control.handle(Input::Series(Vec::new())),
            Effect::ListReadings => self.control.handle(Input::Readings(Vec::new())),
            Effect::InsertEpoch(keys) => {
                self.keyring.insert_epoch(&keys, around.now.unix_ms);
                around.ghost.agreed(device, &keys);
            }
            Effect::HoldEpoch { group, on_ledger } => self.keyring.hold_epoch(group, on_ledger),
            Effect::Leave { group, reason } => {
                self.keyring.leave(group, &reason);
                around.ghost.left(device);
            }
            Effect::SealRetained(group) => self.seal_retained(disk, around, group)?,
            Effect::KeysSeen { .. } => {}
            Effect::Notice { notice: Notice::Rejoining | Notice::KeptOut, .. } => around.ghost.left(device),
            Effect::Notice { notice: notice @ Notice::Outdated(_), .. } => around.ghost.notices(device, &notice),
            Effect::Notice { notice: notice @ (Notice::Void { .. } | Notice::Behind { .. }), .. } => {
                around
                    .ghost
                    .violated("every commit of an honest member counts, and can be followed", notice.to_string());
            }
            Effect::Notice { .. } => {}
        }
        Ok(())
    }

    fn seal_retained(&mut self, disk: &mut Disk, around: &mut Around<'_>, group: GroupNumber) -> Result<(), Stop> {
        let kept: Vec<Retained> = disk.files.retained.values().cloned().collect();
        for kept in kept {
            if self.keyring.route(&kept.topic) != Route::Group(group) {
                continue;
            }
            let sealed = |process: &mut Self, now_ms| sealed_again(&mut process.keyring, group, &kept, now_ms);
            match self.seal(disk, around, sealed)? {
                Ok(frames) => {
                    for Frame { retain, payload } in frames {
                        drop(self.link.publish(&kept.topic, retain, payload));
                    }
                }
                Err(Unsent::NotYet(_) | Unsent::NoKeyYet(_)) => {
                    self.control.handle(Input::NotSealed(group));
                    return Ok(());
                }
                Err(Unsent::Refused(_)) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Seals a message of the agent's own.
    pub(super) fn seal(
        &mut self,
        disk: &mut Disk,
        around: &Around<'_>,
        prepare: impl Fn(&mut Self, u64) -> Result<Step<session::Write, Frame>, Unsent>,
    ) -> Result<Result<Vec<Frame>, Unsent>, Stop> {
        let step = match prepare(self, around.now.unix_ms) {
            Ok(step) => step,
            Err(unsent) => return Ok(Err(unsent)),
        };
        let frames = match step.commit(|writes| disk.commit(&Writes::Session(writes), around.now.run_ms)) {
            Ok(frames) => frames,
            Err(Uncommitted { error, .. }) => {
                let unsent = Unsent::NotYet(Why::new(Cause::DiskFails, "the disk fails"));
                return fatal(error).map_or(Ok(Err(unsent)), Err);
            }
        };
        disk.before_effect().map_err(|_| Stop::Died)?;
        Ok(Ok(frames))
    }
}
