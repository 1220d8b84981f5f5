//! Each card by itself, for those who want that: a few series a card.
//!
//! Owns the text for them (Prometheus's text format, version 0.0.4). What is over leaves no series behind: a card
//! that is no longer known is no longer shown.

use std::{
    fmt::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::terminal::board::CardStatus;

/// One family: its name after `reader_bridge_card_`, its type, its help, and its value where there is one.
type Family = (
    &'static str,
    &'static str,
    &'static str,
    fn(&CardStatus) -> Option<f64>,
);

const FAMILIES: [Family; 7] = [
    (
        "working",
        "gauge",
        "Whether the card is there and its exchanges go on.",
        |card| Some(u8::from(card.state.works()).into()),
    ),
    (
        "unanswered_polls",
        "gauge",
        "Polls since the last accepted answer.",
        |card| Some(card.unanswered.into()),
    ),
    (
        "last_answer_timestamp_seconds",
        "gauge",
        "When an answer was last accepted.",
        |card| Some(posix() - seconds(card.last_answer_ago_ms?)),
    ),
    (
        "next_poll_timestamp_seconds",
        "gauge",
        "When the next poll is due.",
        |card| Some(posix() + seconds(card.next_poll_in_ms?)),
    ),
    (
        "polls_lost_total",
        "counter",
        "Polls that never reached the server.",
        |card| Some(float(card.link.polls_lost)),
    ),
    (
        "answers_lost_total",
        "counter",
        "Answers lost on the way back.",
        |card| Some(float(card.link.answers_lost)),
    ),
    (
        "answers_refused_total",
        "counter",
        "Answers that the card refused.",
        |card| Some(float(card.answers_refused)),
    ),
];

/// The families of these cards.
pub(super) fn render(cards: &[CardStatus]) -> String {
    let mut text = String::new();
    for (name, kind, help, value) in FAMILIES {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n# HELP reader_bridge_card_{name} {help}");
        let _ = writeln!(text, "# TYPE reader_bridge_card_{name} {kind}");
        for card in cards {
            let Some(value) = value(card) else { continue };
            let iccid = card.iccid.as_deref().unwrap_or_default();
            let _ = writeln!(
                text,
                "reader_bridge_card_{name}{{card=\"{}\",iccid=\"{}\"}} {value}",
                escaped(&card.card),
                escaped(iccid),
            );
        }
    }
    text
}

/// A label's value as the format wants it.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn posix() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// Days at most, so nothing is lost.
fn seconds(millis: u64) -> f64 {
    std::time::Duration::from_millis(millis).as_secs_f64()
}

/// Counts of one run stay far below 2^32.
fn float(count: u64) -> f64 {
    u32::try_from(count).unwrap_or(u32::MAX).into()
}
