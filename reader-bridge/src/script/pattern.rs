//! Expected answers: `9000`, `61XX`, `6[CF]xx`, `** 9000`, `21 00 *10 {mac} 9000`, `80/F0`.
//!
//! Owns their syntax and how they match. The whole answer is matched, its status word included.

use super::{
    cursor::Cursor,
    expr::Expr,
    place::{Place, ScriptError},
    template::{computed, digit},
};

/// One of several answers that a command may have.
#[derive(Clone, Debug)]
pub(super) struct Expect {
    pub(super) place: Place,
    pub(super) alternatives: Vec<Vec<Item>>,
}

/// A part of an expected answer.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Fixed(Atom),
    Computed(Expr),
}

/// What one byte may be, or how many bytes may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Atom {
    /// Sets of values of the high and the low nibble, bit n for value n.
    Nibbles(u16, u16),
    /// Where the mask has ones, the value's bits.
    Masked(u8, u8),
    /// Any number of bytes.
    Any,
}

impl Atom {
    /// This byte and no other.
    pub(super) const fn byte(byte: u8) -> Self {
        Self::Masked(byte, 0xFF)
    }

    const fn takes(self, byte: u8) -> bool {
        match self {
            Self::Nibbles(high, low) => {
                high >> (byte >> 4) & 1 == 1 && low >> (byte & 0x0F) & 1 == 1
            }
            Self::Masked(value, mask) => byte & mask == value & mask,
            Self::Any => true,
        }
    }
}

/// Where an answer stops being what was expected: an offset, its length if it is too short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mismatch(pub(super) usize);

/// Whether `bytes` are as `atoms` say, all of them; if not, how far they are at most.
pub(super) fn matches(atoms: &[Atom], bytes: &[u8]) -> Result<(), Mismatch> {
    let (mut atom, mut at, mut furthest) = (0, 0, 0);
    let mut retry = None;
    loop {
        match atoms.get(atom) {
            Some(Atom::Any) => {
                retry = Some((atom + 1, at));
                atom += 1;
                continue;
            }
            Some(wanted) if bytes.get(at).is_some_and(|byte| wanted.takes(*byte)) => {
                (atom, at) = (atom + 1, at + 1);
                furthest = furthest.max(at);
                continue;
            }
            None if at == bytes.len() => return Ok(()),
            _ => {}
        }
        match retry {
            // The last run of any bytes takes one more.
            Some((after, from)) if from < bytes.len() => {
                retry = Some((after, from + 1));
                (atom, at) = (after, from + 1);
            }
            _ => return Err(Mismatch(furthest)),
        }
    }
}

/// Reads expected answers, alternatives parted by `|`.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Expect, ScriptError> {
    cursor.skip_space();
    let place = cursor.place();
    let mut alternatives = vec![items(cursor)?];
    while cursor.take("|") {
        alternatives.push(items(cursor)?);
    }
    Ok(Expect {
        place,
        alternatives,
    })
}

fn items(cursor: &mut Cursor<'_>) -> Result<Vec<Item>, ScriptError> {
    let mut items = Vec::new();
    loop {
        cursor.skip_space();
        match cursor.peek() {
            None | Some('|') => break,
            Some('w') if cursor.peek_word() == "within" => break,
            Some('{') => items.push(Item::Computed(computed(cursor, 0)?)),
            Some('*') => any(cursor, &mut items)?,
            Some(':') if !items.is_empty() => drop(cursor.next()),
            Some(_) => items.push(Item::Fixed(byte(cursor)?)),
        }
    }
    if items.is_empty() {
        return Err(cursor.expected(
            "an answer: a status word such as 9000, data before it, or ** for any data",
        ));
    }
    Ok(items)
}

/// `**`, or `*8` for eight bytes.
fn any(cursor: &mut Cursor<'_>, items: &mut Vec<Item>) -> Result<(), ScriptError> {
    cursor.next();
    if cursor.peek() == Some('*') {
        cursor.next();
        items.push(Item::Fixed(Atom::Any));
        return Ok(());
    }
    let start = cursor.clone();
    let count = cursor.word();
    let count: usize = count
        .parse()
        .ok()
        .filter(|count| (1..=65_536).contains(count))
        .ok_or_else(|| start.expected("\"*\" for any data, or a number of bytes"))?;
    let one = Item::Fixed(Atom::Masked(0, 0));
    items.extend(std::iter::repeat_n(one, count));
    Ok(())
}

fn byte(cursor: &mut Cursor<'_>) -> Result<Atom, ScriptError> {
    let high = nibble(
        cursor,
        "a hexadecimal digit, X, [a set of digits], *, or {an expression}",
    )?;
    let low = nibble(
        cursor,
        "the second digit of this byte: 0 to F, X, or [a set of digits]",
    )?;
    if cursor.peek() != Some('/') {
        return Ok(Atom::Nibbles(high, low));
    }
    let (Some(value), true) = (exact(high, low), cursor.next().is_some()) else {
        return Err(cursor.error("a mask goes with a byte without X and sets, such as 80/F0"));
    };
    let mask = [cursor.next(), cursor.next()].map(digit);
    match mask {
        [Some(high), Some(low)] => Ok(Atom::Masked(value, high << 4 | low)),
        _ => Err(cursor.error("expected a mask of two hexadecimal digits, such as 80/F0")),
    }
}

fn exact(high: u16, low: u16) -> Option<u8> {
    let one = |set: u16| (set.count_ones() == 1).then(|| set.trailing_zeros());
    u8::try_from(one(high)? << 4 | one(low)?).ok()
}

fn nibble(cursor: &mut Cursor<'_>, expected: &str) -> Result<u16, ScriptError> {
    match cursor.peek() {
        Some('x' | 'X' | '?') => {
            cursor.next();
            Ok(u16::MAX)
        }
        Some('[') => set(cursor),
        other => {
            let digit = digit(other).ok_or_else(|| cursor.expected(expected))?;
            cursor.next();
            Ok(1 << digit)
        }
    }
}

/// `[CF]`, `[0-3]`.
fn set(cursor: &mut Cursor<'_>) -> Result<u16, ScriptError> {
    cursor.next();
    let mut set = 0u16;
    loop {
        if cursor.peek() == Some(']') && set != 0 {
            cursor.next();
            return Ok(set);
        }
        let from = set_digit(cursor)?;
        let to = if cursor.peek() == Some('-') {
            cursor.next();
            set_digit(cursor)?
        } else {
            from
        };
        if to < from {
            return Err(cursor.error(format!("a range from {from:X} to {to:X} is empty")));
        }
        set |= (from..=to).fold(0, |set, digit| set | 1 << digit);
    }
}

fn set_digit(cursor: &mut Cursor<'_>) -> Result<u8, ScriptError> {
    let digit = digit(cursor.peek())
        .ok_or_else(|| cursor.expected("a hexadecimal digit of the set, or its closing \"]\""))?;
    cursor.next();
    Ok(digit)
}
