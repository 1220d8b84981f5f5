//! Life-cycle states of the card and its applications (GlobalPlatform Card Specification 2.3, 5.1 and 5.3; tables 11-4
//! to 11-6). The runtime keeps one for each application; the card manager's is the card's.

use protocol::card::StatusWord;

use super::Env;
use crate::aid::Aid;

/// The object that every application has for its life cycle. The other numbers are its own.
pub(crate) const LIFE_CYCLE: u16 = 0x0001;

/// A life-cycle state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LifeCycle(u8);

impl LifeCycle {
    /// An application that is on the card, without identity.
    pub const INSTALLED: Self = Self(0x03);
    /// An application with identity and keys.
    pub const PERSONALISED: Self = Self(0x0F);
    /// A card that can be used.
    pub const OP_READY: Self = Self(0x01);
    /// A card with the issuer's data.
    pub const INITIALIZED: Self = Self(0x07);
    /// A card in the field.
    pub const SECURED: Self = Self(0x0F);
    /// A card of which only the card manager answers.
    pub const CARD_LOCKED: Self = Self(0x7F);
    /// A card of which only GET DATA answers.
    pub const TERMINATED: Self = Self(0xFF);
    const LOCKED: u8 = 0x80;

    /// A state from its byte.
    pub const fn from_byte(byte: u8) -> Self {
        Self(byte)
    }

    /// The byte that tells the state.
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// Whether an application is blocked by the card's owner.
    pub const fn is_locked(self) -> bool {
        self.0 & Self::LOCKED != 0
    }

    /// Blocked, and what it was before is remembered.
    #[must_use]
    pub const fn locked(self) -> Self {
        Self(self.0 | Self::LOCKED)
    }

    /// What it was before it was blocked.
    #[must_use]
    pub const fn unlocked(self) -> Self {
        Self(self.0 & !Self::LOCKED)
    }
}

impl Env<'_> {
    /// The applet's own state.
    pub fn life_cycle(&self) -> LifeCycle {
        state_of(self.store, self.space)
    }

    /// Changes the applet's own state: within the open transaction, or at once.
    pub fn set_life_cycle(&mut self, state: LifeCycle) -> Result<(), StatusWord> {
        self.put(LIFE_CYCLE, &[state.byte()])
    }

    /// All applications with their states, for the card manager.
    pub(crate) fn applications(&self) -> Vec<(Aid, LifeCycle)> {
        let names = self.names.iter();
        names
            .map(|(aid, space)| (*aid, state_of(self.store, *space)))
            .collect()
    }

    /// Changes another application's state, for the card manager.
    pub(crate) fn set_life_cycle_of(
        &mut self,
        aid: &Aid,
        state: LifeCycle,
    ) -> Result<(), StatusWord> {
        let found = self.names.iter().find(|(name, _)| name == aid);
        let space = found
            .map(|(_, space)| *space)
            .ok_or(StatusWord::NO_SUCH_DATA)?;
        self.put_at(space, LIFE_CYCLE, &[state.byte()])
    }
}

/// An application without a state was never installed.
pub(super) fn state_of(store: &crate::nvm::Store, space: usize) -> LifeCycle {
    let byte = store.get(space, LIFE_CYCLE).and_then(<[u8]>::first);
    byte.map_or(LifeCycle::INSTALLED, |byte| LifeCycle(*byte))
}
