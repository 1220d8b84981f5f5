//! SecApp's commands as short APDUs, composed with `apdu-core`.
//!
//! Short ones only: `apdu-core` 0.4 writes extended lengths little-endian.

use apdu_core::Command;
use protocol::{
    card::{AID, CLA, get_uid, ins},
    response::MAX_LEN,
};

/// Class of interindustry commands, channel 0 (ISO/IEC 7816-4:2020, 5.4.1).
const CLA_INTERINDUSTRY: u8 = 0x00;
/// Le of 256: as much as there is (ISO/IEC 7816-4:2020, 5.2).
const ALL: u16 = 0;

/// P1 of SELECT: by DF name (ISO/IEC 7816-4:2020, 11.2.2).
const BY_NAME: u8 = 0x04;
/// P2 of SELECT: first occurrence, FCI wanted.
const FCI: u8 = 0x00;
/// P2 of SELECT: first occurrence, no answer.
const NO_ANSWER: u8 = 0x0C;

/// P1 of STORE DATA: the last block (GlobalPlatform Card Specification 2.3, 11.11.2.1).
const LAST_BLOCK: u8 = 0x80;

/// SELECT SecApp, and tell of it.
pub fn select() -> Vec<u8> {
    bytes(&Command::new_with_payload_le(
        CLA_INTERINDUSTRY,
        ins::SELECT,
        BY_NAME,
        FCI,
        ALL,
        &AID,
    ))
}

/// SELECT SecApp without an answer.
pub fn select_quietly() -> Vec<u8> {
    bytes(&Command::new_with_payload(
        CLA_INTERINDUSTRY,
        ins::SELECT,
        BY_NAME,
        NO_ANSWER,
        &AID,
    ))
}

/// GET-UID.
pub fn get_uid(after_silence: bool) -> Vec<u8> {
    let p1 = if after_silence {
        get_uid::AFTER_SILENCE
    } else {
        get_uid::AS_IT_STANDS
    };
    bytes(&Command::new_with_le(CLA, ins::GET_UID, p1, 0, ALL))
}

/// PROCESS-RESPONSE with a response datagram, of which at most the first 255 bytes are taken: a
/// longer one is no response.
pub fn process_response(response: &[u8]) -> Vec<u8> {
    let data = &response[..response.len().min(MAX_LEN)];
    bytes(&Command::new_with_payload_le(
        CLA,
        ins::PROCESS_RESPONSE,
        0,
        0,
        ALL,
        data,
    ))
}

/// GET DATA of an object whose tag has one or two bytes.
pub fn get_data(tag: u32) -> Vec<u8> {
    let [_, _, p1, p2] = tag.to_be_bytes();
    bytes(&Command::new_with_le(CLA, ins::GET_DATA, p1, p2, ALL))
}

/// SIGN-SESSION with a server's challenge.
pub fn sign_session(challenge: &[u8; 16]) -> Vec<u8> {
    bytes(&Command::new_with_payload_le(
        CLA,
        ins::SIGN_SESSION,
        0,
        0,
        ALL,
        challenge,
    ))
}

/// INITIALIZE UPDATE with the host's challenge, 8 or 16 bytes (GlobalPlatform Amendment D, 7.1.1). Version 00 is the
/// card's choice.
pub fn initialize_update(version: u8, challenge: &[u8]) -> Vec<u8> {
    bytes(&Command::new_with_payload_le(
        CLA,
        ins::INITIALIZE_UPDATE,
        version,
        0,
        ALL,
        challenge,
    ))
}

/// STORE DATA in one block, to be protected.
pub fn store_data(data: &[u8]) -> Vec<u8> {
    bytes(&Command::new_with_payload_le(
        CLA,
        ins::STORE_DATA,
        LAST_BLOCK,
        0,
        ALL,
        data,
    ))
}

/// Into zeroed memory; the crate's own conversion goes through uninitialised memory.
fn bytes(command: &Command<'_>) -> Vec<u8> {
    let mut out = vec![0; command.len()];
    command.write(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::card::tag;

    #[test]
    fn commands_are_those_of_the_card_interface() {
        for (command, expected) in [
            (select(), "00a4040008f04754534150500100"),
            (select_quietly(), "00a4040c08f047545341505001"),
            (get_uid(false), "8040000000"),
            (get_uid(true), "8040010000"),
            (process_response(&[0x81, 1, 2]), "804200000381010200"),
            (get_data(tag::OUTCOME), "80ca00e100"),
            (get_data(tag::ICCID), "80ca005a00"),
            (
                sign_session(&[0xAB; 16]),
                "8044000010abababababababababababababababab00",
            ),
            (
                initialize_update(0x30, &[0xAB; 8]),
                "8050300008abababababababab00",
            ),
            (store_data(&[0xE8, 0]), "80e2800002e80000"),
        ] {
            assert_eq!(hex::encode(command), expected);
        }
    }

    #[test]
    fn the_longest_response_fits_into_a_short_command() {
        let command = process_response(&[0x81; 300]);
        assert_eq!(command.len(), 5 + 255 + 1);
        assert_eq!(command[4], 255);
    }
}
