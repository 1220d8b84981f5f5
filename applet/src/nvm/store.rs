//! Persistent objects by application, changed in transactions.
//!
//! Owns what JavaCard calls the transaction: begin, commit and abort, where nothing of an aborted one stays
//! behind, nested ones are refused and their size is bounded (Java Card RE Specification 3.1, 7). Refuses to
//! know what an object means. The state is serialised whole:
//!
//! ```text
//! spaces:1  { aid length:1 aid objects:2 { id:2 length:2 value } }
//! ```

use std::{borrow::Cow, collections::BTreeMap};

use zeroize::Zeroizing;

use super::{
    Device, Finding, NvmError, Wear,
    slots::{Opened, Slots},
    wrap::WrapKey,
};
use crate::aid::Aid;

/// The most bytes that one transaction may write, values and names counted.
pub const COMMIT_CAPACITY: usize = 4096;
/// Bytes that an object costs besides its value.
const OBJECT_HEAD: usize = 4;

type Value = Zeroizing<Vec<u8>>;

/// Why a transaction cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    /// One is open already.
    #[error("a transaction is open already; they do not nest")]
    Nested,
    /// None is open.
    #[error("no transaction is open")]
    None,
    /// It would write more than [`COMMIT_CAPACITY`] bytes.
    #[error("the transaction would write more than {COMMIT_CAPACITY} bytes")]
    Capacity,
    /// The memory failed; the state before stands.
    #[error(transparent)]
    Memory(#[from] NvmError),
}

/// The objects of one application.
#[derive(Clone)]
struct Space {
    aid: Aid,
    objects: BTreeMap<u16, Value>,
}

/// A value that is to stand at a place, or, once swapped in, the one that stood there.
struct Change {
    space: usize,
    id: u16,
    value: Option<Value>,
}

/// The card's persistent objects.
pub struct Store {
    slots: Slots,
    wrap: Option<WrapKey>,
    spaces: Vec<Space>,
    pending: Option<Vec<Change>>,
    pending_bytes: usize,
    encoded: Value,
}

/// What [`Store::examine`] tells of an image: nothing secret.
#[derive(Clone, Debug)]
pub struct Examination {
    /// How many states were committed since the image was made.
    pub commits: u64,
    /// How often each page was written.
    pub wear: Wear,
    /// What opening found.
    pub finding: Finding,
    /// Whether the state is wrapped under a key.
    pub wrapped: bool,
    /// Bytes of the serialised state.
    pub used: usize,
    /// The applications that have objects.
    pub applications: Vec<Aid>,
}

impl Store {
    /// Writes a new, empty memory on the device. What stood there is lost.
    pub fn format(device: Box<dyn Device>, wrap: Option<WrapKey>) -> Result<Self, NvmError> {
        let encoded = encode(&[]);
        let body = seal(wrap.as_ref(), &encoded)?;
        let slots = Slots::format(device, wrap.is_some(), &body)?;
        Ok(Self {
            slots,
            wrap,
            spaces: Vec::new(),
            pending: None,
            pending_bytes: 0,
            encoded,
        })
    }

    /// Reads a memory and mends what a power cut left behind.
    pub fn open(device: Box<dyn Device>, wrap: Option<WrapKey>) -> Result<Self, NvmError> {
        let mut store = Self::examine(device, wrap)?;
        store.slots.repair()?;
        Ok(store)
    }

    /// Reads a memory and writes nothing.
    pub fn examine(device: Box<dyn Device>, wrap: Option<WrapKey>) -> Result<Self, NvmError> {
        let Opened {
            slots,
            body,
            wrapped,
        } = Slots::open(device)?;
        let encoded = match (&wrap, wrapped) {
            (None, false) => Zeroizing::new(body),
            (Some(key), true) => key.unwrap(&body)?,
            (None, true) => return Err(NvmError::KeyNeeded),
            (Some(_), false) => return Err(NvmError::KeyNotNeeded),
        };
        let spaces = decode(&encoded).ok_or(NvmError::Content(
            "objects that do not end where they should",
        ))?;
        Ok(Self {
            slots,
            wrap,
            spaces,
            pending: None,
            pending_bytes: 0,
            encoded,
        })
    }

    /// Tells what is to be known of the memory without its content.
    pub fn examination(&self) -> Examination {
        Examination {
            commits: self.slots.state(),
            wear: self.slots.wear().clone(),
            finding: self.slots.finding(),
            wrapped: self.wrap.is_some(),
            used: self.encoded.len(),
            applications: self.spaces.iter().map(|space| space.aid).collect(),
        }
    }

    /// The place of an application's objects; a number that is good for as long as the store.
    pub fn space(&mut self, aid: &Aid) -> usize {
        let found = self.spaces.iter().position(|space| space.aid == *aid);
        found.unwrap_or_else(|| {
            self.spaces.push(Space {
                aid: *aid,
                objects: BTreeMap::new(),
            });
            self.spaces.len() - 1
        })
    }

    /// Whether an application has no object at all.
    pub fn is_blank(&self, space: usize) -> bool {
        self.spaces[space].objects.is_empty()
    }

    /// The value of an object as the open transaction sees it.
    pub fn get(&self, space: usize, id: u16) -> Option<&[u8]> {
        let pending = self.pending.iter().flatten().rev();
        let changed = pending.into_iter().find(|c| c.space == space && c.id == id);
        match changed {
            Some(change) => change.value.as_ref(),
            None => self.spaces[space].objects.get(&id),
        }
        .map(|value| value.as_slice())
    }

    /// Writes an object: in the open transaction, or at once and durably.
    pub fn put(&mut self, space: usize, id: u16, value: &[u8]) -> Result<(), TransactionError> {
        self.change(space, id, Some(Zeroizing::new(value.to_vec())))
    }

    /// Removes an object: in the open transaction, or at once and durably.
    pub fn remove(&mut self, space: usize, id: u16) -> Result<(), TransactionError> {
        self.change(space, id, None)
    }

    fn change(
        &mut self,
        space: usize,
        id: u16,
        value: Option<Value>,
    ) -> Result<(), TransactionError> {
        if self.pending.is_none() {
            self.begin()?;
            let done = self.change(space, id, value).and_then(|()| self.commit());
            self.abandon();
            return done;
        }
        let cost = OBJECT_HEAD + value.as_ref().map_or(0, |value| value.len());
        let bytes = self.pending_bytes.saturating_add(cost);
        if bytes > COMMIT_CAPACITY {
            return Err(TransactionError::Capacity);
        }
        self.pending_bytes = bytes;
        let pending = self.pending.as_mut().ok_or(TransactionError::None)?;
        pending.push(Change { space, id, value });
        Ok(())
    }

    /// Whether a transaction is open.
    pub const fn in_transaction(&self) -> bool {
        self.pending.is_some()
    }

    /// Opens a transaction.
    pub fn begin(&mut self) -> Result<(), TransactionError> {
        if self.in_transaction() {
            return Err(TransactionError::Nested);
        }
        self.pending = Some(Vec::new());
        self.pending_bytes = 0;
        Ok(())
    }

    /// Forgets what the open transaction was to write.
    pub fn abort(&mut self) -> Result<(), TransactionError> {
        self.pending.take().map(drop).ok_or(TransactionError::None)
    }

    /// Makes the open transaction durable. It is over either way; after an error the state before stands.
    pub fn commit(&mut self) -> Result<(), TransactionError> {
        let mut changes = self.pending.take().ok_or(TransactionError::None)?;
        for change in &mut changes {
            swap(&mut self.spaces, change);
        }
        let encoded = encode(&self.spaces);
        let done = seal(self.wrap.as_ref(), &encoded).and_then(|body| self.slots.commit(&body));
        match done {
            Ok(()) => self.encoded = encoded,
            Err(_) => changes
                .iter_mut()
                .rev()
                .for_each(|change| swap(&mut self.spaces, change)),
        }
        Ok(done?)
    }

    /// Forgets an open transaction, if there is one: what a loss of power does to it.
    pub fn abandon(&mut self) {
        self.pending = None;
    }
}

/// Its own inverse.
fn swap(spaces: &mut [Space], change: &mut Change) {
    let objects = &mut spaces[change.space].objects;
    let before = match change.value.take() {
        Some(value) => objects.insert(change.id, value),
        None => objects.remove(&change.id),
    };
    change.value = before;
}

fn seal<'a>(wrap: Option<&WrapKey>, encoded: &'a [u8]) -> Result<Cow<'a, [u8]>, NvmError> {
    match wrap {
        None => Ok(Cow::Borrowed(encoded)),
        Some(key) => key.wrap(encoded).map(Cow::Owned),
    }
}

/// The lengths fit their fields: an AID has at most 16 bytes, a value at most [`COMMIT_CAPACITY`], and more
/// than 255 applications or 65,535 objects do not fit into a slot.
fn encode(spaces: &[Space]) -> Value {
    // As large as it will get, so that no copy with keys is left behind when it grows.
    let mut out = Zeroizing::new(Vec::with_capacity(encoded_len(spaces)));
    out.push(spaces.len().to_le_bytes()[0]);
    for space in spaces {
        let aid = space.aid.as_bytes();
        out.push(aid.len().to_le_bytes()[0]);
        out.extend_from_slice(aid);
        out.extend_from_slice(&two_bytes(space.objects.len()));
        for (id, value) in &space.objects {
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&two_bytes(value.len()));
            out.extend_from_slice(value);
        }
    }
    out
}

fn encoded_len(spaces: &[Space]) -> usize {
    let space = |space: &Space| {
        let objects = space.objects.values();
        3 + space.aid.as_bytes().len()
            + objects
                .map(|value| OBJECT_HEAD + value.len())
                .sum::<usize>()
    };
    1 + spaces.iter().map(space).sum::<usize>()
}

fn two_bytes(number: usize) -> [u8; 2] {
    let [low, high, ..] = number.to_le_bytes();
    [high, low]
}

fn decode(mut bytes: &[u8]) -> Option<Vec<Space>> {
    let bytes = &mut bytes;
    let spaces = (0..take_byte(bytes)?)
        .map(|_| decode_space(bytes))
        .collect::<Option<Vec<_>>>()?;
    bytes.is_empty().then_some(spaces)
}

fn decode_space(bytes: &mut &[u8]) -> Option<Space> {
    let len = take_byte(bytes)?;
    let aid = Aid::new(take(bytes, usize::from(len))?).ok()?;
    let count = take_u16(bytes)?;
    let objects = (0..count).map(|_| {
        let id = take_u16(bytes)?;
        let len = take_u16(bytes)?;
        let value = take(bytes, usize::from(len))?;
        Some((id, Zeroizing::new(value.to_vec())))
    });
    Some(Space {
        aid,
        objects: objects.collect::<Option<_>>()?,
    })
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

fn take_byte(bytes: &mut &[u8]) -> Option<u8> {
    take(bytes, 1).map(|taken| taken[0])
}

fn take_u16(bytes: &mut &[u8]) -> Option<u16> {
    take(bytes, 2).map(|taken| u16::from_be_bytes([taken[0], taken[1]]))
}
