//! An alarm, as two lines.

use ratatui::text::{Line, Span};
use sealcast_console::Alarm;
use sealcast_node::output::printable;

use super::theme::Theme;
use crate::words::relative;

/// What happened, and below it what to do.
pub fn lines(alarm: &Alarm, now_ms: u64, theme: Theme) -> [Line<'static>; 2] {
    let (word, style) = theme.level(alarm.level);
    let since = format!("  {}", relative(alarm.since, now_ms));
    [
        Line::from(vec![
            Span::styled(format!("{word:<6}"), style),
            Span::raw(printable(&alarm.text)),
            Span::styled(since, theme.dim()),
        ]),
        Line::styled(format!("      {}", printable(&alarm.advice)), theme.dim()),
    ]
}
