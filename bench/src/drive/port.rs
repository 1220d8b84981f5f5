//! One source port: what leaves through it, and who waits for an answer there.

use std::{collections::VecDeque, io, net::SocketAddr};

use crate::{
    expected::Expected,
    wire::{Batch, Wire},
};

/// A port that some of the devices poll from.
pub(super) struct Port {
    pub(super) wire: Wire,
    /// Who waits here.
    pub(super) expected: Expected,
    outbox: VecDeque<u8>,
    each: usize,
}

impl Port {
    /// Binds a port; polls have `each` bytes.
    pub(super) fn connect(server: SocketAddr, each: usize) -> io::Result<Self> {
        Ok(Self {
            wire: Wire::connect(server, true)?,
            expected: Expected::default(),
            outbox: VecDeque::new(),
            each,
        })
    }

    /// Puts a poll where the next [`Port::flush`] finds it.
    pub(super) fn push(&mut self, poll: &[u8]) {
        self.outbox.extend(poll);
    }

    /// Whether polls wait to leave.
    pub(super) fn has_mail(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Sends what waits, as far as the kernel takes it. An error is that of a datagram before (ICMP: nobody
    /// listens); returns how many there were.
    pub(super) fn flush(&mut self, batch: &mut Batch) -> u64 {
        let mut errors = 0;
        while self.has_mail() {
            match self
                .wire
                .send(batch, self.outbox.make_contiguous(), self.each)
            {
                Ok(0) => break,
                Ok(count) => drop(self.outbox.drain(..count * self.each)),
                Err(_) => {
                    errors += 1;
                    // What was refused is lost: the timeout repeats it.
                    self.outbox.drain(..self.each.min(self.outbox.len()));
                }
            }
        }
        errors
    }
}
