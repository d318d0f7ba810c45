//! What the agent itself publishes: alarms of values that were blocked or flagged.

use sealcast_agent_core::{
    Denied, Retained, Route, Uncommitted,
    session::Write,
    values::{Due, Output, Own, Unsent},
};
use sealcast_seal::{Content, Purpose, QosClass};
use zeroize::Zeroizing;

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
        let Own { retain, props, payload, .. } = message;
        let group = match self.keyring.route(topic) {
            Route::Group(group) => group,
            Route::Behind(reason) => return Ok(Err(Unsent::NoKeyYet(reason))),
            other => return Ok(Err(Unsent::Refused(format!("{other:?}")))),
        };
        let mut frame = Vec::new();
        if !payload.is_empty() {
            let class = QosClass::Acknowledged;
            let content = Content { purpose: Purpose::Message, class, retain: *retain, props, payload };
            frame = match self.seal(disk, around, group, topic, &content)? {
                Ok(frame) => frame,
                Err(Denied::Refused(reason)) => return Ok(Err(Unsent::Refused(reason))),
                Err(denied) => return Ok(Err(Unsent::NoKeyYet(denied.to_string()))),
            };
        }
        if *retain {
            let payload = Zeroizing::new(payload.to_vec());
            let time_ms = around.now.unix_ms;
            let kept = Retained { topic: topic.to_owned(), time_ms, props: props.to_vec(), payload };
            if let Err(error) = self.retained.keep(&kept) {
                return Ok(Err(Unsent::Refused(error.to_string())));
            }
            if let Err(failed) = disk.commit(&Writes::Session(&[Write::Retained(kept)]), around.now.run_ms) {
                return fatal(failed).map_or(Ok(Err(Unsent::NotYet("the disk fails".to_owned()))), Err);
            }
        }
        Ok(self.link.publish(topic, *retain, frame).map_err(Unsent::NotYet))
    }
}
