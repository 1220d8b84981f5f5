//! Other programs' logs of commands and answers, as scripts that assert them: what `scriptor` prints, and what apdu4j
//! writes (its log with `A>>` and `A<<`, and its dumps with `# Sent` and `# Received`).

use super::{record, tap::Passed};
use crate::card::Power;

/// Why a text is none of these logs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// Bytes that are none.
    #[error("line {line}: expected hexadecimal bytes, found {found:?}")]
    Bytes {
        /// The line, from 1.
        line: usize,
        /// What stands there.
        found: String,
    },
    /// An answer without a command before it.
    #[error("line {0}: an answer without a command before it")]
    Answer(usize),
    /// Nothing in it.
    #[error(
        "no commands in it: expected what scriptor prints (> …, < …) or apdu4j's log (A>> …, A<< …) or dump (# Sent, # Received)"
    )]
    Nothing,
}

/// What a line is.
enum Line<'a> {
    Reset,
    Sent(&'a str),
    Received(&'a str),
    Other,
}

/// The script.
pub fn import(text: &str, name: &str) -> Result<String, ImportError> {
    let mut script = record::header(name);
    let mut command: Option<Vec<u8>> = None;
    let mut count = 0;
    for (number, line) in joined(text) {
        let bytes = |text: &str| bytes(text, number);
        match line_of(&line) {
            Line::Reset => {
                command = None;
                script.push_str(&record::line(&Passed::Power(Power::Reset, Vec::new())));
            }
            Line::Sent(text) => command = Some(bytes(text)?),
            Line::Received(text) => {
                let sent = command.take().ok_or(ImportError::Answer(number))?;
                count += 1;
                script.push_str(&record::line(&Passed::Command(sent, Ok(bytes(text)?))));
            }
            Line::Other => {}
        }
    }
    if count == 0 {
        return Err(ImportError::Nothing);
    }
    Ok(script)
}

/// Lines with what belongs to them: `scriptor` breaks answers, and dumps put bytes below their headings.
fn joined(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        let broken = lines.last().is_some_and(|(_, last)| {
            let heading =
                last == "# Sent" || (last.starts_with("# Received") && last.ends_with("ms"));
            heading || (last.starts_with("< ") && !last.contains(':'))
        });
        match lines.last_mut() {
            Some((_, last)) if broken && !line.is_empty() => {
                last.push(' ');
                last.push_str(line);
            }
            _ => lines.push((number, line.to_owned())),
        }
    }
    lines
}

fn line_of(line: &str) -> Line<'_> {
    let after_bracket = |text| str::rsplit_once(text, ')').map_or(text, |(_, bytes)| bytes);
    if line == "> RESET" || line.starts_with("SCardReset") {
        Line::Reset
    } else if let Some(text) = line.strip_prefix("A>> ") {
        Line::Sent(after_bracket(text))
    } else if let Some(text) = line.strip_prefix("A<< ") {
        Line::Received(after_bracket(text))
    } else if let Some(text) = line.strip_prefix("# Sent ") {
        Line::Sent(text)
    } else if let Some(text) = line.strip_prefix("# Received") {
        // "in 12ms", and the bytes.
        Line::Received(text.rsplit_once("ms ").map_or(text, |(_, bytes)| bytes))
    } else if let Some(text) = line.strip_prefix("> ") {
        Line::Sent(text)
    } else if let Some(text) = line
        .strip_prefix("< ")
        .filter(|text| !text.starts_with("OK") && !text.starts_with("KO"))
    {
        Line::Received(text.split(':').next().unwrap_or_default())
    } else {
        Line::Other
    }
}

fn bytes(text: &str, line: usize) -> Result<Vec<u8>, ImportError> {
    let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    hex::decode(digits).map_err(|_| ImportError::Bytes {
        line,
        found: text.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMANDS: &str = "00 A4 04 00 00 -> 6F10 9000\n80 CA 00 66 -> 6A88\n";

    fn body(text: &str) -> String {
        let script = import(text, "x").unwrap();
        script.split_once("fetch off\n").unwrap().1.to_owned()
    }

    #[test]
    fn what_scriptor_prints_becomes_a_script() {
        let text = "Using T=1 protocol\n> RESET\n< OK: 3B 00 \n> 00 A4 04 00 00\n< 6F 10\n90 00 : Normal processing.\n> 80 CA 00 66\n< 6A 88 : Referenced data not found.\n";
        assert_eq!(body(text), format!("reset  # \n{COMMANDS}"));
    }

    #[test]
    fn logs_and_dumps_of_apdu4j_become_scripts() {
        let log = "SCardConnect(\"r\", T=*) -> T=1, 3B00\nA>> T=1 (4+0000) 00A40400 00\nA<< (0002+2) (4ms) 6F10 9000\nA>> T=1 (4+0000) 80CA0066\nA<< (0000+2) (1ms) 6A88\n";
        assert_eq!(body(log), COMMANDS);
        let dump = "# ATR: 3B00\n# PROTOCOL: T=1\n#\n# Sent\n00A4040000\n# Received in 12ms\n6F109000\n# Sent\n80CA0066\n# Received in 1ms\n6A88\n";
        assert_eq!(body(dump), COMMANDS);
    }

    #[test]
    fn what_is_none_of_these_is_told_with_its_line() {
        for (text, error) in [
            ("hello", "no commands"),
            ("A>> T=1 (4+0) zz", "line 1: expected hexadecimal"),
            ("\nA<< (0) 9000", "line 2: an answer"),
        ] {
            let told = import(text, "x").unwrap_err().to_string();
            assert!(told.contains(error), "{told}");
        }
    }
}
