//! Pictures of a made-up hub, as text. `SEALCAST_BLESS=1 cargo test -p sealcast-watch` writes them anew.

use std::path::PathBuf;

use ratatui::{
    Terminal,
    backend::TestBackend,
    buffer::Buffer,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    style::Color,
};

use super::*;
use crate::{
    fleet::Grown,
    made::{event, loaded},
    ui::Flow,
};

fn fleet() -> Fleet {
    let mut known = None;
    Fleet::hear(&mut known, &loaded());
    known.unwrap()
}

fn buffer(fleet: &Fleet, ui: &Ui, size: (u16, u16), colour: bool) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    terminal.draw(|frame| draw(frame, fleet, ui, Theme { colour })).unwrap();
    terminal.backend().buffer().clone()
}

fn text(fleet: &Fleet, ui: &Ui, size: (u16, u16)) -> String {
    let buffer = buffer(fleet, ui, size, false);
    let row = |y| (0..size.0).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned() + "\n";
    (0..size.1).map(row).collect()
}

fn showing(view: View) -> Ui {
    Ui { view, ..Ui::default() }
}

fn press(ui: &mut Ui, fleet: &Fleet, code: KeyCode) -> Flow {
    ui.press(KeyEvent::new(code, KeyModifiers::NONE), fleet)
}

#[test]
fn each_view_is_as_it_was_looked_at() {
    let fleet = fleet();
    let mut wrong = Vec::new();
    for view in View::ALL {
        for size in [(80, 24), (40, 20), (120, 30)] {
            let name = format!("{}-{}x{}.txt", view.title().to_lowercase(), size.0, size.1);
            let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/screen/pictures").join(&name);
            let drawn = text(&fleet, &showing(view), size);
            if std::env::var_os("SEALCAST_BLESS").is_some() {
                std::fs::write(&path, &drawn).unwrap();
            }
            if std::fs::read_to_string(&path).unwrap_or_default() != drawn {
                wrong.push(format!("{name}:\n{drawn}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn any_size_can_be_drawn() {
    let fleet = fleet();
    for view in View::ALL {
        for size in [(0, 0), (1, 1), (3, 2), (12, 5), (300, 3), (7, 100)] {
            for help in [false, true] {
                text(&fleet, &Ui { help, ..showing(view) }, size);
            }
        }
    }
}

#[test]
fn without_colour_words_say_it_and_names_move_no_cursor() {
    let fleet = fleet();
    for view in View::ALL {
        let plain = buffer(&fleet, &showing(view), (120, 30), false);
        assert!(plain.content().iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset), "{view:?}");
        assert!(plain.content().iter().all(|cell| !cell.symbol().contains(char::is_control)), "{view:?}");
    }
    let coloured = buffer(&fleet, &showing(View::Nodes), (120, 30), true);
    assert!(coloured.content().iter().any(|cell| cell.fg == Color::Green));
    assert!(text(&fleet, &showing(View::Wire), (80, 24)).contains("evil\\u{1b}[2J"));
}

#[test]
fn keys_change_the_view_and_move_the_row() {
    let (mut ui, fleet) = (Ui::default(), fleet());
    assert_eq!(press(&mut ui, &fleet, KeyCode::Char('4')), Flow::Draw);
    assert_eq!(ui.view, View::Ledger);
    assert_eq!(press(&mut ui, &fleet, KeyCode::Tab), Flow::Draw);
    assert_eq!(ui.view, View::Wire);
    press(&mut ui, &fleet, KeyCode::Tab);
    assert_eq!(ui.view, View::Overview);
    press(&mut ui, &fleet, KeyCode::BackTab);
    assert_eq!(ui.view, View::Wire);
    press(&mut ui, &fleet, KeyCode::Down);
    press(&mut ui, &fleet, KeyCode::PageDown);
    assert_eq!(ui.row(), 1, "there are two");
    press(&mut ui, &fleet, KeyCode::Char('?'));
    assert!(text(&fleet, &ui, (80, 24)).contains("Shift-Tab"));
    press(&mut ui, &fleet, KeyCode::Up);
    assert!(!ui.help && ui.row() == 1, "the key has put the help away");
    assert_eq!(ui.press(KeyEvent::new(KeyCode::Char('l'), KeyModifiers::CONTROL), &fleet), Flow::Anew);
    assert_eq!(press(&mut ui, &fleet, KeyCode::Char('x')), Flow::Same);
    assert_eq!(press(&mut ui, &fleet, KeyCode::Char('q')), Flow::Quit);
    assert_eq!(ui.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL), &fleet), Flow::Quit);
}

#[test]
fn the_chosen_row_stays_the_same_when_others_come() {
    let (mut ui, mut known) = (showing(View::Wire), Some(fleet()));
    ui.press(KeyEvent::new(KeyCode::End, KeyModifiers::NONE), known.as_ref().unwrap());
    let more = |id: u64| {
        serde_json::json!({ "messages": [{ "id": id, "at": 1, "from": null, "topic": "new", "bytes": 1, "hex": "00",
            "sealed": true, "retained": false }] })
    };
    let grown = Fleet::hear(&mut known, &event("wire", &more(9)));
    assert_eq!(grown, Grown { wire: 1, entries: 0 });
    ui.keep_place(grown, known.as_ref().unwrap());
    let known = known.unwrap();
    assert_eq!(known.wire[ui.row()].id, 7);
    // Whoever looks at the newest goes on doing so.
    let mut top = showing(View::Wire);
    top.keep_place(grown, &known);
    assert_eq!(top.row(), 0);
    // A shorter list.
    ui.keep_place(Grown::default(), &fleet());
    assert_eq!(ui.row(), 1);
}

#[test]
fn a_lost_connection_is_said() {
    let ui = Ui { lost: Some("the hub\u{1b} is gone".into()), ..Ui::default() };
    let text = text(&fleet(), &ui, (80, 24));
    assert!(text.contains("lost") && text.contains("trying again: the hub\\u{1b} is gone"), "{text}");
}
