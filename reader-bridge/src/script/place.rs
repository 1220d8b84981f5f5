//! Where in a script something stands, and errors that point there.
//!
//! Owns file names, lines and columns. Refuses to know what the text means.

use std::{fmt, sync::Arc};

/// One script file, kept for the errors that point into it.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name, as it was asked for.
    pub name: String,
    /// Its lines, without their ends.
    pub lines: Vec<String>,
}

impl Source {
    /// Takes a text apart into lines.
    pub fn new(name: impl Into<String>, text: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            lines: text.lines().map(str::to_owned).collect(),
        })
    }
}

/// A character of a script: line and column count from 1.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub source: Arc<Source>,
    /// The line, from 1.
    pub line: usize,
    /// The character in it, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.source.name, self.line, self.column)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Place {
    /// The line, and a caret below the character.
    pub fn excerpt(&self) -> String {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let line = self
            .source
            .lines
            .get(self.line - 1)
            .map_or("", String::as_str);
        // A tab takes as much room below as above.
        let indent: String = line
            .chars()
            .chain(std::iter::repeat(' '))
            .take(self.column - 1)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        format!(" {number} | {line}\n {margin} | {indent}^")
    }
}

/// What is wrong with a script, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    /// The first character that is wrong.
    pub place: Place,
    /// What was expected there.
    pub message: String,
}

impl ScriptError {
    /// An error at `place`.
    pub fn new(place: &Place, message: impl Into<String>) -> Self {
        Self {
            place: place.clone(),
            message: message.into(),
        }
    }
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}\n{}",
            self.place,
            self.message,
            self.place.excerpt()
        )
    }
}

impl std::error::Error for ScriptError {}
