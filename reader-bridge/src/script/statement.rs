//! One statement from one line.
//!
//! Owns keywords and their arguments. Refuses to know sections, blocks and files: see `parse.rs`.

use std::time::Duration;

use crate::card::Power;

use super::{
    ast::{Command, Comparison, Kind, Need, SecureChannel, Statement},
    cursor::Cursor,
    expr, pattern,
    place::ScriptError,
    template::{self, Template},
};

/// Words that begin a statement.
pub const WORDS: [&str; 24] = [
    "channel",
    "check",
    "clause",
    "def",
    "end",
    "exit",
    "expect-within",
    "fetch",
    "include",
    "limit",
    "needs",
    "param",
    "power-off",
    "print",
    "raw",
    "repeat",
    "reset",
    "secure-channel",
    "setup",
    "skip",
    "tear",
    "teardown",
    "test",
    "send",
];

/// Whether the line gives a name a value: `uid = answer[2..12]`.
fn is_assignment(cursor: &Cursor<'_>) -> bool {
    let mut ahead = cursor.clone();
    ahead.name().is_ok() && ahead.take("=") && ahead.peek() != Some('=')
}

/// Reads the statement of a line. `word` is its first word.
pub(super) fn parse(cursor: &mut Cursor<'_>, word: &str) -> Result<Statement, ScriptError> {
    cursor.skip_space();
    let place = cursor.place();
    let kind = if is_assignment(cursor) {
        let name = cursor.new_name()?;
        cursor.expect("=")?;
        Kind::Assign(name, expr::parse(cursor, 0)?)
    } else if word.eq_ignore_ascii_case("reset") {
        cursor.word();
        Kind::Power(Power::Reset)
    } else if WORDS.contains(&word) {
        cursor.word();
        keyword(cursor, word)?
    } else {
        known_or_hex(cursor, word)?;
        Kind::Command(command(cursor, false)?)
    };
    cursor.expect_end()?;
    Ok(Statement { place, kind })
}

/// A word that is no hexadecimal number was meant to be a keyword.
fn known_or_hex(cursor: &Cursor<'_>, word: &str) -> Result<(), ScriptError> {
    let hex = word.chars().all(|c| c.is_ascii_hexdigit());
    let starts_hex =
        word.starts_with("0x") || word.chars().next().is_none_or(|c| c.is_ascii_hexdigit());
    if hex || (starts_hex && word.chars().any(|c| c.is_ascii_digit())) {
        return Ok(());
    }
    // Of words equally near, one that begins alike was meant.
    let near = WORDS
        .iter()
        .min_by_key(|known| {
            (
                distance(known, word),
                known.as_bytes().first() != word.as_bytes().first(),
            )
        })
        .filter(|known| distance(known, word) <= 2);
    let hint = near.map_or_else(
        || "a command in hexadecimal, a keyword, or NAME = VALUE".to_owned(),
        |known| format!("a command or a keyword; did you mean {known:?}?"),
    );
    Err(cursor.error(format!("{word:?} is not known here; expected {hint}")))
}

/// How many letters differ, as far as a typing mistake goes.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().take(32).collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn keyword(cursor: &mut Cursor<'_>, word: &str) -> Result<Kind, ScriptError> {
    Ok(match word {
        "send" => Kind::Command(command(cursor, false)?),
        "raw" => Kind::Command(command(cursor, true)?),
        "param" => param(cursor)?,
        "power-off" => Kind::Power(Power::Cycle),
        "tear" => Kind::Tear(expr::parse(cursor, 0)?),
        "channel" => Kind::Channel(expr::parse(cursor, 0)?),
        "fetch" => Kind::Fetch(on_or_off(cursor)?),
        "limit" => Kind::Limit(duration(cursor)?),
        "expect-within" => Kind::ExpectWithin(duration(cursor)?),
        "check" => check(cursor)?,
        "print" => print(cursor)?,
        "needs" => Kind::Needs(need(cursor)?),
        "skip" => Kind::Skip(cursor.rest()),
        "secure-channel" => secure_channel(cursor)?,
        _ => return Err(cursor.error(format!("{word:?} cannot stand here"))),
    })
}

fn command(cursor: &mut Cursor<'_>, raw: bool) -> Result<Command, ScriptError> {
    let template = template::parse(cursor, &[], 0)?;
    if template.parts.is_empty() {
        return Err(cursor.expected("a command in hexadecimal"));
    }
    let expect = if cursor.take("->") {
        Some(pattern::parse(cursor)?)
    } else {
        None
    };
    let within = if cursor.peek_word() == "within" {
        cursor.word();
        Some(duration(cursor)?)
    } else {
        None
    };
    Ok(Command {
        template,
        expect,
        within,
        raw,
    })
}

/// `param k = '…'`, or `param k` for one that must be given.
fn param(cursor: &mut Cursor<'_>) -> Result<Kind, ScriptError> {
    let name = cursor.new_name()?;
    let default = if cursor.take("=") {
        Some(expr::parse(cursor, 0)?)
    } else {
        None
    };
    Ok(Kind::Param(name, default))
}

fn on_or_off(cursor: &mut Cursor<'_>) -> Result<bool, ScriptError> {
    let start = cursor.here();
    match cursor.word().as_str() {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(start.expected("\"on\" or \"off\"")),
    }
}

/// `2s`, `500ms`, `1m`.
fn duration(cursor: &mut Cursor<'_>) -> Result<Duration, ScriptError> {
    let start = cursor.here();
    let word = cursor.word();
    humantime::parse_duration(&word)
        .ok()
        .filter(|duration| !duration.is_zero() && *duration <= LONGEST)
        .ok_or_else(|| {
            start.error("expected a time with its unit, above 0 and up to an hour: 50ms, 2s, 1m")
        })
}

/// No command takes longer.
const LONGEST: Duration = Duration::from_secs(3600);

fn check(cursor: &mut Cursor<'_>) -> Result<Kind, ScriptError> {
    let left = expr::parse(cursor, 0)?;
    let comparisons = [
        ("==", Comparison::Equal),
        ("!=", Comparison::Unequal),
        ("<=", Comparison::AtMost),
        (">=", Comparison::AtLeast),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
    ];
    for (text, comparison) in comparisons {
        if cursor.take(text) {
            return Ok(Kind::Check(left, comparison, expr::parse(cursor, 0)?));
        }
    }
    Err(cursor.expected("a comparison: == != < <= > >="))
}

fn print(cursor: &mut Cursor<'_>) -> Result<Kind, ScriptError> {
    let mut values = vec![expr::parse(cursor, 0)?];
    while cursor.take(",") {
        values.push(expr::parse(cursor, 0)?);
    }
    Ok(Kind::Print(values))
}

fn need(cursor: &mut Cursor<'_>) -> Result<Need, ScriptError> {
    let start = cursor.here();
    match cursor.word().as_str() {
        "emulator" => Ok(Need::Emulator),
        "t0" => Ok(Need::T0),
        "t1" => Ok(Need::T1),
        "variable" => cursor.name().map(Need::Variable),
        _ => Err(start.expected("\"emulator\", \"t0\", \"t1\" or \"variable NAME\"")),
    }
}

/// `secure-channel scp03 level=33 key=404142…4F version=30`, or `secure-channel off`.
fn secure_channel(cursor: &mut Cursor<'_>) -> Result<Kind, ScriptError> {
    let start = cursor.here();
    match cursor.word().as_str() {
        "off" => return Ok(Kind::SecureOff),
        "scp03" => {}
        _ => return Err(start.expected("\"scp03\" or \"off\"")),
    }
    let (mut level, mut version, mut challenge) = (None, None, None);
    let (mut enc, mut mac, mut dek) = (None, None, None);
    while !cursor.at_end() {
        let start = cursor.here();
        let option = cursor.name()?;
        cursor.expect("=")?;
        let value = option_value(cursor)?;
        match option.as_str() {
            "level" => level = Some(value),
            "version" => version = Some(value),
            "challenge" => challenge = Some(value),
            "key" => (enc, mac, dek) = (Some(value.clone()), Some(value.clone()), Some(value)),
            "enc" => enc = Some(value),
            "mac" => mac = Some(value),
            "dek" => dek = Some(value),
            _ => {
                return Err(
                    start.expected("level=, key= (or enc=, mac=, dek=), version= or challenge=")
                );
            }
        }
    }
    let missing = |what: &str| cursor.error(format!("{what} is missing"));
    let key = |value: Option<Template>, what| value.ok_or_else(|| missing(what));
    Ok(Kind::SecureOn(SecureChannel {
        level: level.ok_or_else(|| missing("level= (01, 03, 11, 13 or 33)"))?,
        version,
        enc: key(enc, "key= or enc=")?,
        mac: key(mac, "key= or mac=")?,
        dek: key(dek, "key= or dek=")?,
        host_challenge: challenge,
    }))
}

/// Digits and braces up to white space.
fn option_value(cursor: &mut Cursor<'_>) -> Result<Template, ScriptError> {
    cursor.skip_space();
    template::parse_word(cursor)
}
