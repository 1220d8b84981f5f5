//! The card as its contacts see it: power, reset, a command in, an answer out.

use std::{mem, time::Duration};

use protocol::card::StatusWord;

use super::{
    Applet,
    channels::{self, Channels},
    env::{Env, Outgoing},
    life_cycle::LifeCycle,
    security::Secure,
    transfer::{Chain, Held},
    transient::Transient,
};
use crate::{
    aid::Aid,
    manager,
    nvm::{Examination, NvmError, Store, TransactionError},
};

/// The transmission protocol, which decides how long answers are fetched (ISO/IEC 7816-3:2006, 12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// T=0: short commands; answers by 61XX and GET RESPONSE, exact Le.
    T0,
    /// T=1: short and extended commands; whole answers.
    #[default]
    T1,
}

/// Where random bytes come from.
pub trait Entropy: Send {
    /// Fills `out`, or says that there is no randomness to be had.
    fn fill(&mut self, out: &mut [u8]) -> Result<(), NoEntropy>;
}

/// The source of randomness failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no random bytes to be had")]
pub struct NoEntropy;

/// An application that a card has: its name, and how to make it.
#[derive(Clone, Copy)]
pub struct Application {
    /// Its AID.
    pub aid: Aid,
    /// Makes it as it is after a reset.
    pub make: fn() -> Box<dyn Applet>,
    /// Whether it is selected on channel 0 after a reset, and by an empty name.
    pub default_selected: bool,
}

/// Why a card cannot be brought to life.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its memory.
    #[error(transparent)]
    Memory(#[from] NvmError),
    /// An application could not be installed.
    #[error("application {aid} could not be installed: {status}")]
    Install {
        /// The application.
        aid: Aid,
        /// What it answered.
        status: StatusWord,
    },
}

/// A card: applications, channels, memory.
pub struct Card {
    pub(super) protocol: Protocol,
    pub(super) store: Store,
    pub(super) registry: Vec<Registered>,
    names: Vec<(Aid, usize)>,
    /// Place of the card manager's objects.
    pub(super) domain: usize,
    pub(super) channels: Channels,
    pub(super) secure: [Secure; channels::COUNT],
    pub(super) chain: Chain,
    pub(super) held: Held,
    entropy: Box<dyn Entropy>,
    fault: Option<TransactionError>,
    delay: Duration,
    powered: bool,
    pub(super) answer: Vec<u8>,
    #[cfg(feature = "wrong")]
    pub(crate) wrong: Option<Box<crate::wrong::Wrong>>,
}

pub(super) struct Registered {
    pub(super) application: Application,
    pub(super) instance: Box<dyn Applet>,
    pub(super) space: usize,
    pub(super) transient: Transient,
}

impl Card {
    /// Brings the card of this memory to life, powered off; applications that it has not seen before are installed.
    /// Partial names find them in the order given.
    pub fn open(
        mut store: Store,
        applications: &[Application],
        entropy: Box<dyn Entropy>,
        protocol: Protocol,
    ) -> Result<Self, OpenError> {
        let registry = applications.iter().map(|application| Registered {
            application: *application,
            instance: (application.make)(),
            space: store.space(&application.aid),
            transient: Transient::default(),
        });
        let registry: Vec<_> = registry.collect();
        let names = registry
            .iter()
            .map(|known| (known.application.aid, known.space));
        let mut card = Self {
            protocol,
            names: names.collect(),
            domain: store.space(&manager::aid()),
            store,
            registry,
            channels: Channels::new(None),
            secure: Default::default(),
            chain: Chain::default(),
            held: Held::default(),
            entropy,
            fault: None,
            delay: Duration::ZERO,
            powered: false,
            answer: Vec::with_capacity(300),
            #[cfg(feature = "wrong")]
            wrong: None,
        };
        card.install()?;
        Ok(card)
    }

    fn install(&mut self) -> Result<(), OpenError> {
        for place in 0..self.registry.len() {
            if !self.store.is_blank(self.registry[place].space) {
                continue;
            }
            let done = self.lend(place, 0, |applet, env| {
                env.begin()?;
                env.set_life_cycle(LifeCycle::INSTALLED)?;
                applet.install(env)?;
                env.commit()
            });
            if let Err(status) = done {
                let aid = self.registry[place].application.aid;
                return match self.fault.take() {
                    Some(TransactionError::Memory(error)) => Err(error.into()),
                    _ => Err(OpenError::Install { aid, status }),
                };
            }
        }
        self.answer.clear();
        Ok(())
    }

    /// The transmission protocol that the card was made to speak.
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The answer to reset, which tells the protocol (ISO/IEC 7816-3:2006, 8; historical bytes ISO/IEC
    /// 7816-4:2020, 12.1.1).
    pub const fn atr(&self) -> &'static [u8] {
        match self.protocol {
            Protocol::T0 => &ATR_T0,
            Protocol::T1 => &ATR_T1,
        }
    }

    /// Cold reset.
    pub fn power_on(&mut self) -> &'static [u8] {
        self.reset()
    }

    /// Warm reset: RAM is cleared, channel 0 is the only one open, with the default-selected application.
    pub fn reset(&mut self) -> &'static [u8] {
        self.power_off();
        let default = self.default_selected();
        self.channels = Channels::new(default);
        self.powered = true;
        self.atr()
    }

    /// Whatever is not committed is gone.
    pub fn power_off(&mut self) {
        #[cfg(feature = "wrong")]
        if let Some(wrong) = &mut self.wrong {
            wrong.reset();
        }
        self.store.abandon();
        self.channels = Channels::new(None);
        self.secure = Default::default();
        self.chain.reset();
        self.held.clear();
        self.delay = Duration::ZERO;
        for registered in &mut self.registry {
            registered.instance = (registered.application.make)();
            registered.transient.reset();
        }
        self.powered = false;
    }

    /// Whether the card has power. Without it every command is answered with 6F00.
    pub const fn is_powered(&self) -> bool {
        self.powered
    }

    /// Answers a command APDU: data, if any, and the two bytes of the status word.
    pub fn transmit(&mut self, apdu: &[u8]) -> &[u8] {
        #[cfg(feature = "wrong")]
        if let Some(mut wrong) = self.wrong.take() {
            self.answer = wrong.transmit(self, apdu);
            self.wrong = Some(wrong);
            return &self.answer;
        }
        self.answer.clear();
        let done = if self.powered {
            self.run(apdu)
        } else {
            Err(NO_POWER)
        };
        let status = done.unwrap_or_else(|refusal| {
            self.answer.clear();
            refusal
        });
        self.answer.extend_from_slice(&status.to_bytes());
        &self.answer
    }

    /// Why the memory failed, if it did since the last question.
    pub fn take_fault(&mut self) -> Option<TransactionError> {
        self.fault.take()
    }

    /// How long the card wants the last answer to wait before it is handed out: not at all, unless somebody has been
    /// guessing keys.
    pub fn take_delay(&mut self) -> Duration {
        mem::take(&mut self.delay)
    }

    /// What is to be known of the card's memory.
    pub fn examination(&self) -> Examination {
        self.store.examination()
    }

    /// Lends the card to an applet outside of a command of its own.
    pub(super) fn lend<T>(
        &mut self,
        place: usize,
        channel: u8,
        work: impl FnOnce(&mut dyn Applet, &mut Env<'_>) -> T,
    ) -> T {
        let outgoing = Outgoing {
            protocol: self.protocol,
            data: true,
            ne: 0,
        };
        self.lend_for(place, channel, outgoing, work)
    }

    /// Lends the card to an applet. A transaction that it leaves open is aborted (Java Card RE Specification 3.1,
    /// 7.6.3).
    pub(super) fn lend_for<T>(
        &mut self,
        place: usize,
        channel: u8,
        outgoing: Outgoing,
        work: impl FnOnce(&mut dyn Applet, &mut Env<'_>) -> T,
    ) -> T {
        let registered = &mut self.registry[place];
        let mut env = Env {
            store: &mut self.store,
            space: registered.space,
            channel,
            outgoing,
            answer: &mut self.answer,
            entropy: &mut *self.entropy,
            fault: &mut self.fault,
            transient: &mut registered.transient,
            secure: &mut self.secure[usize::from(channel)],
            delay: &mut self.delay,
            domain: self.domain,
            names: &self.names,
        };
        let done = work(&mut *registered.instance, &mut env);
        self.store.abandon();
        done
    }
}

/// No precise diagnosis (ISO/IEC 7816-4:2020, 5.6): there is nobody to make one.
const NO_POWER: StatusWord = StatusWord(0x6F00);

/// T=0 only; historical bytes: card capabilities (selection by full and partial name; command chaining, 4 channels
/// of the card's or the terminal's choice), issuer's data "SecApp".
const ATR_T0: [u8; 14] = [
    0x3B, 0x0C, 0x80, 0x73, 0xC0, 0x01, 0x9B, 0x56, b'S', b'e', b'c', b'A', b'p', b'p',
];

/// T=1 with blocks of 254 bytes; the same historical bytes, and extended lengths.
const ATR_T1: [u8; 19] = atr_t1();

const fn atr_t1() -> [u8; 19] {
    let mut atr = [
        0x3B, 0x8C, 0x81, 0x31, 0xFE, 0x45, 0x80, 0x73, 0xC0, 0x01, 0xDB, 0x56, b'S', b'e', b'c',
        b'A', b'p', b'p', 0,
    ];
    // TCK: T0 to TCK exclusive-ored give 00 (ISO/IEC 7816-3:2006, 8.2.5).
    let mut at = 1;
    while at < 18 {
        atr[18] ^= atr[at];
        at += 1;
    }
    atr
}
