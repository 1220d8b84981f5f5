//! What the runtime promises to applets: transactions that roll back, memory that forgets, a choice by name.

use applet::{
    Card, Protocol,
    aid::Aid,
    apdu::Command,
    nvm::{COMMIT_CAPACITY, RamDevice, Store},
    runtime::{Applet, Application, ClearOn, Env, Form},
};
use protocol::card::StatusWord;

use crate::{
    common::{hex, ok, status, transmit},
    devices::Counting,
};

const A: u16 = 2;
const B: u16 = 3;

/// An applet that does with its memory what P1 says.
struct Scribe;

impl Applet for Scribe {
    fn install(&mut self, env: &mut Env<'_>) -> Result<(), StatusWord> {
        env.put(A, b"old")
    }

    fn select(&mut self, env: &mut Env<'_>) -> Result<(), StatusWord> {
        if env.get(A) == Some(b"no") {
            Err(StatusWord::CONDITIONS)
        } else {
            Ok(())
        }
    }

    fn form(&self, _: &Command<'_>) -> Result<Form, StatusWord> {
        Ok(Form::NO_DATA)
    }

    fn process(&mut self, env: &mut Env<'_>, command: &Command<'_>) -> Result<(), StatusWord> {
        match command.p1 {
            0 => both(env).and_then(|()| env.commit()),
            1 => both(env).and_then(|()| env.abort()),
            2 => both(env),
            3 => both(env).and_then(|()| env.begin()),
            4 => env.commit(),
            5 => env.abort(),
            6 => env.begin().and_then(|()| env.put(B, &[0; COMMIT_CAPACITY])),
            7 => {
                let seen = [env.get(A), env.get(B)].map(|value| value.unwrap_or(b"-").to_vec());
                env.answer().extend_from_slice(&seen.join(&b' '));
                Ok(())
            }
            8 => {
                both(env)?;
                let seen = env.get(A).map(<[u8]>::to_vec).unwrap_or_default();
                env.answer().extend_from_slice(&seen);
                env.abort()
            }
            9 => env.put(A, b"no"),
            10 => {
                env.put_transient(ClearOn::Reset, 1, b"r");
                env.put_transient(ClearOn::Deselect, 1, b"d");
                Ok(())
            }
            _ => {
                let seen = [ClearOn::Reset, ClearOn::Deselect].map(|clear| env.transient(clear, 1));
                let seen = seen.map(|value| value.unwrap_or(b"-").to_vec());
                env.answer().extend_from_slice(&seen.concat());
                Ok(())
            }
        }
    }
}

fn both(env: &mut Env<'_>) -> Result<(), StatusWord> {
    env.begin()?;
    env.put(A, b"new")?;
    env.put(B, b"b")
}

fn card() -> Card {
    let scribe = |last: u8| Application {
        aid: Aid::new(&[0xF0, 1, 2, 3, 4, last]).expect("an AID"),
        make: || Box::new(Scribe),
        default_selected: last == 1,
    };
    let memory = Store::format(Box::new(RamDevice::blank()), None).expect("a memory");
    let applications = [scribe(1), scribe(2)];
    let mut card = Card::open(
        memory,
        &applications,
        Box::new(Counting::default()),
        Protocol::T1,
    )
    .expect("a card");
    card.power_on();
    card
}

fn seen(card: &mut Card, p1: u8) -> String {
    let data = ok(&transmit(card, &format!("8000{p1:02X}0000")));
    String::from_utf8(data).expect("text")
}

fn act(card: &mut Card, p1: u8) -> u16 {
    status(&transmit(card, &format!("8000{p1:02X}0000")))
}

#[test]
fn a_committed_transaction_stays_and_an_aborted_one_leaves_nothing() {
    let mut card = card();
    assert_eq!(act(&mut card, 1), 0x9000);
    assert_eq!(seen(&mut card, 7), "old -");
    assert_eq!(
        seen(&mut card, 8),
        "new",
        "the transaction sees what it writes"
    );
    assert_eq!(seen(&mut card, 7), "old -");
    assert_eq!(act(&mut card, 0), 0x9000);
    assert_eq!(seen(&mut card, 7), "new b");
}

#[test]
fn a_transaction_that_is_left_open_or_torn_by_a_reset_is_aborted() {
    let mut card = card();
    let before = card.examination().commits;
    assert_eq!(act(&mut card, 2), 0x9000);
    assert_eq!(seen(&mut card, 7), "old -");
    card.reset();
    assert_eq!(seen(&mut card, 7), "old -");
    assert_eq!(card.examination().commits, before);
}

#[test]
fn transactions_do_not_nest_and_are_bounded() {
    let mut card = card();
    for (p1, answer) in [(3, 0x6F00), (4, 0x6F00), (5, 0x6F00), (6, 0x6581)] {
        assert_eq!(act(&mut card, p1), answer, "P1 {p1}");
        assert!(card.take_fault().is_some());
        assert_eq!(seen(&mut card, 7), "old -");
    }
}

#[test]
fn transient_memory_forgets_with_the_last_selection_or_the_reset() {
    let mut card = card();
    act(&mut card, 10);
    assert_eq!(seen(&mut card, 11), "rd");
    transmit(&mut card, "0070000001");
    transmit(&mut card, "01A4040C06F00102030401");
    transmit(&mut card, "00A4040C06F00102030402");
    assert_eq!(
        ok(&transmit(&mut card, "81000B0000")),
        hex("7264"),
        "still selected on channel 1"
    );
    transmit(&mut card, "00708001");
    transmit(&mut card, "00A4040C06F00102030401");
    assert_eq!(seen(&mut card, 11), "r-");
    card.reset();
    assert_eq!(seen(&mut card, 11), "--");
}

#[test]
fn applets_have_objects_of_their_own_and_the_next_occurrence_finds_the_next() {
    let mut card = card();
    act(&mut card, 0);
    assert_eq!(status(&transmit(&mut card, "00A4040005F001020304")), 0x9000);
    assert_eq!(seen(&mut card, 7), "new b");
    assert_eq!(status(&transmit(&mut card, "00A4040205F001020304")), 0x9000);
    assert_eq!(seen(&mut card, 7), "old -", "the second one has its own");
    assert_eq!(
        status(&transmit(&mut card, "00A4040205F001020304")),
        0x6A82,
        "there is no third"
    );
    assert_eq!(seen(&mut card, 7), "old -", "and the second stays selected");
}

#[test]
fn an_applet_may_refuse_to_be_selected() {
    let mut card = card();
    act(&mut card, 9);
    assert_eq!(
        status(&transmit(&mut card, "00A4040006F00102030401")),
        0x6999
    );
    assert_eq!(act(&mut card, 7), 0x6986, "nothing is selected then");
}
