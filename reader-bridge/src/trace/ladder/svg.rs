//! Ladders as a picture: SVG 1.1 with a title and a description, in the reader's colours (light or dark).
//!
//! Owns the layout. The picture needs nothing from elsewhere: no font, no script.

use std::fmt::Write as _;

use super::{Exchange, Party, Row};

const MARGIN: usize = 100;
const BETWEEN: usize = 260;
const LINE: usize = 26;
/// Characters of a note in a line of the picture.
const NOTE: usize = 110;

const STYLE: &str = "\
svg{background:#fff;font:13px monospace}text{fill:#222}.l{stroke:#999}.a{stroke:#222}.p{stroke:#06c}.r{stroke:#080}\
.h{stroke:#a60}.x{fill:#c00}.n{fill:#555;font-size:11px}marker path{fill:#666}\
@media(prefers-color-scheme:dark){svg{background:#111}text{fill:#eee}.l{stroke:#666}.a{stroke:#ccc}.p{stroke:#6bf}\
.r{stroke:#6d6}.h{stroke:#fb4}.x{fill:#f66}.n{fill:#aaa}}";

/// Draws exchanges, one below the other.
pub fn draw(exchanges: &[Exchange]) -> String {
    let mut body = String::new();
    let mut y = LINE;
    let mut columns = 2;
    for exchange in exchanges {
        columns = columns.max(exchange.parties().len());
        y = one(&mut body, exchange, y);
    }
    let width = (2 * MARGIN + (columns - 1) * BETWEEN).max(900);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{y}\" viewBox=\"0 0 {width} {y}\" role=\"img\" aria-labelledby=\"title desc\">\n\
         <title id=\"title\">Exchanges between card, terminal and server</title>\n<desc id=\"desc\">{}</desc>\n<style>{STYLE}</style>\n\
         <defs><marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0 8 4 0 8z\"/></marker></defs>\n{body}</svg>\n",
        escaped(&description(exchanges))
    )
}

/// The same in words, for who does not see it.
fn description(exchanges: &[Exchange]) -> String {
    let mut text = String::new();
    for exchange in exchanges {
        let _ = write!(text, "Exchange {}, {}: ", exchange.number, exchange.of);
        for row in &exchange.rows {
            let _ = match row {
                Row::Arrow {
                    from, to, label, ..
                } => {
                    write!(text, "{} to {}: {label}. ", from.name(), to.name())
                }
                Row::Lost { label, .. } => write!(text, "{label}. "),
                Row::Note(note) => write!(text, "({note}) "),
            };
        }
    }
    text
}

/// Where it ends.
fn one(body: &mut String, exchange: &Exchange, mut y: usize) -> usize {
    let parties = exchange.parties();
    let x = |party: &Party| {
        let at = parties.iter().position(|other| other == party);
        MARGIN + at.unwrap_or(0) * BETWEEN
    };
    let title = format!("exchange {}, {}", exchange.number, exchange.of);
    put(body, 10, y, "start", "", &title);
    y += LINE;
    for party in &parties {
        put(body, x(party), y, "middle", "", party.name());
    }
    let mut rows = String::new();
    let top = y + 8;
    y += LINE;
    for row in &exchange.rows {
        match row {
            Row::Arrow {
                at,
                from,
                to,
                label,
            } => {
                put(
                    &mut rows,
                    4,
                    y,
                    "start",
                    "n",
                    &format!("{:.3} s", at.as_secs_f64()),
                );
                arrow(&mut rows, x(from), x(to), y, class(*from, *to));
                put(
                    &mut rows,
                    usize::midpoint(x(from), x(to)),
                    y - 5,
                    "middle",
                    "",
                    label,
                );
            }
            Row::Lost { from, to, label } => {
                let middle = usize::midpoint(x(from), x(to));
                put(
                    &mut rows,
                    middle,
                    y - 5,
                    "middle",
                    "x",
                    &format!("✗ {label}"),
                );
            }
            Row::Note(note) => {
                let characters: Vec<char> = note.chars().collect();
                for part in characters.chunks(NOTE) {
                    put(
                        &mut rows,
                        MARGIN + 8,
                        y - 9,
                        "start",
                        "n",
                        &part.iter().collect::<String>(),
                    );
                    y += LINE / 2;
                }
                y -= LINE / 2;
            }
        }
        y += LINE;
    }
    for party in &parties {
        let (x, bottom) = (x(party), y - LINE / 2);
        let _ = writeln!(
            body,
            "<line class=\"l\" x1=\"{x}\" y1=\"{top}\" x2=\"{x}\" y2=\"{bottom}\"/>"
        );
    }
    body.push_str(&rows);
    y + LINE
}

const fn class(from: Party, to: Party) -> &'static str {
    match (from, to) {
        (Party::Ota, _) | (_, Party::Ota) => "h",
        (_, Party::Server) => "p",
        (Party::Server, _) => "r",
        _ => "a",
    }
}

fn arrow(body: &mut String, from: usize, to: usize, y: usize, class: &str) {
    let _ = writeln!(
        body,
        "<line class=\"{class}\" x1=\"{from}\" y1=\"{y}\" x2=\"{to}\" y2=\"{y}\" marker-end=\"url(#head)\"/>"
    );
}

fn put(body: &mut String, x: usize, y: usize, anchor: &str, class: &str, text: &str) {
    let text = escaped(text);
    let _ = writeln!(
        body,
        "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" class=\"{class}\">{text}</text>"
    );
}

/// As XML 1.0 takes it: no control characters, nothing that looks like markup.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}
