//! A whole applet in a page: a counter that is spent one by one, on a card together with SecApp.
//!
//! ```text
//! 80 20 00 00 Lc PIN   unlocks until the applet is deselected; 6982 if wrong
//! 80 30 00 00          spends one and answers how many are left; 6985 if none is
//! ```
//!
//! `cargo run --example counter` makes a card in memory and talks to it.

use applet::{
    Protocol,
    aid::Aid,
    apdu::Command,
    nvm::{RamDevice, Store},
    runtime::{Applet, Application, Card, ClearOn, Env, Form},
};
use protocol::card::StatusWord;

const AID: [u8; 6] = [0xF0, 0x43, 0x4F, 0x55, 0x4E, 0x54];
/// Persistent object: how many are left. Number 0001 is the runtime's.
const LEFT: u16 = 0x0002;
/// Transient object: there while the PIN has been given.
const UNLOCKED: u16 = 0x0001;
const VERIFY: u8 = 0x20;
const SPEND: u8 = 0x30;

struct Counter;

impl Applet for Counter {
    fn install(&mut self, env: &mut Env<'_>) -> Result<(), StatusWord> {
        env.put(LEFT, &[3])
    }

    fn select(&mut self, env: &mut Env<'_>) -> Result<(), StatusWord> {
        env.answer().extend_from_slice(&AID);
        Ok(())
    }

    fn form(&self, command: &Command<'_>) -> Result<Form, StatusWord> {
        match (command.class.proprietary, command.ins, command.p1p2()) {
            (false, ..) => Err(StatusWord::CLASS),
            (_, VERIFY, 0) => Ok(Form::one(4, 8)),
            (_, SPEND, 0) => Ok(Form::NO_DATA),
            (_, VERIFY | SPEND, _) => Err(StatusWord::WRONG_P1P2),
            _ => Err(StatusWord::INS),
        }
    }

    fn process(&mut self, env: &mut Env<'_>, command: &Command<'_>) -> Result<(), StatusWord> {
        match command.ins {
            VERIFY if command.data == b"1234" => {
                env.put_transient(ClearOn::Deselect, UNLOCKED, &[1]);
                Ok(())
            }
            SPEND if env.transient(ClearOn::Deselect, UNLOCKED).is_some() => spend(env),
            _ => Err(StatusWord::SECURITY_STATUS),
        }
    }
}

/// Under T=0 a terminal that asks for another length is refused before anything is spent.
fn spend(env: &mut Env<'_>) -> Result<(), StatusWord> {
    env.outgoing(1)?;
    let left = env.get(LEFT).and_then(|left| left.first()?.checked_sub(1));
    let left = left.ok_or(StatusWord::CONDITIONS)?;
    env.put(LEFT, &[left])?;
    env.answer().push(left);
    Ok(())
}

fn card() -> Result<Card, Box<dyn std::error::Error>> {
    let memory = Store::format(Box::new(RamDevice::blank()), None)?;
    let mut applications = applet::applications();
    applications.push(Application {
        aid: Aid::new(&AID)?,
        make: || Box::new(Counter),
        default_selected: false,
    });
    let mut card = Card::open(
        memory,
        &applications,
        Box::new(applet::entropy::OsEntropy),
        Protocol::T1,
    )?;
    card.power_on();
    Ok(card)
}

const SELECT: &str = "00A4040006F0434F554E5400";

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut card = card()?;
    for apdu in [
        SELECT,
        "80200000043132333400",
        "8030000000",
        "8030000000",
        "8030000000",
        "8030000000",
    ] {
        println!(
            "{apdu} -> {}",
            hex::encode_upper(
                card.transmit(&hex::decode(apdu).map_err(|error| error.to_string())?)
            )
        );
    }
    Ok(())
}

#[test]
fn what_is_spent_is_spent_and_the_pin_is_forgotten_with_the_selection() {
    let mut card = card().expect("a card");
    let mut send = |apdu: &str| hex::encode_upper(card.transmit(&hex::decode(apdu).expect("hex")));
    send(SELECT);
    assert_eq!(send("8030000000"), "6982");
    assert_eq!(send("80200000043132333400"), "9000");
    assert_eq!(send("8030000000"), "029000");
    send("00A4040C08F047545341505001");
    send(SELECT);
    assert_eq!(
        send("8030000000"),
        "6982",
        "deselected: the PIN is forgotten"
    );
    assert_eq!(send("80200000043132333400"), "9000");
    assert_eq!(
        (send("8030000000"), send("8030000000")),
        ("019000".into(), "009000".into())
    );
    assert_eq!(send("8030000000"), "6985");
}
