//! The terminal: it is taken over, drawn to and given back, whichever way the view ends.

use std::{pin::pin, thread, time::Duration};

use anyhow::{Context as _, Result};
use ratatui::{DefaultTerminal, crossterm::event};
use sealcast_node::{output, shutdown};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use crate::{
    follow::Update,
    hub_view::HubView,
    screen::{Theme, draw},
    ui::{Flow, Ui},
};

/// Between one drawing and the next, however much happens. Keys are answered at once.
const DRAW_EVERY: Duration = Duration::from_millis(100);

const WRITE: &str = "the terminal cannot be written to";

/// The terminal, until it is dropped. A panic gives it back, too: ratatui's hook does.
struct Screen(DefaultTerminal);

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

impl Screen {
    fn draw(&mut self, hub_view: &HubView, ui: &Ui, theme: Theme) -> Result<()> {
        self.0.draw(|frame| draw(frame, hub_view, ui, theme)).context(WRITE)?;
        Ok(())
    }
}

/// Shows what happens until the person quits, the process is told to end, or no updates come any more.
pub async fn run(updates: &mut mpsc::Receiver<Update>) -> Result<()> {
    let mut stop = pin!(shutdown::requested());
    let (mut ui, mut known) = (Ui::default(), None);
    // The terminal is left alone until there is something to show.
    while known.is_none() {
        let next = tokio::select! {
            () = &mut stop => return Ok(()),
            next = updates.recv() => next,
        };
        let Some(next) = next else { return Ok(()) };
        take(&mut known, &mut ui, next);
    }
    let theme = Theme { colour: output::colour(&std::io::stdout()) };
    let mut screen = Screen(ratatui::try_init().context("the terminal cannot be taken over: try --json")?);
    let mut keys = keys();
    let mut tick = interval(DRAW_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_stale = true;
    loop {
        let Some(hub_view) = &known else { return Ok(()) };
        tokio::select! {
            () = &mut stop => return Ok(()),
            next = updates.recv() => {
                let Some(next) = next else { return Ok(()) };
                take(&mut known, &mut ui, next);
                is_stale = true;
            }
            key = keys.recv() => {
                // The terminal is gone.
                let Some(key) = key else { return Ok(()) };
                match press(&mut ui, &key?, hub_view) {
                    Flow::Quit => return Ok(()),
                    Flow::Draw => screen.draw(hub_view, &ui, theme)?,
                    Flow::Anew => {
                        screen.0.clear().context(WRITE)?;
                        screen.draw(hub_view, &ui, theme)?;
                    }
                    Flow::Same => {}
                }
            }
            _ = tick.tick(), if is_stale => {
                screen.draw(hub_view, &ui, theme)?;
                is_stale = false;
            }
        }
    }
}

fn take(known: &mut Option<HubView>, ui: &mut Ui, update: Update) {
    match &update {
        Update::Lost(reason) => ui.lost = Some(reason.clone()),
        Update::Loaded(_) => (ui.lost, ui.warning) = (None, None),
        Update::Back | Update::Event(_) => ui.lost = None,
    }
    if let Err(error) = HubView::apply(known, update) {
        ui.warning = Some(error.to_string());
    }
    if let Some(known) = known {
        ui.keep_place(known);
    }
}

fn press(ui: &mut Ui, event: &event::Event, hub_view: &HubView) -> Flow {
    match event {
        event::Event::Key(key) => ui.press(*key, hub_view),
        event::Event::Resize(..) => Flow::Draw,
        _ => Flow::Same,
    }
}

/// What comes from the terminal. The thread ends with the process: nothing else ends a read of a terminal.
fn keys() -> mpsc::Receiver<std::io::Result<event::Event>> {
    let (sender, receiver) = mpsc::channel(16);
    thread::spawn(move || {
        loop {
            let event = event::read();
            let is_over = event.is_err();
            if sender.blocking_send(event).is_err() || is_over {
                return;
            }
        }
    });
    receiver
}
