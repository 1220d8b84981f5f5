//! From what passed between a client and a card to a script that asserts it.

use crate::card::Power;

use super::tap::Passed;

/// What stands at the beginning of a recorded script.
pub fn header(origin: &str) -> String {
    // A line end would make a statement of what follows it.
    let origin = origin.replace(['\n', '\r'], " ");
    format!("# Recorded from {origin}. Answers are expected as they came.\nfetch off\n")
}

/// The line for something that passed.
pub fn line(passed: &Passed) -> String {
    match passed {
        Passed::Power(Power::Reset, atr) => format!("reset  # {}\n", hex::encode_upper(atr)),
        Passed::Power(Power::Cycle, atr) => format!("power-off  # {}\n", hex::encode_upper(atr)),
        Passed::Command(command, Ok(answer)) => {
            format!("{} -> {}\n", grouped(command), split_status(answer))
        }
        Passed::Command(command, Err(why)) => {
            let why = why.replace(['\n', '\r'], " ");
            format!("# {} had no answer: {why}\n", grouped(command))
        }
    }
}

/// CLA INS P1 P2, and the rest.
fn grouped(command: &[u8]) -> String {
    let (header, rest) = command.split_at(command.len().min(4));
    let header: Vec<String> = header.iter().map(|byte| format!("{byte:02X}")).collect();
    let text = format!("{} {}", header.join(" "), hex::encode_upper(rest));
    text.trim_end().to_owned()
}

fn split_status(answer: &[u8]) -> String {
    let (data, status) = answer.split_at(answer.len().saturating_sub(2));
    let text = format!("{} {}", hex::encode_upper(data), hex::encode_upper(status));
    text.trim_start().to_owned()
}
