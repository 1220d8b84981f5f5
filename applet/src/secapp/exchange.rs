//! One exchange: the poll that goes out, and the response that comes back.
//!
//! A response is accepted in **one** transaction: the next identity and key, the count, e, the outcome, the
//! statistics and key pairs that MSG asks for. Power may fail at any byte of it.

use protocol::{
    card::{Flags, Outcome, StatusWord},
    chain::Link,
    msg::{Msg, Object},
    response::{Opened, Response},
};

use super::{
    SecApp, keys,
    state::{CHAIN, Chain, OUTCOME, encode_outcome},
};
use crate::runtime::Env;

/// The count of resends at which the recovery identity polls for the first time.
const RECOVERY_FIRST: u32 = 24;
/// And after how many more it does again.
const RECOVERY_EVERY: u32 = 8;

/// The identity that a response belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Chain,
    Recovery,
}

impl Chain {
    /// Resend_Counter on the wire.
    fn resend_counter(&self) -> u8 {
        u8::try_from(self.resends).unwrap_or(u8::MAX)
    }

    /// The identity that polls at this count.
    fn polling(&self) -> Link {
        if self.recovering() && self.resends.is_multiple_of(RECOVERY_EVERY) {
            self.recovery.identity()
        } else {
            self.link.clone()
        }
    }

    /// Whether a poll under the recovery identity has gone out, so that its answer may come.
    const fn recovering(&self) -> bool {
        self.resends >= RECOVERY_FIRST
    }

    /// Whose response this is: 9862 if nobody's.
    fn authenticate(&self, response: &Response<'_>) -> Result<(Asked, Opened), StatusWord> {
        if let Ok(opened) = self.link.open(response) {
            return Ok((Asked::Chain, opened));
        }
        let recovered = self
            .recovering()
            .then(|| self.recovery.identity().open(response));
        match recovered {
            Some(Ok(opened)) => Ok((Asked::Recovery, opened)),
            _ => Err(StatusWord::NOT_AUTHENTIC),
        }
    }

    /// Sent counts from 1, and only polls that went out: one more than the resends. With AUTH nobody else
    /// can have caused more; without, somebody has.
    fn judge_sent(&self, sent: u16) -> Result<Flags, StatusWord> {
        let possible = u16::from(self.resend_counter()) + 1;
        match sent {
            0 => Err(StatusWord::IMPOSSIBLE_SENT),
            _ if sent <= possible => Ok(Flags::default()),
            _ if self.link.mode().authenticates_polls() => Err(StatusWord::IMPOSSIBLE_SENT),
            _ => Ok(Flags::OTHERS_POLLED),
        }
    }

    /// The chain after an accepted response; its counters are the caller's.
    fn promoted(&self, asked: Asked, opened: &Opened) -> Self {
        let rand = opened.uid_rand();
        let mut next = self.clone();
        match asked {
            Asked::Chain => next.link = self.link.child(rand),
            Asked::Recovery => {
                next.link = self.recovery.identity().child(rand);
                next.recovery = self.recovery.next();
            }
        }
        next.resends = 0;
        next
    }

    fn count(&mut self, outcome: &Outcome, refused: u32) {
        let counted = &mut self.statistics;
        counted.accepted = counted.accepted.saturating_add(1);
        counted.refused = counted.refused.saturating_add(refused);
        counted.polls_lost = counted.polls_lost.saturating_add(outcome.polls_lost());
        counted.answers_lost = counted.answers_lost.saturating_add(outcome.answers_lost());
        counted.e = self.recovery.e();
    }
}

impl SecApp {
    /// GET-UID. With P1 = 00 it writes nothing; with 01 the raised count is durable before the poll leaves.
    pub(super) fn get_uid(
        &mut self,
        env: &mut Env<'_>,
        after_silence: bool,
    ) -> Result<(), StatusWord> {
        let chain = &self.state(env)?.chain;
        env.outgoing(poll_len(chain))?;
        if after_silence {
            let mut raised = chain.clone();
            raised.resends = raised.resends.saturating_add(1);
            self.keep(env, raised)?;
        }
        let chain = &self.state(env)?.chain;
        let poll = chain.polling().poll(chain.resend_counter());
        env.answer().extend_from_slice(poll.as_bytes());
        self.polling = true;
        Ok(())
    }

    /// Makes a chain durable, with what was refused since the last commit.
    fn keep(&mut self, env: &mut Env<'_>, mut chain: Chain) -> Result<(), StatusWord> {
        chain.statistics.refused = chain.statistics.refused.saturating_add(self.refused);
        env.put(CHAIN, &chain.encode())?;
        self.adopt(chain);
        Ok(())
    }

    /// What was committed is what RAM holds.
    fn adopt(&mut self, chain: Chain) {
        self.refused = 0;
        if let Some(state) = &mut self.state {
            state.chain = chain;
        }
    }

    /// PROCESS-RESPONSE.
    pub(super) fn process_response(
        &mut self,
        env: &mut Env<'_>,
        datagram: &[u8],
    ) -> Result<(), StatusWord> {
        let done = self.judge(env, datagram);
        let refusals = [
            StatusWord::WRONG_DATA,
            StatusWord::NOT_AUTHENTIC,
            StatusWord::IMPOSSIBLE_SENT,
        ];
        if done.is_err_and(|status| refusals.contains(&status)) {
            self.refused = self.refused.saturating_add(1);
        }
        done
    }

    fn judge(&mut self, env: &mut Env<'_>, datagram: &[u8]) -> Result<(), StatusWord> {
        let polling = self.polling;
        let chain = &self.state(env)?.chain;
        let response = Response::parse(datagram).map_err(|_| StatusWord::WRONG_DATA)?;
        if !polling {
            return Err(StatusWord::CONDITIONS);
        }
        let (asked, opened) = chain.authenticate(&response)?;
        let flags = chain.judge_sent(opened.sent())?;
        let outcome = Outcome {
            sent: opened.sent(),
            resend_counter: chain.resend_counter(),
            flags,
            msg: opened.msg().to_vec(),
        };
        let promoted = chain.promoted(asked, &opened);
        self.accept(env, promoted, outcome)
    }

    /// The one transaction. Until its commit has returned, nothing of it is seen anywhere.
    fn accept(
        &mut self,
        env: &mut Env<'_>,
        mut next: Chain,
        mut outcome: Outcome,
    ) -> Result<(), StatusWord> {
        env.begin()?;
        outcome.flags = outcome.flags | execute(env, &mut next, &outcome.msg)?;
        next.count(&outcome, self.refused);
        env.put(CHAIN, &next.encode())?;
        env.put(OUTCOME, &encode_outcome(&outcome))?;
        env.commit()?;
        self.adopt(next);
        self.polling = false;
        env.answer().extend_from_slice(&outcome.encode());
        Ok(())
    }
}

fn poll_len(chain: &Chain) -> usize {
    if chain.link.mode().authenticates_polls() {
        protocol::poll::AUTHENTICATED_LEN
    } else {
        protocol::poll::PLAIN_LEN
    }
}

/// Does what MSG asks of the card itself; the terminal does the rest.
fn execute(env: &mut Env<'_>, chain: &mut Chain, msg: &[u8]) -> Result<Flags, StatusWord> {
    let Ok(msg) = Msg::parse(msg) else {
        return Ok(Flags::NOT_DONE);
    };
    let Some(id) = msg.id() else {
        return Ok(Flags::default());
    };
    if id <= chain.statistics.last_message {
        return Ok(Flags::DUPLICATE);
    }
    chain.statistics.last_message = id;
    let done = execute_objects(env, &msg)?;
    Ok(if done {
        Flags::default()
    } else {
        Flags::NOT_DONE
    })
}

/// Whether all that is the card's own to do was done. Of several keys for one slot the last one counts, so that no MSG asks
/// for more than a transaction holds.
fn execute_objects(env: &mut Env<'_>, msg: &Msg<'_>) -> Result<bool, StatusWord> {
    let mut wanted = [None; keys::SLOTS];
    let mut done = true;
    for object in msg.objects() {
        match object {
            Ok(Object::GenerateKey { algorithm, slot }) => {
                match wanted.get_mut(usize::from(slot)) {
                    Some(place) => *place = Some(algorithm),
                    None => done = false,
                }
            }
            Ok(_) => {}
            Err(malformed) => done &= malformed.tag != protocol::msg::tag::GENERATE_KEY,
        }
    }
    for (slot, algorithm) in (0..).zip(wanted) {
        if let Some(algorithm) = algorithm {
            done &= keys::generate(env, algorithm, slot)?;
        }
    }
    Ok(done)
}
