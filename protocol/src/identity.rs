//! Identities as they stand on the wire and in the SIM: UID, ICCID, the seed UID_Rand, and the
//! mode that both sides must share.

use core::{fmt, str::FromStr};

use alloc::string::String;

/// Length of an identity in bytes: that of an ICCID in EF_ICCID (ETSI TS 102 221, 13.2).
pub const UID_LEN: usize = 10;
/// Length of the seed of the next identity and key, in bytes.
pub const UID_RAND_LEN: usize = 8;

/// `UID_n`: the name under which a device polls once. Not a secret, but what links two of them is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(pub [u8; UID_LEN]);

impl Uid {
    /// Reads 20 hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, UidTextError> {
        let mut bytes = [0; UID_LEN];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| UidTextError)?;
        Ok(Self(bytes))
    }

    /// The first four bytes in hexadecimal: enough to tell devices apart on a screen.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

/// An identity in text that is not 20 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an identity has 20 hexadecimal digits (10 bytes)")]
pub struct UidTextError;

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uid({self})")
    }
}

/// `UID_Rand`: the seed of the next identity and key. To the outside a random number, so it is
/// treated as a secret: whoever has it and `K_n` has the chain.
#[derive(Clone, Copy, PartialEq, Eq, zeroize::Zeroize)]
pub struct UidRand(pub [u8; UID_RAND_LEN]);

impl fmt::Debug for UidRand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UidRand(redacted)")
    }
}

/// An ICCID as EF_ICCID holds it: swapped BCD, F-padded (ETSI TS 102 221, 13.2).
///
/// Printed and parsed as its 18 to 20 decimal digits. The check digit is not verified: cards with
/// 20 digits, and test cards, do not follow ITU-T E.118.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Iccid([u8; UID_LEN]);

/// Why a text or ten bytes are not an ICCID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IccidError {
    /// Not a decimal digit, at this position counted from 1.
    #[error("an ICCID is made of decimal digits; character {0} is not one")]
    Digit(usize),
    /// Fewer than 18 or more than 20 digits.
    #[error("an ICCID has 18 to 20 digits, this one has {0}")]
    Length(usize),
    /// Bytes that are not swapped BCD with F padding at the end.
    #[error("not an ICCID in swapped BCD with F padding: wrong nibble at digit {0}")]
    Bcd(usize),
}

impl Iccid {
    /// Takes the ten bytes of EF_ICCID.
    pub fn from_bytes(bytes: [u8; UID_LEN]) -> Result<Self, IccidError> {
        let iccid = Self(bytes);
        let digits = iccid.nibbles().take_while(|n| *n != 0xF).count();
        if let Some(at) = iccid.nibbles().take(digits).position(|n| n > 9) {
            return Err(IccidError::Bcd(at + 1));
        }
        if let Some(at) = iccid.nibbles().skip(digits).position(|n| n != 0xF) {
            return Err(IccidError::Bcd(digits + at + 1));
        }
        if digits < 18 {
            Err(IccidError::Length(digits))
        } else {
            Ok(iccid)
        }
    }

    /// The ten bytes of EF_ICCID.
    pub const fn as_bytes(&self) -> &[u8; UID_LEN] {
        &self.0
    }

    /// The digits in reading order, padding included.
    fn nibbles(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.iter().flat_map(|byte| [byte & 0x0F, byte >> 4])
    }
}

impl FromStr for Iccid {
    type Err = IccidError;

    fn from_str(text: &str) -> Result<Self, IccidError> {
        if let Some(at) = text.chars().position(|c| !c.is_ascii_digit()) {
            return Err(IccidError::Digit(at + 1));
        }
        if !(18..=20).contains(&text.len()) {
            return Err(IccidError::Length(text.len()));
        }
        let mut bytes = [0xFF; UID_LEN];
        for (pair, byte) in text.as_bytes().chunks(2).zip(&mut bytes) {
            let low = pair[0] - b'0';
            let high = pair.get(1).map_or(0xF, |digit| digit - b'0');
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Iccid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.nibbles()
            .take_while(|n| *n != 0xF)
            .try_for_each(|digit| write!(f, "{digit}"))
    }
}

impl fmt::Debug for Iccid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Iccid({self})")
    }
}

impl From<Iccid> for Uid {
    fn from(iccid: Iccid) -> Self {
        Self(iccid.0)
    }
}

/// How a subscription's chain works; one byte, the same on card and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mode(u8);

/// A mode byte with bits that version 1 does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mode {0} does not exist: 0 = bare, 1 = ROTATE, 2 = AUTH, 3 = both")]
pub struct ModeError(pub u8);

impl Mode {
    /// Neither rotation nor authenticated polls: the bare method.
    pub const BARE: Self = Self(0);
    /// ROTATE and AUTH.
    pub const DEFAULT: Self = Self(Self::ROTATE | Self::AUTH);
    const ROTATE: u8 = 1;
    const AUTH: u8 = 2;

    /// Takes a mode byte, 0 to 3.
    pub const fn from_byte(byte: u8) -> Result<Self, ModeError> {
        if byte & !(Self::ROTATE | Self::AUTH) == 0 {
            Ok(Self(byte))
        } else {
            Err(ModeError(byte))
        }
    }

    /// The byte as it enters every derivation.
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// ROTATE: the key changes with every accepted response.
    pub const fn rotates(self) -> bool {
        self.0 & Self::ROTATE != 0
    }

    /// AUTH: polls carry a MAC.
    pub const fn authenticates_polls(self) -> bool {
        self.0 & Self::AUTH != 0
    }
}

#[cfg(test)]
mod tests {
    use super::{Iccid, IccidError, Mode};
    use alloc::string::ToString;

    #[test]
    fn iccid_is_swapped_bcd_padded_with_f() {
        let iccid: Iccid = "8988374172470184089".parse().unwrap();
        assert_eq!(hex::encode(iccid.as_bytes()), "988873142774104880f9");
        assert_eq!(iccid.to_string(), "8988374172470184089");
        assert_eq!(Iccid::from_bytes(*iccid.as_bytes()), Ok(iccid));
    }

    #[test]
    fn iccid_of_18_and_20_digits_round_trips() {
        for digits in ["898837417247018408", "89883741724701840892"] {
            let iccid: Iccid = digits.parse().unwrap();
            assert_eq!(
                Iccid::from_bytes(*iccid.as_bytes()).unwrap().to_string(),
                digits
            );
        }
    }

    #[test]
    fn what_is_not_an_iccid_is_named() {
        assert_eq!("89x".parse::<Iccid>(), Err(IccidError::Digit(3)));
        assert_eq!("89".parse::<Iccid>(), Err(IccidError::Length(2)));
        assert_eq!(
            "898837417247018408921".parse::<Iccid>(),
            Err(IccidError::Length(21))
        );
        assert_eq!(Iccid::from_bytes([0xA8; 10]), Err(IccidError::Bcd(2)));
        assert_eq!(
            Iccid::from_bytes([0x98, 0xF8, 0, 0, 0, 0, 0, 0, 0, 0]),
            Err(IccidError::Bcd(5))
        );
        assert_eq!(Iccid::from_bytes([0xFF; 10]), Err(IccidError::Length(0)));
    }

    #[test]
    fn only_four_modes_exist() {
        assert!((0..=3).all(|byte| Mode::from_byte(byte).is_ok()));
        assert!((4..=255).all(|byte| Mode::from_byte(byte).is_err()));
    }
}
