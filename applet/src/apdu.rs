//! A command APDU, taken apart.
//!
//! Owns the coding of CLA and of the cases 1, 2S, 2E, 3S, 3E, 4S, 4E. Refuses to know any
//! instruction. ISO/IEC 7816-4:2020, 5.2 (command-response pairs) and 5.4.1 (class byte);
//! the cases are ISO/IEC 7816-3:2006, 12.1.3.
//!
//! ```text
//! 1   CLA INS P1 P2
//! 2S  CLA INS P1 P2 Le:1               2E  CLA INS P1 P2 00 Le:2
//! 3S  CLA INS P1 P2 Lc:1 data          3E  CLA INS P1 P2 00 Lc:2 data
//! 4S  CLA INS P1 P2 Lc:1 data Le:1     4E  CLA INS P1 P2 00 Lc:2 data Le:2
//! ```

use protocol::card::StatusWord;

/// Bytes of CLA INS P1 P2.
pub const HEADER: usize = 4;

/// How a command says that it is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Messaging {
    /// Not at all.
    None,
    /// In the proprietary way: GlobalPlatform's (Card Specification 2.3, 11.1.4).
    GlobalPlatform,
    /// By ISO/IEC 7816-4's own secure messaging, which this card does not speak.
    Iso,
}

/// What a class byte says (ISO/IEC 7816-4:2020, 5.4.1).
///
/// ```text
/// 000c mmnn  interindustry, channel nn           80..9F  the same, proprietary
/// 01mc nnnn  interindustry, channel 4 + nnnn     C0..FE  the same, proprietary
/// c: more commands of the chain follow   mm: 00 none, 01 proprietary, 1x ISO   m: ISO
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Class {
    /// Bit 8: the instruction is the application's own.
    pub proprietary: bool,
    /// Bit 5: not the last command of a chain.
    pub chained: bool,
    /// Secure messaging.
    pub messaging: Messaging,
    /// Logical channel, 0 to 19.
    pub channel: u8,
}

impl Class {
    /// Decodes a class byte; `None` for those that are reserved or invalid.
    pub const fn decode(cla: u8) -> Option<Self> {
        let proprietary = cla & 0x80 != 0;
        let chained = cla & 0x10 != 0;
        match cla {
            0x00..=0x1F | 0x80..=0x9F => Some(Self {
                proprietary,
                chained,
                messaging: match cla & 0x0C {
                    0x00 => Messaging::None,
                    0x04 => Messaging::GlobalPlatform,
                    _ => Messaging::Iso,
                },
                channel: cla & 0x03,
            }),
            0x40..=0x7F | 0xC0..=0xFE => Some(Self {
                proprietary,
                chained,
                messaging: if cla & 0x20 == 0 {
                    Messaging::None
                } else {
                    Messaging::Iso
                },
                channel: 4 + (cla & 0x0F),
            }),
            0x20..=0x3F | 0xA0..=0xBF | 0xFF => None,
        }
    }
}

/// A command whose lengths are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// The class byte as it came.
    pub cla: u8,
    /// What it says.
    pub class: Class,
    /// Instruction byte.
    pub ins: u8,
    /// First parameter byte.
    pub p1: u8,
    /// Second parameter byte.
    pub p2: u8,
    /// The data field, Nc = 0 to 65,535 bytes.
    pub data: &'a [u8],
    /// Ne: how many bytes of answer are expected at most, 1 to 65,536; 0 where Le is absent.
    pub ne: usize,
    /// Whether the lengths are in extended form.
    pub extended: bool,
}

impl<'a> Command<'a> {
    /// Takes a command APDU apart: 6700 if its lengths do not fit, 6E00 if its class byte is none.
    pub fn parse(apdu: &'a [u8]) -> Result<Self, StatusWord> {
        let Some((&[cla, ins, p1, p2], body)) = apdu.split_first_chunk::<HEADER>() else {
            return Err(StatusWord::WRONG_LENGTH);
        };
        let class = Class::decode(cla).ok_or(StatusWord::CLASS)?;
        let (data, ne, extended) = body_of(body).ok_or(StatusWord::WRONG_LENGTH)?;
        Ok(Self {
            cla,
            class,
            ins,
            p1,
            p2,
            data,
            ne,
            extended,
        })
    }

    /// P1 and P2 as one number.
    pub const fn p1p2(&self) -> u16 {
        u16::from_be_bytes([self.p1, self.p2])
    }
}

/// Data, Ne, extended (ISO/IEC 7816-3:2006, 12.1.3).
fn body_of(body: &[u8]) -> Option<(&[u8], usize, bool)> {
    match body {
        [] => Some((&[], 0, false)),
        [le] => Some((&[], short_ne(*le), false)),
        [0, high, low] => Some((&[], extended_ne([*high, *low]), true)),
        [0, high, low, rest @ ..] => {
            let lc = usize::from(u16::from_be_bytes([*high, *low]));
            let (data, le) = rest.split_at_checked(lc)?;
            let ne = match le {
                [] => 0,
                [high, low] => extended_ne([*high, *low]),
                _ => return None,
            };
            (lc > 0).then_some((data, ne, true))
        }
        [0, ..] => None,
        [lc, rest @ ..] => {
            let (data, le) = rest.split_at_checked(usize::from(*lc))?;
            match le {
                [] => Some((data, 0, false)),
                [le] => Some((data, short_ne(*le), false)),
                _ => None,
            }
        }
    }
}

/// Le of one byte: 00 stands for 256.
fn short_ne(le: u8) -> usize {
    if le == 0 { 256 } else { usize::from(le) }
}

/// Le of two bytes: 0000 stands for 65,536.
fn extended_ne(le: [u8; 2]) -> usize {
    match u16::from_be_bytes(le) {
        0 => 65_536,
        ne => usize::from(ne),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(cla: u8) -> (bool, bool, Messaging, u8) {
        let class = Class::decode(cla).expect("a class that exists");
        (
            class.proprietary,
            class.chained,
            class.messaging,
            class.channel,
        )
    }

    /// ISO/IEC 7816-4:2020, tables 2 and 3, a row each.
    #[test]
    fn class_bytes_mean_what_the_standard_says() {
        assert_eq!(class(0x00), (false, false, Messaging::None, 0));
        assert_eq!(class(0x03), (false, false, Messaging::None, 3));
        assert_eq!(class(0x10), (false, true, Messaging::None, 0));
        assert_eq!(class(0x04), (false, false, Messaging::GlobalPlatform, 0));
        assert_eq!(class(0x08), (false, false, Messaging::Iso, 0));
        assert_eq!(class(0x0C), (false, false, Messaging::Iso, 0));
        assert_eq!(class(0x40), (false, false, Messaging::None, 4));
        assert_eq!(class(0x4A), (false, false, Messaging::None, 14));
        assert_eq!(class(0x6F), (false, false, Messaging::Iso, 19));
        assert_eq!(class(0x50), (false, true, Messaging::None, 4));
        assert_eq!(class(0x80), (true, false, Messaging::None, 0));
        assert_eq!(class(0x84), (true, false, Messaging::GlobalPlatform, 0));
        assert_eq!(class(0x91), (true, true, Messaging::None, 1));
        assert_eq!(class(0xC5), (true, false, Messaging::None, 9));
    }

    #[test]
    fn reserved_class_bytes_are_refused() {
        for cla in (0x20..=0x3F).chain(0xA0..=0xBF).chain([0xFF]) {
            assert_eq!(Class::decode(cla), None, "{cla:02X}");
        }
    }

    fn cases(body: &str) -> Result<(usize, usize, bool), StatusWord> {
        let apdu = hex::decode(format!("00A40400{body}")).expect("hex");
        let command = Command::parse(&apdu)?;
        Ok((command.data.len(), command.ne, command.extended))
    }

    #[test]
    fn each_case_is_told_from_the_others() {
        assert_eq!(cases(""), Ok((0, 0, false)), "1");
        assert_eq!(cases("05"), Ok((0, 5, false)), "2S");
        assert_eq!(cases("00"), Ok((0, 256, false)), "2S");
        assert_eq!(cases("000005"), Ok((0, 5, true)), "2E");
        assert_eq!(cases("000000"), Ok((0, 65_536, true)), "2E");
        assert_eq!(cases("02AABB"), Ok((2, 0, false)), "3S");
        assert_eq!(cases("02AABB00"), Ok((2, 256, false)), "4S");
        assert_eq!(cases("000002AABB"), Ok((2, 0, true)), "3E");
        assert_eq!(cases("000002AABB0100"), Ok((2, 256, true)), "4E");
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        for body in [
            "0000",
            "02AA",
            "02AABB0000",
            "000002AA",
            "000002AABB00",
            "000000AA",
            "00000000",
            "000001AABBCCDD",
        ] {
            assert_eq!(cases(body), Err(StatusWord::WRONG_LENGTH), "{body}");
        }
        for short in [&[][..], &[0], &[0, 1, 2]] {
            assert_eq!(Command::parse(short), Err(StatusWord::WRONG_LENGTH));
        }
    }
}
