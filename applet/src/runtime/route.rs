//! Which applet a command reaches: SELECT (ISO/IEC 7816-4:2020, 11.2.2) and MANAGE CHANNEL (11.1.2).

use protocol::card::{StatusWord, ins};

use super::{Form, LifeCycle, card::Card, channels::Managed, security::Secure};
use crate::{aid, apdu::Command, manager};

/// Applet selection failed (Java Card RE Specification 3.1, 4.6).
const NOT_SELECTED: StatusWord = StatusWord(0x6999);

/// P1 of SELECT: by name.
const BY_NAME: u8 = 0x04;
/// P2 of SELECT: first or only occurrence, with FCI.
const FIRST: u8 = 0x00;
/// P2 of SELECT: next occurrence, with FCI.
const NEXT: u8 = 0x02;
/// P2 of SELECT: first or only occurrence, no answer.
const SILENT: u8 = 0x0C;

/// The runtime's own instructions besides GET RESPONSE.
pub(super) enum Own {
    Select,
    ManageChannel,
}

/// Whether a command is the runtime's own.
pub(super) fn own(command: &Command<'_>) -> Option<Own> {
    match command.ins {
        _ if command.class.proprietary => None,
        ins::SELECT => Some(Own::Select),
        ins::MANAGE_CHANNEL => Some(Own::ManageChannel),
        _ => None,
    }
}

impl Own {
    pub(super) fn form(&self, command: &Command<'_>) -> Result<Form, StatusWord> {
        match self {
            Self::Select
                if command.p1 != BY_NAME || !matches!(command.p2, FIRST | NEXT | SILENT) =>
            {
                Err(StatusWord::WRONG_P1P2)
            }
            Self::Select => Ok(Form::one(0, aid::MAX_LEN)),
            Self::ManageChannel => {
                Managed::parse(command.p1, command.p2, command.class.channel).map(|_| Form::NO_DATA)
            }
        }
    }
}

impl Card {
    /// By name, whole or the leading part of at least 5 bytes; an empty name is the default-selected application's. What
    /// was selected stays selected if nothing is found.
    pub(super) fn select(&mut self, command: &Command<'_>) -> Result<(), StatusWord> {
        let channel = command.class.channel;
        let found = match command.data {
            [] => self.default_selected(),
            name if name.len() < aid::MIN_LEN => return Err(StatusWord::WRONG_LENGTH),
            name => self.find(name, self.first_place(channel, command.p2)),
        };
        let place = found.filter(|place| self.can_be_selected(*place));
        let place = place.ok_or(StatusWord::NOT_FOUND)?;
        self.leave(channel);
        self.enter(channel, place)?;
        if command.p2 == SILENT {
            self.answer.clear();
        }
        Ok(())
    }

    pub(super) fn default_selected(&self) -> Option<usize> {
        self.registry
            .iter()
            .position(|known| known.application.default_selected)
    }

    /// Next occurrences come after what is selected.
    fn first_place(&self, channel: u8, p2: u8) -> usize {
        let selected = self
            .channels
            .get(channel)
            .ok()
            .and_then(|channel| channel.selected);
        match selected {
            Some(place) if p2 == NEXT => place + 1,
            _ => 0,
        }
    }

    fn find(&self, name: &[u8], from: usize) -> Option<usize> {
        let mut places = from..self.registry.len();
        places.find(|place| self.registry[*place].application.aid.begins_with(name))
    }

    /// Of a card that is locked or has ended, the card manager only.
    fn can_be_selected(&self, place: usize) -> bool {
        match self.life_cycle() {
            LifeCycle::CARD_LOCKED | LifeCycle::TERMINATED => {
                self.registry[place].application.aid == manager::aid()
            }
            _ => true,
        }
    }

    /// Deselects what is selected on a channel; its session is over.
    fn leave(&mut self, channel: u8) {
        self.secure[usize::from(channel)] = Secure::None;
        let selected = self
            .channels
            .get(channel)
            .ok()
            .and_then(|channel| channel.selected);
        if let Some(place) = selected {
            self.lend(place, channel, |applet, env| applet.deselect(env));
            self.channels.select(channel, None);
            if !self.channels.any_selected(place) {
                self.registry[place].transient.deselect();
            }
        }
        self.answer.clear();
    }

    fn enter(&mut self, channel: u8, place: usize) -> Result<(), StatusWord> {
        let selected = self.lend(place, channel, |applet, env| applet.select(env));
        selected.map_err(|_| NOT_SELECTED)?;
        self.channels.select(channel, Some(place));
        Ok(())
    }

    pub(super) fn manage_channel(&mut self, command: &Command<'_>) -> Result<(), StatusWord> {
        let own = command.class.channel;
        match Managed::parse(command.p1, command.p2, own)? {
            Managed::Close(channel) => {
                self.channels.get(channel)?;
                self.leave(channel);
                self.channels.close(channel);
                Ok(())
            }
            Managed::OpenAny => {
                let channel = self.channels.free(Managed::OpenAny)?;
                self.outgoing(command, false).check(1)?;
                self.open_channel(own, channel)?;
                self.answer.push(channel);
                Ok(())
            }
            wanted @ Managed::Open(_) => {
                let channel = self.channels.free(wanted)?;
                self.open_channel(own, channel)
            }
        }
    }

    /// A channel opened from the basic one begins with the default-selected application, from another one with what is
    /// selected there (Java Card RE Specification 3.1, 4.5.2).
    fn open_channel(&mut self, from: u8, channel: u8) -> Result<(), StatusWord> {
        let selected = if from == 0 {
            self.default_selected()
        } else {
            self.channels.get(from)?.selected
        };
        self.channels.open(channel);
        if let Some(place) = selected {
            let entered = self.enter(channel, place);
            self.answer.clear();
            entered.inspect_err(|_| self.channels.close(channel))?;
        }
        Ok(())
    }
}
