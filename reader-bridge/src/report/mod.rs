//! Telling what happens: lines for people, or JSON for programs, one line an event.
//!
//! Owns the forms (`docs/terminal.md`). Refuses to decide what is worth telling.

mod log;
mod text;

use std::{
    io::{self, Write},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use serde::Serialize;

use crate::session::Event;
pub use log::Log;

/// Takes events of any card. An event is told when `tell` returns: what follows it may rely on that.
pub trait Reporter: Sync {
    /// Tells of `event` at the card in `card`, for instance `vpcd:35963`.
    fn tell(&self, card: &str, event: &Event) -> io::Result<()>;

    /// The place `card` is given up for good, after its last event. For those who keep where cards stand.
    fn forget(&self, _card: &str) {}
}

/// Tells several, in their order; the first that fails ends it.
pub struct Each<'a>(pub Vec<&'a dyn Reporter>);

impl Reporter for Each<'_> {
    fn tell(&self, card: &str, event: &Event) -> io::Result<()> {
        self.0.iter().try_for_each(|one| one.tell(card, event))
    }

    fn forget(&self, card: &str) {
        self.0.iter().for_each(|one| one.forget(card));
    }
}

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// Writes each event as it happens, whole lines only.
pub struct Lines<W: Write> {
    form: Form,
    out: Mutex<W>,
}

impl<W: Write> Lines<W> {
    /// Writes lines of this form to `out`.
    pub const fn new(form: Form, out: W) -> Self {
        Self {
            form,
            out: Mutex::new(out),
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    card: &'a str,
    #[serde(flatten)]
    event: &'a Event,
}

/// An event that happens now, with its end of line.
pub(crate) fn line(form: Form, card: &str, event: &Event) -> io::Result<String> {
    let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    let mut line = match form {
        Form::Text => text::lines(&time, card, event),
        Form::Json => serde_json::to_string(&Line { time, card, event })?,
    };
    line.push('\n');
    Ok(line)
}

impl<W: Write + Send> Reporter for Lines<W> {
    fn tell(&self, card: &str, event: &Event) -> io::Result<()> {
        let line = line(self.form, card, event)?;
        // A line that was cut off by a panic elsewhere is followed by whole ones again.
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.write_all(line.as_bytes())?;
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(form: Form, event: &Event) -> String {
        let lines = Lines::new(form, Vec::new());
        lines.tell("vpcd:1", event).unwrap();
        String::from_utf8(lines.out.into_inner().unwrap()).unwrap()
    }

    #[test]
    fn json_is_one_object_a_line_with_time_card_and_event() {
        let line = told(Form::Json, &Event::NextPoll { in_ms: 1500 });
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["event"], "next-poll");
        assert_eq!(object["card"], "vpcd:1");
        assert_eq!(object["in_ms"], 1500);
        assert!(object["time"].as_str().unwrap().ends_with('Z'));
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn text_begins_with_the_time_of_day() {
        let line = told(Form::Text, &Event::NextPoll { in_ms: 1500 });
        assert!(line.contains("next poll in 1.5 s"), "{line}");
    }

    #[test]
    fn control_characters_from_a_server_never_reach_a_terminal() {
        let why = "\u{1b}[2Jgone\r\n".to_owned();
        let line = told(Form::Text, &Event::CardGone { why });
        assert!(!line.contains('\u{1b}') && !line.contains('\r'), "{line:?}");
        assert_eq!(line.matches('\n').count(), 1);
    }
}
