//! The lists: devices, groups, entries and messages, each with more of the chosen row below it.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::{Line, Text},
    widgets::{Block, Cell, Paragraph, Row, Table, TableState, Wrap},
};
use sealcast_console::{Authenticity, Entry, Group, Node, Wire};
use sealcast_node::output::printable;
use sealcast_reading::utc;

use super::{alarm, theme::Theme};
use crate::{
    hub_view::HubView,
    words::{NOT_KNOWN, count, count_or_not, rate, relative, span, time},
};

/// Lines for the chosen row, with their border. In a lower terminal there are none.
const DETAIL: u16 = 7;
const LOW: u16 = 15;

/// A column: its title, its width, whether it stands right, and how wide the table must be for it.
struct Column<T> {
    title: &'static str,
    width: Constraint,
    is_number: bool,
    from: u16,
    cell: fn(&T, &Around) -> Text<'static>,
}

/// What cells need beside their row.
struct Around {
    now_ms: u64,
    theme: Theme,
}

const fn column<T>(
    title: &'static str,
    width: Constraint,
    from: u16,
    cell: fn(&T, &Around) -> Text<'static>,
) -> Column<T> {
    Column { title, width, is_number: false, from, cell }
}

const fn number<T>(title: &'static str, width: u16, from: u16, cell: fn(&T, &Around) -> Text<'static>) -> Column<T> {
    Column { title, width: Constraint::Length(width), is_number: true, from, cell }
}

/// Draws a table of `rows`, with as many columns as fit.
fn table<'a, T: 'a>(
    frame: &mut Frame<'_>,
    area: Rect,
    title: String,
    columns: &[Column<T>],
    rows: impl Iterator<Item = &'a T>,
    chosen: Option<usize>,
    around: &Around,
) {
    let columns: Vec<&Column<T>> = columns.iter().filter(|column| area.width >= column.from).collect();
    let aligned = |text: Text<'static>, is_number: bool| if is_number { text.right_aligned() } else { text };
    let rows = rows.map(|row| {
        Row::new(columns.iter().map(|column| Cell::from(aligned((column.cell)(row, around), column.is_number))))
    });
    let header = columns.iter().map(|column| Cell::from(aligned(Text::raw(column.title), column.is_number)));
    let table = Table::new(rows, columns.iter().map(|column| column.width))
        .header(Row::new(header).style(around.theme.dim()))
        .column_spacing(2)
        .row_highlight_style(around.theme.chosen())
        .block(Block::bordered().title(title));
    frame.render_stateful_widget(table, area, &mut TableState::new().with_selected(chosen));
}

/// The list's place, and that of the chosen row's lines if there is room for them.
fn split(area: Rect) -> (Rect, Option<Rect>) {
    if area.height < LOW {
        return (area, None);
    }
    let [list, detail] = Layout::vertical([Constraint::Min(0), Constraint::Length(DETAIL)]).areas(area);
    (list, Some(detail))
}

fn detail(frame: &mut Frame<'_>, area: Option<Rect>, title: &str, lines: Vec<Line<'static>>) {
    if let Some(area) = area {
        let block = Block::bordered().title(format!(" {} ", printable(title)));
        frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(block), area);
    }
}

fn titled(name: &str, chosen: usize, all: usize) -> String {
    match all {
        0 => format!(" {name} "),
        _ => format!(" {name} {} of {} ", count(chosen as u64 + 1), count(all as u64)),
    }
}

fn joined(names: &[String]) -> String {
    if names.is_empty() { NOT_KNOWN.to_owned() } else { printable(&names.join(", ")) }
}

const NODES: [Column<Node>; 9] = [
    column("NODE", Constraint::Fill(2), 0, |node, _| printable(&node.id).into()),
    column("STATE", Constraint::Length(7), 0, |node, around| {
        let (word, style) = around.theme.node(node.state, node.online);
        Text::styled(word, style)
    }),
    column("SEEN", Constraint::Length(10), 0, |node, around| {
        node.seen.map_or(NOT_KNOWN.to_owned(), |seen| relative(seen, around.now_ms)).into()
    }),
    number("ALARMS", 6, 0, |node, around| match node.alarms {
        0 => Text::styled("0", around.theme.dim()),
        alarms => Text::styled(count(alarms as u64), around.theme.bad()),
    }),
    number("MESSAGES", 10, 92, |node, _| count(node.messages).into()),
    number("SEALED", 10, 76, |node, _| count_or_not(node.sealed).into()),
    number("OPENED", 10, 76, |node, _| count_or_not(node.opened).into()),
    number("REFUSED", 8, 50, |node, _| count_or_not(node.refused).into()),
    column("GROUPS", Constraint::Fill(3), 110, |node, _| joined(&node.groups).into()),
];

/// The devices.
pub fn nodes(frame: &mut Frame<'_>, area: Rect, hub_view: &HubView, row: usize, theme: Theme) {
    let (list, below) = split(area);
    let around = Around { now_ms: hub_view.at, theme };
    let title = titled("Nodes", row, hub_view.nodes.len());
    table(frame, list, title, &NODES, hub_view.nodes.values(), Some(row), &around);
    let Some(node) = hub_view.nodes.values().nth(row) else {
        return detail(
            frame,
            below,
            "No node",
            vec![Line::raw("Invite one where the hub is: sealcast device add 1111")],
        );
    };
    let alarms = hub_view.alarms.iter().filter(|alarm| alarm.node.as_ref() == Some(&node.id));
    let mut lines: Vec<Line<'static>> = alarms.flat_map(|alarm| alarm::lines(alarm, hub_view.at, theme)).collect();
    lines.push(Line::raw(format!("groups {}   waits for keys of {}", joined(&node.groups), joined(&node.pending))));
    let ends = format!("{} ({})", utc(node.certificate_ends), relative(node.certificate_ends, hub_view.at));
    lines.push(Line::raw(format!("certificate ends {ends}")));
    lines.push(Line::raw(format!("number {}", printable(&node.number))));
    detail(frame, below, &node.id, lines);
}

const GROUPS: [Column<Group>; 7] = [
    column("GROUP", Constraint::Fill(2), 0, |group, _| printable(&group.name).into()),
    column("STATE", Constraint::Length(7), 0, |group, around| {
        let (word, style) = around.theme.group(group.state);
        Text::styled(word, style)
    }),
    number("EPOCH", 6, 0, |group, _| count(group.epoch).into()),
    number("MEMBERS", 9, 0, |group, _| format!("{} of {}", group.joined.len(), group.members.len()).into()),
    number("/S", 7, 46, |group, _| rate(group.per_second).into()),
    number("MESSAGES", 11, 76, |group, _| count(group.messages).into()),
    column("TOPICS", Constraint::Fill(3), 76, |group, _| joined(&group.filters).into()),
];

/// The groups' table alone.
pub fn group_table(frame: &mut Frame<'_>, area: Rect, hub_view: &HubView, chosen: Option<usize>, theme: Theme) {
    let title = chosen.map_or(" Groups ".to_owned(), |row| titled("Groups", row, hub_view.groups.len()));
    let around = Around { now_ms: hub_view.at, theme };
    table(frame, area, title, &GROUPS, hub_view.groups.values(), chosen, &around);
}

/// The groups.
pub fn groups(frame: &mut Frame<'_>, area: Rect, hub_view: &HubView, row: usize, theme: Theme) {
    let (list, below) = split(area);
    group_table(frame, list, hub_view, Some(row), theme);
    let Some(group) = hub_view.groups.values().nth(row) else {
        let text = "Create one where the operator's folder is: sealcast group create hsu0001 --filter 'hsu0001/#'";
        return detail(frame, below, "No group", vec![Line::raw(text)]);
    };
    let alarms = hub_view.alarms.iter().filter(|alarm| alarm.group.as_ref() == Some(&group.name));
    let mut lines: Vec<Line<'static>> = alarms.flat_map(|alarm| alarm::lines(alarm, hub_view.at, theme)).collect();
    let waiting: Vec<String> = group.members.iter().filter(|id| !group.joined.contains(id)).cloned().collect();
    let signs = match group.authenticity {
        Authenticity::Signed => "each sender signs",
        Authenticity::Group => "members are not told apart",
    };
    lines.push(Line::raw(format!("topics {}   {signs}", joined(&group.filters))));
    lines.push(Line::raw(format!("have its keys: {}", joined(&group.joined))));
    lines.push(Line::raw(format!("wait for them: {}", joined(&waiting))));
    detail(frame, below, &group.name, lines);
}

/// The ledger's newest entries.
pub fn ledger(frame: &mut Frame<'_>, area: Rect, hub_view: &HubView, row: usize, theme: Theme) {
    let columns = [
        number("ENTRY", 7, 0, |entry: &Entry, _| count(entry.index).into()),
        column("TIME", Constraint::Length(8), 0, |entry, _| time(entry.at).into()),
        column("KIND", Constraint::Length(16), 90, |entry, _| printable(&entry.kind).into()),
        column("WHAT", Constraint::Fill(1), 0, |entry, _| printable(&entry.text).into()),
    ];
    let (list, below) = split(area);
    let around = Around { now_ms: hub_view.at, theme };
    let title = format!(" Ledger: {} entries ", count(hub_view.ledger.height));
    table(frame, list, title, &columns, hub_view.entries.iter(), Some(row), &around);
    let Some(entry) = hub_view.entries.get(row) else { return detail(frame, below, "No entry", Vec::new()) };
    let about = [("node", &entry.node), ("group", &entry.group)];
    let about = about.into_iter().filter_map(|(what, name)| Some(format!("   {what} {}", printable(name.as_ref()?))));
    let lines = vec![
        Line::raw(printable(&entry.text)),
        Line::raw(format!("{} by {}{}", printable(&entry.kind), printable(&entry.by), about.collect::<String>())),
        Line::raw(format!("{} ({})", utc(entry.at), relative(entry.at, hub_view.at))),
        Line::styled(format!("the ledger's head now: {}", printable(&hub_view.ledger.head)), theme.dim()),
    ];
    detail(frame, below, &format!("Entry {}", count(entry.index)), lines);
}

fn sender(wire: &Wire) -> String {
    wire.from.as_deref().map_or(NOT_KNOWN.to_owned(), printable)
}

/// The newest messages at the broker.
pub fn wire(frame: &mut Frame<'_>, area: Rect, hub_view: &HubView, row: usize, theme: Theme) {
    let columns = [
        column("TIME", Constraint::Length(8), 0, |wire: &Wire, _| time(wire.at).into()),
        column("FROM", Constraint::Length(10), 0, |wire, _| sender(wire).into()),
        column("TOPIC", Constraint::Fill(2), 0, |wire, _| printable(&wire.topic).into()),
        number("BYTES", 7, 44, |wire, _| count(wire.bytes as u64).into()),
        column("FORM", Constraint::Length(6), 0, |wire, around| match wire.sealed {
            true => Text::styled("sealed", around.theme.good()),
            false => Text::styled("plain", around.theme.warn()),
        }),
        column("PAYLOAD", Constraint::Fill(3), 72, |wire, around| {
            Text::styled(printable(&wire.hex), around.theme.dim())
        }),
    ];
    let (list, below) = split(area);
    let around = Around { now_ms: hub_view.at, theme };
    table(frame, list, titled("Wire", row, hub_view.wire.len()), &columns, hub_view.wire.iter(), Some(row), &around);
    let Some(wire) = hub_view.wire.get(row) else {
        let text = match hub_view.hub.own_broker {
            true => "No message has come to the hub's broker yet.",
            false => "The hub is a client of another broker: it does not see the messages there.",
        };
        return detail(frame, below, "No message", vec![Line::raw(text)]);
    };
    let group = wire.group.as_deref().map(|group| format!("   group {}", printable(group))).unwrap_or_default();
    let retained = if wire.retained { "   retained" } else { "" };
    let mut lines = vec![Line::raw(format!(
        "from {}{group}{retained}   {} ago",
        sender(wire),
        span(hub_view.at.saturating_sub(wire.at))
    ))];
    for (node, text) in wire.read.iter().flatten() {
        lines.push(Line::raw(format!(
            "{} reads {}",
            printable(node),
            text.as_deref().map_or("nothing".to_owned(), printable)
        )));
    }
    lines.push(Line::styled(printable(&wire.hex), theme.dim()));
    detail(frame, below, &wire.topic, lines);
}
