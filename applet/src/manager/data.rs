//! GET DATA and STORE DATA of the card manager (Card Specification 2.3, 11.3 and 11.11).

use protocol::{card::StatusWord, tlv};

use super::objects::{self, CARD_NUMBER, ISSUER_NUMBER};
use crate::{apdu::Command, runtime::Env};

/// P1-P2 and tags.
const ISSUER: u16 = 0x0042;
const CARD: u16 = 0x0045;
const CARD_DATA: u16 = 0x0066;
const SEQUENCE: u16 = 0x00C1;
const KEY_INFORMATION: u16 = 0x00E0;
/// The longest number of issuer or card, in bytes.
const LONGEST_NUMBER: usize = 16;
/// P1 of STORE DATA: the last block.
const LAST_BLOCK: u8 = 0x80;

/// Object identifiers under {iso(1) member-body(2) country-USA(840) GlobalPlatform(114283)} (Card Specification 2.3, H.1).
const OID_CARD_RECOGNITION: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xFC, 0x6B, 0x01];
const OID_MANAGEMENT: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xFC, 0x6B, 0x02, 0x02, 0x03];
const OID_IDENTIFICATION: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xFC, 0x6B, 0x03];
const OID_SECURE_CHANNEL: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xFC, 0x6B, 0x04];
const OID: u32 = 0x06;

/// 6A88 where there is no such object.
pub(super) fn get(env: &mut Env<'_>, p1p2: u16) -> Result<(), StatusWord> {
    let mut out = Vec::new();
    match p1p2 {
        ISSUER => number(env, ISSUER_NUMBER, ISSUER, &mut out)?,
        CARD => number(env, CARD_NUMBER, CARD, &mut out)?,
        CARD_DATA => card_data(env, &mut out),
        SEQUENCE => sequence(env, &mut out)?,
        KEY_INFORMATION => key_information(env, &mut out),
        _ => return Err(StatusWord::NO_SUCH_DATA),
    }
    env.answer().extend_from_slice(&out);
    Ok(())
}

fn number(env: &Env<'_>, object: u16, tag: u16, out: &mut Vec<u8>) -> Result<(), StatusWord> {
    let value = env.get(object).ok_or(StatusWord::NO_SUCH_DATA)?;
    tlv::put(out, u32::from(tag), value);
    Ok(())
}

/// Card recognition data: what kind of card this is and which secure channel it speaks.
fn card_data(env: &Env<'_>, out: &mut Vec<u8>) {
    let scp = [OID_SECURE_CHANNEL, &[0x03, objects::options(env).byte()]].concat();
    tlv::put_with(out, 0x66, |data| {
        tlv::put_with(data, 0x73, |recognition| {
            tlv::put(recognition, OID, OID_CARD_RECOGNITION);
            for (tag, oid) in [
                (0x60, OID_MANAGEMENT),
                (0x63, OID_IDENTIFICATION),
                (0x64, &scp),
            ] {
                tlv::put_with(recognition, tag, |body| tlv::put(body, OID, oid));
            }
        });
    });
}

/// The sequence counter of the first key set.
fn sequence(env: &Env<'_>, out: &mut Vec<u8>) -> Result<(), StatusWord> {
    let (_, set) = objects::key_set(env, 0).ok_or(StatusWord::NO_SUCH_DATA)?;
    tlv::put(out, u32::from(SEQUENCE), &set.sequence.to_be_bytes()[1..]);
    Ok(())
}

/// Identifier, version, type (88 AES) and length of each key.
fn key_information(env: &Env<'_>, out: &mut Vec<u8>) {
    tlv::put_with(out, 0xE0, |information| {
        for version in objects::versions(env) {
            let Some((_, set)) = objects::key_set(env, version) else {
                continue;
            };
            let keys = [&set.keys.enc, &set.keys.mac, &set.keys.dek];
            for (identifier, key) in (1u8..).zip(keys) {
                let length = key.as_bytes().len().to_le_bytes()[0];
                tlv::put(information, 0xC0, &[identifier, version, 0x88, length]);
            }
        }
    });
}

/// The numbers of issuer (42) and card (45), in one block.
pub(super) fn store(env: &mut Env<'_>, command: &Command<'_>) -> Result<(), StatusWord> {
    if command.p1 & LAST_BLOCK == 0 || command.p2 != 0 {
        return Err(StatusWord::WRONG_P1P2);
    }
    env.begin()?;
    for object in tlv::Reader::new(command.data) {
        let object = object.map_err(|_| StatusWord::WRONG_DATA)?;
        let id = match u16::try_from(object.tag) {
            Ok(ISSUER) => ISSUER_NUMBER,
            Ok(CARD) => CARD_NUMBER,
            _ => return Err(StatusWord::WRONG_DATA),
        };
        if object.value.is_empty() || object.value.len() > LONGEST_NUMBER {
            return Err(StatusWord::WRONG_DATA);
        }
        env.put(id, object.value)?;
    }
    env.commit()
}
