//! The bytes of each record before they are sealed (`docs/storage-server.md`): a version, the kind and
//! the numbers that say whose it is, so that a record put into another row does not pass for it.

use protocol::{
    identity::{Iccid, Mode, Uid},
    key::Key,
};
use zeroize::Zeroizing;

use super::{ChainRecord, IdentityRecord, MessageRecord, MessageState, SubId};
use crate::engine::walk::Epoch;

const VERSION: u8 = 1;
const IDENTITY: u8 = b'I';
const CHAIN: u8 = b'C';
const MESSAGE: u8 = b'M';

type Bytes = Zeroizing<Vec<u8>>;

/// Writes fields one after another.
struct Writer(Bytes);

impl Writer {
    fn new(kind: u8, id: SubId) -> Self {
        // Room for the longest record but a message's: growing would leave copies of keys behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(512));
        bytes.extend_from_slice(&[VERSION, kind]);
        bytes.extend_from_slice(&id.to_be_bytes());
        Self(bytes)
    }

    fn put(mut self, field: &[u8]) -> Self {
        self.0.extend_from_slice(field);
        self
    }

    fn key(self, key: &Key) -> Self {
        let bytes = key.as_bytes();
        // A key has 16 or 32 bytes.
        self.put(&[bytes.len().to_le_bytes()[0]]).put(bytes)
    }
}

/// Reads fields one after another; `None` where they end too early.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8], kind: u8, id: SubId) -> Option<Self> {
        let mut fields = Self(bytes);
        let matches = fields.array() == Some([VERSION, kind]) && fields.u32() == Some(id);
        matches.then_some(fields)
    }

    fn slice(&mut self, len: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(field)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.slice(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn key(&mut self) -> Option<Key> {
        let len = usize::from(self.u8()?);
        Key::from_bytes(self.slice(len)?).ok()
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

impl IdentityRecord {
    pub(super) fn encode(&self) -> Bytes {
        Writer::new(IDENTITY, self.id)
            .put(self.iccid.as_bytes())
            .put(&self.uid_1.0)
            .put(&[self.mode.byte()])
            .key(&self.k)
            .put(self.reference.as_bytes())
            .0
    }

    pub(super) fn decode(bytes: &[u8], id: SubId) -> Option<Self> {
        let mut fields = Fields::new(bytes, IDENTITY, id)?;
        let iccid = Iccid::from_bytes(fields.array()?).ok()?;
        let uid_1 = Uid(fields.array()?);
        let mode = Mode::from_byte(fields.u8()?).ok()?;
        let k = fields.key()?;
        let reference = std::str::from_utf8(fields.0).ok()?.into();
        Some(Self {
            id,
            reference,
            iccid,
            k,
            mode,
            uid_1,
        })
    }
}

impl ChainRecord {
    pub(super) fn encode(&self) -> Bytes {
        Writer::new(CHAIN, self.id)
            .put(&self.uid.0)
            .key(&self.key)
            .put(&self.e.to_be_bytes())
            .key(&self.recovery_key)
            .put(&[self.attempt])
            .put(&self.generation.to_be_bytes())
            .put(&self.highest_id.to_be_bytes())
            .put(&self.open_messages.to_be_bytes())
            .0
    }

    pub(super) fn decode(bytes: &[u8], id: SubId) -> Option<Self> {
        let mut fields = Fields::new(bytes, CHAIN, id)?;
        let record = Self {
            id,
            uid: Uid(fields.array()?),
            key: fields.key()?,
            e: fields.u32()?,
            recovery_key: fields.key()?,
            attempt: fields.u8()?,
            generation: fields.u32()?,
            highest_id: fields.u32()?,
            open_messages: fields.u32()?,
        };
        fields.end()?;
        Some(record)
    }
}

impl MessageRecord {
    pub(super) fn encode(&self) -> Bytes {
        let expires = self.expires_at.unwrap_or(u64::MAX);
        Writer::new(MESSAGE, self.subscription)
            .put(&self.id.to_be_bytes())
            .put(&[self.state as u8])
            .put(&self.queued_at.to_be_bytes())
            .put(&expires.to_be_bytes())
            .put(&self.changed_at.to_be_bytes())
            .put(&self.msg)
            .0
    }

    pub(super) fn decode(bytes: &[u8], subscription: SubId, id: u32) -> Option<Self> {
        let mut fields = Fields::new(bytes, MESSAGE, subscription)?;
        if fields.u32()? != id {
            return None;
        }
        let state = MessageState::from_byte(fields.u8()?)?;
        let queued_at = fields.u64()?;
        let expires_at = Some(fields.u64()?).filter(|at| *at != u64::MAX);
        let changed_at = fields.u64()?;
        let msg = fields.0.to_vec();
        Some(Self {
            subscription,
            id,
            msg,
            queued_at,
            expires_at,
            state,
            changed_at,
        })
    }
}

impl Epoch {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![1, self.promotions, self.recoveries];
        bytes.extend_from_slice(&self.queue_from.to_be_bytes());
        bytes.extend_from_slice(&self.restored_ids.to_be_bytes());
        for generation in self.past.iter().chain([&self.generation]) {
            bytes.extend_from_slice(&generation.to_be_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[1, promotions, recoveries], rest) = bytes.split_first_chunk()? else {
            return None;
        };
        let (queue_from, rest) = rest.split_first_chunk()?;
        let (restored_ids, rest) = rest.split_first_chunk()?;
        let (generations, rest) = rest.as_chunks();
        let (generation, past) = generations.split_last().filter(|_| rest.is_empty())?;
        Some(Self {
            generation: u32::from_be_bytes(*generation),
            past: past.iter().map(|past| u32::from_be_bytes(*past)).collect(),
            promotions,
            recoveries,
            queue_from: u64::from_be_bytes(*queue_from),
            restored_ids: u32::from_be_bytes(*restored_ids),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_give_back_what_was_written() {
        let key = Key::from_bytes(&[7; 32]).unwrap();
        let chain = ChainRecord {
            id: 9,
            uid: Uid([1; 10]),
            key: key.clone(),
            e: 2,
            recovery_key: key.clone(),
            attempt: 3,
            generation: 4,
            highest_id: 5,
            open_messages: 6,
        };
        let bytes = chain.encode();
        let read = ChainRecord::decode(&bytes, 9).unwrap();
        assert_eq!(*read.encode(), *bytes);
        assert!(
            ChainRecord::decode(&bytes, 8).is_none(),
            "another row's record"
        );
        assert!(
            IdentityRecord::decode(&bytes, 9).is_none(),
            "another kind of record"
        );
        for len in 0..bytes.len() {
            assert!(ChainRecord::decode(&bytes[..len], 9).is_none());
        }
    }

    #[test]
    fn messages_give_back_what_was_written() {
        let message = MessageRecord {
            subscription: 1,
            id: 2,
            msg: vec![0x81, 4, 0, 0, 0, 2],
            queued_at: 3,
            expires_at: None,
            state: MessageState::Expiring,
            changed_at: 4,
        };
        assert_eq!(
            MessageRecord::decode(&message.encode(), 1, 2),
            Some(message.clone())
        );
        assert_eq!(MessageRecord::decode(&message.encode(), 1, 3), None);
    }
}
