//! The world: one card, one agent, one server, a disk, and time; things break where a test says.

use std::{os::fd::AsFd as _, time::Duration};

use applet::{
    Protocol,
    nvm::{RamDevice, Store},
    secapp::{FirstIdentity, Personalisation, personalise},
};
use nix::sys::eventfd::EventFd;
use protocol::{
    card::ins,
    chain::SessionKey,
    identity::{Iccid, Mode},
    key::Key,
    msg::KeyAlgorithm,
    remote::Script,
};
use reader_bridge::{
    card::{Wait, exchange::whole_answer, image::ImagePort},
    ota::{
        Action, Agenda, Agent, Deed, Ended, Input, Options, Policy, Request, Wanted, Wish,
        parse_url,
    },
    secapp::SecApp,
    session::Now,
};

use crate::server::Server;

pub(crate) const URL: &str = "https://ota.example/start";

/// How something breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    /// The bridge is killed before it is done.
    CrashBefore,
    /// It is done, and the bridge is killed before it knows.
    CrashAfter,
    /// The card goes, or the network, before it is done.
    Before,
    /// It is done, and the answer is lost with the card, or the network.
    After,
}

pub(crate) struct World {
    pub(crate) agent: Agent,
    pub(crate) server: Server,
    pub(crate) deeds: Vec<Deed>,
    pub(crate) disk: Agenda,
    /// Data of the SIGN-SESSION commands of strings that have reached the card.
    pub(crate) executed: Vec<Vec<u8>>,
    pub(crate) hooks: Vec<u32>,
    pub(crate) now: Now,
    pub(crate) options: Options,
    /// What breaks at the n-th thing that is done.
    pub(crate) cut: Option<(usize, Break)>,
    pub(crate) done: usize,
    /// Whether the cut has been made.
    pub(crate) was_cut: bool,
    secapp: SecApp,
    seed: u64,
}

pub(crate) fn options() -> Options {
    Options {
        policy: Policy {
            default: Some(parse_url(URL).unwrap()),
            allowed: vec!["other.example".parse().unwrap()],
            plain: false,
        },
        ..Options::default()
    }
}

pub(crate) fn iccid() -> Iccid {
    "8988374172470184089".parse().unwrap()
}

fn key() -> Key {
    Key::from_bytes(&[0x2B; 16]).unwrap()
}

fn port() -> ImagePort {
    let mut memory = Store::format(Box::new(RamDevice::blank()), None).unwrap();
    let with = Personalisation {
        iccid: iccid(),
        key: key(),
        mode: Mode::DEFAULT,
        first: FirstIdentity::Iccid,
    };
    personalise(&mut memory, &with).unwrap();
    let card = applet::card(memory, Protocol::T1).unwrap();
    ImagePort::new(card, Protocol::T1, "image:test".into())
}

/// A command that SecApp executes, unlike any other: SIGN-SESSION of this number.
pub(crate) fn command(number: u8) -> Vec<u8> {
    [
        &[0x80, ins::SIGN_SESSION, 0, 0, 16],
        &[number; 16][..],
        &[0],
    ]
    .concat()
}

pub(crate) fn script(numbers: &[u8]) -> Script {
    Script::of(numbers.iter().map(|number| command(*number)))
}

/// What a message with this id wants.
pub(crate) fn wish(id: u32, url: &str, at: Option<u32>, keys: &[(KeyAlgorithm, u8)]) -> Wish {
    Wish {
        message: serde_json::json!({ "id": id }),
        sessions: vec![Wanted {
            url: url.into(),
            at,
        }],
        keys: keys.to_vec(),
        ..Wish::of(Some(id))
    }
}

impl World {
    pub(crate) fn with(scripts: &[Script]) -> Self {
        let mut world = Self {
            agent: Agent::new(options(), Some(iccid()), Agenda::default(), 1),
            server: Server::new(SessionKey::derive(&key(), Mode::DEFAULT), scripts),
            deeds: Vec::new(),
            disk: Agenda::default(),
            executed: Vec::new(),
            hooks: Vec::new(),
            now: Now {
                mono: Duration::from_secs(1000),
                wall: 1_800_000_000,
            },
            options: options(),
            cut: None,
            done: 0,
            was_cut: false,
            secapp: SecApp::new(Box::new(port())),
            seed: 1,
        };
        world.insert();
        world
    }

    /// The card comes, reset.
    pub(crate) fn insert(&mut self) {
        let bell = EventFd::new().unwrap();
        self.secapp.open(&Wait::new(bell.as_fd(), None)).unwrap();
        self.input(Input::CardReady);
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.agent.handle(input, self.now);
    }

    pub(crate) fn message(&mut self, wish: Wish) {
        self.input(Input::Message(wish));
    }

    /// The bridge starts anew with what is on disk.
    pub(crate) fn restart(&mut self) {
        self.seed += 1;
        self.agent = Agent::new(
            self.options.clone(),
            Some(iccid()),
            self.disk.clone(),
            self.seed,
        );
        self.insert();
    }

    /// Goes on until nothing is left to do, not even later.
    pub(crate) fn run(&mut self) {
        for _ in 0..10_000 {
            match self.agent.next_action() {
                Some(action) => self.take(action),
                None if self.agent.is_settled(self.now)
                    && self.agent.deadline(self.now).is_none() =>
                {
                    return;
                }
                None => self.pass_time(),
            }
        }
        panic!(
            "it has no end: {:#?}",
            self.deeds.iter().rev().take(10).collect::<Vec<_>>()
        );
    }

    /// Does what there is to do now.
    pub(crate) fn settle(&mut self) {
        while let Some(action) = self.agent.next_action() {
            self.take(action);
        }
    }

    fn pass_time(&mut self) {
        let until = self.agent.deadline(self.now);
        let until = until.unwrap_or_else(|| panic!("it waits for nothing: {:?}", self.agent));
        let passed = until
            .saturating_sub(self.now.mono)
            .max(Duration::from_millis(1));
        self.now.mono += passed;
        self.now.wall += passed.as_secs() + u64::from(passed.subsec_nanos() > 0);
        self.input(Input::Time);
    }

    fn take(&mut self, action: Action) {
        let broken = self
            .cut
            .filter(|(at, _)| *at == self.done)
            .map(|(_, how)| how);
        self.done += 1;
        match broken {
            Some(Break::CrashBefore) => {
                self.was_cut = true;
                self.restart();
            }
            Some(Break::CrashAfter) => {
                self.was_cut = true;
                drop(self.act(action));
                self.restart();
            }
            Some(how) if self.loses(&action, how) => self.was_cut = true,
            _ => {
                if let Some(input) = self.act(action) {
                    self.input(input);
                }
            }
        }
    }

    /// Breaks the way to the card or to the server, if that is where this goes.
    fn loses(&mut self, action: &Action, how: Break) -> bool {
        let to_card = matches!(
            action,
            Action::Transmit(_) | Action::Sign(_) | Action::ReadKey(_)
        );
        let to_server = matches!(action, Action::Post(..));
        if !to_card && !to_server {
            return false;
        }
        if how == Break::After {
            drop(self.act(action.clone()));
        }
        if let Action::Post(number, _) = action {
            self.input(Input::Http(*number, Err("connection reset".into())));
        } else {
            self.input(Input::CardGone);
            self.insert();
        }
        true
    }

    fn act(&mut self, action: Action) -> Option<Input> {
        match action {
            Action::Save(agenda) => {
                // As it is read back.
                let text = serde_json::to_string(&agenda).unwrap();
                self.disk = serde_json::from_str(&text).unwrap();
                None
            }
            Action::Tell(deed) => {
                self.deeds.push(deed);
                None
            }
            Action::Transmit(command) => Some(self.transmit(&command)),
            Action::Sign(challenge) => {
                let signed = self.secapp.sign_session(&challenge);
                Some(Input::Signed(signed.map_err(|error| error.to_string())))
            }
            Action::ReadKey(slot) => {
                let key = self.secapp.public_key(slot);
                Some(Input::Key(key.map_err(|error| error.to_string())))
            }
            Action::Post(number, request) => Some(self.post(number, &request)),
            Action::Hook(call) => {
                self.hooks.push(call.id.unwrap());
                Some(Input::Hook(Ok(Duration::ZERO)))
            }
        }
    }

    fn transmit(&mut self, command: &[u8]) -> Input {
        if command[1] == ins::SIGN_SESSION {
            self.executed.push(command[5..21].to_vec());
        }
        let mut held = self.secapp.port().hold().unwrap();
        Input::Answered(whole_answer(held.as_mut(), command).unwrap())
    }

    fn post(&mut self, number: u64, request: &Request) -> Input {
        Input::Http(number, Ok(self.server.handle(request)))
    }

    /// How the sessions have ended.
    pub(crate) fn ended(&self) -> Vec<(u32, Ended)> {
        let ended = self.deeds.iter().filter_map(|deed| match deed {
            Deed::OtaDone {
                message_id, result, ..
            } => Some((*message_id, *result)),
            _ => None,
        });
        ended.collect()
    }

    /// Why attempts have failed.
    pub(crate) fn failures(&self) -> Vec<&str> {
        let failures = self.deeds.iter().filter_map(|deed| match deed {
            Deed::OtaFailed { why, .. } => Some(why.as_str()),
            _ => None,
        });
        failures.collect()
    }

    /// SecApp is still selected on the basic channel, and no channel is left open.
    pub(crate) fn assert_card_is_as_before(&mut self) {
        self.secapp.get_uid(false).unwrap();
        let open = [0x00, ins::MANAGE_CHANNEL, 0, 0, 1];
        let mut held = self.secapp.port().hold().unwrap();
        let answer = whole_answer(held.as_mut(), &open).unwrap();
        assert_eq!(answer.data, [1], "a channel was left open");
        whole_answer(held.as_mut(), &[0x00, ins::MANAGE_CHANNEL, 0x80, 1]).unwrap();
    }
}

impl World {
    /// Goes on until so many things were done, or nothing is left.
    pub(crate) fn run_to(&mut self, done: usize) {
        while self.done < done {
            match self.agent.next_action() {
                Some(action) => self.take(action),
                None if self.agent.deadline(self.now).is_none() => return,
                None => self.pass_time(),
            }
        }
    }
}
