//! Other programs' logs of commands and answers, as scripts that assert them: what `scriptor` prints, and what apdu4j
//! writes, its log and its dumps.
//!
//! The samples in `reader-bridge/tests/import` come from these programs: scriptor of pcsc-tools 1.6, and the class
//! `LoggingCardTerminal` of apdu4j 21.05.06. What apdu4j writes since 2026 (`LoggingBIBO`, `DumpingBIBO`) is after its
//! source.

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
        "no commands in it: expected what scriptor prints (> …, < …), or apdu4j's log (A>> …, A<< …) or dump (bytes of commands and answers in turn)"
    )]
    Nothing,
}

/// What a line is.
enum Line<'a> {
    Reset,
    Sent(&'a str),
    Received(&'a str),
    /// Bytes in a dump: a command, or the answer to the one before.
    Bytes(&'a str),
    /// The command before has no answer: why.
    Lost(&'a str),
    /// Whatever comes next is a command.
    Next,
    Other,
}

/// The script.
pub fn import(text: &str, name: &str) -> Result<String, ImportError> {
    let lines = joined(text);
    // Dumps have no signs before bytes; scriptor's lines without a sign only repeat what it read.
    let dump = !lines.iter().any(|(_, line)| is_signed(line));
    let mut writer = Writer::new(name);
    for (number, line) in &lines {
        let line = if dump { of_dump(line) } else { of_log(line) };
        writer.line(*number, &line)?;
    }
    writer.end()
}

/// Why a command has no answer, where the log does not say.
const UNTOLD: &str = "none is in the log";

/// Writes the script.
struct Writer {
    script: String,
    /// A command that waits for its answer.
    command: Option<Vec<u8>>,
    count: usize,
}

impl Writer {
    fn new(name: &str) -> Self {
        Self {
            script: record::header(name),
            command: None,
            count: 0,
        }
    }

    fn line(&mut self, number: usize, line: &Line<'_>) -> Result<(), ImportError> {
        match line {
            Line::Reset => {
                self.lose(UNTOLD);
                self.pass(&Passed::Power(Power::Reset, Vec::new()));
            }
            Line::Next => self.lose(UNTOLD),
            Line::Lost(why) => self.lose(why),
            Line::Bytes(text) if self.command.is_some() => self.received(number, text)?,
            Line::Bytes(text) | Line::Sent(text) => {
                self.lose(UNTOLD);
                self.command = Some(bytes(text, number)?);
            }
            Line::Received(text) => self.received(number, text)?,
            Line::Other => {}
        }
        Ok(())
    }

    fn received(&mut self, number: usize, text: &str) -> Result<(), ImportError> {
        let sent = self.command.take().ok_or(ImportError::Answer(number))?;
        self.count += 1;
        let answer = bytes(text, number)?;
        self.pass(&Passed::Command(sent, Ok(answer)));
        Ok(())
    }

    /// A command that nobody answered is told of, and not sent again: what it did to the card is not known.
    fn lose(&mut self, why: &str) {
        if let Some(sent) = self.command.take() {
            self.pass(&Passed::Command(sent, Err(why.to_owned())));
        }
    }

    fn pass(&mut self, passed: &Passed) {
        self.script.push_str(&record::line(passed));
    }

    fn end(mut self) -> Result<String, ImportError> {
        self.lose(UNTOLD);
        if self.count == 0 {
            return Err(ImportError::Nothing);
        }
        Ok(self.script)
    }
}

/// Lines, with their numbers; `scriptor` breaks long answers, up to the colon before their meaning.
fn joined(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        let broken = |last: &str| last.starts_with("< ") && !last.contains(':');
        match lines.last_mut() {
            Some((_, last)) if broken(last) && !line.is_empty() && !is_signed(line) => {
                last.push(' ');
                last.push_str(line);
            }
            _ => lines.push((number, line.to_owned())),
        }
    }
    lines
}

/// Whether this is a log's command.
fn is_signed(line: &str) -> bool {
    line.starts_with("> ") || sign(line, ">> ").is_some()
}

/// What comes after `A>> `, `B>> `, or `>> ` with whatever a program puts before it in one word.
fn sign<'a>(line: &'a str, sign: &str) -> Option<&'a str> {
    let (prefix, text) = line.split_once(sign)?;
    (!prefix.contains(char::is_whitespace)).then_some(text)
}

fn of_log(line: &str) -> Line<'_> {
    if line == "> RESET" || line.starts_with("SCardReset") {
        Line::Reset
    } else if let Some(text) = sign(line, ">> ") {
        // "T=1 (4+0008) " or "T=1 (5) " in the older logs, "[malformed]" after the bytes in the newer ones.
        let text = text.rsplit_once(')').map_or(text, |(_, bytes)| bytes);
        Line::Sent(text.trim_end_matches("[malformed]"))
    } else if let Some(text) = sign(line, "<< ") {
        answer_of_apdu4j(text)
    } else if let Some(text) = line.strip_prefix("> ") {
        Line::Sent(text)
    } else if let Some(text) = line.strip_prefix("< ") {
        match text.get(..2) {
            // Of a reset, and of one that failed.
            Some("OK" | "KO") => Line::Other,
            _ => Line::Received(text.split(':').next().unwrap_or_default()),
        }
    } else {
        Line::Other
    }
}

/// `(0020+2) (15ms) 6F12… 9000`, `(2) 6A88`, `6F12… 9000 (1.25ms)`; or `(3ms) SCARD_W_REMOVED_CARD`, `Exception (3ms)`,
/// `[error] why (3ms)`.
fn answer_of_apdu4j(text: &str) -> Line<'_> {
    let bytes = match text.strip_prefix('(') {
        Some(_) => text.rsplit_once(')').map_or(text, |(_, bytes)| bytes),
        None => text.rsplit_once('(').map_or(text, |(bytes, _)| bytes),
    };
    if bytes.chars().any(|c| c.is_ascii_punctuation()) || bytes.trim() == "Exception" {
        Line::Lost(text)
    } else {
        Line::Received(bytes)
    }
}

/// Comments, and bytes. "# Sent" begins a command; "# 12ms why" is what comes in the place of an answer.
fn of_dump(line: &str) -> Line<'_> {
    let Some(comment) = line.strip_prefix('#') else {
        return if line.is_empty() {
            Line::Other
        } else {
            Line::Bytes(line)
        };
    };
    let (first, rest) = comment
        .trim()
        .split_once(' ')
        .unwrap_or((comment.trim(), ""));
    let time = first.ends_with("ms") && first.starts_with(|c: char| c.is_ascii_digit());
    match first {
        "Sent" => Line::Next,
        _ if time && !rest.is_empty() => Line::Lost(rest),
        _ => Line::Other,
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

    fn body(text: &str) -> String {
        let script = import(text, "x").unwrap();
        script.split_once("fetch off\n").unwrap().1.to_owned()
    }

    #[test]
    fn what_scriptor_prints_becomes_a_script() {
        let imported = body(include_str!("../../tests/import/scriptor.txt"));
        let expected = [
            "reset  # ",
            "00 A4 04 00 08F04754534150500100 -> 6F128408F047545341505001A506C10101C30103 9000",
            "80 40 00 00 00 -> 6985",
            "00 A4 04 00 00 -> 6F148408A000000151000000A5089F6501FF9F700101 9000",
        ];
        assert_eq!(imported.lines().take(4).collect::<Vec<_>>(), expected);
        assert_eq!(imported.lines().count(), 5);
    }

    #[test]
    fn apdu4js_log_and_its_dump_of_the_same_session_become_the_same_script() {
        let log = body(include_str!("../../tests/import/apdu4j.log"));
        let dump = body(include_str!("../../tests/import/apdu4j.dump"));
        assert_eq!(log, dump);
        let expected = [
            "00 A4 04 00 08F04754534150500100 -> 6F128408F047545341505001A506C10101C30103 9000",
            "80 CA 00 66 00 -> 6A88",
            "80 40 00 00 -> 6985",
        ];
        assert_eq!(log.lines().take(3).collect::<Vec<_>>(), expected);
        assert_eq!(log.lines().count(), 9, "{log}");
    }

    #[test]
    fn the_newer_logs_and_dumps_of_apdu4j_are_read_too() {
        let log = ">> 00A40400 08 F047545341505001 00\n<< 6F10 9000 (1.25ms)\n>> 80CA0066\n<< 6A88 (12ms)\n";
        let expected = "00 A4 04 00 08F04754534150500100 -> 6F10 9000\n80 CA 00 66 -> 6A88\n";
        assert_eq!(body(log), expected);
        let dump = "# ATR: 3B00\n# PROTOCOL: T=1\n#\n00A4040008F04754534150500100\n# 1ms\n6F109000\n80CA0066\n# 12ms\n6A88\n";
        assert_eq!(body(dump), expected);
    }

    #[test]
    fn a_command_without_an_answer_is_told_and_the_rest_goes_on() {
        let after = "80 CA 00 66 -> 6A88\n";
        for (text, why) in [
            (
                "A>> T=1 (4+0000) 80400000\n<< (3ms) SCARD_W_REMOVED_CARD\nA>> T=1 (4+0000) 80CA0066\nA<< (0000+2) (1ms) 6A88\n",
                "SCARD_W_REMOVED_CARD",
            ),
            (
                "A>> T=1 (4+0000) 80400000\n<< Exception (3ms)\nA>> T=1 (4+0000) 80CA0066\nA<< (0000+2) (1ms) 6A88\n",
                "Exception",
            ),
            (
                ">> 80400000\n<< [error] it is gone (3ms)\n>> 80CA0066\n<< 6A88 (1ms)\n",
                "it is gone",
            ),
            (
                "80400000\n# 3ms it is gone\n80CA0066\n# 1ms\n6A88\n",
                "it is gone",
            ),
            (
                "# Sent\n80400000\n# Sent\n80CA0066\n# Received\n6A88\n",
                "had no answer",
            ),
        ] {
            let imported = body(text);
            let (lost, rest) = imported.split_once('\n').unwrap();
            assert!(
                lost.starts_with("# 80 40 00 00 had no answer") && lost.contains(why),
                "{lost}"
            );
            assert_eq!(rest, after);
        }
    }

    #[test]
    fn what_is_none_of_these_is_told_with_its_line() {
        for (text, error) in [
            ("", "no commands"),
            ("hello", "line 1: expected hexadecimal"),
            ("80400000", "no commands"),
            ("A>> T=1 (4+0) zz", "line 1: expected hexadecimal"),
            ("\nA<< (0) 9000\n> 00", "line 2: an answer"),
        ] {
            let told = import(text, "x").unwrap_err().to_string();
            assert!(told.contains(error), "{text}: {told}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(A>> |B<< |<< |> |< |# Sent|# 1ms|\\(|\\)|:|é|[0-9A-F]{2}| |\n){0,60}") {
            drop(import(&text, "x"));
        }
    }
}
