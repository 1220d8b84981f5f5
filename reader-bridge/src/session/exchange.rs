//! One exchange: from the poll's leaving to an accepted answer, over silence and foreign answers.
//!
//! Owns the states Asking, Waiting, Giving and Accepted.

use std::{collections::VecDeque, time::Duration};

use protocol::{
    card::{Flags, Outcome, StatusWord},
    identity::Uid,
    msg::Msg,
    poll::Poll,
    response::Response,
};

use super::{
    Action, Ask, Command, End, Event, ExchangeEvent, MAX_REFUSED, Now, Outstanding, Quality, Reply,
    Session, State, Via,
    act::{Found, in_words},
};

/// A poll that is not answered yet.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) number: u64,
    /// The identity that the last poll went out under.
    pub(super) identity: Uid,
    pub(super) resend_counter: u8,
    /// How many polls have left.
    pub(super) polls: u32,
    pub(super) via: Via,
    pub(super) sent_at: Duration,
    pub(super) deadline: Duration,
    /// Answers that the card refused since the last poll left.
    refused: u8,
    /// Datagrams since then that could not even be answers.
    dropped: u8,
    /// Answers that came while the card was busy or away.
    queue: VecDeque<Vec<u8>>,
    /// The answer that the card has been given, and how often: it may or may not have taken it.
    pub(super) given: Option<(Vec<u8>, u8)>,
    answered_at: Duration,
}

/// An answer whose fate is unknown is given to the card so often at most.
const MAX_GIVEN: u8 = 3;

impl Session {
    /// GET-UID; P1 = 01 if a poll has gone unanswered, in this run or one before.
    pub(super) fn ask_for_poll(&mut self) {
        let after_silence = self.memory.outstanding.is_some() || self.card_waits;
        self.ask(State::Asking, Ask::Poll { after_silence });
    }

    pub(super) fn poll_made(&mut self, reply: Reply, now: Now) {
        match reply {
            Reply::Poll(poll, datagram) => self.send(poll, datagram, now),
            other => self.card_trouble(Command::GetUid, other.complaint(), now),
        }
    }

    /// Sends a poll. That one is outstanding is on disk before it leaves.
    pub(super) fn send(&mut self, poll: Poll, datagram: Vec<u8>, now: Now) {
        if let Some(because) = self.route.expire(now.mono) {
            self.backoff.forget();
            self.server_changed(because, None);
        }
        let (to, via) = self.route.endpoint();
        let to = to.to_owned();
        self.planner.polled(now);
        self.remember_outstanding(poll.uid, via, now);
        let polls = self.exchange.as_ref().map_or(0, |exchange| exchange.polls);
        let timeout = self.backoff.timeout(polls, &mut self.rng);
        let exchange = self.exchange_for(&poll, via);
        exchange.polls = polls.saturating_add(1);
        exchange.sent_at = now.mono;
        exchange.deadline = now.mono + timeout;
        let number = exchange.number;
        self.tell(Event::PollSent {
            exchange: number,
            identity: poll.uid.short(),
            resend_counter: poll.resend_counter,
            authenticated: poll.mac.is_some(),
            bytes: datagram.len(),
            to: to.clone(),
            via,
            timeout_ms: millis(timeout),
        });
        self.out.push_back(Action::Send {
            identity: poll.uid,
            to,
            datagram,
        });
        self.wait();
    }

    fn remember_outstanding(&mut self, identity: Uid, via: Via, now: Now) {
        let outstanding = Some(Outstanding { identity, via });
        if self.memory.outstanding != outstanding {
            self.memory.outstanding = outstanding;
            self.memory.last_poll = Some(now.wall);
            self.save(now);
        }
    }

    /// The exchange under way, or a new one, with this poll as its last.
    fn exchange_for(&mut self, poll: &Poll, via: Via) -> &mut Exchange {
        if self.exchange.is_none() {
            self.exchanges += 1;
        }
        let exchange = self.exchange.get_or_insert_with(|| Exchange {
            number: self.exchanges,
            identity: poll.uid,
            resend_counter: 0,
            polls: 0,
            via,
            sent_at: Duration::ZERO,
            deadline: Duration::ZERO,
            refused: 0,
            dropped: 0,
            queue: VecDeque::new(),
            given: None,
            answered_at: Duration::ZERO,
        });
        exchange.identity = poll.uid;
        exchange.resend_counter = poll.resend_counter;
        exchange.via = via;
        exchange.refused = 0;
        exchange.dropped = 0;
        exchange
    }

    /// Waits for an answer, or takes one that came meanwhile.
    pub(super) fn wait(&mut self) {
        self.state = State::Waiting;
        let next = self
            .exchange
            .as_mut()
            .and_then(|exchange| exchange.queue.pop_front());
        if let Some(answer) = next {
            self.offer(answer);
        }
    }

    /// A datagram from the server that was polled.
    pub(super) fn datagram(&mut self, datagram: &[u8], now: Now) {
        let waiting = matches!(self.state, State::Waiting);
        let Some(exchange) = &mut self.exchange else {
            return;
        };
        exchange.answered_at = now.mono;
        if waiting {
            self.offer(datagram.to_vec());
        } else if exchange.queue.len() < usize::from(MAX_REFUSED) {
            exchange.queue.push_back(datagram.to_vec());
        }
    }

    /// Gives an answer to the card if it may be one.
    pub(super) fn offer(&mut self, datagram: Vec<u8>) {
        let Some(exchange) = &mut self.exchange else {
            return;
        };
        let number = exchange.number;
        if exchange.refused >= MAX_REFUSED {
            // Told once, when the limit was reached.
            return self.wait();
        }
        if let Err(why) = Response::parse(&datagram) {
            exchange.dropped = exchange.dropped.saturating_add(1);
            // A flood of them is told of only so often.
            if exchange.dropped <= MAX_REFUSED {
                let why = why.to_string();
                self.tell(Event::AnswerDropped {
                    exchange: number,
                    why,
                });
            }
            return self.wait();
        }
        exchange.given = Some((datagram.clone(), 1));
        self.tell(Event::AnswerReceived {
            exchange: number,
            bytes: datagram.len(),
        });
        self.ask(State::Giving, Ask::Process(datagram));
    }

    /// Gives the answer again that the card may not have taken; it has shown that it has not.
    pub(super) fn offer_again(&mut self, now: Now) {
        let Some((answer, times)) = self
            .exchange
            .as_mut()
            .and_then(|exchange| exchange.given.as_mut())
        else {
            return self.wait();
        };
        if *times >= MAX_GIVEN {
            let why = format!("it did not execute the same answer {times} times");
            self.forget_given();
            return self.card_trouble(Command::ProcessResponse, why, now);
        }
        *times += 1;
        let answer = answer.clone();
        self.ask(State::Giving, Ask::Process(answer));
    }

    fn forget_given(&mut self) {
        if let Some(exchange) = &mut self.exchange {
            exchange.given = None;
        }
    }

    /// The card's judgement of an answer.
    pub(super) fn judged(&mut self, reply: Reply) {
        match reply {
            Reply::Outcome(Some(outcome)) => {
                self.ask(
                    State::Accepted(outcome),
                    Ask::Poll {
                        after_silence: false,
                    },
                );
            }
            Reply::Refused(
                status @ (StatusWord::WRONG_DATA
                | StatusWord::NOT_AUTHENTIC
                | StatusWord::IMPOSSIBLE_SENT),
            ) => self.foreign(status),
            // No poll is open: the card was reset, and opens it again when it is asked who it is. The
            // rest, for instance a memory failure, may have happened before or after the commitment.
            _ => self.resume(),
        }
    }

    /// The answer was not for this poll, or was changed on its way: the right one may still come.
    fn foreign(&mut self, status: StatusWord) {
        self.forget_given();
        let Some(exchange) = &mut self.exchange else {
            return;
        };
        exchange.refused = exchange.refused.saturating_add(1);
        let (number, refused) = (exchange.number, exchange.refused);
        self.tell(Event::refused(number, status, refused));
        if refused >= MAX_REFUSED {
            self.tell(Event::AnswerDropped {
                exchange: number,
                why: format!(
                    "{refused} answers were wrong; until the next poll all others are dropped"
                ),
            });
        }
        self.wait();
    }

    pub(super) fn identity_learned(&mut self, outcome: &Outcome, reply: &Reply, now: Now) {
        let after = match reply {
            Reply::Poll(poll, _) => Some(poll.uid),
            _ => None,
        };
        self.complete(outcome, after, true, now);
    }

    /// An answer was accepted: tells of it, acts on it, remembers both, and waits for the next time.
    /// `seen`: the answer came through this session just now.
    pub(super) fn complete(&mut self, outcome: &Outcome, after: Option<Uid>, seen: bool, now: Now) {
        let before = self.memory.outstanding.take();
        let exchange = self.exchange.take();
        if exchange.is_none() {
            self.exchanges += 1;
        }
        let round_trip = exchange
            .as_ref()
            .filter(|_| seen)
            .map(|exchange| exchange.answered_at.saturating_sub(exchange.sent_at));
        if let Some(round_trip) = round_trip
            && exchange
                .as_ref()
                .is_some_and(|exchange| exchange.polls == 1)
        {
            self.backoff.measured(round_trip);
        }
        let identity = before.as_ref().map(|outstanding| outstanding.identity);
        let number = exchange.map_or(self.exchanges, |exchange| exchange.number);
        self.quality.add(outcome);
        self.tell(Event::ExchangeDone(ExchangeEvent {
            exchange: number,
            identity_before: identity.map(|uid| uid.short()),
            identity_after: after.map(|uid| uid.short()),
            round_trip_ms: round_trip.map(millis),
            link: self.quality,
            ..judgement(outcome)
        }));
        self.route.answered();
        self.card_waits = false;
        let found = Found {
            via: before.map(|outstanding| outstanding.via),
            pending: !seen,
        };
        self.act(outcome, found, now);
        self.out.push_back(Action::Close);
        let wait = self.planner.plan(now, &mut self.rng);
        self.memory.next_poll = Some(now.wall.saturating_add(wait.as_secs()));
        self.state = State::Idle;
        self.save(now);
        self.announce(now);
        if self.config.once.is_some() {
            self.finish(End::Done);
        }
    }

    /// No answer in time.
    pub(super) fn silence(&mut self, now: Now) {
        let polls = self.exchange.as_ref().map_or(0, |exchange| exchange.polls);
        if self.config.once.is_some_and(|attempts| polls >= attempts) {
            let to = self.route.endpoint().0.to_owned();
            self.tell(Event::NoAnswer {
                polls,
                to: to.clone(),
            });
            return self.finish(End::NoAnswer { polls, to });
        }
        let held_back = self.planner.held_back(now, &mut self.rng);
        if !held_back.is_zero() {
            if let Some(exchange) = &mut self.exchange {
                exchange.deadline = now.mono + held_back;
            }
            return;
        }
        if let Some(because) = self.route.silence(now.mono) {
            self.backoff.forget();
            self.server_changed(because, None);
        }
        self.ask_for_poll();
    }
}

/// What the outcome alone tells of an exchange.
fn judgement(outcome: &Outcome) -> ExchangeEvent {
    ExchangeEvent {
        exchange: 0,
        identity_before: None,
        identity_after: None,
        sent: outcome.sent,
        resend_counter: outcome.resend_counter,
        polls_lost: outcome.polls_lost(),
        answers_lost: outcome.answers_lost(),
        others_polled: outcome.flags.contains(Flags::OTHERS_POLLED),
        duplicate: outcome.flags.contains(Flags::DUPLICATE),
        not_done: outcome.flags.contains(Flags::NOT_DONE),
        round_trip_ms: None,
        link: Quality::default(),
        message_id: Msg::parse(&outcome.msg).ok().and_then(|msg| msg.id()),
        message: in_words(&outcome.msg),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
