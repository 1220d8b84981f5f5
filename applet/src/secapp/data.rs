//! GET DATA: what SecApp tells of itself, each as a whole data object.

use protocol::{
    card::{StatusWord, tag},
    tlv,
};

use super::{
    SecApp, keys,
    state::{OUTCOME, decode_outcome},
};
use crate::runtime::Env;

/// P1-P2 of the objects with a fixed tag.
const LAST_OUTCOME: u16 = 0x00E1;
const STATISTICS: u16 = 0x00E7;
const ICCID: u16 = 0x005A;
/// P1 of public keys; P2 is the slot.
const PUBLIC_KEY: u8 = 0x01;

impl SecApp {
    /// 6A88 where there is no such object, or not yet.
    pub(super) fn get_data(&mut self, env: &mut Env<'_>, p1p2: u16) -> Result<(), StatusWord> {
        match p1p2 {
            LAST_OUTCOME => last_outcome(env),
            STATISTICS => self.statistics(env),
            ICCID => self.iccid(env),
            _ => match p1p2.to_be_bytes() {
                [PUBLIC_KEY, slot] => public_key(env, slot),
                _ => Err(StatusWord::NO_SUCH_DATA),
            },
        }
    }

    /// With what was refused since the last commit.
    fn statistics(&mut self, env: &mut Env<'_>) -> Result<(), StatusWord> {
        let refused = self.refused;
        let mut counted = self.state(env)?.chain.statistics;
        counted.refused = counted.refused.saturating_add(refused);
        env.answer().extend_from_slice(&counted.encode());
        Ok(())
    }

    fn iccid(&mut self, env: &mut Env<'_>) -> Result<(), StatusWord> {
        let iccid = self.state(env)?.profile.iccid;
        tlv::put(env.answer(), tag::ICCID, iccid.as_bytes());
        Ok(())
    }
}

fn last_outcome(env: &mut Env<'_>) -> Result<(), StatusWord> {
    let object = env.get(OUTCOME).ok_or(StatusWord::NO_SUCH_DATA)?;
    let outcome = decode_outcome(object).ok_or(StatusWord::MEMORY_FAILURE)?;
    env.answer().extend_from_slice(&outcome.encode());
    Ok(())
}

fn public_key(env: &mut Env<'_>, slot: u8) -> Result<(), StatusWord> {
    let point = keys::public(env, slot)
        .ok_or(StatusWord::NO_SUCH_DATA)?
        .to_vec();
    tlv::put_with(env.answer(), tag::PUBLIC_KEY, |template| {
        tlv::put(template, tag::POINT, &point);
    });
    Ok(())
}
