//! Text that a terminal shows, and does not obey.

/// Topics and client ids come from brokers and clients, and MQTT lets them have control characters, which a terminal would
/// obey.
pub fn printable(cell: &str) -> String {
    let escape = |c: char| match c {
        _ if is_shown(c) => c.to_string(),
        '\n' | '\r' | '\t' => c.escape_default().to_string(),
        _ => c.escape_unicode().to_string(),
    };
    cell.chars().map(escape).collect()
}

/// Not what a terminal obeys, what turns the direction of text, and what is not seen (Unicode's categories Cc, Cf, Zl and Zp,
/// except for signs of Arabic and Syriac that are seen).
fn is_shown(c: char) -> bool {
    let hidden = matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    );
    !(hidden || c.is_control())
}
