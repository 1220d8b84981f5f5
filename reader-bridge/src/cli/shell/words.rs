//! What the shell's editor knows: words to complete, and whether a line goes on.

use reader_bridge::script::{WORDS, function_names};
use rustyline::{
    Context, Helper, Highlighter, Hinter,
    completion::{Completer, Pair},
    validate::{ValidationContext, ValidationResult, Validator},
};

/// Commands by name.
const COMMANDS: [&str; 6] = [
    "00 A4 04 00 08 F047545341505001 00",
    "80 40 00 00 00",
    "80 40 01 00 00",
    "80 CA 00 E1 00",
    "80 CA 00 E7 00",
    "80 CA 00 5A 00",
];

/// Statements and commands at the beginning of a line; functions and the names of values elsewhere.
#[derive(Helper, Highlighter, Hinter, Default)]
pub(super) struct Words {
    /// Names that have values.
    pub(super) values: Vec<String>,
}

impl Completer for Words {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = line.get(..at).unwrap_or_default();
        let pair = |word: &str| Pair {
            display: word.to_owned(),
            replacement: word.to_owned(),
        };
        let first = typed.trim_start();
        let whole = WORDS.iter().chain(&COMMANDS);
        let whole: Vec<_> = whole.filter(|word| word.starts_with(first)).collect();
        if !whole.is_empty() {
            let start = typed.len() - first.len();
            return Ok((start, whole.into_iter().map(|word| pair(word)).collect()));
        }
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let start = typed.rfind(|c| !is_part(c)).map_or(0, |before| before + 1);
        // Whatever is no part of a name may be longer than a byte.
        let word = typed.get(start..).unwrap_or_default();
        let names = self.values.iter().map(String::as_str);
        let functions = function_names().map(|name| -> &str { name });
        let known = functions.chain(names);
        let fitting = known.filter(|name| !word.is_empty() && name.starts_with(word));
        Ok((start, fitting.map(pair).collect()))
    }
}

impl Validator for Words {
    /// A line that ends in `\`, and a repeat without its end, go on.
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input();
        let begins = |word: &str| {
            let lines = text.lines().map(str::trim);
            let first = lines.filter(|line| line.split(' ').next() == Some(word));
            first.count()
        };
        Ok(
            if text.ends_with('\\') || begins("repeat") > begins("end") {
                ValidationResult::Incomplete
            } else {
                ValidationResult::Valid(None)
            },
        )
    }
}

/// Whether a line has a key in it, which is not to be kept.
pub(super) fn has_key(line: &str) -> bool {
    let keys = ["key=", "enc=", "mac=", "dek="];
    let written = |word: &str| {
        let mut values = keys.iter().filter_map(|key| word.strip_prefix(key));
        values.any(|value| !value.starts_with('{'))
    };
    line.trim_start().starts_with("secure-channel") && line.split_whitespace().any(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_with_a_key_in_digits_are_not_kept() {
        assert!(has_key(
            "secure-channel scp03 level=33 key=404142434445464748494A4B4C4D4E4F"
        ));
        assert!(has_key(
            " secure-channel scp03 level=33 enc={a} mac=40 dek={b}"
        ));
        assert!(!has_key("secure-channel scp03 level=33 key={card_key}"));
        assert!(!has_key("80 40 00 00 00"));
    }
}
