//! Patterns for the names of readers: `*` is anything, `?` one character, and all else is itself.
//!
//! Brackets are no classes, as in other such patterns: many readers have them in their names.

use std::{convert::Infallible, str::FromStr};

/// One pattern, for whole names.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Vec<char>);

impl FromStr for Pattern {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.chars().collect()))
    }
}

impl Pattern {
    /// Whether the whole name is like this. Takes the time of both lengths' product at most.
    pub(super) fn matches(&self, name: &str) -> bool {
        // reached[n]: the pattern so far is like the name's first n characters.
        let name: Vec<_> = name.chars().collect();
        let mut reached = vec![false; name.len() + 1];
        reached[0] = true;
        for &sign in &self.0 {
            if sign == '*' {
                let from = reached.iter().position(|&here| here);
                (from.unwrap_or(reached.len())..reached.len()).for_each(|at| reached[at] = true);
            } else {
                for at in (0..name.len()).rev() {
                    reached[at + 1] = reached[at] && (sign == '?' || sign == name[at]);
                }
                reached[0] = false;
            }
        }
        reached[name.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_stand_for_others_and_brackets_for_themselves() {
        let like = |pattern: &str, name| pattern.parse::<Pattern>().unwrap().matches(name);
        for (pattern, name) in [
            ("*", ""),
            ("", ""),
            ("ACS*", "ACS ACR122U [PICC] 00 00"),
            ("*[PICC]*", "ACS ACR122U [PICC] 00 00"),
            ("Virtual PCD ? 00", "Virtual PCD A 00"),
            ("*a*b", "xaaxabab"),
            ("?", "é"),
        ] {
            assert!(like(pattern, name), "{pattern} is like {name}");
        }
        for (pattern, name) in [
            ("", "a"),
            ("?", ""),
            ("ACS", "ACS ACR122U"),
            ("*[PICC]", "ACS ACR122U [PICC] 00 00"),
            ("a*b", "acbd"),
        ] {
            assert!(!like(pattern, name), "{pattern} is not like {name}");
        }
    }
}
