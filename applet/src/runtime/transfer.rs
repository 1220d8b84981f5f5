//! How data longer than one command or one answer travels: command chaining (ISO/IEC 7816-4:2020, 5.3.3) and
//! GET RESPONSE (11.8.1).

use protocol::card::StatusWord;
use zeroize::Zeroizing;

use super::{
    DATA_LIMIT,
    card::Protocol,
    env::{Outgoing, short},
};
use crate::apdu::Command;

/// The chain that the terminal is in the middle of.
#[derive(Default)]
pub(super) struct Chain(Option<Begun>);

struct Begun {
    header: [u8; 4],
    data: Zeroizing<Vec<u8>>,
}

/// CLA without its chaining bit, INS, P1, P2: alike in all commands of a chain.
fn chain_header(command: &Command<'_>) -> [u8; 4] {
    [command.cla & !0x10, command.ins, command.p1, command.p2]
}

impl Chain {
    /// Refuses a command that does not belong to the chain that was begun: 6883, and the chain is over.
    pub(super) fn check(&mut self, command: &Command<'_>) -> Result<(), StatusWord> {
        match &self.0 {
            Some(begun) if begun.header != chain_header(command) => {
                self.0 = None;
                Err(StatusWord::LAST_OF_CHAIN)
            }
            _ => Ok(()),
        }
    }

    /// Takes the data of a command that is not the last of its chain.
    pub(super) fn add(&mut self, command: &Command<'_>, max: usize) -> Result<(), StatusWord> {
        let begun = self.0.get_or_insert_with(|| Begun {
            header: chain_header(command),
            data: Zeroizing::new(Vec::new()),
        });
        let fits = begun.data.len() + command.data.len() <= max.min(DATA_LIMIT);
        if command.data.is_empty() || !fits {
            self.0 = None;
            return Err(StatusWord::WRONG_LENGTH);
        }
        begun.data.extend_from_slice(command.data);
        Ok(())
    }

    /// The data of the whole chain, of which this is the last command; `None` if there was no chain.
    pub(super) fn finish(&mut self, last: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut data = self.0.take()?.data;
        data.extend_from_slice(last);
        Some(data)
    }

    pub(super) fn reset(&mut self) {
        self.0 = None;
    }
}

/// What of an answer is still to be fetched, on one channel.
#[derive(Default)]
pub(super) struct Held {
    channel: u8,
    data: Vec<u8>,
}

impl Held {
    pub(super) fn clear(&mut self) {
        self.data.clear();
    }

    /// Shortens an answer to what the terminal takes, holds the rest, and says so in the status word.
    pub(super) fn deliver(
        &mut self,
        channel: u8,
        outgoing: Outgoing,
        answer: &mut Vec<u8>,
    ) -> Result<StatusWord, StatusWord> {
        outgoing.check(answer.len())?;
        // Under T=0 a command with data cannot carry Le: all of the answer waits.
        let now = match outgoing.protocol {
            Protocol::T0 if outgoing.data => 0,
            _ => outgoing.ne.min(answer.len()),
        };
        self.channel = channel;
        self.data.clear();
        self.data.extend_from_slice(&answer[now..]);
        answer.truncate(now);
        Ok(self.status())
    }

    /// GET RESPONSE: hands out what is held. A wrong Le costs nothing.
    pub(super) fn fetch(
        &mut self,
        channel: u8,
        protocol: Protocol,
        ne: usize,
        answer: &mut Vec<u8>,
    ) -> Result<StatusWord, StatusWord> {
        if self.data.is_empty() || self.channel != channel {
            return Err(StatusWord::CONDITIONS);
        }
        let available = self.data.len();
        if ne == 0 || (protocol == Protocol::T0 && ne > available) {
            return Err(StatusWord::right_le(short(available)));
        }
        answer.extend(self.data.drain(..ne.min(available)));
        Ok(self.status())
    }

    fn status(&self) -> StatusWord {
        match self.data.len() {
            0 => StatusWord::OK,
            rest => StatusWord::more(short(rest)),
        }
    }
}
