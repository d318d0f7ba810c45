//! What the agent itself publishes: alarms of values that were blocked or flagged.

use sealcast_agent_core::{
    Cause, Frame, Uncommitted, Why, own_message,
    values::{Due, Output, Own, Unsent},
};

use super::{Agent, Around, Process, Stop, fatal};
use crate::disk::{Disk, Writes};

impl Agent {
    pub(super) fn run_values(&mut self, around: &mut Around<'_>) -> Result<bool, Stop> {
        let Some((process, disk)) = self.parts() else { return Ok(false) };
        process.tell_locals();
        let now_ms = around.now.unix_ms;
        if process.values.poll_timeout().is_none_or(|due_ms| due_ms > now_ms) {
            return Ok(false);
        }
        process.values.handle_timeout(&process.keyring, now_ms);
        let step = process.values.take_due(now_ms);
        match step.commit(|writes| disk.commit(&Writes::Values(writes), around.now.run_ms)) {
            Ok(due) => {
                for due in due {
                    disk.before_effect().map_err(|_| Stop::Died)?;
                    process.send_due(disk, around, due)?;
                }
            }
            Err(Uncommitted { error, step }) => {
                process.values.put_back(step, now_ms);
                fatal(error).map_or(Ok(()), Err)?;
            }
        }
        Ok(process.values.poll_timeout().is_none_or(|due_ms| due_ms > now_ms))
    }
}

impl Process {
    fn tell_locals(&mut self) {
        while let Some(output) = self.values.poll_output() {
            if let Output::Local(message) = output {
                self.conns.values_mut().for_each(|conn| conn.session.handle_local(&message));
            }
        }
    }

    fn send_due(&mut self, disk: &mut Disk, around: &mut Around<'_>, due: Due) -> Result<(), Stop> {
        let now_ms = around.now.unix_ms;
        let mut sent = self.send(disk, around, &due.topic, &due.message)?;
        if sent.is_ok() && due.is_end() {
            sent = self.send(disk, around, &due.topic, &Own::empty())?;
        }
        match sent {
            Ok(()) => self.values.sent(due, now_ms),
            Err(error) => self.values.not_sent_own(due, &error, now_ms),
        }
        Ok(())
    }

    fn send(
        &mut self,
        disk: &mut Disk,
        around: &mut Around<'_>,
        topic: &str,
        message: &Own,
    ) -> Result<Result<(), Unsent>, Stop> {
        let frames = self.seal(disk, around, |process, now_ms| {
            own_message(&mut process.keyring, &mut process.retained, &process.record, topic, message, now_ms)
        })?;
        let away = |reason: String| Unsent::NotYet(Why::new(Cause::BrokerAway, reason));
        let publish = |Frame { retain, payload }| self.link.publish(topic, retain, payload).map_err(away);
        Ok(frames.and_then(|frames| frames.into_iter().try_for_each(publish)))
    }
}
