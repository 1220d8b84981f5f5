//! A command's way through the card, in the order in which it can be refused.

use protocol::card::{StatusWord, ins};
use zeroize::Zeroizing;

use super::{
    Form, LifeCycle,
    card::{Card, Protocol},
    env::Outgoing,
    life_cycle::state_of,
    route::{Own, own},
    security::Secure,
};
use crate::{
    apdu::{Class, Command, Messaging},
    manager,
    scp03::Level,
};

impl Card {
    pub(super) fn run(&mut self, apdu: &[u8]) -> Result<StatusWord, StatusWord> {
        let command = self.admit(apdu)?;
        if is_get_response(&command) {
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

    /// Class, channel, lengths, chain, secure messaging.
    fn admit<'a>(&mut self, apdu: &'a [u8]) -> Result<Command<'a>, StatusWord> {
        let cla = *apdu.first().ok_or(StatusWord::WRONG_LENGTH)?;
        let class = Class::decode(cla).ok_or(StatusWord::CLASS)?;
        self.channels.get(class.channel)?;
        let command = Command::parse(apdu)?;
        if command.extended && self.protocol == Protocol::T0 {
            return Err(StatusWord::WRONG_LENGTH);
        }
        self.chain.check(&command)?;
        self.admit_messaging(&command)?;
        Ok(command)
    }

    /// Protection only where there is a session, and no command of the application without it where there is one
    /// that protects.
    fn admit_messaging(&self, command: &Command<'_>) -> Result<(), StatusWord> {
        let secure = &self.secure[usize::from(command.class.channel)];
        let runtimes = own(command).is_some() || is_get_response(command);
        match (command.class.messaging, secure) {
            (Messaging::Iso, _) | (Messaging::GlobalPlatform, Secure::None) => {
                Err(StatusWord::SECURE_MESSAGING)
            }
            (Messaging::GlobalPlatform, _) if runtimes => Err(StatusWord::SECURE_MESSAGING),
            (Messaging::GlobalPlatform, Secure::Begun(_))
                if command.ins != ins::EXTERNAL_AUTHENTICATE =>
            {
                Err(StatusWord::SECURE_MESSAGING)
            }
            (Messaging::None, Secure::Open(session))
                if session.level() != Level::NONE
                    && !runtimes
                    && command.ins != ins::INITIALIZE_UPDATE =>
            {
                Err(StatusWord::SECURITY_STATUS)
            }
            _ => Ok(()),
        }
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

    /// Which data a command takes, or why there is no such command.
    fn form(&self, command: &Command<'_>) -> Result<Form, StatusWord> {
        match own(command) {
            Some(own) => own.form(command),
            None => {
                let place = self.selected(command.class.channel)?;
                self.registry[place].instance.form(command)
            }
        }
    }

    fn chain_link(&mut self, command: &Command<'_>, form: Form) -> Result<StatusWord, StatusWord> {
        if !form.chains {
            return Err(StatusWord::CHAINING);
        }
        // What protects the data stands in the chain with it: C-MAC, padding.
        let room = if command.class.messaging == Messaging::None {
            0
        } else {
            32
        };
        self.chain.add(command, form.max + room)?;
        Ok(StatusWord::OK)
    }

    fn execute(&mut self, command: &Command<'_>, form: Form) -> Result<StatusWord, StatusWord> {
        let plain = self.unwrap(command)?;
        let command = &Command {
            data: plain.as_ref().map_or(command.data, |plain| plain),
            ..*command
        };
        if !(form.min..=form.max).contains(&command.data.len()) {
            return Err(StatusWord::WRONG_LENGTH);
        }
        match own(command) {
            Some(Own::Select) => self.select(command)?,
            Some(Own::ManageChannel) => self.manage_channel(command)?,
            None => self.process(command)?,
        }
        let channel = command.class.channel;
        if let (Some(_), Secure::Open(session)) = (&plain, &self.secure[usize::from(channel)]) {
            session.wrap(&mut self.answer, StatusWord::OK.to_bytes());
        }
        let outgoing = self.outgoing(command, plain.is_some());
        self.held.deliver(channel, outgoing, &mut self.answer)
    }

    /// The data of a protected command; `None` if it is not protected. One that is not the host's ends the session.
    fn unwrap(&mut self, command: &Command<'_>) -> Result<Option<Zeroizing<Vec<u8>>>, StatusWord> {
        let secure = &mut self.secure[usize::from(command.class.channel)];
        let (Messaging::GlobalPlatform, Secure::Open(session)) =
            (command.class.messaging, &mut *secure)
        else {
            return Ok(None);
        };
        let header = [command.cla, command.ins, command.p1, command.p2];
        let plain = session.unwrap(header, command.data, command.extended);
        if plain.is_none() {
            *secure = Secure::None;
        }
        plain.map(Some).ok_or(StatusWord::SECURITY_STATUS)
    }

    fn process(&mut self, command: &Command<'_>) -> Result<(), StatusWord> {
        let channel = command.class.channel;
        let place = self.selected(channel)?;
        let manager = self.registry[place].application.aid == manager::aid();
        let alive = match self.life_cycle() {
            LifeCycle::TERMINATED => manager && command.ins == ins::GET_DATA,
            LifeCycle::CARD_LOCKED => manager,
            _ => true,
        };
        if !alive {
            return Err(StatusWord::CONDITIONS);
        }
        let outgoing = self.outgoing(command, command.class.messaging != Messaging::None);
        self.lend_for(place, channel, outgoing, |applet, env| {
            applet.process(env, command)
        })
    }

    /// The card's own state.
    pub(super) fn life_cycle(&self) -> LifeCycle {
        state_of(&self.store, self.domain)
    }

    fn selected(&self, channel: u8) -> Result<usize, StatusWord> {
        let selected = self.channels.get(channel)?.selected;
        selected.ok_or(StatusWord::NOT_ALLOWED)
    }

    /// A protected command had data even where the application sees none.
    pub(super) const fn outgoing(&self, command: &Command<'_>, protected: bool) -> Outgoing {
        Outgoing {
            protocol: self.protocol,
            data: protected || !command.data.is_empty(),
            ne: command.ne,
        }
    }
}

fn is_get_response(command: &Command<'_>) -> bool {
    !command.class.proprietary && command.ins == ins::GET_RESPONSE
}
