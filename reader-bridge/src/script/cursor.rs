//! Characters of one logical line, one after the other.
//!
//! Owns comments, line continuation, and words. Refuses to know statements.

use std::sync::Arc;

use super::place::{Place, ScriptError, Source};

/// A character and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Glyph {
    pub(super) char: char,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// One statement's characters, without comments: a line, with those that continue it.
#[derive(Clone, Debug)]
pub(super) struct Logical {
    source: Arc<Source>,
    glyphs: Vec<Glyph>,
}

/// Joins lines that end in `\`, and lines that begin with `->`, to the line before; drops comments and empty lines.
pub(super) fn logical_lines(source: &Arc<Source>) -> Vec<Logical> {
    let mut lines: Vec<Logical> = Vec::new();
    let mut open = false;
    for (number, text) in (1..).zip(&source.lines) {
        let mut glyphs = uncommented(number, text);
        let continues = glyphs.last().is_some_and(|last| last.char == '\\');
        if continues {
            glyphs.pop();
        }
        if glyphs.is_empty() && !continues && !open {
            continue;
        }
        let expectation = starts_with(&glyphs, "->");
        match lines.last_mut() {
            Some(line) if open || expectation => line.join(number, glyphs),
            _ => lines.push(Logical {
                source: Arc::clone(source),
                glyphs,
            }),
        }
        open = continues;
    }
    lines.retain(|line| !line.glyphs.is_empty());
    lines
}

/// Without its comment (`#`, `//`, `;`) and the white space at both ends. A `#` in quotes begins no comment.
fn uncommented(line: usize, text: &str) -> Vec<Glyph> {
    let mut quote = None;
    let mut glyphs: Vec<Glyph> = Vec::new();
    let mut chars = text.chars().peekable();
    let mut column = 0;
    while let Some(char) = chars.next() {
        column += 1;
        let comment = matches!(char, '#' | ';') || (char == '/' && chars.peek() == Some(&'/'));
        match quote {
            None if comment => break,
            None if matches!(char, '"' | '\'') => quote = Some(char),
            Some(open) if open == char => quote = None,
            _ => {}
        }
        // Byte order marks of other systems' editors.
        if char == '\u{FEFF}' || (glyphs.is_empty() && char.is_whitespace()) {
            continue;
        }
        glyphs.push(Glyph { char, line, column });
    }
    while glyphs.last().is_some_and(|last| last.char.is_whitespace()) {
        glyphs.pop();
    }
    glyphs
}

fn starts_with(glyphs: &[Glyph], text: &str) -> bool {
    glyphs.len() >= text.len() && glyphs.iter().zip(text.chars()).all(|(g, c)| g.char == c)
}

impl Logical {
    fn join(&mut self, line: usize, glyphs: Vec<Glyph>) {
        self.glyphs.push(Glyph {
            char: ' ',
            line,
            column: 1,
        });
        self.glyphs.extend(glyphs);
    }

    pub(super) fn cursor(&self) -> Cursor<'_> {
        Cursor {
            line: self,
            at: 0,
            end: self.glyphs.len(),
        }
    }
}

/// Names that get their values from the card.
const RESERVED: [&str; 5] = ["answer", "sw", "elapsed", "atr", "torn"];

/// A place in a logical line.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    line: &'a Logical,
    at: usize,
    end: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn peek(&self) -> Option<char> {
        self.peek_at(0)
    }

    pub(super) fn peek_at(&self, ahead: usize) -> Option<char> {
        let at = self.at + ahead;
        (at < self.end).then(|| self.line.glyphs[at].char)
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let char = self.peek()?;
        self.at += 1;
        Some(char)
    }

    pub(super) fn skip_space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    /// The next character that is no white space, to point at later.
    pub(super) fn here(&mut self) -> Cursor<'a> {
        self.skip_space();
        self.clone()
    }

    /// Whether nothing but white space is left.
    pub(super) fn at_end(&mut self) -> bool {
        self.skip_space();
        self.peek().is_none()
    }

    /// Takes `text` if it comes next, white space before it ignored.
    pub(super) fn take(&mut self, text: &str) -> bool {
        self.skip_space();
        if text
            .chars()
            .enumerate()
            .all(|(at, c)| self.peek_at(at) == Some(c))
        {
            self.at += text.chars().count();
            true
        } else {
            false
        }
    }

    pub(super) fn expect(&mut self, text: &str) -> Result<(), ScriptError> {
        if self.take(text) {
            Ok(())
        } else {
            Err(self.expected(&format!("{text:?}")))
        }
    }

    /// Letters, digits, `_`, and `-` inside; empty if there is none. Nothing is taken.
    pub(super) fn peek_word(&mut self) -> String {
        self.skip_space();
        (0..)
            .map_while(|ahead| self.peek_at(ahead))
            .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
            .collect::<String>()
            .trim_end_matches('-')
            .to_owned()
    }

    /// Like [`Self::peek_word`], and takes it.
    pub(super) fn word(&mut self) -> String {
        let word = self.peek_word();
        self.at += word.chars().count();
        word
    }

    /// A name of a variable or function: a letter or `_`, then letters, digits and `_`.
    pub(super) fn name(&mut self) -> Result<String, ScriptError> {
        self.skip_space();
        let mut name = String::new();
        while let Some(c) = self.peek() {
            let fits =
                c == '_' || c.is_ascii_alphabetic() || (c.is_ascii_digit() && !name.is_empty());
            if !fits {
                break;
            }
            name.push(c);
            self.at += 1;
        }
        if name.is_empty() {
            Err(self.expected("a name"))
        } else {
            Ok(name)
        }
    }

    /// A name that a script may give a value.
    pub(super) fn new_name(&mut self) -> Result<String, ScriptError> {
        self.skip_space();
        let place = self.place();
        let name = self.name()?;
        if RESERVED.contains(&name.as_str()) {
            return Err(ScriptError::new(
                &place,
                format!("{name} is the last answer's and cannot be given another value"),
            ));
        }
        Ok(name)
    }

    /// Everything that is left, as it stands.
    pub(super) fn rest(&mut self) -> String {
        self.skip_space();
        let rest = self.line.glyphs[self.at..self.end].iter().map(|g| g.char);
        let rest = rest.collect();
        self.at = self.end;
        rest
    }

    /// Where the next character stands, or would.
    pub(super) fn place(&self) -> Place {
        let glyphs = &self.line.glyphs;
        let (line, column) = match (glyphs.get(self.at), self.at.checked_sub(1)) {
            (Some(glyph), _) => (glyph.line, glyph.column),
            (None, Some(before)) => (glyphs[before].line, glyphs[before].column + 1),
            (None, None) => (1, 1),
        };
        Place {
            source: Arc::clone(&self.line.source),
            line,
            column,
        }
    }

    pub(super) fn error(&self, message: impl Into<String>) -> ScriptError {
        ScriptError::new(&self.place(), message)
    }

    /// "expected …, found …".
    pub(super) fn expected(&self, what: &str) -> ScriptError {
        self.error(match self.peek() {
            Some(found) => format!("expected {what}, found {found:?}"),
            None => format!("expected {what}, but the line ends here"),
        })
    }

    pub(super) fn expect_end(&mut self) -> Result<(), ScriptError> {
        if self.at_end() {
            Ok(())
        } else {
            Err(self.expected("the end of the line"))
        }
    }
}
