//! The logical channel that command strings run on, and what a command must be to go there.
//!
//! Governed by ISO/IEC 7816-4:2020, 5.4.1 (class bytes), 11.1.2 (MANAGE CHANNEL) and 5.6 (status words).

use protocol::card::{StatusWord, ins};

/// Channels that a class byte of the first form can name, the basic one aside.
pub(super) const CHANNELS: std::ops::RangeInclusive<u8> = 1..=3;

/// The logical channel that strings run on.
#[derive(Debug, Default)]
pub(super) struct Channel {
    pub(super) number: Option<u8>,
    pub(super) chain: Chain,
}

/// Whether the next string may go on where the last one has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Chain {
    /// The last one was not the first of several.
    #[default]
    None,
    /// It may.
    Open,
    /// It might, had the card not lost what was there.
    Lost,
}

impl Channel {
    /// The card has lost what it had in RAM.
    pub(super) fn lost(&mut self) {
        self.number = None;
        if self.chain == Chain::Open {
            self.chain = Chain::Lost;
        }
    }
}

/// Normal processing and warnings (ISO/IEC 7816-4:2020, 5.6; ETSI TS 102 221, 10.2.1 for 91, 92 and 9F). After anything
/// else the rest of a string is not executed.
pub(super) fn succeeded(status: StatusWord) -> bool {
    matches!(status.to_bytes(), [0x90..=0x92 | 0x9F | 0x61..=0x63, _])
}

/// SELECT by name on this channel, the answer not wanted (ISO/IEC 7816-4:2020, 11.2.2).
pub(super) fn select(channel: u8, aid: &[u8]) -> Vec<u8> {
    // 5 to 16 bytes.
    let length = u8::try_from(aid.len()).unwrap_or(u8::MAX);
    [&[channel, ins::SELECT, 0x04, 0x0C, length], aid].concat()
}

/// The command as it is given to the card on `channel`, or the status word that it has without the card.
pub(super) fn on_channel(command: &[u8], channel: u8) -> Result<Vec<u8>, StatusWord> {
    let &[class, instruction, ..] = command else {
        return Err(StatusWord::WRONG_LENGTH);
    };
    // Other classes cannot name a channel, or name it otherwise (ISO/IEC 7816-4:2020, 5.4.1; GlobalPlatform Card
    // Specification 2.3, 11.1.4).
    if !matches!(class, 0x00..=0x1F | 0x80..=0x9F) {
        return Err(StatusWord::CLASS);
    }
    if instruction == ins::MANAGE_CHANNEL {
        return Err(StatusWord::CHANNEL);
    }
    if !is_short(command) {
        return Err(StatusWord::WRONG_LENGTH);
    }
    let mut moved = command.to_vec();
    moved[0] = class & !0x03 | channel;
    Ok(moved)
}

/// Whether this is a short command (ISO/IEC 7816-4:2020, 5.2, cases 1, 2S, 3S, 4S).
fn is_short(command: &[u8]) -> bool {
    match command.len() {
        4 | 5 => true,
        length => command.get(4).is_some_and(|lc| {
            let data = 5 + usize::from(*lc);
            *lc > 0 && (length == data || length == data + 1)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_go_to_the_channel_of_the_session() {
        for (command, moved) in [
            ("00a4040005a000000151", "02a4040005a000000151"),
            ("80ca00e100", "82ca00e100"),
            ("84e28000040102030400", "86e28000040102030400"),
            ("0340000000", "0240000000"),
            ("90e2800001aa", "92e2800001aa"),
        ] {
            let command = hex::decode(command).unwrap();
            assert_eq!(hex::encode(on_channel(&command, 2).unwrap()), moved);
        }
    }

    #[test]
    fn what_cannot_go_there_is_answered_without_the_card() {
        for (command, status) in [
            ("00", StatusWord::WRONG_LENGTH),
            ("a0a40000023f00", StatusWord::CLASS),
            ("4040000000", StatusWord::CLASS),
            ("ff40000000", StatusWord::CLASS),
            ("2040000000", StatusWord::CLASS),
            ("0070000001", StatusWord::CHANNEL),
            ("80e2800002aa", StatusWord::WRONG_LENGTH),
            ("80e2800001aa0000", StatusWord::WRONG_LENGTH),
            ("80e280000000010a", StatusWord::WRONG_LENGTH),
            ("80e28000000001aa0000", StatusWord::WRONG_LENGTH),
        ] {
            let command = hex::decode(command).unwrap();
            assert_eq!(on_channel(&command, 1), Err(status), "{command:02x?}");
        }
    }

    #[test]
    fn warnings_do_not_end_a_string_and_errors_do() {
        for status in [0x9000, 0x9110, 0x9F10, 0x6283, 0x63C2, 0x6310, 0x6110] {
            assert!(succeeded(StatusWord(status)), "{status:04X}");
        }
        for status in [
            0x6400, 0x6581, 0x6700, 0x6A82, 0x6985, 0x6F00, 0x9862, 0x9300, 0x6C10,
        ] {
            assert!(!succeeded(StatusWord(status)), "{status:04X}");
        }
    }
}
