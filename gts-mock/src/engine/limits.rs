//! Two bounded tables: who repeats a poll, and where unknown identities come from. Neither grows with
//! an attack, and neither allocates after the start.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hash},
    net::IpAddr,
    time::Duration,
};

use protocol::identity::Uid;

/// A repetition is answered at most once in this time per identity and source address.
pub const REPEAT_INTERVAL: Duration = Duration::from_secs(1);
const REPEAT_SLOTS: usize = 1 << 16;
const PREFIX_SLOTS: usize = 1 << 12;

/// When each identity was last answered, by source address: a direct-mapped table under a keyed hash,
/// so that nobody can choose whom to push out.
pub struct Repeats {
    hasher: RandomState,
    slots: Box<[(u64, Duration)]>,
}

impl Default for Repeats {
    fn default() -> Self {
        let never = (0, Duration::ZERO);
        Self {
            hasher: RandomState::new(),
            slots: vec![never; REPEAT_SLOTS].into_boxed_slice(),
        }
    }
}

impl Repeats {
    /// Remembers an answer.
    pub fn note(&mut self, uid: Uid, source: IpAddr, now: Duration) {
        let (at, tag) = self.slot(uid, source);
        self.slots[at] = (tag, now);
    }

    /// Whether a repetition may be answered now; if so, remembers it.
    pub fn allow(&mut self, uid: Uid, source: IpAddr, now: Duration) -> bool {
        let (at, tag) = self.slot(uid, source);
        let (seen, last) = self.slots[at];
        let allowed = seen != tag || now.saturating_sub(last) >= REPEAT_INTERVAL;
        if allowed {
            self.slots[at] = (tag, now);
        }
        allowed
    }

    fn slot(&self, uid: Uid, source: IpAddr) -> (usize, u64) {
        slot(&self.hasher, (uid, source), REPEAT_SLOTS)
    }
}

/// Unknown identities by source prefix (/24 or /64): a table of fixed size. A prefix that finds its
/// slot taken wears the other's count down and moves in when it is used up, so those that ask most stay.
pub struct Misses {
    hasher: RandomState,
    slots: Box<[Option<(Prefix, u64)>]>,
}

/// The first 24 bits of an IPv4 address or 64 bits of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix(IpAddr);

impl From<IpAddr> for Prefix {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(v4) => IpAddr::from((v4.to_bits() & !0xFF).to_be_bytes()),
            IpAddr::V6(v6) => IpAddr::from((v6.to_bits() >> 64 << 64).to_be_bytes()),
        })
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.0, if self.0.is_ipv4() { 24 } else { 64 })
    }
}

impl Default for Misses {
    fn default() -> Self {
        let slots = vec![None; PREFIX_SLOTS].into_boxed_slice();
        Self {
            hasher: RandomState::new(),
            slots,
        }
    }
}

impl Misses {
    /// Counts one unknown identity.
    pub fn note(&mut self, source: IpAddr) {
        let prefix = Prefix::from(source);
        let (at, _) = slot(&self.hasher, prefix, PREFIX_SLOTS);
        match &mut self.slots[at] {
            Some((held, count)) if *held == prefix => *count = count.saturating_add(1),
            Some((_, count)) if *count > 1 => *count -= 1,
            free => *free = Some((prefix, 1)),
        }
    }

    /// The prefixes that asked most, with their counts, most first.
    pub fn most(&self, limit: usize) -> Vec<(Prefix, u64)> {
        let mut held: Vec<_> = self.slots.iter().flatten().copied().collect();
        held.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        held.truncate(limit);
        held
    }
}

/// A slot and a tag that is not 0.
fn slot(hasher: &RandomState, key: impl Hash, slots: usize) -> (usize, u64) {
    let hash = hasher.hash_one(key);
    let at = usize::try_from(hash % slots as u64).unwrap_or(0);
    (at, hash | 1)
}
