//! GET STATUS and SET STATUS (Card Specification 2.3, 11.4 and 11.10; life cycles: 5.1 and 5.3).

use protocol::{card::StatusWord, tlv};

use crate::{
    aid::Aid,
    apdu::Command,
    runtime::{Env, LifeCycle},
};

/// P1: the card manager itself; applications.
const CARD: u8 = 0x80;
/// Tags of GET STATUS.
const REGISTRY: u32 = 0xE3;
const AID: u32 = 0x4F;
const PRIVILEGES: u32 = 0xC5;
/// Security domain, default selected (Card Specification 2.3, table 11-7).
const MANAGER_PRIVILEGES: [u8; 3] = [0x84, 0x00, 0x00];
/// P2 bit 8: locked.
const LOCK: u8 = 0x80;

/// All whose AID begins as `4F` says, as `E3 { 4F 9F70 C5 }` each. Only within a session.
pub(super) fn get(env: &mut Env<'_>, command: &Command<'_>) -> Result<(), StatusWord> {
    if !env.is_authenticated() {
        return Err(StatusWord::SECURITY_STATUS);
    }
    let part = tlv::find(command.data, AID).map_err(|_| StatusWord::WRONG_DATA)?;
    let part = part.ok_or(StatusWord::WRONG_DATA)?;
    let manager = super::aid();
    let mut out = Vec::new();
    for (aid, state) in env.applications() {
        if (aid == manager) == (command.p1 == CARD) && aid.begins_with(part) {
            let privileges = if aid == manager {
                MANAGER_PRIVILEGES
            } else {
                [0; 3]
            };
            entry(&mut out, &aid, state, privileges);
        }
    }
    if out.is_empty() {
        return Err(StatusWord::NO_SUCH_DATA);
    }
    env.answer().extend_from_slice(&out);
    Ok(())
}

fn entry(out: &mut Vec<u8>, aid: &Aid, state: LifeCycle, privileges: [u8; 3]) {
    tlv::put_with(out, REGISTRY, |body| {
        tlv::put(body, AID, aid.as_bytes());
        tlv::put(body, super::STATE, &[state.byte()]);
        tlv::put(body, PRIVILEGES, &privileges);
    });
}

pub(super) fn set(env: &mut Env<'_>, command: &Command<'_>) -> Result<(), StatusWord> {
    if command.p1 == CARD {
        set_card(env, command.p2)
    } else {
        set_application(env, command.p2, command.data)
    }
}

/// The card goes forward one by one, is locked and unlocked, and ends from anywhere.
fn set_card(env: &mut Env<'_>, wanted: u8) -> Result<(), StatusWord> {
    let wanted = LifeCycle::from_byte(wanted);
    let now = env.life_cycle();
    let allowed = matches!(
        (now, wanted),
        (LifeCycle::OP_READY, LifeCycle::INITIALIZED)
            | (
                LifeCycle::INITIALIZED | LifeCycle::CARD_LOCKED,
                LifeCycle::SECURED
            )
            | (LifeCycle::SECURED, LifeCycle::CARD_LOCKED)
            | (_, LifeCycle::TERMINATED)
    );
    if !allowed {
        return Err(StatusWord::CONDITIONS);
    }
    env.set_life_cycle(wanted)
}

/// An application is blocked (bit 8), and put back into the state that it was in.
fn set_application(env: &mut Env<'_>, p2: u8, aid: &[u8]) -> Result<(), StatusWord> {
    let aid = Aid::new(aid).map_err(|_| StatusWord::WRONG_DATA)?;
    if aid == super::aid() {
        return Err(StatusWord::CONDITIONS);
    }
    let found = env
        .applications()
        .into_iter()
        .find(|(name, _)| *name == aid);
    let (_, now) = found.ok_or(StatusWord::NO_SUCH_DATA)?;
    let wanted = if p2 & LOCK == 0 {
        now.unlocked()
    } else {
        now.locked()
    };
    env.set_life_cycle_of(&aid, wanted)
}
