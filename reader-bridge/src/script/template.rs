//! Byte templates: hexadecimal digits, with expressions in braces. Commands, cells of tables, and bytes in quotes.
//!
//! Owns their syntax: `80 42 00 00 {lv(response)} 00`, with or without white space or colons between bytes.

use super::{
    cursor::Cursor,
    expr::{self, Expr},
    place::{Place, ScriptError},
};

/// Bytes, some of which are computed.
#[derive(Clone, Debug)]
pub(super) struct Template {
    pub(super) place: Place,
    pub(super) parts: Vec<Part>,
}

#[derive(Clone, Debug)]
pub(super) enum Part {
    Bytes(Vec<u8>),
    Computed(Expr),
}

impl Template {
    pub(super) fn push(&mut self, byte: u8) {
        match self.parts.last_mut() {
            Some(Part::Bytes(bytes)) => bytes.push(byte),
            _ => self.parts.push(Part::Bytes(vec![byte])),
        }
    }
}

/// Reads a template up to one of the characters `ends`, `->`, or the end of the line.
pub(super) fn parse(
    cursor: &mut Cursor<'_>,
    ends: &[char],
    depth: usize,
) -> Result<Template, ScriptError> {
    cursor.skip_space();
    let mut template = Template {
        place: cursor.place(),
        parts: Vec::new(),
    };
    loop {
        cursor.skip_space();
        match cursor.peek() {
            None => return Ok(template),
            Some(c) if ends.contains(&c) => return Ok(template),
            Some('-') if cursor.peek_at(1) == Some('>') => return Ok(template),
            Some('{') => template
                .parts
                .push(Part::Computed(computed(cursor, depth)?)),
            Some(':') if !template.parts.is_empty() => drop(cursor.next()),
            Some(_) => digits(cursor, &mut template)?,
        }
    }
}

/// Reads a template that ends at white space.
pub(super) fn parse_word(cursor: &mut Cursor<'_>) -> Result<Template, ScriptError> {
    let mut template = Template {
        place: cursor.place(),
        parts: Vec::new(),
    };
    while let Some(c) = cursor.peek().filter(|c| !c.is_whitespace()) {
        match c {
            '{' => template.parts.push(Part::Computed(computed(cursor, 0)?)),
            _ => digits(cursor, &mut template)?,
        }
    }
    if template.parts.is_empty() {
        return Err(cursor.expected("hexadecimal digits or {an expression}"));
    }
    Ok(template)
}

/// `{expression}`.
pub(super) fn computed(cursor: &mut Cursor<'_>, depth: usize) -> Result<Expr, ScriptError> {
    cursor.next();
    let expr = expr::parse(cursor, depth + 1)?;
    if cursor.take("}") {
        Ok(expr)
    } else {
        Err(cursor.expected("an operator or the closing \"}\""))
    }
}

/// Digits up to the next thing that is none: pairs, or a single digit by itself, as `scriptor` takes them.
fn digits(cursor: &mut Cursor<'_>, template: &mut Template) -> Result<(), ScriptError> {
    if cursor.peek() == Some('0')
        && cursor.peek_at(1) == Some('x')
        && cursor.peek_at(2).is_some_and(|c| c.is_ascii_hexdigit())
    {
        cursor.next();
        cursor.next();
    }
    let mut taken = 0;
    while let Some(high) = digit(cursor.peek()) {
        cursor.next();
        let Some(low) = digit(cursor.peek()) else {
            let alone = taken == 0 && cursor.peek().is_none_or(|c| c.is_whitespace() || c == ':');
            if !alone {
                return Err(cursor.expected("the second hexadecimal digit of this byte"));
            }
            template.push(high);
            return Ok(());
        };
        cursor.next();
        template.push(high << 4 | low);
        taken += 1;
    }
    if taken == 0 {
        return Err(cursor.expected("hexadecimal digits or {an expression}"));
    }
    Ok(())
}

/// A hexadecimal digit's value.
pub(super) fn digit(c: Option<char>) -> Option<u8> {
    c.and_then(|c| c.to_digit(16))
        .and_then(|digit| u8::try_from(digit).ok())
}
