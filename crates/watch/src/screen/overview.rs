//! The overview: what needs a person, the figures, what was refused, and how the groups are.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::{Line, Span, Text},
    widgets::{Block, Paragraph, Sparkline},
};
use sealcast_console::Place;
use sealcast_node::output::printable;

use super::{alarm, tables, theme::Theme};
use crate::{
    hub_view::HubView,
    words::{count, plural, rate, relative, span},
};

/// Lines of the figures, with their border.
const FIGURES: u16 = 7;
/// In a narrower terminal the parts stand below each other.
const NARROW: u16 = 70;
/// With fewer lines there is no picture of the traffic.
const LOW: u16 = 22;

pub fn draw(frame: &mut Frame<'_>, area: Rect, hub_view: &HubView, row: usize, theme: Theme) {
    // Two lines for each alarm, and one that says so if there is none.
    let wanted = u16::try_from((2 * hub_view.alarms.len()).max(1)).unwrap_or(u16::MAX).saturating_add(2);
    let traffic = if area.height >= LOW { 4 } else { 0 };
    let rest = area.height.saturating_sub(FIGURES + traffic);
    let needs = wanted.min((rest / 2).max(3));
    let rows =
        [Constraint::Length(needs), Constraint::Length(FIGURES), Constraint::Length(traffic), Constraint::Min(0)];
    let [top, figures, rates, below] = Layout::vertical(rows).areas(area);
    alarms(frame, top, hub_view, row, theme);
    frame.render_widget(Paragraph::new(lines(hub_view, theme)).block(Block::bordered().title(" Hub ")), figures);
    if traffic > 0 {
        chart(frame, rates, hub_view, theme);
    }
    let parts = match below.width >= NARROW {
        true => Layout::horizontal([Constraint::Percentage(40), Constraint::Percentage(60)]),
        false => Layout::vertical([Constraint::Percentage(50), Constraint::Percentage(50)]),
    };
    let [left, right] = parts.areas(below);
    refusals(frame, left, hub_view, theme);
    tables::group_table(frame, right, hub_view, None, theme);
}

fn alarms(frame: &mut Frame<'_>, area: Rect, hub_view: &HubView, row: usize, theme: Theme) {
    if hub_view.alarms.is_empty() {
        let (nodes, groups) = (plural(hub_view.nodes.len(), "node"), plural(hub_view.groups.len(), "group"));
        let text = Line::from(vec![
            Span::styled("Nothing needs you.", theme.good()),
            Span::raw(format!(" No alarm stands on {nodes} and {groups}.")),
        ]);
        frame.render_widget(Paragraph::new(text).block(Block::bordered().title(" Needs you ")), area);
        return;
    }
    // The chosen one is the first that is shown.
    let text: Vec<Line<'_>> =
        hub_view.alarms.iter().skip(row).flat_map(|it| alarm::lines(it, hub_view.at, theme)).collect();
    let title = format!(" Needs you: {} ", count(hub_view.alarms.len() as u64));
    let block = Block::bordered().title(Line::styled(title, theme.strong()));
    frame.render_widget(Paragraph::new(text).block(block), area);
}

fn lines(hub_view: &HubView, theme: Theme) -> Text<'static> {
    let HubView { hub, ledger, totals, .. } = hub_view;
    let figure = |name: &'static str, value: String, more: String| {
        Line::from(vec![
            Span::styled(format!("{name:<10}"), theme.dim()),
            Span::styled(value, theme.strong()),
            Span::raw(more),
        ])
    };
    let nodes = match hub_view.online() {
        Some(online) => (count(online as u64), format!(" of {} connected", count(hub_view.nodes.len() as u64))),
        None => {
            (count(hub_view.nodes.len() as u64), " (not the hub's broker: who is connected is not known)".to_owned())
        }
    };
    let place = match ledger.place {
        Place::Embedded => "in the hub's folder",
        Place::Network => "on a network",
    };
    let last = if ledger.last > 0 { format!(", last {}", relative(ledger.last, hub_view.at)) } else { String::new() };
    let operator = if hub.operator { "connected" } else { "not connected" };
    let up = span(hub_view.at.saturating_sub(hub.started));
    let (sealed, opened, refused) = (count(totals.sealed), count(totals.opened), count(hub_view.refused()));
    Text::from(vec![
        figure("nodes", nodes.0, nodes.1),
        figure("messages", rate(totals.per_second), format!(" /s   {} since the hub began", count(totals.messages))),
        figure("sealed", sealed, format!("   opened {opened}   refused {refused}")),
        figure("ledger", count(ledger.height), format!(" entries {place}{last}")),
        figure("hub", printable(&hub.version), format!("   up {up}   operator's process {operator}")),
    ])
}

fn chart(frame: &mut Frame<'_>, area: Rect, hub_view: &HubView, theme: Theme) {
    let width = usize::from(area.width.saturating_sub(2));
    let skip = hub_view.rate_history.len().saturating_sub(width);
    let data: Vec<u64> = hub_view.rate_history.iter().skip(skip).copied().collect();
    let most = data.iter().max().copied().unwrap_or_default() as f64 / 10.0;
    let title = format!(" Messages a second, at most {} ", rate(most));
    frame.render_widget(
        Sparkline::default().block(Block::bordered().title(title)).data(data).style(theme.traffic()),
        area,
    );
}

fn refusals(frame: &mut Frame<'_>, area: Rect, hub_view: &HubView, theme: Theme) {
    let mut refused: Vec<(&String, &u64)> = hub_view.totals.refused.iter().filter(|(_, count)| **count > 0).collect();
    refused.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let width = usize::from(area.width.saturating_sub(2));
    let lines: Vec<Line<'_>> = match refused.is_empty() {
        true => vec![Line::styled("no agent has refused any", theme.dim())],
        false => refused
            .into_iter()
            .map(|(code, number)| {
                let (code, number) = (printable(code), count(*number));
                Line::raw(format!("{code} {number:>width$}", width = width.saturating_sub(code.chars().count() + 1)))
            })
            .collect(),
    };
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" Refused messages, by reason ")), area);
}
