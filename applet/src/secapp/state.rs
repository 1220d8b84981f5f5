//! What SecApp keeps, as persistent objects. `docs/storage-card.md` has the same table in words.
//!
//! ```text
//! 0001  life cycle   state:1 (the runtime's)
//! 0002  profile      form:1 mode:1 ICCID:10 UID_1:10 K_H
//! 0003  chain        form:1 UID_n:10 count:4 e:4 accepted:4 refused:4 polls lost:4 answers lost:4 last id:4
//!                    length of keys:1 K_n K_R(e)
//! 0004  outcome      Sent:2 Resend_Counter:1 flags:1 MSG
//! 01ss  key pair     see keys.rs, ss the slot
//! ```

use protocol::{
    card::{Flags, Outcome, Statistics, StatusWord},
    chain::{Link, RecoveryLink, SessionKey},
    identity::{Iccid, Mode, UID_LEN, Uid},
    key::Key,
};
use zeroize::Zeroizing;

use crate::{
    nvm::Store,
    runtime::{Env, LIFE_CYCLE, LifeCycle},
};

pub(super) const PROFILE: u16 = 0x0002;
pub(super) const CHAIN: u16 = 0x0003;
pub(super) const OUTCOME: u16 = 0x0004;

/// The form of objects that this program writes.
const FORM: u8 = 1;

/// What personalisation gave the card and nothing changes.
pub struct Profile {
    /// The ICCID.
    pub iccid: Iccid,
    /// The mode, the same as at the server.
    pub mode: Mode,
    /// The first identity, from which the recovery identities come.
    pub uid_1: Uid,
    /// `K_H`.
    pub session_key: SessionKey,
}

/// What changes with every accepted response.
#[derive(Clone)]
pub struct Chain {
    /// `UID_n` and `K_n`.
    pub link: Link,
    /// e and `K_R(e)`.
    pub recovery: RecoveryLink,
    /// The count of resends: polls under this identity that went unanswered.
    pub resends: u32,
    /// What the card has counted; its `e` is that of `recovery`.
    pub statistics: Statistics,
}

/// A personalised card.
pub(super) struct State {
    pub(super) profile: Profile,
    pub(super) chain: Chain,
}

impl State {
    /// `None` while the card is not personalised.
    pub(super) fn read(env: &Env<'_>) -> Result<Option<Self>, StatusWord> {
        match (env.get(PROFILE), env.get(CHAIN)) {
            (Some(profile), Some(chain)) => {
                let state = Self::decode(profile, chain).ok_or(StatusWord::MEMORY_FAILURE)?;
                Ok(Some(state))
            }
            _ => Ok(None),
        }
    }

    fn decode(profile: &[u8], chain: &[u8]) -> Option<Self> {
        let profile = Profile::decode(profile)?;
        let chain = Chain::decode(chain, &profile)?;
        Some(Self { profile, chain })
    }
}

/// A profile and chain as they stand in a card's memory; `None` if the card is not personalised or its
/// objects make no sense. For tools that look at a card from outside.
pub fn inspect(store: &mut Store) -> (Option<LifeCycle>, Option<(Profile, Chain)>) {
    let space = store.space(&super::aid());
    let life_cycle = store.get(space, LIFE_CYCLE).and_then(<[u8]>::first);
    let life_cycle = life_cycle.map(|byte| LifeCycle::from_byte(*byte));
    let state = store.get(space, PROFILE).zip(store.get(space, CHAIN));
    let state = state.and_then(|(profile, chain)| State::decode(profile, chain));
    (life_cycle, state.map(|state| (state.profile, state.chain)))
}

/// Takes fields from the front of an object.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(field)
    }

    /// The object is of the form that this program writes.
    fn form(&mut self) -> Option<()> {
        (self.byte()? == FORM).then_some(())
    }
}

impl Profile {
    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(vec![FORM, self.mode.byte()]);
        out.extend_from_slice(self.iccid.as_bytes());
        out.extend_from_slice(&self.uid_1.0);
        out.extend_from_slice(self.session_key.key().as_bytes());
        out
    }

    fn decode(object: &[u8]) -> Option<Self> {
        let mut fields = Fields(object);
        fields.form()?;
        Some(Self {
            mode: Mode::from_byte(fields.byte()?).ok()?,
            iccid: Iccid::from_bytes(fields.array()?).ok()?,
            uid_1: Uid(fields.array::<UID_LEN>()?),
            session_key: SessionKey::restore(Key::from_bytes(fields.0).ok()?),
        })
    }
}

impl Chain {
    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let (k_n, k_r) = (self.link.key().as_bytes(), self.recovery.key().as_bytes());
        let mut out = Zeroizing::new(Vec::with_capacity(128));
        out.push(FORM);
        out.extend_from_slice(&self.link.uid().0);
        for number in self.numbers() {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.push(k_n.len().to_le_bytes()[0]);
        out.extend_from_slice(k_n);
        out.extend_from_slice(k_r);
        out
    }

    const fn numbers(&self) -> [u32; 7] {
        let counted = &self.statistics;
        [
            self.resends,
            self.recovery.e(),
            counted.accepted,
            counted.refused,
            counted.polls_lost,
            counted.answers_lost,
            counted.last_message,
        ]
    }

    fn decode(object: &[u8], profile: &Profile) -> Option<Self> {
        let mut fields = Fields(object);
        fields.form()?;
        let uid = Uid(fields.array::<UID_LEN>()?);
        let resends = fields.number()?;
        let e = fields.number()?;
        let statistics = Statistics {
            accepted: fields.number()?,
            refused: fields.number()?,
            polls_lost: fields.number()?,
            answers_lost: fields.number()?,
            e,
            last_message: fields.number()?,
        };
        let len = usize::from(fields.byte()?);
        let k_n = Key::from_bytes(fields.bytes(len)?).ok()?;
        let k_r = Key::from_bytes(fields.0).ok()?;
        Some(Self {
            link: Link::restore(uid, k_n, profile.mode),
            recovery: RecoveryLink::restore(profile.uid_1, k_r, profile.mode, e),
            resends,
            statistics,
        })
    }
}

/// The last outcome as an object.
pub(super) fn encode_outcome(outcome: &Outcome) -> Vec<u8> {
    let mut object = outcome.sent.to_be_bytes().to_vec();
    object.extend_from_slice(&[outcome.resend_counter, outcome.flags.byte()]);
    object.extend_from_slice(&outcome.msg);
    object
}

/// The last outcome from its object.
pub(super) fn decode_outcome(object: &[u8]) -> Option<Outcome> {
    let mut fields = Fields(object);
    Some(Outcome {
        sent: u16::from_be_bytes(fields.array()?),
        resend_counter: fields.byte()?,
        flags: Flags::from(fields.byte()?),
        msg: fields.0.to_vec(),
    })
}
