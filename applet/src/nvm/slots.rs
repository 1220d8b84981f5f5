//! Two slots and two marks: after a power cut at any byte, the state before or the state after.
//!
//! A commit writes the new state over the older slot, syncs, and then writes the slot's mark, which need not be
//! durable: it is synced with the next commit at the latest. On opening, the newest slot that can be read is
//! the state, unless a mark names a newer one. Then that one was whole once and was *damaged*, not torn,
//! and going back would use identities a second time, so opening fails.

use core::fmt;

use super::{
    Device, NvmError,
    layout::{
        self, BODY_CAPACITY, IMAGE_LEN, PAGE, SLOT_LEN, SlotContent, Wear, mark_at, read_mark,
        read_slot, slot_at,
    },
};

/// One of the two places for a state. Even states are in slot 0, odd ones in slot 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Slot 0.
    Even,
    /// Slot 1.
    Odd,
}

impl Slot {
    /// The slot of the state with this number.
    pub const fn of(state: u64) -> Self {
        if state.is_multiple_of(2) {
            Self::Even
        } else {
            Self::Odd
        }
    }

    /// 0 or 1.
    pub const fn index(self) -> usize {
        match self {
            Self::Even => 0,
            Self::Odd => 1,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.index())
    }
}

/// What opening an image found besides its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Both slots can be read.
    Intact,
    /// The other slot cannot be read: a write of the next state was cut short, or the state before was
    /// damaged. Nothing that was committed last is lost.
    OtherSlotUnreadable(Slot),
}

/// The two slots of a device, one of which holds the state.
pub(super) struct Slots {
    device: Box<dyn Device>,
    state: u64,
    wear: Wear,
    /// What stands in each slot; `None` after a write that failed, when nobody can tell.
    known: [Option<Box<[u8; SLOT_LEN]>>; 2],
    finding: Finding,
}

/// An image that was read, and its body.
pub(super) struct Opened {
    pub(super) slots: Slots,
    pub(super) body: Vec<u8>,
    pub(super) wrapped: bool,
}

impl Slots {
    /// Writes an image whose first state has this body. What stood on the device before is lost.
    pub(super) fn format(
        mut device: Box<dyn Device>,
        wrapped: bool,
        body: &[u8],
    ) -> Result<Self, NvmError> {
        device.write(0, &vec![0; IMAGE_LEN])?;
        device.write(0, &layout::header(wrapped))?;
        let mut slots = Self {
            device,
            state: 0,
            wear: Wear::default(),
            known: [None, None],
            finding: Finding::Intact,
        };
        // States 1 and 2 are alike, so that a new card already has an older state to fall back on.
        slots.commit(body)?;
        slots.commit(body)?;
        slots.device.sync()?;
        Ok(slots)
    }

    /// Finds the last committed state. Writes nothing.
    pub(super) fn open(mut device: Box<dyn Device>) -> Result<Opened, NvmError> {
        let len = device.size()?;
        if len != IMAGE_LEN as u64 {
            return Err(wrong_length(&mut *device, len));
        }
        let mut image = vec![0; IMAGE_LEN];
        device.read(0, &mut image)?;
        let wrapped = layout::read_header(&image)?;
        let newest = newest(&image)?;
        let body = newest.body.to_vec();
        let (state, wear) = (newest.state, newest.wear);
        let other = Slot::of(state + 1);
        let finding = if read_slot(slot_bytes(&image, other), other).is_some() {
            Finding::Intact
        } else {
            Finding::OtherSlotUnreadable(other)
        };
        let known = [Slot::Even, Slot::Odd]
            .map(|slot| slot_bytes(&image, slot).try_into().ok().map(Box::new));
        let slots = Self {
            device,
            state,
            wear,
            known,
            finding,
        };
        Ok(Opened {
            slots,
            body,
            wrapped,
        })
    }

    /// Writes the state's mark again if it was torn. Without this, a second torn mark would leave none.
    pub(super) fn repair(&mut self) -> Result<(), NvmError> {
        let slot = Slot::of(self.state);
        let mark = layout::mark(self.state);
        let mut found = [0; 16];
        self.device.read(mark_at(slot), &mut found)?;
        if found != mark {
            self.device.write(mark_at(slot), &mark)?;
            self.device.sync()?;
        }
        Ok(())
    }

    /// Makes `body` the state: durable when this returns. After an error the state before stands, here and
    /// for the next commit; after a power cut it is the one or the other.
    pub(super) fn commit(&mut self, body: &[u8]) -> Result<(), NvmError> {
        if body.len() > BODY_CAPACITY {
            return Err(NvmError::Full(body.len()));
        }
        let state = self.state + 1;
        let slot = Slot::of(state);
        let before = self.known[slot.index()].take();
        let (written, wear) = self.write_slot(slot, state, body, before)?;
        self.device.sync()?;
        self.known[slot.index()] = Some(written);
        self.wear = wear;
        self.state = state;
        // Already durable: a mark that cannot be written only makes damage harder to tell from a torn
        // write, and the next commit writes the other one.
        let _ = self.device.write(mark_at(slot), &layout::mark(state));
        Ok(())
    }

    /// Writes the pages that differ from what stands there, the header last.
    fn write_slot(
        &mut self,
        slot: Slot,
        state: u64,
        body: &[u8],
        before: Option<Box<[u8; SLOT_LEN]>>,
    ) -> Result<(Box<[u8; SLOT_LEN]>, Wear), NvmError> {
        let all = before.is_none();
        let mut content = before.unwrap_or_else(|| Box::new([0; SLOT_LEN]));
        let mut wear = self.wear.clone();
        for (page, bytes) in (1..).zip(body.chunks(PAGE)) {
            let at = page * PAGE;
            let mut new = [0; PAGE];
            new[..bytes.len()].copy_from_slice(bytes);
            let stands = &mut content[at..at + PAGE];
            if all || *stands != new {
                stands.copy_from_slice(&new);
                self.device.write(slot_at(slot) + at, &new)?;
                wear.page(slot, page);
            }
        }
        wear.page(slot, 0);
        wear.mark(slot);
        let header = layout::slot_header(state, body, &wear);
        content[..PAGE].copy_from_slice(&header);
        self.device.write(slot_at(slot), &header)?;
        Ok((content, wear))
    }

    /// The number of the last committed state.
    pub(super) const fn state(&self) -> u64 {
        self.state
    }

    /// How often each page was written.
    pub(super) const fn wear(&self) -> &Wear {
        &self.wear
    }

    /// What was found when the image was opened.
    pub(super) const fn finding(&self) -> Finding {
        self.finding
    }
}

fn slot_bytes(image: &[u8], slot: Slot) -> &[u8] {
    &image[slot_at(slot)..slot_at(slot) + SLOT_LEN]
}

/// The state, by the rule at the head of this file.
fn newest(image: &[u8]) -> Result<SlotContent<'_>, NvmError> {
    let [even, odd] = [Slot::Even, Slot::Odd].map(|slot| read_slot(slot_bytes(image, slot), slot));
    let both = even.is_some() && odd.is_some();
    let newest = [even, odd]
        .into_iter()
        .flatten()
        .max_by_key(|content| content.state);
    let marked = [Slot::Even, Slot::Odd]
        .into_iter()
        .filter_map(|slot| read_mark(image, slot))
        .max();
    match (newest, marked) {
        (Some(content), Some(mark)) if content.state >= mark => Ok(content),
        (_, Some(committed)) => Err(NvmError::Damaged {
            slot: Slot::of(committed),
            committed,
        }),
        // Nothing newer can have stood in a slot that still holds the state before.
        (Some(content), None) if both => Ok(content),
        (_, None) => Err(NvmError::NothingLeft),
    }
}

/// An image of another length: says first what it is, if it is one at all.
fn wrong_length(device: &mut dyn Device, len: u64) -> NvmError {
    let mut start = vec![0; usize::try_from(len).unwrap_or(IMAGE_LEN).min(IMAGE_LEN)];
    if let Err(error) = device.read(0, &mut start) {
        return error.into();
    }
    match layout::read_header(&start) {
        Ok(_) | Err(NvmError::Header) => NvmError::Length(len),
        Err(other) if start.len() >= 8 => other,
        Err(_) => NvmError::Length(len),
    }
}
