//! What the person at the terminal has chosen to see.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::fleet::{Fleet, Grown};

/// Rows that Page Up and Page Down move by.
const PAGE: usize = 10;

/// A part of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// What needs a person, and the figures.
    Overview,
    /// The devices.
    Nodes,
    /// The groups.
    Groups,
    /// The ledger's newest entries.
    Ledger,
    /// The newest messages at the broker.
    Wire,
}

impl View {
    /// In the order of their keys.
    pub const ALL: [Self; 5] = [Self::Overview, Self::Nodes, Self::Groups, Self::Ledger, Self::Wire];

    /// For a person.
    pub fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Nodes => "Nodes",
            Self::Groups => "Groups",
            Self::Ledger => "Ledger",
            Self::Wire => "Wire",
        }
    }

    /// How many rows there are to choose from.
    fn rows(self, fleet: &Fleet) -> usize {
        match self {
            Self::Overview => fleet.alarms.len(),
            Self::Nodes => fleet.nodes.len(),
            Self::Groups => fleet.groups.len(),
            Self::Ledger => fleet.entries.len(),
            Self::Wire => fleet.wire.len(),
        }
    }
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Draw what has changed.
    Draw,
    /// Draw all of it: something else has written to the terminal.
    Anew,
    /// Nothing has changed.
    Same,
    /// Leave.
    Quit,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Ui {
    /// What is shown.
    pub view: View,
    /// Whether the help lies on top.
    pub help: bool,
    /// Why there is no connection, if there is none.
    pub lost: Option<String>,
    /// The chosen row of each view.
    pub rows: [usize; View::ALL.len()],
}

impl Default for Ui {
    fn default() -> Self {
        Self { view: View::Overview, help: false, lost: None, rows: [0; View::ALL.len()] }
    }
}

impl Ui {
    /// The chosen row of what is shown.
    pub fn row(&self) -> usize {
        self.rows[self.view as usize]
    }

    /// Rows have come on top, or gone: the same one stays chosen. At the top the newest one is.
    pub fn keep_place(&mut self, grown: Grown, fleet: &Fleet) {
        for (view, more) in [(View::Ledger, grown.entries), (View::Wire, grown.wire)] {
            let row = &mut self.rows[view as usize];
            if *row > 0 {
                *row += more;
            }
        }
        for view in View::ALL {
            let row = &mut self.rows[view as usize];
            *row = (*row).min(view.rows(fleet).saturating_sub(1));
        }
    }

    /// Takes a key.
    pub fn press(&mut self, key: KeyEvent, fleet: &Fleet) -> Flow {
        if key.kind == KeyEventKind::Release {
            return Flow::Same;
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c' | 'd') if is_control => return Flow::Quit,
            KeyCode::Char('q') => return Flow::Quit,
            KeyCode::Char('l') if is_control => return Flow::Anew,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => {
                self.help = !self.help;
                return Flow::Draw;
            }
            // Any other key puts the help away, and does no more than that.
            _ if self.help => {
                self.help = false;
                return Flow::Draw;
            }
            _ => {}
        }
        let at = self.view as usize;
        let (count, last) = (View::ALL.len(), self.view.rows(fleet).saturating_sub(1));
        let row = &mut self.rows[at];
        match key.code {
            KeyCode::Tab | KeyCode::Right => self.view = View::ALL[(at + 1) % count],
            KeyCode::BackTab | KeyCode::Left => self.view = View::ALL[(at + count - 1) % count],
            KeyCode::Char(digit @ '1'..='5') => self.view = View::ALL[digit as usize - '1' as usize],
            KeyCode::Down | KeyCode::Char('j') => *row = (*row + 1).min(last),
            KeyCode::Up | KeyCode::Char('k') => *row = row.saturating_sub(1),
            KeyCode::PageDown => *row = (*row + PAGE).min(last),
            KeyCode::PageUp => *row = row.saturating_sub(PAGE),
            KeyCode::Home | KeyCode::Char('g') => *row = 0,
            KeyCode::End | KeyCode::Char('G') => *row = last,
            _ => return Flow::Same,
        }
        Flow::Draw
    }
}
