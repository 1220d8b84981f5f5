//! The real applet in a port whose way to it breaks on cue.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use applet::{
    Card, Protocol,
    image::Image,
    nvm::{RamDevice, Store},
    secapp::{FirstIdentity, Personalisation, personalise},
    vpcd::{Socket, Stop, insert},
};
use protocol::{
    identity::{Mode, Uid},
    key::Key,
};
use reader_bridge::card::{Atr, CardError, CardPort, Held, Wait, image::ImagePort};

/// What the operator knows of the card.
pub(crate) struct Subscription {
    pub(crate) key: Key,
    pub(crate) mode: Mode,
}

impl Subscription {
    pub(crate) fn new(mode: Mode) -> Self {
        let key = Key::from_bytes(&[0x2B; 16]).unwrap();
        Self { key, mode }
    }

    fn personalisation(&self) -> Personalisation {
        Personalisation {
            iccid: "8988374172470184089".parse().unwrap(),
            key: self.key.clone(),
            mode: self.mode,
            first: FirstIdentity::Iccid,
        }
    }

    pub(crate) fn uid_1(&self) -> Uid {
        self.personalisation().uid_1()
    }

    /// Its card.
    pub(crate) fn card(&self, protocol: Protocol) -> Card {
        let mut memory = Store::format(Box::new(RamDevice::blank()), None).unwrap();
        personalise(&mut memory, &self.personalisation()).unwrap();
        applet::card(memory, protocol).unwrap()
    }

    /// Its card as an image file.
    pub(crate) fn image(&self, path: &Path) {
        let with = self.personalisation();
        let fill = |image| {
            let mut memory = Store::format(Box::new(image), None)?;
            personalise(&mut memory, &with).unwrap();
            Ok(())
        };
        Image::create(path, false, fill).unwrap();
    }

    /// Its card in a port.
    pub(crate) fn port(&self) -> ImagePort {
        let card = self.card(Protocol::T1);
        ImagePort::new(card, Protocol::T1, "image:test".into())
    }
}

/// How the way to the card breaks at one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    /// The command never reaches the card.
    Before,
    /// The card executes it, and its answer is lost.
    After,
}

/// Counts commands, and breaks the way at one of them.
#[derive(Clone, Default)]
pub(crate) struct Cues(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    commands: usize,
    at: Option<(usize, Break)>,
    given: usize,
}

impl Cues {
    /// The way breaks at the command with this number, counted from 0.
    pub(crate) fn break_at(&self, command: usize, how: Break) {
        self.0.lock().unwrap().at = Some((command, how));
    }

    /// How many commands there were.
    pub(crate) fn commands(&self) -> usize {
        self.0.lock().unwrap().commands
    }

    /// How many times PROCESS-RESPONSE reached the card.
    pub(crate) fn given(&self) -> usize {
        self.0.lock().unwrap().given
    }

    fn next(&self, command: &[u8]) -> Option<Break> {
        let mut state = self.0.lock().unwrap();
        let number = state.commands;
        state.commands += 1;
        let cue = state.at.filter(|(at, _)| *at == number).map(|(_, how)| how);
        if command.get(1) == Some(&0x42) && cue != Some(Break::Before) {
            state.given += 1;
        }
        cue
    }
}

/// A port with cues.
pub(crate) struct BreakingPort {
    pub(crate) inner: ImagePort,
    pub(crate) cues: Cues,
}

impl CardPort for BreakingPort {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn connect(&mut self, wait: &Wait<'_>) -> Result<Atr, CardError> {
        self.inner.connect(wait)
    }

    fn hold(&mut self) -> Result<Box<dyn Held + '_>, CardError> {
        let cues = self.cues.clone();
        let held = self.inner.hold()?;
        Ok(Box::new(BreakingHeld { held, cues }))
    }

    fn release(&mut self, refused: bool) {
        self.inner.release(refused);
    }
}

struct BreakingHeld<'a> {
    held: Box<dyn Held + 'a>,
    cues: Cues,
}

impl Held for BreakingHeld<'_> {
    fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, CardError> {
        let broken = || CardError::Gone("the way broke on cue".into());
        match self.cues.next(command) {
            Some(Break::Before) => Err(broken()),
            Some(Break::After) => {
                self.held.transmit(command)?;
                Err(broken())
            }
            None => self.held.transmit(command),
        }
    }
}

/// A card in a virtual reader, in a thread of its own, until it is pulled.
pub(crate) struct Inserted {
    stop: Arc<Stop>,
    thread: JoinHandle<Card>,
}

/// Puts `card` into the virtual reader that listens on this TCP port.
pub(crate) fn inserted(mut card: Card, port: u16) -> Inserted {
    let stop = Arc::new(Stop::default());
    let theirs = Arc::clone(&stop);
    let reader = Socket::parse(&format!("127.0.0.1:{port}")).unwrap();
    let thread = thread::spawn(move || {
        insert(&mut card, &reader, None, &theirs, |_| {});
        card
    });
    Inserted { stop, thread }
}

impl Inserted {
    /// Pulls it.
    pub(crate) fn pull(self) -> Card {
        self.stop.stop();
        self.thread.join().unwrap()
    }
}
