//! Power that fails at every byte of every write: afterwards the card is in the state before or the state after,
//! and the exchange with its server goes on.

use applet::{
    Card, Protocol,
    nvm::{Device, NvmError, Store, TearingDevice},
};
use protocol::{
    card::StatusWord,
    identity::UidRand,
    msg::{KeyAlgorithm, NOTHING_TO_DO, Object, compose},
    poll::Poll,
};

use crate::{
    common::{Server, card_on, hex, poll, process_response, status, subscription, transmit},
    devices::{Counting, Recording, Shared, Step, Steps},
    host::Host,
    manager::{Blank, new_keys, personal},
};

/// Brings the card to where the command is possible, since polls and sessions are in RAM only; returns the command.
type Prepare = Box<dyn Fn(&mut Card) -> Vec<u8> + Send + Sync>;

/// A card's memory, a command that changes it, and what the server knows meanwhile.
struct Case {
    name: &'static str,
    memory: Vec<u8>,
    prepare: Prepare,
    server: Server,
    /// The seed of the response in the command, under the recovery identity if that is said.
    rand: Option<(UidRand, bool)>,
    /// Whether the card has an identity before and after, so that it can be polled with.
    polls: bool,
    /// What an untorn card answers.
    answer: StatusWord,
}

/// The card on these bytes: powered, SecApp selected, randomness repeatable.
fn open(device: Box<dyn Device>) -> Result<Card, NvmError> {
    let memory = Store::open(device, None)?;
    let card = Card::open(
        memory,
        &applet::applications(),
        Box::new(Counting::default()),
        Protocol::T1,
    );
    let mut card = card.expect("a personalised card needs no installation");
    card.power_on();
    transmit(&mut card, "00A4040C08F047545341505001");
    Ok(card)
}

/// All that a terminal can see of a card's state: the card manager's, then SecApp's.
fn view(card: &mut Card) -> Vec<Vec<u8>> {
    let keys = (0..8).map(|slot| format!("80CA01{slot:02X}00"));
    let reads = [
        "00A4040000",
        "80CA00C100",
        "80CA00E000",
        "80CA004200",
        "00A4040008F04754534150500100",
        "8040000000",
        "80CA00E100",
        "80CA00E700",
        "80CA005A00",
    ];
    let reads = reads.map(str::to_owned).into_iter().chain(keys);
    let mut seen: Vec<_> = reads.map(|apdu| transmit(card, &apdu)).collect();
    // Failed authentications show in how long the next session's beginning has to wait.
    transmit(card, "8050000008001122334455667700");
    seen.push(card.take_delay().as_millis().to_be_bytes().to_vec());
    seen
}

fn view_of(bytes: &[u8]) -> Vec<Vec<u8>> {
    view(&mut open(Box::new(Shared::of(bytes.to_vec()))).expect("a whole memory"))
}

fn response(name: &'static str, resends: u32, msg: &[u8], recovery: bool) -> Case {
    let with = subscription(3);
    let memory = Shared::blank();
    let mut card = card_on(Box::new(memory.clone()), &with, Protocol::T1);
    for _ in 0..resends {
        poll(&mut card, 1);
    }
    drop(card);
    let server = Server::of(&with);
    let rand = UidRand([5; 8]);
    let link = if recovery {
        server.recovery.identity()
    } else {
        server.link.clone()
    };
    let sealed = link.seal(msg, 1, rand).expect("a message that fits");
    let lc = u8::try_from(sealed.as_bytes().len()).expect("a short command");
    let command = [&[0x80, 0x42, 0, 0, lc], sealed.as_bytes(), &[0]].concat();
    Case {
        name,
        memory: memory.bytes(),
        prepare: Box::new(move |card| {
            poll(card, 0);
            command.clone()
        }),
        server,
        rand: Some((rand, recovery)),
        polls: true,
        answer: StatusWord::OK,
    }
}

fn lost_poll(name: &'static str, resends: u32) -> Case {
    Case {
        prepare: Box::new(|_| vec![0x80, 0x40, 1, 0, 0]),
        rand: None,
        ..response(name, resends, &NOTHING_TO_DO, false)
    }
}

/// A command to the card manager, or to SecApp (`to`), in a session of its own.
fn protected(
    name: &'static str,
    to: &'static str,
    command: impl Fn(&mut Host) -> Vec<u8> + Send + Sync + 'static,
) -> Case {
    let blank = Blank::new(0x70, 16);
    drop(blank.card());
    let memory = blank.memory.bytes();
    Case {
        name,
        memory,
        prepare: Box::new(move |card| {
            transmit(card, to);
            command(&mut blank.open(card, 0x33))
        }),
        server: Server::of(&subscription(3)),
        rand: None,
        polls: false,
        answer: StatusWord::OK,
    }
}

/// An EXTERNAL AUTHENTICATE by a host that knows the keys or by one that guesses, after so many guesses.
fn authentication(name: &'static str, guesses: u32, right: bool) -> Case {
    let blank = Blank::new(0x70, 16);
    let command = move |blank: &Blank, card: &mut Card, right: bool| {
        transmit(card, MANAGER);
        let mut command = blank.begin(card);
        command[5] ^= u8::from(!right);
        command
    };
    let mut card = blank.card();
    for _ in 0..guesses {
        let guess = command(&blank, &mut card, false);
        assert_eq!(status(card.transmit(&guess)), 0x6300);
    }
    drop(card);
    Case {
        name,
        memory: blank.memory.bytes(),
        prepare: Box::new(move |card| command(&blank, card, right)),
        server: Server::of(&subscription(3)),
        rand: None,
        polls: false,
        answer: if right {
            StatusWord::OK
        } else {
            StatusWord(0x6300)
        },
    }
}

const MANAGER: &str = "00A4040000";
const SECAPP: &str = "00A4040008F04754534150500100";

/// Every command of the card manager, and SecApp's personalisation.
fn managed() -> Vec<Case> {
    vec![
        authentication("a guess at EXTERNAL AUTHENTICATE", 3, false),
        authentication("EXTERNAL AUTHENTICATE after guesses", 4, true),
        protected("INITIALIZE UPDATE", MANAGER, |_| {
            hex("8050300008001122334455667700")
        }),
        protected("STORE DATA to the card manager", MANAGER, |host| {
            host.protect(0xE2, 0x80, 0, &hex("4204AABBCCDD"), false)
        }),
        protected("PUT KEY", MANAGER, |host| {
            let keys = new_keys(host, 0x31);
            host.protect(0xD8, 0x30, 0x81, &keys, false)
        }),
        protected("SET STATUS of the card", MANAGER, |host| {
            host.protect(0xF0, 0x80, 0x07, &[], false)
        }),
        protected("SET STATUS of SecApp", MANAGER, |host| {
            host.protect(0xF0, 0x40, 0x80, &hex("F047545341505001"), false)
        }),
        protected("STORE DATA to SecApp", SECAPP, |host| {
            let data = personal(host, "");
            host.protect(0xE2, 0x80, 0, &data, false)
        }),
    ]
}

/// Every command of an exchange that changes the card's state.
fn cases() -> Vec<Case> {
    let keys = (0..8).map(|slot| Object::GenerateKey {
        algorithm: if slot % 2 == 0 {
            KeyAlgorithm::P256
        } else {
            KeyAlgorithm::Ed25519
        },
        slot,
    });
    let keys: Vec<_> = keys.collect();
    let long = compose(9, &[Object::Opaque(&[0xA5; 200])]);
    vec![
        lost_poll("GET-UID after silence", 0),
        lost_poll("GET-UID that begins recovery", 23),
        response("nothing to do", 0, &NOTHING_TO_DO, false),
        response(
            "eight key pairs, on several pages",
            1,
            &compose(8, &keys),
            false,
        ),
        response("a long message", 0, &long, false),
        response("recovery", 24, &NOTHING_TO_DO, true),
    ]
}

impl Case {
    /// Prepares a card on this device, says so, and sends the command.
    fn run(&self, device: Box<dyn Device>, prepared: impl FnOnce()) -> Vec<u8> {
        let mut card = open(device).expect("a whole memory");
        let command = (self.prepare)(&mut card);
        prepared();
        card.transmit(&command).to_vec()
    }

    /// The server that has answered the command's poll goes on with whatever the card is now.
    fn goes_on(&self, memory: Shared) {
        let mut card = open(Box::new(memory)).expect("a recovered memory");
        let asked = Poll::parse(&poll(&mut card, 1)).expect("a poll").uid;
        let mut known = vec![self.server.link.clone(), self.server.recovery.identity()];
        if let Some((rand, recovery)) = self.rand {
            known.push(known[usize::from(recovery)].child(rand));
        }
        let link = known
            .iter()
            .find(|link| link.uid() == asked)
            .expect("an identity that the server knows");
        let answer = link.seal(&NOTHING_TO_DO, 1, UidRand([6; 8])).expect("fits");
        assert_eq!(
            status(&process_response(&mut card, answer.as_bytes())),
            0x9000,
            "{}",
            self.name
        );
    }
}

/// What a sweep has seen.
#[derive(Debug, Default)]
struct Tally {
    tears: usize,
    old: usize,
    new: usize,
    torn_again: usize,
}

/// Tears the command at every byte of every write, and the recovery, where it writes, at every byte again.
fn sweep(case: &Case) -> Tally {
    let (device, steps) = Recording::of(case.memory.clone());
    let whole = device.memory();
    let mut before = Vec::new();
    let answer = case.run(Box::new(device), || {
        before = view_of(&whole.bytes());
        steps.forget();
    });
    assert_eq!(status(&answer), case.answer.0, "{}", case.name);
    let after = view_of(&whole.bytes());
    assert_ne!(before, after, "{} changes nothing", case.name);

    let mut tally = Tally::default();
    for (write, len) in (0..).zip(lengths(&steps)) {
        for keep in 0..=len {
            let torn = Shared::of(case.memory.clone());
            let (device, handle) = TearingDevice::new(torn.clone());
            case.run(Box::new(device), || handle.tear_after(write, keep));
            assert!(
                handle.is_torn(),
                "write {write} of {} was not reached",
                case.name
            );
            tally.tears += 1;
            tally.torn_again += tear_recovery(&torn, &before, &after);
            let found = view_of(&torn.bytes());
            match found {
                found if found == before => tally.old += 1,
                found if found == after => tally.new += 1,
                _ => panic!(
                    "{}: another state after write {write}, byte {keep}",
                    case.name
                ),
            }
            if case.polls && keep % 64 == 0 {
                case.goes_on(torn);
            }
        }
    }
    tally
}

/// How many bytes each write has.
fn lengths(steps: &Steps) -> Vec<u64> {
    let steps = steps.all();
    let writes = steps.iter().filter_map(|step| match step {
        Step::Write(_, bytes) => Some(bytes.len() as u64),
        Step::Sync => None,
    });
    writes.collect()
}

/// Tears what opening the memory writes, at every byte; `torn` is left as it was.
fn tear_recovery(torn: &Shared, before: &[Vec<u8>], after: &[Vec<u8>]) -> usize {
    let (device, steps) = Recording::of(torn.bytes());
    open(Box::new(device)).expect("a torn memory recovers");
    let mut tears = 0;
    for (write, len) in (0..).zip(lengths(&steps)) {
        for keep in 0..=len {
            let again = Shared::of(torn.bytes());
            let (device, handle) = TearingDevice::new(again.clone());
            handle.tear_after(write, keep);
            assert!(open(Box::new(device)).is_err(), "the power is gone");
            let found = view_of(&again.bytes());
            assert!(
                found == before || found == after,
                "another state after a torn recovery"
            );
            tears += 1;
        }
    }
    tears
}

/// Sweeps several cases at once and tells what was seen.
fn sweep_all(cases: Vec<Case>) {
    let sweeps = std::thread::scope(|scope| {
        let cases = cases
            .into_iter()
            .map(|case| scope.spawn(move || (case.name, sweep(&case))));
        let running: Vec<_> = cases.collect();
        let done = running
            .into_iter()
            .map(|sweep| sweep.join().expect("a sweep"));
        done.collect::<Vec<_>>()
    });
    for (name, tally) in &sweeps {
        println!("{name}: {tally:?}");
        assert!(
            tally.old > 0 && tally.new > 0 && tally.torn_again > 0,
            "{name}: {tally:?}"
        );
    }
}

#[test]
fn an_exchange_torn_at_any_byte_leaves_the_state_before_or_the_state_after() {
    sweep_all(cases());
}

#[test]
fn a_managed_card_torn_at_any_byte_is_in_the_state_before_or_the_state_after() {
    sweep_all(managed());
}

/// A disk may keep any of the writes that were not synced and lose the others.
#[test]
fn unsynced_writes_may_be_lost_in_any_combination() {
    let case = response("nothing to do", 0, &NOTHING_TO_DO, false);
    let (device, steps) = Recording::of(case.memory.clone());
    let mut card = open(Box::new(device)).expect("a memory");
    let mut views = vec![view(&mut card)];
    let mut answered = vec![0];
    let command = (case.prepare)(&mut card);
    for apdu in [
        vec![0x80, 0x40, 1, 0, 0],
        command,
        vec![0x80, 0x40, 1, 0, 0],
    ] {
        assert_eq!(status(card.transmit(&apdu)), 0x9000);
        answered.push(steps.all().len());
        views.push(view(&mut card));
    }
    let steps = steps.all();
    let mut tried = 0;
    for end in 0..=steps.len() {
        let told = answered
            .iter()
            .rposition(|at| *at <= end)
            .expect("0 is there");
        for image in survivors(&case.memory, &steps[..end]) {
            let found = view_of(&image);
            let state = views
                .iter()
                .position(|view| *view == found)
                .expect("a state that was");
            assert!(
                (told..=told + 1).contains(&state),
                "state {state} when {told} answers had left"
            );
            tried += 1;
        }
    }
    println!("{tried} images after a power cut");
}

/// Every image that a power cut after these steps can leave.
fn survivors(memory: &[u8], steps: &[Step]) -> Vec<Vec<u8>> {
    let synced = steps
        .iter()
        .rposition(|step| matches!(step, Step::Sync))
        .map_or(0, |at| at + 1);
    let mut base = memory.to_vec();
    steps[..synced]
        .iter()
        .for_each(|step| apply(&mut base, step));
    let loose = &steps[synced..];
    (0..1usize << loose.len())
        .map(|kept| {
            let mut image = base.clone();
            let kept = loose
                .iter()
                .enumerate()
                .filter(|(at, _)| kept >> at & 1 == 1);
            kept.for_each(|(_, step)| apply(&mut image, step));
            image
        })
        .collect()
}

fn apply(image: &mut [u8], step: &Step) {
    if let Step::Write(at, bytes) = step {
        image[*at..at + bytes.len()].copy_from_slice(bytes);
    }
}

#[test]
fn a_memory_that_fails_is_told_and_the_state_before_stands() {
    let case = response("nothing to do", 0, &NOTHING_TO_DO, false);
    let (device, handle) = TearingDevice::new(Shared::of(case.memory.clone()));
    let mut card = open(Box::new(device)).expect("a memory");
    let command = (case.prepare)(&mut card);
    let before = view(&mut card);
    handle.tear_after(0, 0);
    assert_eq!(
        card.transmit(&command),
        StatusWord::MEMORY_FAILURE.to_bytes()
    );
    assert!(
        card.take_fault()
            .expect("a reason")
            .to_string()
            .contains("power")
    );
    assert_eq!(view(&mut card), before);
}
