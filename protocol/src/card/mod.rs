//! The interface between terminal and card: what both sides must spell alike.
//!
//! Commands and status words are ISO/IEC 7816-4's; the class, the instructions and the data
//! objects are SecApp's own (`docs/card-interface.md`).

mod outcome;
mod status;

pub use outcome::{Flags, ObjectError, Outcome, Statistics, fixed, required};
pub use status::StatusWord;

/// SecApp's application identifier: proprietary, without a registered provider (ISO/IEC 7816-4:2020, 12.3.4).
pub const AID: [u8; 8] = [0xF0, 0x47, 0x54, 0x53, 0x41, 0x50, 0x50, 0x01];
/// The version that SELECT's FCI tells.
pub const VERSION: u8 = 1;

/// Class byte of SecApp's own commands, channel 0, no secure messaging.
pub const CLA: u8 = 0x80;

/// Instruction bytes of the commands that SecApp answers.
pub mod ins {
    /// GET-UID: the poll to be sent.
    pub const GET_UID: u8 = 0x40;
    /// PROCESS-RESPONSE: the datagram that came back.
    pub const PROCESS_RESPONSE: u8 = 0x42;
    /// SIGN-SESSION: proof for an OTA session.
    pub const SIGN_SESSION: u8 = 0x44;
    /// INITIALIZE UPDATE (GlobalPlatform Card Specification Amendment D, 7.1.1).
    pub const INITIALIZE_UPDATE: u8 = 0x50;
    /// MANAGE CHANNEL (ISO/IEC 7816-4:2020, 11.1.2).
    pub const MANAGE_CHANNEL: u8 = 0x70;
    /// EXTERNAL AUTHENTICATE (GlobalPlatform Card Specification Amendment D, 7.1.2).
    pub const EXTERNAL_AUTHENTICATE: u8 = 0x82;
    /// INTERNAL AUTHENTICATE: a key made on board signs a challenge (ISO/IEC 7816-4:2020, 11.5.2).
    pub const INTERNAL_AUTHENTICATE: u8 = 0x88;
    /// SELECT (ISO/IEC 7816-4:2020, 11.2.2).
    pub const SELECT: u8 = 0xA4;
    /// GET RESPONSE (ISO/IEC 7816-4:2020, 11.8.1).
    pub const GET_RESPONSE: u8 = 0xC0;
    /// GET DATA (ISO/IEC 7816-4:2020, 11.4.3).
    pub const GET_DATA: u8 = 0xCA;
    /// STORE DATA (GlobalPlatform Card Specification, 11.11).
    pub const STORE_DATA: u8 = 0xE2;
}

/// P1 of GET-UID.
pub mod get_uid {
    /// With the count of resends as it stands. Writes nothing.
    pub const AS_IT_STANDS: u8 = 0x00;
    /// A poll has gone unanswered: the count is raised first.
    pub const AFTER_SILENCE: u8 = 0x01;
}

/// Tags of the data objects in SecApp's answers.
pub mod tag {
    /// FCI template.
    pub const FCI: u32 = 0x6F;
    /// DF name: the AID.
    pub const DF_NAME: u32 = 0x84;
    /// Proprietary information inside the FCI.
    pub const PROPRIETARY: u32 = 0xA5;
    /// Version, in the FCI.
    pub const VERSION: u32 = 0xC1;
    /// Mode, in the FCI.
    pub const MODE: u32 = 0xC2;
    /// Life-cycle state (GlobalPlatform), in the FCI.
    pub const LIFE_CYCLE: u32 = 0xC3;
    /// The last outcome.
    pub const OUTCOME: u32 = 0xE1;
    /// MSG, in the outcome.
    pub const MSG: u32 = 0xE3;
    /// Sent, in the outcome.
    pub const SENT: u32 = 0xC4;
    /// Resend_Counter, in the outcome.
    pub const RESEND_COUNTER: u32 = 0xC5;
    /// Flags, in the outcome.
    pub const FLAGS: u32 = 0xC6;
    /// Statistics.
    pub const STATISTICS: u32 = 0xE7;
    /// Responses accepted.
    pub const ACCEPTED: u32 = 0xC8;
    /// Responses refused.
    pub const REFUSED: u32 = 0xC9;
    /// Polls lost on the way up.
    pub const POLLS_LOST: u32 = 0xCA;
    /// Answers lost on the way down.
    pub const ANSWERS_LOST: u32 = 0xCB;
    /// e: recovery identities used up.
    pub const RECOVERY: u32 = 0xCC;
    /// Id of the last message.
    pub const LAST_MESSAGE: u32 = 0xCD;
    /// Public key template.
    pub const PUBLIC_KEY: u32 = 0x7F49;
    /// Public point, in the public key template.
    pub const POINT: u32 = 0x86;
    /// ICCID.
    pub const ICCID: u32 = 0x5A;
    /// Personalisation, in STORE DATA.
    pub const PERSONALISATION: u32 = 0xE8;
    /// K under the session's DEK, in personalisation.
    pub const KEY: u32 = 0xD0;
    /// Mode, in personalisation.
    pub const GIVEN_MODE: u32 = 0xD1;
    /// First identity, in personalisation: absent is the ICCID, one byte 01 concealed, ten bytes itself.
    pub const FIRST_IDENTITY: u32 = 0xD2;
}
