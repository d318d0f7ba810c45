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
    fixture::{NOW, event, loaded, node},
    ui::Flow,
};

fn hub_view() -> HubView {
    let mut known = None;
    HubView::apply(&mut known, loaded()).unwrap();
    known.unwrap()
}

fn buffer(hub_view: &HubView, ui: &Ui, size: (u16, u16), colour: bool) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    terminal.draw(|frame| draw(frame, hub_view, ui, Theme { colour })).unwrap();
    terminal.backend().buffer().clone()
}

fn text(hub_view: &HubView, ui: &Ui, size: (u16, u16)) -> String {
    let buffer = buffer(hub_view, ui, size, false);
    let row = |y| (0..size.0).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned() + "\n";
    (0..size.1).map(row).collect()
}

fn showing(view: View) -> Ui {
    Ui { view, ..Ui::default() }
}

fn press(ui: &mut Ui, hub_view: &HubView, code: KeyCode) -> Flow {
    ui.press(KeyEvent::new(code, KeyModifiers::NONE), hub_view)
}

#[test]
fn each_view_is_as_it_was_looked_at() {
    let hub_view = hub_view();
    let mut wrong = Vec::new();
    for view in View::ALL {
        for size in [(80, 24), (40, 20), (120, 30)] {
            let name = format!("{}-{}x{}.txt", view.title().to_lowercase(), size.0, size.1);
            let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/screen/pictures").join(&name);
            let drawn = text(&hub_view, &showing(view), size);
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
    let hub_view = hub_view();
    for view in View::ALL {
        for size in [(0, 0), (1, 1), (3, 2), (12, 5), (300, 3), (7, 100)] {
            for help in [false, true] {
                text(&hub_view, &Ui { help, ..showing(view) }, size);
            }
        }
    }
}

#[test]
fn without_colour_words_say_it_and_names_move_no_cursor() {
    let hub_view = hub_view();
    for view in View::ALL {
        let plain = buffer(&hub_view, &showing(view), (120, 30), false);
        assert!(plain.content().iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset), "{view:?}");
        assert!(plain.content().iter().all(|cell| !cell.symbol().contains(char::is_control)), "{view:?}");
    }
    let coloured = buffer(&hub_view, &showing(View::Nodes), (120, 30), true);
    assert!(coloured.content().iter().any(|cell| cell.fg == Color::Green));
    assert!(text(&hub_view, &showing(View::Wire), (80, 24)).contains("evil\\u{1b}[2J"));
}

#[test]
fn keys_change_the_view_and_move_the_row() {
    let (mut ui, hub_view) = (Ui::default(), hub_view());
    assert_eq!(press(&mut ui, &hub_view, KeyCode::Char('4')), Flow::Draw);
    assert_eq!(ui.view, View::Ledger);
    assert_eq!(press(&mut ui, &hub_view, KeyCode::Tab), Flow::Draw);
    assert_eq!(ui.view, View::Wire);
    press(&mut ui, &hub_view, KeyCode::Tab);
    assert_eq!(ui.view, View::Overview);
    press(&mut ui, &hub_view, KeyCode::BackTab);
    assert_eq!(ui.view, View::Wire);
    press(&mut ui, &hub_view, KeyCode::Down);
    press(&mut ui, &hub_view, KeyCode::PageDown);
    assert_eq!(ui.row(), 1, "there are two");
    press(&mut ui, &hub_view, KeyCode::Char('?'));
    assert!(text(&hub_view, &ui, (80, 24)).contains("Shift-Tab"));
    press(&mut ui, &hub_view, KeyCode::Up);
    assert!(!ui.help && ui.row() == 1, "the key has put the help away");
    assert_eq!(ui.press(KeyEvent::new(KeyCode::Char('l'), KeyModifiers::CONTROL), &hub_view), Flow::Anew);
    assert_eq!(press(&mut ui, &hub_view, KeyCode::Char('x')), Flow::Same);
    assert_eq!(press(&mut ui, &hub_view, KeyCode::Char('q')), Flow::Quit);
    assert_eq!(ui.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL), &hub_view), Flow::Quit);
}

#[test]
fn the_chosen_row_stays_the_same_when_others_come() {
    let (mut ui, mut known) = (showing(View::Wire), Some(hub_view()));
    let mut top = showing(View::Wire);
    press(&mut ui, known.as_ref().unwrap(), KeyCode::End);
    press(&mut top, known.as_ref().unwrap(), KeyCode::Home);
    let more = serde_json::json!({ "messages": [{ "id": 9, "at": 1, "from": null, "topic": "new", "bytes": 1, "hex": "00",
        "sealed": true, "retained": false }] });
    HubView::apply(&mut known, event("wire", &more)).unwrap();
    let mut known = known.unwrap();
    ui.keep_place(&known);
    assert_eq!(known.wire[ui.row()].id, 7);
    // Whoever looks at the newest goes on doing so.
    top.keep_place(&known);
    assert_eq!(known.wire[top.row()].id, 9);
    // It has gone: the list is shorter.
    known.wire.truncate(1);
    ui.keep_place(&known);
    assert_eq!(ui.row(), 0);
}

#[test]
fn the_chosen_device_group_and_alarm_stay_chosen_when_others_sort_before_them() {
    let mut known = Some(hub_view());
    let mut ui = showing(View::Nodes);
    press(&mut ui, known.as_ref().unwrap(), KeyCode::Down);
    for view in ['1', '3'] {
        press(&mut ui, known.as_ref().unwrap(), KeyCode::Char(view));
        press(&mut ui, known.as_ref().unwrap(), KeyCode::Home);
    }
    HubView::apply(&mut known, event("node", &node("0999", true, &[], 0))).unwrap();
    let known_groups = &known.as_ref().unwrap().groups;
    let mut group = serde_json::to_value(&known_groups[&1]).unwrap();
    group["number"] = 0.into();
    HubView::apply(&mut known, event("group", &group)).unwrap();
    let mut alarms = serde_json::to_value(&known.as_ref().unwrap().alarms).unwrap();
    let worse = serde_json::json!({ "id": "worse", "level": "error", "since": NOW, "text": "t", "advice": "a" });
    alarms.as_array_mut().unwrap().insert(0, worse);
    HubView::apply(&mut known, event("alarms", &alarms)).unwrap();
    let known = known.unwrap();
    let mut row_in = |key| {
        press(&mut ui, &known, KeyCode::Char(key));
        ui.row()
    };
    assert_eq!(known.nodes.keys().nth(row_in('2')).unwrap(), "1112");
    assert_eq!(known.groups.keys().nth(row_in('3')), Some(&1));
    assert_eq!(known.alarms[row_in('1')].id, "away-1113");
}

#[test]
fn an_event_that_cannot_be_read_is_said() {
    let mut known = Some(hub_view());
    let error = HubView::apply(&mut known, event("entry", &serde_json::json!({ "index": "no number" }))).unwrap_err();
    assert_eq!(known.as_ref().unwrap().entries.len(), 1, "nothing else is touched");
    let ui = Ui { warning: Some(error.to_string()), ..Ui::default() };
    let text = text(&known.unwrap(), &ui, (80, 24));
    assert!(text.contains("the hub is of another version"), "{text}");
}

#[test]
fn a_lost_connection_is_said() {
    let ui = Ui { lost: Some("the hub\u{1b} is gone".into()), ..Ui::default() };
    let text = text(&hub_view(), &ui, (80, 24));
    assert!(text.contains("lost") && text.contains("trying again: the hub\\u{1b} is gone"), "{text}");
}
