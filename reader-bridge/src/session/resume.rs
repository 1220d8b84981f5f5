//! Coming back to a card: after a start, an insertion, or a broken way to it.
//!
//! Owns the states Reading and Recognising. The card tells what it did: its last outcome, and the
//! poll it would send now. Nothing is sent to it twice on a guess.

use protocol::{
    card::{Flags, Outcome},
    identity::Uid,
    msg::{Events, Msg},
    poll::Poll,
};

use super::{Ask, Command, Now, Reply, Session, State, act::Found};

impl Session {
    pub(super) fn card_ready(&mut self, inserted: bool) {
        if matches!(self.state, State::Over) {
            return;
        }
        self.inserted |= inserted;
        self.resume();
    }

    /// Reads the last outcome before anything else.
    pub(super) fn resume(&mut self) {
        self.resumed = false;
        self.ask(State::Reading, Ask::LastOutcome);
    }

    pub(super) fn card_gone(&mut self, now: Now) {
        match std::mem::replace(&mut self.state, State::NoCard) {
            State::Over => self.state = State::Over,
            // What it accepted is known; who it is now will be asked when it comes back.
            State::Accepted(outcome) => {
                self.complete(&outcome, None, true, now);
                if !matches!(self.state, State::Over) {
                    self.state = State::NoCard;
                }
            }
            _ => {}
        }
    }

    pub(super) fn outcome_read(&mut self, reply: Reply, now: Now) {
        match reply {
            Reply::Outcome(outcome) => {
                self.ask(
                    State::Recognising(outcome),
                    Ask::Poll {
                        after_silence: false,
                    },
                );
            }
            other => self.card_trouble(Command::LastOutcome, other.complaint(), now),
        }
    }

    /// The card has told its last outcome and the poll it would send now. GET-UID with P1 = 00 changes
    /// nothing on it, and opens its poll again if a reset has closed it.
    pub(super) fn recognised(&mut self, outcome: Option<Outcome>, reply: Reply, now: Now) {
        let (poll, datagram) = match reply {
            Reply::Poll(poll, datagram) => (poll, datagram),
            other => return self.card_trouble(Command::GetUid, other.complaint(), now),
        };
        self.resumed = true;
        self.card_waits = poll.resend_counter > 0;
        let inserted = std::mem::take(&mut self.inserted);
        match outcome {
            Some(outcome) if self.was_answered(&poll) => {
                return self.complete(&outcome, Some(poll.uid), false, now);
            }
            Some(outcome) => self.act_on_pending(&outcome, now),
            None => {}
        }
        if inserted && self.planner.schedule().events.has(Events::POWER_ON) {
            self.planner.event(now);
        }
        if self.exchange.is_some() {
            self.go_on(poll, datagram, now);
        } else {
            self.poll_when_due(now);
        }
    }

    /// Whether the poll that was outstanding has been answered: another identity, and a count that
    /// starts anew. (Another identity alone may be the recovery identity, whose turn comes by count.)
    fn was_answered(&self, poll: &Poll) -> bool {
        self.outstanding().is_some_and(|uid| uid != poll.uid) && poll.resend_counter == 0
    }

    fn outstanding(&self) -> Option<Uid> {
        self.memory
            .outstanding
            .as_ref()
            .map(|outstanding| outstanding.identity)
    }

    /// A message that the card accepted and this terminal has not acted on: it crashed in between,
    /// or the card was in another terminal. Whom the poll went to is not known.
    fn act_on_pending(&mut self, outcome: &Outcome, now: Now) {
        let id = Msg::parse(&outcome.msg).ok().and_then(|msg| msg.id());
        let newer = id.is_some_and(|id| id > self.memory.last_message);
        if newer && !outcome.flags.contains(Flags::DUPLICATE) {
            let found = Found {
                via: None,
                pending: true,
            };
            self.act(outcome, found, now);
            self.save(now);
        }
    }

    /// The poll of this session is still unanswered.
    fn go_on(&mut self, poll: Poll, datagram: Vec<u8>, now: Now) {
        let Some(exchange) = &self.exchange else {
            return;
        };
        let raised = poll.resend_counter > exchange.resend_counter;
        if exchange.given.is_some() {
            self.offer_again(now);
        } else if raised {
            // The count was raised before the way to the card broke, and that poll has not left yet.
            self.send(poll, datagram, now);
        } else {
            self.wait();
        }
    }

    fn poll_when_due(&mut self, now: Now) {
        self.state = State::Idle;
        if self.outstanding().is_some() && self.config.once.is_none() {
            // Polled before a restart, and unanswered.
            self.planner.hurry(now);
        }
        if self.planner.due() <= now.mono {
            self.time(now);
        } else {
            self.announce(now);
        }
    }
}
