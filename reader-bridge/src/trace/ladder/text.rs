//! Ladders in a terminal.
//!
//! Owns widths, lines and colours. Texts of servers and cards are shown without what a terminal would obey.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar as _;

use super::{Exchange, Party, Row};

/// Where the left lifeline is: times stand before it.
const LEFT: usize = 12;
/// Narrower, nothing could be read.
const NARROWEST: usize = 60;
/// Wider, the eye loses the line.
const WIDEST: usize = 120;
/// Right of the last lifeline, for half of its name.
const RIGHT: usize = 6;

/// Draws exchanges, one below the other.
pub fn draw(exchanges: &[Exchange], width: usize, colours: bool) -> String {
    let width = width.clamp(NARROWEST, WIDEST);
    let drawn: Vec<_> = exchanges
        .iter()
        .map(|exchange| one(exchange, width, colours))
        .collect();
    drawn.join("\n")
}

fn one(exchange: &Exchange, width: usize, colours: bool) -> String {
    let begin = humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + exchange.begin);
    let mut text = format!(
        "exchange {}, {}, {begin}\n\n",
        exchange.number,
        printable(&exchange.of)
    );
    let parties = exchange.parties();
    let places = places(&parties, width);
    put_line(&mut text, &header(&parties, &places, width), None);
    for row in &exchange.rows {
        match row {
            Row::Note(note) => notes(&mut text, note, &places, width),
            Row::Arrow { .. } | Row::Lost { .. } => {
                let line = line(row, &parties, &places, width);
                put_line(&mut text, &line, colours.then(|| colour(row)).flatten());
            }
        }
    }
    text
}

/// Where each party's lifeline is.
fn places(parties: &[Party], width: usize) -> Vec<usize> {
    let gaps = parties.len().saturating_sub(1).max(1);
    (0..parties.len())
        .map(|at| LEFT + at * (width - LEFT - RIGHT) / gaps)
        .collect()
}

fn header(parties: &[Party], places: &[usize], width: usize) -> Vec<char> {
    let mut line = vec![' '; width];
    for (party, place) in parties.iter().zip(places) {
        let begin = place.saturating_sub(party.name().len() / 2);
        put(&mut line, begin, party.name());
    }
    line
}

fn lifelines(places: &[usize], width: usize) -> Vec<char> {
    let mut line = vec![' '; width];
    for place in places {
        line[*place] = '│';
    }
    line
}

fn line(row: &Row, parties: &[Party], places: &[usize], width: usize) -> Vec<char> {
    let mut line = lifelines(places, width);
    let place = |party: &Party| {
        let at = parties.iter().position(|other| other == party);
        at.map_or(LEFT, |at| places[at])
    };
    match row {
        Row::Note(_) => {}
        Row::Arrow {
            at,
            from,
            to,
            label,
        } => {
            put(&mut line, 0, &format!("{:>9.3} s", at.as_secs_f64()));
            let (from, to) = (place(from), place(to));
            let (left, right) = (from.min(to), from.max(to));
            line[left + 1..right].fill('─');
            line[if to > from { right - 1 } else { left + 1 }] =
                if to > from { '▶' } else { '◀' };
            put_between(&mut line, left, right, label);
        }
        Row::Lost { from, to, label } => {
            let (from, to) = (place(from), place(to));
            put_between(&mut line, from.min(to), from.max(to), &format!("✗ {label}"));
        }
    }
    line
}

/// In the middle between two lifelines, cut off where it is too long.
fn put_between(line: &mut [char], left: usize, right: usize, label: &str) {
    let room = right.saturating_sub(left + 7);
    let mut label = printable(label);
    if label.chars().count() > room {
        label = label
            .chars()
            .take(room.saturating_sub(1))
            .chain(['…'])
            .collect();
    }
    let label = format!(" {label} ");
    let length = label.chars().count();
    put(
        line,
        left + 1 + (right - left - 1).saturating_sub(length) / 2,
        &label,
    );
}

fn put(line: &mut [char], at: usize, text: &str) {
    for (place, c) in line.iter_mut().skip(at).zip(text.chars()) {
        *place = c;
    }
}

/// A comment below its arrow, in as many lines as it takes.
fn notes(text: &mut String, note: &str, places: &[usize], width: usize) {
    let indent = places.first().copied().unwrap_or(LEFT) + 3;
    let mut line = String::new();
    let mut lines = Vec::new();
    for word in printable(note).split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width - indent {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    for line in lines {
        let _ = writeln!(text, "{:indent$}{line}", "");
    }
}

fn put_line(text: &mut String, line: &[char], colour: Option<&str>) {
    let line: String = line.iter().collect();
    let line = line.trim_end();
    let _ = match colour {
        Some(colour) => writeln!(text, "{colour}{line}\x1b[0m"),
        None => writeln!(text, "{line}"),
    };
}

fn colour(row: &Row) -> Option<&'static str> {
    match row {
        Row::Lost { .. } => Some("\x1b[31m"),
        Row::Arrow {
            to: Party::Server, ..
        } => Some("\x1b[36m"),
        Row::Arrow {
            from: Party::Server,
            ..
        } => Some("\x1b[32m"),
        Row::Arrow { from, to, .. } if [from, to].contains(&&Party::Ota) => Some("\x1b[33m"),
        _ => None,
    }
}

/// Each character one place wide.
fn printable(text: &str) -> String {
    let one = |c: char| if c.width() == Some(1) { c } else { '\u{fffd}' };
    text.chars().map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn arrow(from: Party, to: Party) -> Row {
        Row::Arrow {
            at: Duration::ZERO,
            from,
            to,
            label: "says".into(),
        }
    }

    #[test]
    fn colours_tell_ways_and_losses_apart_and_change_nothing_else() {
        let (from, to) = (Party::Terminal, Party::Server);
        let lost = Row::Lost {
            from,
            to,
            label: "no answer".into(),
        };
        let exchange = Exchange {
            number: 1,
            of: "pcsc".into(),
            begin: Duration::ZERO,
            rows: vec![
                arrow(Party::Card, from),
                arrow(from, to),
                lost,
                arrow(to, from),
                arrow(from, Party::Ota),
            ],
            open: false,
        };
        let mut drawn = draw(std::slice::from_ref(&exchange), 100, true);
        for colour in ["\x1b[36m", "\x1b[31m", "\x1b[32m", "\x1b[33m"] {
            assert_eq!(drawn.matches(colour).count(), 1, "{colour:?}: {drawn}");
            drawn = drawn.replace(colour, "");
        }
        let plain = draw(&[exchange], 100, false);
        assert_eq!(drawn.replace("\x1b[0m", ""), plain);
    }
}
