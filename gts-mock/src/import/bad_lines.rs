//! The lines of a file that cannot be taken: the first of them with their reasons, all of them counted.

use std::{collections::BTreeMap, fmt};

/// How many bad lines are named.
const NAMED_LINES: usize = 20;

/// The first bad lines with their reasons, and how many there are.
#[derive(Debug, Default)]
pub struct BadLines {
    /// By line; of several reasons the first.
    named: BTreeMap<u64, String>,
    /// Lines that were named once, and others that are only counted.
    count: usize,
}

impl BadLines {
    /// Notes a bad line. A line that is named already is not counted again.
    pub(super) fn note(&mut self, line: u64, reason: impl fmt::Display) {
        if self.named.contains_key(&line) {
            return;
        }
        self.count += 1;
        self.named.insert(line, reason.to_string());
        if self.named.len() > NAMED_LINES {
            self.named.pop_last();
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl fmt::Display for BadLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (line, reason) in &self.named {
            writeln!(f, "  line {line}: {reason}")?;
        }
        match self.count - self.named.len() {
            0 => write!(
                f,
                "{} bad line(s); mend them and import the file again",
                self.count
            ),
            more => write!(f, "  and {more} more"),
        }
    }
}
