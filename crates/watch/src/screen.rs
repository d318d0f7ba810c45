//! The picture in the terminal: made of what is known, and of what the person has chosen, and of nothing else.

mod alarm;
mod overview;
mod tables;
mod theme;

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph},
};
use sealcast_node::output::printable;

pub use self::theme::Theme;
use crate::{
    hub_view::HubView,
    ui::{Ui, View},
};

/// In a narrower terminal the views have digits for names.
const NARROW: u16 = 72;

const HELP: [(&str, &str); 8] = [
    ("1 to 5", "choose a view"),
    ("Tab, → / Shift-Tab, ←", "the next view, the one before"),
    ("↓ ↑, j k", "choose a row"),
    ("Page Down, Page Up", "ten rows on, ten back"),
    ("Home, End, g G", "the first row, the last"),
    ("Ctrl-L", "draw anew"),
    ("?", "this help"),
    ("q, Ctrl-C", "quit"),
];

/// Draws all of it.
pub fn draw(frame: &mut Frame<'_>, hub_view: &HubView, ui: &Ui, theme: Theme) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(header(hub_view, ui, theme, head.width), head);
    match ui.view {
        View::Overview => overview::draw(frame, body, hub_view, ui.row(), theme),
        View::Nodes => tables::nodes(frame, body, hub_view, ui.row(), theme),
        View::Groups => tables::groups(frame, body, hub_view, ui.row(), theme),
        View::Ledger => tables::ledger(frame, body, hub_view, ui.row(), theme),
        View::Wire => tables::wire(frame, body, hub_view, ui.row(), theme),
    }
    frame.render_widget(footer(ui, theme), foot);
    if ui.help {
        help(frame, body, theme);
    }
}

fn header(hub_view: &HubView, ui: &Ui, theme: Theme, width: u16) -> Line<'static> {
    let (mark, style) = if ui.lost.is_none() { ("live", theme.good()) } else { ("lost", theme.bad()) };
    let name = Span::styled(format!(" {}  ", printable(&hub_view.hub.name)), theme.strong());
    let mut spans = vec![Span::styled(format!(" {mark}"), style), name];
    for (at, view) in View::ALL.into_iter().enumerate() {
        let is_shown = view == ui.view;
        let text = match is_shown || width >= NARROW {
            true => format!(" {} {} ", at + 1, view.title()),
            false => format!(" {}", at + 1),
        };
        spans.push(Span::styled(text, if is_shown { theme.chosen() } else { theme.dim() }));
    }
    Line::from(spans)
}

fn footer(ui: &Ui, theme: Theme) -> Line<'static> {
    match (&ui.lost, &ui.warning) {
        (Some(reason), _) => {
            Line::styled(format!(" connection lost, trying again: {}", printable(reason)), theme.bad())
        }
        (None, Some(warning)) => Line::styled(format!(" {}", printable(warning)), theme.warn()),
        (None, None) => Line::styled(" q quit   Tab view   ↓ ↑ row   ? help", theme.dim()),
    }
}

fn help(frame: &mut Frame<'_>, body: Rect, theme: Theme) {
    let lines = HELP.map(|(keys, text)| {
        Line::from(vec![Span::styled(format!(" {keys:<22} "), theme.strong()), Span::raw(format!("{text} "))])
    });
    let (width, height) = (body.width.min(56), body.height.min(HELP.len() as u16 + 2));
    let area = Rect { x: body.x + (body.width - width) / 2, y: body.y + (body.height - height) / 2, width, height };
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(" Keys ").title_alignment(Alignment::Center);
    frame.render_widget(Paragraph::new(lines.to_vec()).block(block), area);
}

#[cfg(test)]
mod tests;
