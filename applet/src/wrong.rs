//! Deliberately wrong cards, for the tests of test scripts: each fault is one thing that a card could get wrong.
//!
//! Only in builds with the feature `wrong`. A fault stands between the contacts and the card: it changes commands before
//! the card sees them, or answers before the terminal does, so that the card's own code has no trace of it.

use crate::Card;

/// A fault by its name.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// What `--wrong` takes.
    pub name: &'static str,
    /// What is wrong, in words.
    pub what: &'static str,
    effect: Effect,
}

#[derive(Clone, Copy, Debug)]
enum Effect {
    /// The card sees another command.
    Command(fn(&mut Vec<u8>)),
    /// The terminal sees another answer.
    Answer(fn(&[u8], &mut Vec<u8>)),
    /// Another command goes before those that the function picks.
    Before(fn(&[u8]) -> bool, &'static [u8]),
    /// Another command goes after those that were answered like this.
    After(fn(&[u8], &[u8]) -> bool, &'static [u8]),
    /// These are answered with 9000 and never reach the card.
    Swallowed(fn(&[u8]) -> bool),
    /// The first answer to each such command is given again and again, until a reset.
    Stuck(fn(&[u8]) -> bool),
    /// After the first such command the answers to polls have no more counter than before it.
    ForgetsAtReset,
    /// A refused response closes the poll.
    ClosesOnRefusal,
}

/// A card's fault, and what it remembers.
pub(crate) struct Wrong {
    fault: Fault,
    stuck: Option<Vec<u8>>,
    resets: u32,
    closed: bool,
}

const SELECT: u8 = 0xA4;
const GET_UID: u8 = 0x40;
const RESPONSE: u8 = 0x42;
const SIGN: u8 = 0x44;
const INITIALIZE: u8 = 0x50;
const CHANNEL: u8 = 0x70;
const AUTHENTICATE: u8 = 0x82;
const INTERNAL: u8 = 0x88;
const GET_DATA: u8 = 0xCA;
const PUT_KEY: u8 = 0xD8;
const SET_STATUS: u8 = 0xF0;
const STORE: u8 = 0xE2;
const GET_RESPONSE: u8 = 0xC0;
/// GET-UID as it stands, all of it.
const POLL: &[u8] = &[0x80, GET_UID, 0, 0, 0];

fn is(command: &[u8], ins: u8) -> bool {
    command.get(1) == Some(&ins)
}

fn asks(command: &[u8], p1: u8, p2: u8) -> bool {
    is(command, GET_DATA) && command.get(2..4) == Some(&[p1, p2])
}

fn done(answer: &[u8]) -> bool {
    answer.ends_with(&[0x90, 0x00])
}

fn set(bytes: &mut [u8], at: usize, value: u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = value;
    }
}

/// Another status word in the place of one.
fn status(answer: &mut Vec<u8>, from: [u8; 2], to: [u8; 2]) {
    if answer[..] == from {
        *answer = to.to_vec();
    }
}

/// Replaces bytes after a tag and its length, wherever they stand in a good answer.
fn after(answer: &mut [u8], tag: &[u8], value: &[u8]) {
    if !done(answer) {
        return;
    }
    let found = answer.windows(tag.len()).position(|window| window == tag);
    if let Some(at) = found
        && let Some(place) = answer.get_mut(at + tag.len()..at + tag.len() + value.len())
    {
        place.copy_from_slice(value);
    }
}

/// The counters of statistics.
fn counter(command: &[u8], answer: &mut [u8], tag: u8) {
    if asks(command, 0x00, 0xE7) {
        after(answer, &[tag, 4], &[0; 4]);
    }
}

macro_rules! faults {
    ($($name:literal, $what:literal, $effect:expr;)*) => {
        /// All that there are.
        pub const FAULTS: &[Fault] = &[$(Fault { name: $name, what: $what, effect: $effect }),*];
    };
}

use Effect::{After, Answer, Before, ClosesOnRefusal, Command, ForgetsAtReset, Stuck, Swallowed};

faults! {
    "select-not-found", "SELECT of an unknown name is answered 6A88", Answer(|c, a| if is(c, SELECT) { status(a, [0x6A, 0x82], [0x6A, 0x88]) });
    "select-any-name", "SELECT takes a name that is longer than the AID", Command(|c| if is(c, SELECT) && c.get(4) == Some(&9) { set(c, 4, 8); c.remove(13); });
    "select-no-fci", "SELECT gives no FCI", Command(|c| if is(c, SELECT) && c.get(3) == Some(&0) { set(c, 3, 0x0C) });
    "select-always-fci", "SELECT with P2 = 0C gives an FCI", Command(|c| if is(c, SELECT) && c.get(3) == Some(&0x0C) { set(c, 3, 0); c.push(0); });
    "select-next-wraps", "SELECT next finds the first again", Command(|c| if is(c, SELECT) && c.get(3) == Some(&2) { set(c, 3, 0) });
    "fci-version", "the FCI tells version 2", Answer(|c, a| if is(c, SELECT) { after(a, &[0xC1, 1], &[2]) });
    "fci-mode", "the FCI tells mode 0", Answer(|c, a| if is(c, SELECT) { after(a, &[0xC2, 1], &[0]) });
    "fci-state", "the FCI tells INSTALLED on a personalised card", Answer(|c, a| if is(c, SELECT) { after(a, &[0xC3, 1], &[3]) });
    "poll-count-stands", "the count of resends does not advance", Command(|c| if is(c, GET_UID) { set(c, 2, 0) });
    "poll-count-runs", "GET-UID with P1 = 00 counts, too", Command(|c| if is(c, GET_UID) { set(c, 2, 1) });
    "poll-count-twice", "GET-UID with P1 = 01 counts two", Before(|c| is(c, GET_UID) && c.get(2) == Some(&1) && c.len() == 5, &[0x80, GET_UID, 1, 0, 0]);
    "poll-count-lost", "the count is 0 after a reset", ForgetsAtReset;
    "poll-any-p1", "GET-UID takes any P1", Command(|c| if is(c, GET_UID) && c.get(2).is_some_and(|p1| *p1 > 1) { set(c, 2, 0) });
    "poll-any-p2", "GET-UID takes any P2", Command(|c| if is(c, GET_UID) { set(c, 3, 0) });
    "poll-mac", "the last bit of a poll's MAC is wrong", Answer(|c, a| if is(c, GET_UID) && a.len() == 22 { a[19] ^= 1; });
    "poll-type", "a poll begins with 11 whatever the mode", Answer(|c, a| if is(c, GET_UID) && done(a) { set(a, 0, 0x11) });
    "poll-short", "a poll has no MAC", Answer(|c, a| if is(c, GET_UID) && a.len() == 22 { a.drain(12..20); });
    "poll-identity", "a poll's identity has its last byte wrong", Answer(|c, a| if is(c, GET_UID) && done(a) { a[11] ^= 0x01; });
    "poll-stuck", "the same poll for ever", Stuck(|c| is(c, GET_UID) && c.len() == 5);
    "poll-not-needed", "a response is taken without an open poll", Before(|c| is(c, RESPONSE) && c[0] & 0x10 == 0, POLL);
    "poll-stays-open", "an accepted response leaves the poll open", After(|c, a| is(c, RESPONSE) && done(a), POLL);
    "poll-closed-by-refusal", "a refused response closes the poll", ClosesOnRefusal;
    "response-form", "what is no response is answered 6700", Answer(|c, a| if is(c, RESPONSE) { status(a, [0x6A, 0x80], [0x67, 0x00]) });
    "response-conditions", "a response without a poll is answered 6982", Answer(|c, a| if is(c, RESPONSE) { status(a, [0x69, 0x85], [0x69, 0x82]) });
    "response-forged", "a response whose signature is wrong is answered 9000", Answer(|c, a| if is(c, RESPONSE) { status(a, [0x98, 0x62], [0x90, 0x00]) });
    "response-status", "a wrong signature is answered 6988", Answer(|c, a| if is(c, RESPONSE) { status(a, [0x98, 0x62], [0x69, 0x88]) });
    "response-tells", "a Sent that cannot be is answered as a wrong signature", Answer(|c, a| if is(c, RESPONSE) { status(a, [0x98, 0x65], [0x98, 0x62]) });
    "response-first-byte", "a response may begin with 80", Command(|c| if is(c, RESPONSE) && c.get(5) == Some(&0x80) { set(c, 5, 0x81) });
    "response-silent", "PROCESS-RESPONSE gives no outcome", Answer(|c, a| if is(c, RESPONSE) && done(a) { a.drain(..a.len() - 2); });
    "outcome-sent", "the outcome tells Sent 0", Answer(|_, a| after(a, &[0xC4, 2], &[0, 0]));
    "outcome-counter", "the outcome tells Resend_Counter 0", Answer(|c, a| if is(c, RESPONSE) { after(a, &[0xC5, 1], &[0]) });
    "outcome-flags", "the outcome has no flags", Answer(|_, a| after(a, &[0xC6, 1], &[0]));
    "outcome-lost", "the outcome cannot be read again", Answer(|c, a| if asks(c, 0x00, 0xE1) { *a = vec![0x6A, 0x88]; });
    "outcome-old", "the outcome that is read is the first one for ever", Stuck(|c| asks(c, 0x00, 0xE1));
    "statistics-accepted", "accepted responses are not counted", Answer(|c, a| counter(c, a, 0xC8));
    "statistics-refused", "refused responses are not counted", Answer(|c, a| counter(c, a, 0xC9));
    "statistics-polls", "lost polls are not counted", Answer(|c, a| counter(c, a, 0xCA));
    "statistics-answers", "lost answers are not counted", Answer(|c, a| counter(c, a, 0xCB));
    "statistics-e", "e does not advance", Answer(|c, a| counter(c, a, 0xCC));
    "statistics-id", "the last message id does not advance", Answer(|c, a| counter(c, a, 0xCD));
    "data-iccid", "the ICCID is that of another card", Answer(|c, a| if asks(c, 0x00, 0x5A) { after(a, &[0x5A, 0x0A], &[0x89]) });
    "data-everything", "GET DATA gives the ICCID for what it does not know", Command(|c| if is(c, GET_DATA) && c.get(2) == Some(&0) && c.get(3) == Some(&0xE8) { set(c, 3, 0x5A) });
    "key-slot", "public keys come from slot 0", Command(|c| if is(c, GET_DATA) && c.get(2) == Some(&1) { set(c, 3, 0) });
    "key-point", "a public key has a bit wrong", Answer(|c, a| if is(c, GET_DATA) && c.get(2) == Some(&1) && a.len() > 20 { a[9] ^= 1; });
    "sign-challenge", "SIGN-SESSION signs zeros", Command(|c| if is(c, SIGN) && c.len() >= 21 { c[5..21].fill(0); });
    "sign-length", "SIGN-SESSION takes 15 bytes", Command(|c| if is(c, SIGN) && c.get(4) == Some(&15) { set(c, 4, 16); c.insert(20, 0); });
    "internal-challenge", "INTERNAL AUTHENTICATE signs another challenge", Command(|c| if is(c, INTERNAL) && c.len() >= 21 { c[5] ^= 0x80; });
    "internal-slot", "INTERNAL AUTHENTICATE uses slot 0 where a slot is empty", Command(|c| if is(c, INTERNAL) && c.get(3) == Some(&1) { set(c, 3, 0) });
    "channel-number", "MANAGE CHANNEL tells another channel than it opened", Answer(|c, a| if is(c, CHANNEL) && a.len() == 3 { a[0] ^= 3; });
    "channel-one", "channel 1 is the basic channel", Command(|c| if c.first().is_some_and(|cla| cla & 0x43 == 1) { c[0] &= 0xFC; });
    "channel-closed", "a channel that is not open is answered 6882", Answer(|_, a| status(a, [0x68, 0x81], [0x68, 0x82]));
    "channel-stays", "MANAGE CHANNEL closes nothing", Swallowed(|c| is(c, CHANNEL) && c.get(2) == Some(&0x80));
    "chain-lost", "a chain's first commands are forgotten", Swallowed(|c| c.first().is_some_and(|cla| cla & 0x90 == 0x90) && (is(c, RESPONSE) || is(c, SIGN)));
    "chain-broken", "a broken chain is answered 6985", Answer(|_, a| status(a, [0x68, 0x83], [0x69, 0x85]));
    "chain-refused", "what cannot be chained is answered 6700", Answer(|_, a| status(a, [0x68, 0x84], [0x67, 0x00]));
    "le-ignored", "the answer is longer than Le", Command(|c| if is(c, GET_DATA) && c.len() == 5 { set(c, 4, 0) });
    "get-response-empty", "GET RESPONSE without anything to fetch is answered 9000", Answer(|c, a| if is(c, GET_RESPONSE) { status(a, [0x69, 0x85], [0x90, 0x00]) });
    "ins-unknown", "an unknown instruction is answered 6E00", Answer(|_, a| status(a, [0x6D, 0x00], [0x6E, 0x00]));
    "class-unknown", "an unknown class is answered 6D00", Answer(|_, a| status(a, [0x6E, 0x00], [0x6D, 0x00]));
    "wrong-length", "a wrong length is answered 6A80", Answer(|_, a| status(a, [0x67, 0x00], [0x6A, 0x80]));
    "wrong-parameters", "wrong parameters are answered 6A88", Answer(|_, a| status(a, [0x6A, 0x86], [0x6A, 0x88]));
    "messaging", "secure messaging without a session is answered 6E00", Answer(|_, a| status(a, [0x68, 0x82], [0x6E, 0x00]));
    "host-refused", "a host without the key is answered 6982", Answer(|c, a| if is(c, AUTHENTICATE) { status(a, [0x63, 0x00], [0x69, 0x82]) });
    "sequence-stands", "the sequence counter that is told does not advance", Answer(|c, a| if is(c, INITIALIZE) && done(a) { let at = a.len() - 3; set(a, at, 1); });
    "store-unprotected", "STORE DATA outside of a session is answered 9000", Swallowed(|c| is(c, STORE) && c[0] == 0x80);
    "new-card", "a card that is not personalised answers GET-UID with 6A88", Answer(|c, a| if is(c, GET_UID) { status(a, [0x69, 0x85], [0x6A, 0x88]) });
    "put-key-silent", "PUT KEY gives no check values", Answer(|c, a| if is(c, PUT_KEY) && done(a) { a.drain(1..a.len() - 2); });
    "put-key-ignored", "PUT KEY changes nothing", Swallowed(|c| is(c, PUT_KEY) && c[0] == 0x84);
    "card-state", "the card manager tells OP_READY for ever", Answer(|c, a| if is(c, SELECT) { after(a, &[0x9F, 0x70, 1], &[1]) });
    "card-step", "SET STATUS takes any step of the card's life", Answer(|c, a| if is(c, SET_STATUS) { status(a, [0x69, 0x85], [0x90, 0x00]) });
    "card-immortal", "SET STATUS terminates nothing", Swallowed(|c| is(c, SET_STATUS) && c.get(2..4) == Some(&[0x80, 0xFF]));
    "store-ignored", "STORE DATA changes nothing", Swallowed(|c| is(c, STORE) && c[0] == 0x84);
}

/// The fault of this name.
pub fn named(name: &str) -> Option<Fault> {
    FAULTS.iter().find(|fault| fault.name == name).copied()
}

impl Card {
    /// Makes the card wrong.
    #[must_use]
    pub fn with_fault(mut self, fault: Fault) -> Self {
        self.wrong = Some(Box::new(Wrong {
            fault,
            stuck: None,
            resets: 0,
            closed: false,
        }));
        self
    }
}

impl Wrong {
    /// The card has lost what it had in RAM.
    pub(crate) fn reset(&mut self) {
        self.stuck = None;
        self.closed = false;
        self.resets += 1;
    }

    /// What a card with this fault answers.
    pub(crate) fn transmit(&mut self, card: &mut Card, apdu: &[u8]) -> Vec<u8> {
        let mut command = apdu.to_vec();
        match self.fault.effect {
            Command(change) => change(&mut command),
            Before(picks, first) if picks(&command) => drop(card.transmit(first).to_vec()),
            Swallowed(picks) if picks(&command) => return vec![0x90, 0x00],
            Stuck(picks) if picks(&command) => return self.stuck(card, &command),
            ClosesOnRefusal if self.closed && is(&command, RESPONSE) => return vec![0x69, 0x85],
            _ => {}
        }
        let mut answer = card.transmit(&command).to_vec();
        match self.fault.effect {
            Answer(change) => change(&command, &mut answer),
            After(picks, next) if picks(&command, &answer) => drop(card.transmit(next).to_vec()),
            ForgetsAtReset if self.resets > 1 && is(&command, GET_UID) && done(&answer) => {
                set(&mut answer, 1, 0)
            }
            ClosesOnRefusal => self.closes(&command, &answer),
            _ => {}
        }
        answer
    }

    fn stuck(&mut self, card: &mut Card, command: &[u8]) -> Vec<u8> {
        if self.stuck.is_none() {
            let answer = card.transmit(command).to_vec();
            if !done(&answer) {
                return answer;
            }
            self.stuck = Some(answer);
        }
        self.stuck.clone().unwrap_or_default()
    }

    fn closes(&mut self, command: &[u8], answer: &[u8]) {
        if is(command, RESPONSE) && answer == [0x98, 0x62] {
            self.closed = true;
        } else if is(command, GET_UID) {
            self.closed = false;
        }
    }
}
