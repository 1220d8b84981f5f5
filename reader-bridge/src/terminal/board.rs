//! Where every card of this process stands just now: `reader-bridge status` and the metrics ask it.
//!
//! Owns one entry for each card, made of the events that are told of it, so a card whose reader hangs is shown,
//! too. Refuses to be a log: what is over is counted, not kept.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::clock;
use crate::{
    report::Reporter,
    session::{Event, ExchangeEvent, Quality, Via},
};

/// In one word, what a card's terminal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It has not looked for the card yet.
    Starting,
    /// No card is there.
    Waiting,
    /// A card is there that cannot be used.
    Refused,
    /// The card is there; the next poll is not due.
    Idle,
    /// A first poll waits for its answer.
    Polling,
    /// Polls go unanswered.
    Resending,
    /// The card refuses commands, or answers nonsense.
    Failing,
    /// The card went, or the way to it broke.
    Gone,
    /// Its terminal has ended.
    Stopped,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Starting,
        Self::Waiting,
        Self::Refused,
        Self::Idle,
        Self::Polling,
        Self::Resending,
        Self::Failing,
        Self::Gone,
        Self::Stopped,
    ];

    /// Its word, as in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Waiting => "waiting",
            Self::Refused => "refused",
            Self::Idle => "idle",
            Self::Polling => "polling",
            Self::Resending => "resending",
            Self::Failing => "failing",
            Self::Gone => "gone",
            Self::Stopped => "stopped",
        }
    }

    /// Whether a card is there and its exchanges go on.
    pub const fn works(self) -> bool {
        matches!(self, Self::Idle | Self::Polling | Self::Resending)
    }
}

/// Where one card stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardStatus {
    /// Where the card is, in the words of `--card`.
    pub card: String,
    /// The card's ICCID, once one was there.
    pub iccid: Option<String>,
    /// What its terminal is about.
    pub state: State,
    /// Why, where something is missing or fails.
    pub why: Option<String>,
    /// The identity that polls, its first four bytes.
    pub identity: Option<String>,
    /// host:port of the server asked last.
    pub server: Option<String>,
    /// Whether that one is home.
    pub via: Option<Via>,
    /// Polls since the last accepted answer.
    pub unanswered: u32,
    /// When an answer was last accepted (RFC 3339, UTC).
    pub last_answer: Option<String>,
    /// How long ago that was, in milliseconds.
    pub last_answer_ago_ms: Option<u64>,
    /// When the next poll is due, in milliseconds from now; 0 if it is overdue.
    pub next_poll_in_ms: Option<u64>,
    /// The link's quality in this run.
    pub link: Quality,
    /// Answers that the card refused in this run: not for it, or changed on their way.
    pub answers_refused: u64,
    /// Datagrams in this run that were no answers, or came after too many refused ones.
    pub answers_dropped: u64,
    /// Exchanges of this run in which somebody else had polled with the card's identity.
    pub others_polled: u64,
    /// Id of the last message.
    pub last_message: Option<u32>,
}

/// A [`CardStatus`] with times that still run.
struct Entry {
    status: CardStatus,
    answered: Option<(SystemTime, Duration)>,
    due: Option<Duration>,
}

/// All cards of this process.
#[derive(Default)]
pub struct Board {
    cards: Mutex<BTreeMap<String, Entry>>,
}

impl Board {
    /// Shows a card, called as in `--card`, before it has told anything.
    pub fn expect(&self, card: &str) {
        let new = || Entry::new(card.to_owned());
        self.lock().entry(card.to_owned()).or_insert_with(new);
    }

    /// All cards as they stand now, in the order of their names.
    pub fn snapshot(&self) -> Vec<CardStatus> {
        let now = now();
        self.lock()
            .values()
            .map(|entry| entry.status_at(now))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        // Each event changes one entry; a panic in between would leave at worst one half-told card.
        self.cards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Goes on while the machine sleeps, as the schedule does. A machine without that clock runs no session.
fn now() -> Duration {
    clock::now().map_or(Duration::ZERO, |now| now.mono)
}

impl Reporter for Board {
    fn tell(&self, card: &str, event: &Event) -> io::Result<()> {
        let mut cards = self.lock();
        let entry = cards
            .entry(card.to_owned())
            .or_insert_with_key(|card| Entry::new(card.clone()));
        entry.take(event, now());
        Ok(())
    }

    fn forget(&self, card: &str) {
        self.lock().remove(card);
    }
}

impl Entry {
    fn new(card: String) -> Self {
        Self {
            status: CardStatus {
                card,
                iccid: None,
                state: State::Starting,
                why: None,
                identity: None,
                server: None,
                via: None,
                unanswered: 0,
                last_answer: None,
                last_answer_ago_ms: None,
                next_poll_in_ms: None,
                link: Quality::default(),
                answers_refused: 0,
                answers_dropped: 0,
                others_polled: 0,
                last_message: None,
            },
            answered: None,
            due: None,
        }
    }

    fn status_at(&self, now: Duration) -> CardStatus {
        CardStatus {
            last_answer: self
                .answered
                .map(|(wall, _)| humantime::format_rfc3339_millis(wall).to_string()),
            last_answer_ago_ms: self
                .answered
                .map(|(_, mono)| millis(now.saturating_sub(mono))),
            next_poll_in_ms: self
                .due
                .filter(|_| self.status.state.works())
                .map(|due| millis(due.saturating_sub(now))),
            ..self.status.clone()
        }
    }

    fn take(&mut self, event: &Event, now: Duration) {
        let status = &mut self.status;
        match event {
            Event::WaitingForCard { why } => status.become_state(State::Waiting, Some(why)),
            // While one is served here, it was another one that was sent away.
            Event::CardRefused { .. } if status.state.works() => {}
            Event::CardRefused { why } => status.become_state(State::Refused, Some(why)),
            Event::CardGone { why } => status.become_state(State::Gone, Some(why)),
            Event::CardFailed { why, .. } => status.become_state(State::Failing, Some(why)),
            Event::Stopped { why } => status.become_state(State::Stopped, Some(why)),
            Event::CardReady { iccid, .. } => status.card_ready(iccid),
            Event::PollSent { .. } => {
                status.poll_sent(event);
                self.due = None;
            }
            Event::ExchangeDone(exchange) => {
                status.exchange_done(exchange);
                self.answered = Some((SystemTime::now(), now));
            }
            Event::AnswerRefused { .. } => status.answers_refused += 1,
            Event::AnswerDropped { .. } => status.answers_dropped += 1,
            Event::Message(message) => status.last_message = message.id.or(status.last_message),
            Event::ServerChanged { to, via, .. } => status.ask_at(to, *via),
            Event::LinkFailed { why, .. } => status.why = Some(why.clone()),
            Event::NextPoll { in_ms } => {
                self.due = now.checked_add(Duration::from_millis(*in_ms));
            }
            _ => {}
        }
    }
}

impl CardStatus {
    fn become_state(&mut self, state: State, why: Option<&String>) {
        self.state = state;
        self.why = why.cloned();
    }

    fn card_ready(&mut self, iccid: &str) {
        if self.iccid.as_deref() != Some(iccid) {
            // Another card in the same place: what was counted was the other one's.
            *self = Entry::new(std::mem::take(&mut self.card)).status;
            self.iccid = Some(iccid.to_owned());
        }
        self.become_state(State::Idle, None);
    }

    fn poll_sent(&mut self, event: &Event) {
        let Event::PollSent {
            identity, to, via, ..
        } = event
        else {
            return;
        };
        self.identity = Some(identity.clone());
        self.ask_at(to, *via);
        self.unanswered = self.unanswered.saturating_add(1);
        let state = if self.unanswered > 1 {
            State::Resending
        } else {
            State::Polling
        };
        self.become_state(state, None);
    }

    fn ask_at(&mut self, to: &str, via: Via) {
        self.server = Some(to.to_owned());
        self.via = Some(via);
    }

    fn exchange_done(&mut self, exchange: &ExchangeEvent) {
        self.become_state(State::Idle, None);
        self.unanswered = 0;
        self.identity.clone_from(&exchange.identity_after);
        self.link = exchange.link;
        self.others_polled += u64::from(exchange.others_polled);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(resend_counter: u8) -> Event {
        Event::PollSent {
            exchange: 1,
            identity: "a275f397".into(),
            resend_counter,
            authenticated: true,
            bytes: 20,
            to: "gts.example:4753".into(),
            via: Via::Home,
            timeout_ms: 2000,
        }
    }

    fn ready(iccid: &str) -> Event {
        Event::CardReady {
            atr: "3B00".into(),
            iccid: iccid.into(),
            mode: 3,
            state: "state".into(),
            statistics: None,
        }
    }

    fn told(board: &Board, event: &Event) -> CardStatus {
        board.tell("pcsc", event).unwrap();
        board.snapshot().remove(0)
    }

    #[test]
    fn a_card_that_has_told_nothing_is_shown() {
        let board = Board::default();
        board.expect("pcsc");
        assert_eq!(board.snapshot()[0].state, State::Starting);
    }

    #[test]
    fn polls_that_go_unanswered_are_told_from_first_ones() {
        let board = Board::default();
        board.expect("pcsc");
        assert_eq!(told(&board, &ready("1")).state, State::Idle);
        assert_eq!(told(&board, &poll(0)).state, State::Polling);
        let status = told(&board, &poll(1));
        assert_eq!((status.state, status.unanswered), (State::Resending, 2));
        assert_eq!(status.identity.as_deref(), Some("a275f397"));
        assert_eq!(status.server.as_deref(), Some("gts.example:4753"));
    }

    #[test]
    fn another_card_begins_anew() {
        let board = Board::default();
        board.expect("pcsc");
        told(&board, &ready("1"));
        let refused = Event::AnswerDropped {
            exchange: 1,
            why: "short".into(),
        };
        assert_eq!(told(&board, &refused).answers_dropped, 1);
        assert_eq!(told(&board, &ready("1")).answers_dropped, 1);
        assert_eq!(told(&board, &ready("2")).answers_dropped, 0);
    }

    #[test]
    fn a_card_that_is_sent_away_changes_nothing_for_the_one_that_is_served() {
        let board = Board::default();
        let refused = Event::CardRefused { why: "full".into() };
        assert_eq!(told(&board, &refused).state, State::Refused);
        told(&board, &ready("1"));
        assert_eq!(told(&board, &refused).state, State::Idle);
    }

    #[test]
    fn a_place_that_is_given_up_is_shown_no_more() {
        let board = Board::default();
        board.expect("vpcd:1");
        told(&board, &ready("1"));
        crate::report::Each(vec![&board]).forget("pcsc");
        let left: Vec<_> = board.snapshot().into_iter().map(|one| one.card).collect();
        assert_eq!(left, ["vpcd:1"]);
    }

    #[test]
    fn a_card_that_is_gone_has_no_next_poll() {
        let board = Board::default();
        board.expect("pcsc");
        told(&board, &ready("1"));
        let due = told(&board, &Event::NextPoll { in_ms: 3_600_000 });
        assert!(due.next_poll_in_ms.is_some_and(|left| left > 3_000_000));
        let why = "pulled".to_owned();
        let gone = told(&board, &Event::CardGone { why });
        assert_eq!(gone.next_poll_in_ms, None);
        assert_eq!(gone.why.as_deref(), Some("pulled"));
    }
}
