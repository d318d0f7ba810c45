//! What can be done to something that passes.

use std::fmt;

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    /// It comes twice.
    Duplicate,
    /// It comes behind what comes next.
    Reorder,
    /// Only its first bytes pass, and the connection ends.
    Truncate,
    /// Some of its bytes are others.
    Rewrite,
    /// An older one passes in its place.
    Exchange,
    /// Beside it comes a copy with other bytes.
    Forge,
    /// Beside it comes a copy on the topic of another one.
    Move,
    /// Beside it an older one comes once more.
    Replay,
}

impl Fault {
    pub const ALL: [Self; 8] = [
        Self::Duplicate,
        Self::Reorder,
        Self::Truncate,
        Self::Rewrite,
        Self::Exchange,
        Self::Forge,
        Self::Move,
        Self::Replay,
    ];
}

/// What it is done to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// A message of a client.
    Message,
    /// One of Sealcast's own, on a control topic.
    Control,
    /// A record of TLS, and nobody knows what is in it.
    Record,
}

/// From a client to the broker, or back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    Up,
    Down,
}

impl Way {
    pub fn back(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }
}

/// A fault that waits for what it is to happen to.
#[derive(Clone, Copy, Debug)]
pub struct Armed {
    pub fault: Fault,
    pub subject: Subject,
    pub way: Way,
    /// Which bytes, which older message and so on.
    pub salt: u64,
}

impl fmt::Display for Armed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, subject, way, salt } = self;
        write!(f, "{fault:?} {subject:?} {way:?} ({salt:#x})")
    }
}

impl Armed {
    pub(super) fn fits(&self, subject: Subject, way: Way) -> bool {
        self.subject == subject && self.way == way
    }
}
