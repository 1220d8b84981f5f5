//! The table of cards: a line each, as wide as the terminal.
//!
//! Owns columns, widths and colours. Texts of cards and servers are shown without what a terminal would obey.

use std::{fmt::Write as _, io, time::Duration};

use reader_bridge::terminal::board::{CardStatus, State};
use terminal_size::{Height, Width, terminal_size_of};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::{Page, Row};

/// The other screen, without a cursor.
pub(super) const OPEN: &str = "\x1b[?1049h\x1b[?25l";
/// Back again.
pub(super) const CLOSE: &str = "\x1b[?25h\x1b[?1049l";

/// What is drawn on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Characters in a line, if they are limited.
    width: Option<usize>,
    /// Lines that there are for cards, if they are limited.
    pub(super) rows: Option<usize>,
    colours: bool,
}

/// The summary, the header, and a line that the cursor may stand in.
const OTHER_LINES: usize = 4;

impl Look {
    /// The terminal on standard output as it is now; `None` if there is none.
    pub(super) fn of_terminal() -> Option<Self> {
        let (Width(width), Height(height)) = terminal_size_of(io::stdout())?;
        Some(Self {
            width: Some(width.into()),
            rows: Some(usize::from(height).saturating_sub(OTHER_LINES).max(1)),
            colours: colours(),
        })
    }

    /// Any output, for once.
    pub(super) fn of_output(terminal: bool) -> Self {
        let width = terminal_size_of(io::stdout()).map(|(Width(width), _)| width.into());
        Self {
            width,
            rows: None,
            colours: terminal && colours(),
        }
    }
}

/// <https://no-color.org>
pub(in crate::cli) fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A column: its heading, how narrow it may become, and what is in it.
type Column = (&'static str, usize, fn(&Row) -> String);

const COLUMNS: [Column; 9] = [
    ("CARD", 12, |row| row.status.card.clone()),
    ("ICCID", 8, |row| or_dash(row.status.iccid.as_ref())),
    ("STATE", 9, |row| row.status.state.word().to_owned()),
    ("IDENTITY", 8, |row| or_dash(row.status.identity.as_ref())),
    ("ANSWER", 6, |row| ago(row.status.last_answer_ago_ms)),
    ("NEXT", 6, |row| within(row.status.next_poll_in_ms)),
    ("LOST ↑↓", 7, |row| lost(&row.status)),
    ("SERVER", 8, |row| or_dash(row.status.server.as_ref())),
    ("SIGNS", 8, |row| signs(&row.status)),
];
const STATE: usize = 2;
const GAP: &str = "  ";

/// The page as text; `offset` is how many cards come before it.
pub(super) fn draw(page: &Page<'_>, offset: usize, look: Look) -> String {
    let cells: Vec<Vec<String>> = page
        .cards
        .iter()
        .map(|row| {
            COLUMNS
                .iter()
                .map(|column| printable(&(column.2)(row)))
                .collect()
        })
        .collect();
    let widths = widths(&cells, look.width);
    let mut text = clipped(&summary(page, offset), look.width.unwrap_or(usize::MAX));
    text.push('\n');
    let headings: Vec<_> = COLUMNS.iter().map(|column| column.0.to_owned()).collect();
    text.push_str(&line(&headings, &widths, None));
    for (row, cells) in page.cards.iter().zip(&cells) {
        let colour = look.colours.then(|| colour(&row.status));
        text.push_str(&line(cells, &widths, colour));
    }
    text
}

/// The same in the place of what a terminal shows.
pub(super) fn over_the_last_one(text: &str) -> String {
    // From the corner; what is left of a line goes with its end, what is left below at last.
    format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
}

fn summary(page: &Page<'_>, offset: usize) -> String {
    let mut text = format!("{} bridges, {} cards", page.bridges, page.all);
    if page.chosen < page.all {
        let _ = write!(text, ", {} chosen", page.chosen);
    }
    let shown = page.cards.len();
    if shown < page.chosen {
        let _ = write!(
            text,
            ", {} to {} shown (--offset, --limit, --filter)",
            offset.min(page.chosen) + usize::from(shown > 0),
            offset + shown
        );
    }
    text
}

/// As wide as what is in them; where that is too wide, the widest gives way first.
fn widths(cells: &[Vec<String>], limit: Option<usize>) -> Vec<usize> {
    let mut widths: Vec<usize> = COLUMNS
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let inside = cells.iter().map(|row| row[at].width()).max();
            column.0.width().max(inside.unwrap_or(0))
        })
        .collect();
    let Some(limit) = limit else { return widths };
    loop {
        let widest = (0..widths.len())
            .filter(|at| widths[*at] > COLUMNS[*at].1)
            .max_by_key(|at| widths[*at]);
        match widest {
            Some(widest) if taken(&widths) > limit => widths[widest] -= 1,
            _ => return fitting(widths, limit),
        }
    }
}

/// What is left out where there is no room for all columns: these, in this order. Left out is what is 0 wide.
const LEAVING: [usize; 6] = [1, 7, 3, 4, 8, 6];

fn fitting(mut widths: Vec<usize>, limit: usize) -> Vec<usize> {
    for at in LEAVING {
        if taken(&widths) <= limit {
            break;
        }
        widths[at] = 0;
    }
    widths
}

/// How wide a line is.
fn taken(widths: &[usize]) -> usize {
    let columns = widths.iter().filter(|width| **width > 0).count();
    widths.iter().sum::<usize>() + GAP.len() * columns.saturating_sub(1)
}

fn line(cells: &[String], widths: &[usize], colour: Option<&str>) -> String {
    let mut line = String::new();
    for (at, (cell, width)) in cells.iter().zip(widths).enumerate() {
        if *width == 0 {
            continue;
        }
        if !line.is_empty() {
            line.push_str(GAP);
        }
        let cell = clipped(cell, *width);
        let padding = " ".repeat(width.saturating_sub(cell.width()));
        match colour {
            Some(colour) if at == STATE => {
                let _ = write!(line, "{colour}{cell}\x1b[0m{padding}");
            }
            _ => line.extend([cell, padding]),
        }
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

/// At most so wide; what was cut off is marked.
fn clipped(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut clipped = String::new();
    let mut left = width.saturating_sub(1);
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if wide > left {
            break;
        }
        left -= wide;
        clipped.push(c);
    }
    clipped.push('…');
    clipped
}

fn colour(status: &CardStatus) -> &'static str {
    match status.state {
        State::Idle | State::Polling => "\x1b[32m",
        State::Resending | State::Waiting | State::Starting => "\x1b[33m",
        State::Refused | State::Failing | State::Gone | State::Stopped => "\x1b[31m",
    }
}

fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn or_dash(text: Option<&String>) -> String {
    text.map_or_else(|| "-".into(), Clone::clone)
}

fn ago(millis: Option<u64>) -> String {
    millis.map_or_else(|| "never".into(), |millis| format!("{} ago", short(millis)))
}

fn within(millis: Option<u64>) -> String {
    match millis {
        None => "-".into(),
        Some(0) => "now".into(),
        Some(millis) => short(millis),
    }
}

/// A duration's largest unit, and the next one of long times: `42s`, `3m 5s`, `2h 40m`.
fn short(millis: u64) -> String {
    let seconds = Duration::from_millis(millis).as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

fn lost(status: &CardStatus) -> String {
    let link = status.link;
    format!(
        "{}/{} {}/{}",
        link.polls_lost, link.polls, link.answers_lost, link.answers
    )
}

/// What somebody who wants to disturb would leave behind, and what is wrong.
fn signs(status: &CardStatus) -> String {
    let mut signs = Vec::new();
    if status.unanswered > 1 {
        signs.push(format!("{} unanswered", status.unanswered));
    }
    for (count, what) in [
        (status.answers_refused, "foreign answers"),
        (status.answers_dropped, "dropped"),
        (status.others_polled, "times others polled"),
    ] {
        if count > 0 {
            signs.push(format!("{count} {what}"));
        }
    }
    signs.extend(status.why.clone());
    signs.join(", ")
}
