//! Expressions: what they may look like.
//!
//! ```text
//! expression  operand { (+ - * | ^) operand }         left to right, * first
//! operand     primary { [ from .. to ] | [ at ] }
//! primary     12, 0x1F, "text", 'byte template', name, name(expression, …), (expression)
//! ```
//!
//! Owns their syntax. Refuses to know values.

use super::{
    cursor::Cursor,
    place::{Place, ScriptError},
    template::{self, Part, Template},
};

/// Nested parentheses, calls and templates at most.
const MAX_DEPTH: usize = 64;
/// Levels of an expression: a long sum is deep, too, and no script may exhaust the stack.
const MAX_HEIGHT: usize = 100;

/// An expression and where it begins.
#[derive(Clone, Debug)]
pub(super) struct Expr {
    pub(super) place: Place,
    pub(super) kind: ExprKind,
    /// Levels of expressions inside, this one included: whoever walks it needs as many calls.
    height: usize,
}

#[derive(Clone, Debug)]
pub(super) enum ExprKind {
    Int(i64),
    Text(String),
    Bytes(Box<Template>),
    Name(String),
    Call(String, Vec<Expr>),
    Binary(Box<Expr>, char, Box<Expr>),
    /// `[at]` or `[from..to]`; negative numbers count from the end.
    Slice(Box<Expr>, Slice),
}

#[derive(Clone, Debug)]
pub(super) enum Slice {
    One(Box<Expr>),
    Range(Option<Box<Expr>>, Option<Box<Expr>>),
}

/// Reads an expression.
pub(super) fn parse(cursor: &mut Cursor<'_>, depth: usize) -> Result<Expr, ScriptError> {
    if depth > MAX_DEPTH {
        return Err(cursor.error(format!("nested more than {MAX_DEPTH} deep")));
    }
    let mut left = product(cursor, depth)?;
    loop {
        cursor.skip_space();
        let operator = match cursor.peek() {
            Some('-') if cursor.peek_at(1) == Some('>') => return Ok(left),
            Some(c @ ('+' | '-' | '|' | '^')) => c,
            _ => return Ok(left),
        };
        cursor.next();
        let right = product(cursor, depth)?;
        left = binary(left, operator, right)?;
    }
}

fn product(cursor: &mut Cursor<'_>, depth: usize) -> Result<Expr, ScriptError> {
    let mut left = operand(cursor, depth)?;
    while cursor.take("*") {
        let right = operand(cursor, depth)?;
        left = binary(left, '*', right)?;
    }
    Ok(left)
}

fn binary(left: Expr, operator: char, right: Expr) -> Result<Expr, ScriptError> {
    let place = left.place.clone();
    Expr::new(
        place,
        ExprKind::Binary(Box::new(left), operator, Box::new(right)),
    )
}

impl Expr {
    fn new(place: Place, kind: ExprKind) -> Result<Self, ScriptError> {
        let height = 1 + kind.inner_height();
        if height > MAX_HEIGHT {
            return Err(ScriptError::new(
                &place,
                format!(
                    "this expression has more than {MAX_HEIGHT} levels; give parts of it names of their own"
                ),
            ));
        }
        Ok(Self {
            place,
            kind,
            height,
        })
    }
}

impl ExprKind {
    fn inner_height(&self) -> usize {
        match self {
            Self::Int(_) | Self::Text(_) | Self::Name(_) => 0,
            Self::Bytes(template) => highest(template.parts.iter().filter_map(|part| match part {
                Part::Computed(expr) => Some(expr),
                Part::Bytes(_) => None,
            })),
            Self::Call(_, values) => highest(values),
            Self::Binary(left, _, right) => left.height.max(right.height),
            Self::Slice(of, Slice::One(at)) => of.height.max(at.height),
            Self::Slice(of, Slice::Range(from, to)) => {
                let bounds = [from, to].into_iter().flatten().map(AsRef::as_ref);
                of.height.max(highest(bounds))
            }
        }
    }
}

fn highest<'a>(expressions: impl IntoIterator<Item = &'a Expr>) -> usize {
    expressions
        .into_iter()
        .map(|expr| expr.height)
        .max()
        .unwrap_or(0)
}

fn operand(cursor: &mut Cursor<'_>, depth: usize) -> Result<Expr, ScriptError> {
    let mut value = primary(cursor, depth)?;
    while cursor.peek() == Some('[') {
        cursor.next();
        let slice = slice(cursor, depth)?;
        let place = value.place.clone();
        value = Expr::new(place, ExprKind::Slice(Box::new(value), slice))?;
    }
    Ok(value)
}

fn slice(cursor: &mut Cursor<'_>, depth: usize) -> Result<Slice, ScriptError> {
    let bound = |cursor: &mut Cursor<'_>| -> Result<Option<Box<Expr>>, ScriptError> {
        cursor.skip_space();
        if matches!(cursor.peek(), Some(']' | '.')) {
            return Ok(None);
        }
        parse(cursor, depth + 1).map(|expr| Some(Box::new(expr)))
    };
    let from = bound(cursor)?;
    if !cursor.take("..") {
        let Some(at) = from else {
            return Err(cursor.expected("a position inside the brackets"));
        };
        cursor.expect("]")?;
        return Ok(Slice::One(at));
    }
    let to = bound(cursor)?;
    cursor.expect("]")?;
    Ok(Slice::Range(from, to))
}

fn primary(cursor: &mut Cursor<'_>, depth: usize) -> Result<Expr, ScriptError> {
    cursor.skip_space();
    let place = cursor.place();
    let kind = match cursor.peek() {
        Some('(') => {
            cursor.next();
            let inner = parse(cursor, depth + 1)?;
            cursor.expect(")")?;
            return Ok(inner);
        }
        Some('"') => ExprKind::Text(text(cursor)?),
        Some('\'') => {
            cursor.next();
            let template = template::parse(cursor, &['\''], depth + 1)?;
            cursor.expect("'")?;
            ExprKind::Bytes(Box::new(template))
        }
        Some('-' | '0'..='9') => ExprKind::Int(int(cursor)?),
        Some(c) if c == '_' || c.is_ascii_alphabetic() => {
            let name = cursor.name()?;
            if cursor.peek() == Some('(') {
                cursor.next();
                ExprKind::Call(name, arguments(cursor, depth + 1)?)
            } else {
                ExprKind::Name(name)
            }
        }
        _ => {
            return Err(cursor.expected(
                "a value: a number, \"text\", 'hexadecimal bytes', a name or a function",
            ));
        }
    };
    Expr::new(place, kind)
}

fn arguments(cursor: &mut Cursor<'_>, depth: usize) -> Result<Vec<Expr>, ScriptError> {
    let mut arguments = Vec::new();
    if cursor.take(")") {
        return Ok(arguments);
    }
    loop {
        arguments.push(parse(cursor, depth)?);
        if cursor.take(")") {
            return Ok(arguments);
        }
        if !cursor.take(",") {
            return Err(cursor.expected("\",\" or \")\""));
        }
    }
}

fn text(cursor: &mut Cursor<'_>) -> Result<String, ScriptError> {
    cursor.next();
    let mut text = String::new();
    loop {
        match cursor.next() {
            Some('"') => return Ok(text),
            Some(c) => text.push(c),
            None => return Err(cursor.expected("the closing \"")),
        }
    }
}

fn int(cursor: &mut Cursor<'_>) -> Result<i64, ScriptError> {
    let start = cursor.clone();
    let negative = cursor.peek() == Some('-');
    if negative {
        cursor.next();
    }
    let word = cursor.word();
    let magnitude = match word.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16),
        None => word.parse(),
    };
    let value = magnitude.map_err(|_| {
        start.error(format!(
            "{word:?} is no number; write 12, 0x1F, or bytes in quotes: '{word}'"
        ))
    })?;
    Ok(if negative { -value } else { value })
}
