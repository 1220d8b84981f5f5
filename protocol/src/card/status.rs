//! Status words: how a card says what became of a command (ISO/IEC 7816-4:2020, 5.6).

use core::fmt;

/// A status word, SW1-SW2 (ISO/IEC 7816-4:2020, 5.6).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StatusWord(pub u16);

impl StatusWord {
    /// Normal processing.
    pub const OK: Self = Self(0x9000);
    /// Memory failure.
    pub const MEMORY_FAILURE: Self = Self(0x6581);
    /// Wrong length.
    pub const WRONG_LENGTH: Self = Self(0x6700);
    /// Logical channel not supported or not open.
    pub const CHANNEL: Self = Self(0x6881);
    /// Secure messaging not supported.
    pub const SECURE_MESSAGING: Self = Self(0x6882);
    /// Last command of the chain expected.
    pub const LAST_OF_CHAIN: Self = Self(0x6883);
    /// Command chaining not supported.
    pub const CHAINING: Self = Self(0x6884);
    /// Security status not satisfied.
    pub const SECURITY_STATUS: Self = Self(0x6982);
    /// Conditions of use not satisfied: no poll is open.
    pub const CONDITIONS: Self = Self(0x6985);
    /// Command not allowed, no application is selected.
    pub const NOT_ALLOWED: Self = Self(0x6986);
    /// Wrong data: not of the form.
    pub const WRONG_DATA: Self = Self(0x6A80);
    /// Function not supported.
    pub const FUNCTION: Self = Self(0x6A81);
    /// File or application not found.
    pub const NOT_FOUND: Self = Self(0x6A82);
    /// Wrong P1-P2.
    pub const WRONG_P1P2: Self = Self(0x6A86);
    /// Referenced data not found.
    pub const NO_SUCH_DATA: Self = Self(0x6A88);
    /// Instruction not supported.
    pub const INS: Self = Self(0x6D00);
    /// Class not supported.
    pub const CLASS: Self = Self(0x6E00);
    /// The response is not authentic (ETSI TS 102 221, 10.2.1.5: authentication error, incorrect MAC).
    pub const NOT_AUTHENTIC: Self = Self(0x9862);
    /// The response is authentic and its Sent cannot be.
    pub const IMPOSSIBLE_SENT: Self = Self(0x9865);

    /// `61XX`: this many bytes are still available (00: 256 or more).
    pub const fn more(bytes: u8) -> Self {
        Self(0x6100 | bytes as u16)
    }

    /// `6CXX`: wrong Le; this is the right one (00: 256).
    pub const fn right_le(le: u8) -> Self {
        Self(0x6C00 | le as u16)
    }

    /// SW1 and SW2.
    pub const fn to_bytes(self) -> [u8; 2] {
        self.0.to_be_bytes()
    }

    /// The meaning in words, where ISO/IEC 7816-4, ETSI TS 102 221 or SecApp gives it one.
    pub const fn meaning(self) -> &'static str {
        match (self, self.0 >> 8) {
            (Self::OK, _) => "done",
            (Self::MEMORY_FAILURE, _) => "memory failure",
            (Self::WRONG_LENGTH, _) => "wrong length",
            (Self::CHANNEL, _) => "logical channel not supported or not open",
            (Self::SECURE_MESSAGING, _) => "secure messaging not supported",
            (Self::LAST_OF_CHAIN, _) => "last command of the chain expected",
            (Self::CHAINING, _) => "command chaining not supported",
            (Self::SECURITY_STATUS, _) => "security status not satisfied",
            (Self::CONDITIONS, _) => "conditions of use not satisfied (no poll is open)",
            (Self::NOT_ALLOWED, _) => "command not allowed (no application is selected)",
            (Self::WRONG_DATA, _) => "wrong data",
            (Self::FUNCTION, _) => "function not supported",
            (Self::NOT_FOUND, _) => "no such application",
            (Self::WRONG_P1P2, _) => "wrong P1 or P2",
            (Self::NO_SUCH_DATA, _) => "no such data",
            (Self::INS, _) => "instruction not supported",
            (Self::CLASS, _) => "class not supported",
            (Self::NOT_AUTHENTIC, _) => "the response is not authentic",
            (Self::IMPOSSIBLE_SENT, _) => "the response is authentic, but its Sent cannot be",
            (_, 0x61) => "more data available",
            (_, 0x6C) => "wrong Le",
            _ => "unknown status",
        }
    }
}

impl From<[u8; 2]> for StatusWord {
    fn from(bytes: [u8; 2]) -> Self {
        Self(u16::from_be_bytes(bytes))
    }
}

impl fmt::Display for StatusWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X} ({})", self.0, self.meaning())
    }
}

impl fmt::Debug for StatusWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X}", self.0)
    }
}
