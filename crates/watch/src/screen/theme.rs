//! How what matters stands out: by colour where the terminal has it, and always by a word or a weight too.

use ratatui::style::{Color, Modifier, Style};
use sealcast_console::{GroupState, Level, NodeState};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Theme {
    /// Whether there may be colours.
    pub colour: bool,
}

impl Theme {
    fn coloured(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    /// As it should be.
    pub fn good(self) -> Style {
        self.coloured(Color::Green)
    }

    /// It will fail if nothing is done.
    pub fn warn(self) -> Style {
        self.coloured(Color::Yellow)
    }

    /// It fails.
    pub fn bad(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// Beside the point.
    pub fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// A name or a figure.
    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Chosen.
    pub fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Messages.
    pub fn traffic(self) -> Style {
        self.coloured(Color::Cyan)
    }

    /// Of an alarm.
    pub fn level(self, level: Level) -> (&'static str, Style) {
        match level {
            Level::Error => ("error", self.bad()),
            Level::Warn => ("warn", self.warn()),
        }
    }

    /// Of a device.
    pub fn node(self, state: NodeState, online: Option<bool>) -> (&'static str, Style) {
        match (state, online) {
            (NodeState::Revoked, _) => ("revoked", self.dim()),
            (NodeState::Expired, _) => ("expired", self.bad()),
            (NodeState::Active, Some(true)) => ("online", self.good()),
            (NodeState::Active, Some(false)) => ("away", self.warn()),
            (NodeState::Active, None) => ("active", Style::new()),
        }
    }

    /// Of a group.
    pub fn group(self, state: GroupState) -> (&'static str, Style) {
        match state {
            GroupState::Ok => ("ok", self.good()),
            GroupState::Waiting => ("waiting", self.warn()),
            GroupState::Stopped => ("stopped", self.bad()),
        }
    }
}
