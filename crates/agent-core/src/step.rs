//! Persist before send, by type.

/// One step of a part of the agent: what must be on disk, and what follows once it is.
///
/// What follows can be had in one way, [`Step::commit`], which writes first. So no order of statements in a driver can
/// send what a crash would make untrue: an acknowledgement of a message whose replay window is not stored, an entry for the
/// ledger that the group has no memory of.
///
/// A write that failed may be on disk all the same. So whoever makes steps must be right either way: after a failed
/// write, what is on disk is what was there before or what the step would have made of it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "nothing of it has happened"]
pub struct Step<W, E> {
    writes: Vec<W>,
    effects: Vec<E>,
}

/// A step whose writes failed: nothing of it has happened, as far as anybody outside can tell.
#[derive(Debug, PartialEq, Eq)]
pub struct Uncommitted<W, E, X> {
    /// Why.
    pub error: X,
    /// To try again, where nothing goes on without it.
    pub step: Step<W, E>,
}

impl<W, E> Step<W, E> {
    /// `effects`, once `writes` are on disk, all of them or none.
    pub fn new(writes: Vec<W>, effects: Vec<E>) -> Self {
        Self { writes, effects }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.effects.is_empty()
    }

    /// What is in it, for the part that made it, where its writes failed.
    pub(crate) fn into_parts(self) -> (Vec<W>, Vec<E>) {
        (self.writes, self.effects)
    }

    /// Has `write` make everything durable in one transaction, and then gives what follows, in its order. Without writes
    /// it is not called.
    ///
    /// # Errors
    /// What `write` says, with the step.
    pub fn commit<X>(self, write: impl FnOnce(&[W]) -> Result<(), X>) -> Result<Vec<E>, Uncommitted<W, E, X>> {
        let outcome = if self.writes.is_empty() { Ok(()) } else { write(&self.writes) };
        match outcome {
            Ok(()) => Ok(self.effects),
            Err(error) => Err(Uncommitted { error, step: self }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_come_after_their_writes_and_not_without_them() {
        let step = Step::new(vec!["window"], vec!["PUBACK"]);
        let Uncommitted { error, step } = step.commit(|_| Err("full")).unwrap_err();
        assert_eq!(error, "full");
        let mut disk = Vec::new();
        let effects = step.commit(|writes| {
            disk.extend_from_slice(writes);
            Ok::<_, ()>(())
        });
        assert_eq!((disk, effects.unwrap()), (vec!["window"], vec!["PUBACK"]));
    }

    #[test]
    fn without_writes_the_disk_is_left_alone() {
        let step: Step<(), _> = Step::new(Vec::new(), vec!["PINGRESP"]);
        assert_eq!(step.commit(|_| Err("called")).unwrap(), ["PINGRESP"]);
    }
}
