//! The card as its contacts see it: power, reset, a command in, an answer out.

use protocol::card::{StatusWord, ins};

use super::{
    Applet, Form,
    channels::{Channels, Managed},
    env::{Env, Outgoing},
    transfer::{Chain, Held},
};
use crate::{
    aid::{self, Aid},
    apdu::{Class, Command, Messaging},
    nvm::{Device, Examination, NvmError, Store, TransactionError, WrapKey},
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
    protocol: Protocol,
    store: Store,
    registry: Vec<Registered>,
    channels: Channels,
    chain: Chain,
    held: Held,
    entropy: Box<dyn Entropy>,
    fault: Option<TransactionError>,
    powered: bool,
    answer: Vec<u8>,
}

struct Registered {
    application: Application,
    instance: Box<dyn Applet>,
    space: usize,
}

impl Card {
    /// Brings the card on this device to life, powered off; applications that it has not seen before are
    /// installed.
    pub fn open(
        device: Box<dyn Device>,
        wrap: Option<WrapKey>,
        applications: &[Application],
        entropy: Box<dyn Entropy>,
        protocol: Protocol,
    ) -> Result<Self, OpenError> {
        let store = Store::open(device, wrap)?;
        Self::with_store(store, applications, entropy, protocol)
    }

    /// The same for a memory that is open already.
    pub fn with_store(
        mut store: Store,
        applications: &[Application],
        entropy: Box<dyn Entropy>,
        protocol: Protocol,
    ) -> Result<Self, OpenError> {
        let registry = applications.iter().map(|application| Registered {
            application: *application,
            instance: (application.make)(),
            space: store.space(&application.aid),
        });
        let registry = registry.collect();
        let mut card = Self {
            protocol,
            store,
            registry,
            channels: Channels::new(None),
            chain: Chain::default(),
            held: Held::default(),
            entropy,
            fault: None,
            powered: false,
            answer: Vec::with_capacity(300),
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

    /// Warm reset: RAM is cleared, channel 0 is the only one open.
    pub fn reset(&mut self) -> &'static [u8] {
        self.power_off();
        self.powered = true;
        self.atr()
    }

    /// Whatever is not committed is gone.
    pub fn power_off(&mut self) {
        self.store.abandon();
        self.channels = Channels::new(None);
        self.chain.reset();
        self.held.clear();
        for registered in &mut self.registry {
            registered.instance = (registered.application.make)();
        }
        self.powered = false;
    }

    /// Whether the card has power. Without it every command is answered with 6F00.
    pub const fn is_powered(&self) -> bool {
        self.powered
    }

    /// Answers a command APDU: data, if any, and the two bytes of the status word.
    pub fn transmit(&mut self, apdu: &[u8]) -> &[u8] {
        self.answer.clear();
        let status = self.run(apdu).unwrap_or_else(|refusal| {
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

    /// What is to be known of the card's memory.
    pub fn examination(&self) -> Examination {
        self.store.examination()
    }

    fn run(&mut self, apdu: &[u8]) -> Result<StatusWord, StatusWord> {
        if !self.powered {
            return Err(StatusWord(0x6F00));
        }
        let cla = *apdu.first().ok_or(StatusWord::WRONG_LENGTH)?;
        let class = Class::decode(cla).ok_or(StatusWord::CLASS)?;
        self.channels.get(class.channel)?;
        let command = Command::parse(apdu)?;
        if command.extended && self.protocol == Protocol::T0 {
            return Err(StatusWord::WRONG_LENGTH);
        }
        self.chain.check(&command)?;
        if command.class.messaging != Messaging::None {
            return Err(StatusWord::SECURE_MESSAGING);
        }
        if !command.class.proprietary && command.ins == ins::GET_RESPONSE {
            return self.get_response(&command);
        }
        self.held.clear();
        let form = self.form(&command)?;
        if command.class.chained {
            return self.chain_link(&command, form);
        }
        let chained = self.chain.finish(command.data);
        let whole = Command {
            data: chained.as_ref().map_or(command.data, |data| data),
            ..command
        };
        self.execute(&whole, form)
    }

    fn get_response(&mut self, command: &Command<'_>) -> Result<StatusWord, StatusWord> {
        if command.class.chained {
            return Err(StatusWord::CHAINING);
        }
        if command.p1p2() != 0 {
            return Err(StatusWord::WRONG_P1P2);
        }
        if !command.data.is_empty() {
            return Err(StatusWord::WRONG_LENGTH);
        }
        let channel = command.class.channel;
        self.held
            .fetch(channel, self.protocol, command.ne, &mut self.answer)
    }

    fn chain_link(&mut self, command: &Command<'_>, form: Form) -> Result<StatusWord, StatusWord> {
        if !form.chains {
            return Err(StatusWord::CHAINING);
        }
        self.chain.add(command, form.max)?;
        Ok(StatusWord::OK)
    }

    /// Which data a command takes, or why there is no such command.
    fn form(&self, command: &Command<'_>) -> Result<Form, StatusWord> {
        match own(command) {
            Some(Own::Select)
                if command.p1 != 0x04 || !matches!(command.p2, 0x00 | 0x02 | 0x0C) =>
            {
                Err(StatusWord::WRONG_P1P2)
            }
            Some(Own::Select) => Ok(Form {
                min: 0,
                max: aid::MAX_LEN,
                chains: false,
            }),
            Some(Own::ManageChannel) => {
                Managed::parse(command.p1, command.p2, command.class.channel).map(|_| Form::NO_DATA)
            }
            None => {
                let selected = self.channels.get(command.class.channel)?.selected;
                let place = selected.ok_or(StatusWord::NOT_ALLOWED)?;
                self.registry[place].instance.form(command)
            }
        }
    }

    fn execute(&mut self, command: &Command<'_>, form: Form) -> Result<StatusWord, StatusWord> {
        if !(form.min..=form.max).contains(&command.data.len()) {
            return Err(StatusWord::WRONG_LENGTH);
        }
        match own(command) {
            Some(Own::Select) => self.select(command)?,
            Some(Own::ManageChannel) => self.manage_channel(command)?,
            None => self.process(command)?,
        }
        let outgoing = self.outgoing(command);
        self.held
            .deliver(command.class.channel, outgoing, &mut self.answer)
    }

    fn process(&mut self, command: &Command<'_>) -> Result<(), StatusWord> {
        let channel = command.class.channel;
        let selected = self.channels.get(channel)?.selected;
        let place = selected.ok_or(StatusWord::NOT_ALLOWED)?;
        let outgoing = self.outgoing(command);
        self.lend_for(place, channel, outgoing, |applet, env| {
            applet.process(env, command)
        })
    }

    const fn outgoing(&self, command: &Command<'_>) -> Outgoing {
        Outgoing {
            protocol: self.protocol,
            data: !command.data.is_empty(),
            ne: command.ne,
        }
    }

    /// Lends the card to an applet outside of a command of its own.
    fn lend<T>(
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

    /// Lends the card to an applet. A transaction that it leaves open is aborted (Java Card RE
    /// Specification 3.1, 7.6.3).
    fn lend_for<T>(
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
        };
        let done = work(&mut *registered.instance, &mut env);
        self.store.abandon();
        done
    }
}

/// The runtime's own instructions besides GET RESPONSE.
enum Own {
    Select,
    ManageChannel,
}

fn own(command: &Command<'_>) -> Option<Own> {
    match command.ins {
        _ if command.class.proprietary => None,
        ins::SELECT => Some(Own::Select),
        ins::MANAGE_CHANNEL => Some(Own::ManageChannel),
        _ => None,
    }
}

/// SELECT and MANAGE CHANNEL.
impl Card {
    /// By name, whole or the leading part of at least 5 bytes (ISO/IEC 7816-4:2020, 11.2.2). What was selected stays
    /// selected if nothing is found.
    fn select(&mut self, command: &Command<'_>) -> Result<(), StatusWord> {
        let name = command.data;
        if name.len() < aid::MIN_LEN {
            return Err(StatusWord::WRONG_LENGTH);
        }
        let channel = command.class.channel;
        let current = self.channels.get(channel)?.selected;
        let after = if command.p2 == 0x02 {
            current.map(|place| place + 1)
        } else {
            None
        };
        let found = self
            .find(name, after.unwrap_or(0))
            .ok_or(StatusWord::NOT_FOUND)?;
        self.leave(channel);
        self.enter(channel, found)?;
        if command.p2 == 0x0C {
            self.answer.clear();
        }
        Ok(())
    }

    fn find(&self, name: &[u8], from: usize) -> Option<usize> {
        let mut places = from..self.registry.len();
        places.find(|place| self.registry[*place].application.aid.begins_with(name))
    }

    fn leave(&mut self, channel: u8) {
        let selected = self
            .channels
            .get(channel)
            .ok()
            .and_then(|channel| channel.selected);
        if let Some(place) = selected {
            self.lend(place, channel, |applet, env| applet.deselect(env));
            self.channels.select(channel, None);
        }
        self.answer.clear();
    }

    fn enter(&mut self, channel: u8, place: usize) -> Result<(), StatusWord> {
        let selected = self.lend(place, channel, |applet, env| applet.select(env));
        // Java Card RE Specification 3.1, 4.6: applet selection failed.
        selected.map_err(|_| StatusWord(0x6999))?;
        self.channels.select(channel, Some(place));
        Ok(())
    }

    fn manage_channel(&mut self, command: &Command<'_>) -> Result<(), StatusWord> {
        let own = command.class.channel;
        match Managed::parse(command.p1, command.p2, own)? {
            Managed::Close(channel) => {
                self.channels.get(channel)?;
                self.leave(channel);
                self.channels.close(channel);
            }
            wanted => {
                let channel = self.channels.free(wanted)?;
                if wanted == Managed::OpenAny {
                    self.outgoing(command).check(1)?;
                }
                self.open_channel(own, channel)?;
                if wanted == Managed::OpenAny {
                    self.answer.push(channel);
                }
            }
        }
        Ok(())
    }

    /// A channel opened from another than the basic one begins with what is selected there (Java Card RE
    /// Specification 3.1, 4.5.2).
    fn open_channel(&mut self, from: u8, channel: u8) -> Result<(), StatusWord> {
        let selected = self.channels.get(from)?.selected.filter(|_| from != 0);
        self.channels.open(channel);
        if let Some(place) = selected {
            let entered = self.enter(channel, place);
            self.answer.clear();
            entered.inspect_err(|_| self.channels.close(channel))?;
        }
        Ok(())
    }
}

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
