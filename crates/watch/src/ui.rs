//! What the person at the terminal has chosen to see.

use std::borrow::Cow;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::hub_view::HubView;

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
    fn rows(self, hub_view: &HubView) -> usize {
        match self {
            Self::Overview => hub_view.alarms.len(),
            Self::Nodes => hub_view.nodes.len(),
            Self::Groups => hub_view.groups.len(),
            Self::Ledger => hub_view.entries.len(),
            Self::Wire => hub_view.wire.len(),
        }
    }

    /// What names each row, in their order.
    fn ids(self, hub_view: &HubView) -> Box<dyn Iterator<Item = Cow<'_, str>> + '_> {
        match self {
            Self::Overview => Box::new(hub_view.alarms.iter().map(|alarm| Cow::from(&alarm.id))),
            Self::Nodes => Box::new(hub_view.nodes.keys().map(Cow::from)),
            Self::Groups => Box::new(hub_view.groups.keys().map(|number| Cow::from(number.to_string()))),
            Self::Ledger => Box::new(hub_view.entries.iter().map(|entry| Cow::from(entry.index.to_string()))),
            Self::Wire => Box::new(hub_view.wire.iter().map(|wire| Cow::from(wire.id.to_string()))),
        }
    }

    /// Whether new rows come on top.
    fn is_newest_first(self) -> bool {
        matches!(self, Self::Ledger | Self::Wire)
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
    /// Why not all that the hub tells is shown.
    pub warning: Option<String>,
    /// The chosen row of each view.
    pub rows: [usize; View::ALL.len()],
    /// What names it, once somebody has chosen.
    pub chosen: [Option<String>; View::ALL.len()],
}

impl Default for Ui {
    fn default() -> Self {
        let (rows, chosen) = ([0; View::ALL.len()], [const { None }; View::ALL.len()]);
        Self { view: View::Overview, help: false, lost: None, warning: None, rows, chosen }
    }
}

impl Ui {
    /// The chosen row of what is shown.
    pub fn row(&self) -> usize {
        self.rows[self.view as usize]
    }

    /// Rows have come or gone: the same one stays chosen, wherever it stands now.
    pub fn keep_place(&mut self, hub_view: &HubView) {
        let at = self.view as usize;
        let found = self.chosen[at].as_deref().and_then(|chosen| self.view.ids(hub_view).position(|id| id == chosen));
        self.rows[at] = found.unwrap_or(self.rows[at]).min(self.view.rows(hub_view).saturating_sub(1));
    }

    /// Whoever looks at the newest row goes on doing so.
    fn choose_row(&mut self, hub_view: &HubView) {
        let row = self.row();
        let follows_newest = row == 0 && self.view.is_newest_first();
        let id = if follows_newest { None } else { self.view.ids(hub_view).nth(row).map(Cow::into_owned) };
        self.chosen[self.view as usize] = id;
    }

    /// Takes a key.
    pub fn press(&mut self, key: KeyEvent, hub_view: &HubView) -> Flow {
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
        let (count, last) = (View::ALL.len(), self.view.rows(hub_view).saturating_sub(1));
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
        if self.view as usize == at {
            self.choose_row(hub_view);
        } else {
            self.keep_place(hub_view);
        }
        Flow::Draw
    }
}
