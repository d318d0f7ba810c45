//! What time does to sessions whose clients are away: they expire, their delayed wills are due, and those that have been
//! full for too long end.

use super::Core;
use super::session::{Due, Session};
use crate::cause::Cause;
use crate::limits::Limits;
use crate::router::SessionId;

impl Core {
    /// Each session stands among `timers` once at most, and only while its client is away. To be called when that or one
    /// of its times has changed.
    pub(super) fn await_timer(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let next = session.next_timer(&self.limits);
        if next == session.next_timer_ms {
            return;
        }
        if let Some(at) = std::mem::replace(&mut session.next_timer_ms, next) {
            self.timers.remove(&(at, id));
        }
        self.timers.extend(next.map(|at| (at, id)));
    }

    pub(super) fn look_at_sessions(&mut self, now_ms: u64) {
        while let Some(&(at, id)) = self.timers.first() {
            if at > now_ms {
                return;
            }
            self.timers.pop_first();
            if let Some(session) = self.sessions.get_mut(&id) {
                session.next_timer_ms = None;
                self.look_at_session(id, now_ms);
                self.await_timer(id);
            }
        }
    }

    fn look_at_session(&mut self, id: SessionId, now_ms: u64) {
        let Some(session) = self.sessions.get_mut(&id).filter(|session| session.conn.is_none()) else { return };
        if session.will_due_ms.is_some_and(|due| due <= now_ms) {
            session.will_due_ms = None;
            let (will, peer) = (session.will.take(), session.peer());
            self.wills.extend(will.map(|will| Due { session: id, peer, will }));
        }
        if session.expires_at().is_some_and(|at| at <= now_ms) {
            tracing::info!(device = %session.key.device, client_id = %session.key.client_id,
                expiry_s = session.expiry_s, queued = session.queue.len(),
                "session ended: its client has been away for as long as its session expiry allows");
            self.end_session(id);
        } else if session.full_until(&self.limits).is_some_and(|at| at <= now_ms) {
            let code = Cause::FullSession;
            self.causes.add(code);
            tracing::warn!(%code, device = %session.key.device, client_id = %session.key.client_id,
                messages = session.queue.len(),
                "offline session ended and its messages dropped: its queue has been full for limits.full_session_hours");
            self.end_session(id);
        }
    }
}

impl Session {
    /// The first of its times, Unix ms; `None` while its client is there.
    fn next_timer(&self, limits: &Limits) -> Option<u64> {
        let times = [self.expires_at(), self.full_until(limits), self.will_due_ms];
        times.into_iter().flatten().min().filter(|_| self.conn.is_none())
    }

    /// When it ends because its client is away, Unix ms; `None` for never.
    pub(super) fn expires_at(&self) -> Option<u64> {
        (self.expiry_s != u32::MAX).then(|| self.disconnected_ms.saturating_add(u64::from(self.expiry_s) * 1000))
    }

    /// When it ends because its queue is full, as the operator has it with [`Limits::full_session_expiry`], Unix ms.
    fn full_until(&self, limits: &Limits) -> Option<u64> {
        let expiry_ms = u64::try_from(limits.full_session_expiry?.as_millis()).unwrap_or(u64::MAX);
        let since_ms = self.full.as_ref()?.queue_since_ms?;
        Some(since_ms.max(self.disconnected_ms).saturating_add(expiry_ms))
    }
}
