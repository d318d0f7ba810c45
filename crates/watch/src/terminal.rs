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
    fleet::Fleet,
    follow::News,
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
    fn draw(&mut self, fleet: &Fleet, ui: &Ui, theme: Theme) -> Result<()> {
        self.0.draw(|frame| draw(frame, fleet, ui, theme)).context(WRITE)?;
        Ok(())
    }
}

/// Shows what happens until the person quits, the process is told to end, or no news come any more.
pub async fn run(news: &mut mpsc::Receiver<News>) -> Result<()> {
    let mut stop = pin!(shutdown::requested());
    let (mut ui, mut known) = (Ui::default(), None);
    // The terminal is left alone until there is something to show.
    while known.is_none() {
        let next = tokio::select! {
            () = &mut stop => return Ok(()),
            next = news.recv() => next,
        };
        let Some(next) = next else { return Ok(()) };
        Fleet::hear(&mut known, &next);
    }
    let theme = Theme { colour: output::colour(&std::io::stdout()) };
    let mut screen = Screen(ratatui::try_init().context("the terminal cannot be taken over: try --json")?);
    let mut keys = keys();
    let mut tick = interval(DRAW_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_stale = true;
    loop {
        let Some(fleet) = &known else { return Ok(()) };
        tokio::select! {
            () = &mut stop => return Ok(()),
            next = news.recv() => {
                let Some(next) = next else { return Ok(()) };
                take(&mut known, &mut ui, next);
                is_stale = true;
            }
            key = keys.recv() => {
                // The terminal is gone.
                let Some(key) = key else { return Ok(()) };
                match press(&mut ui, &key?, fleet) {
                    Flow::Quit => return Ok(()),
                    Flow::Draw => screen.draw(fleet, &ui, theme)?,
                    Flow::Anew => {
                        screen.0.clear().context(WRITE)?;
                        screen.draw(fleet, &ui, theme)?;
                    }
                    Flow::Same => {}
                }
            }
            _ = tick.tick(), if is_stale => {
                screen.draw(fleet, &ui, theme)?;
                is_stale = false;
            }
        }
    }
}

fn take(known: &mut Option<Fleet>, ui: &mut Ui, news: News) {
    let grown = Fleet::hear(known, &news);
    match news {
        News::Lost(reason) => ui.lost = Some(reason),
        News::Back | News::Loaded(_) | News::Event(_) => ui.lost = None,
    }
    if let Some(fleet) = known {
        ui.keep_place(grown, fleet);
    }
}

fn press(ui: &mut Ui, event: &event::Event, fleet: &Fleet) -> Flow {
    match event {
        event::Event::Key(key) => ui.press(*key, fleet),
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
