//! A card's arrival: waiting for it, and taking up its session where that was.
//!
//! Owns how long a card is waited for, what is told meanwhile, and which session a card belongs to: the
//! one that its ICCID names.

use std::time::{Duration, Instant};

use super::{Known, Terminal, TerminalError, clock, shelf, store::Loaded, wait::wait};
use crate::{
    card::{CardError, Wait},
    ota,
    secapp::{Card, SecAppError},
    session::{Event, Input, Memory, Session},
};

/// After trouble with a reader or card for which there is no event to wait for.
const PORT_RETRY: Duration = Duration::from_secs(1);

impl Terminal<'_> {
    /// Waits for a card and takes up its session. `false`: look at what is new, and try again.
    pub(super) fn open_card(&mut self, inserted: &mut bool) -> Result<bool, TerminalError> {
        let once = self.setup.config.once.is_some();
        if self.card_until.is_none() && (once || self.last.is_none()) {
            let wait = self.setup.card_wait;
            self.card_until = wait.and_then(|wait| Instant::now().checked_add(wait));
        }
        match self.look_for_card() {
            Ok(card) => {
                self.card_until = None;
                self.take_up(&card)
            }
            Err(SecAppError::Port(error)) => self.no_card(error, inserted).map(|()| false),
            Err(refused) => {
                self.tell(&Event::CardRefused {
                    why: refused.to_string(),
                })?;
                *inserted = true;
                if once {
                    return Err(TerminalError::CardRefused(refused));
                }
                Ok(false)
            }
        }
    }

    /// Looks once, tells what is missing, then waits.
    fn look_for_card(&mut self) -> Result<Card, SecAppError> {
        let bell = self.mailbox.bell();
        match self.secapp.open(&Wait::new(bell, Some(Duration::ZERO))) {
            Err(SecAppError::Port(CardError::NoCard(why))) => {
                // A reporter that fails will fail again where it can be told.
                let _ = self
                    .reporter
                    .tell(&self.label, &Event::WaitingForCard { why });
                let left = self
                    .card_until
                    .map(|until| until.saturating_duration_since(Instant::now()));
                self.secapp.open(&Wait::new(bell, left))
            }
            other => other,
        }
    }

    fn no_card(&mut self, error: CardError, inserted: &mut bool) -> Result<(), TerminalError> {
        match error {
            CardError::Interrupted => return self.read_mail(),
            CardError::NoCard(why) => return Err(TerminalError::NoCard(why)),
            CardError::Closed(why) => {
                self.closed = Some(why);
                return Ok(());
            }
            _ => {}
        }
        *inserted = true;
        let why = error.to_string();
        self.tell(&Event::CardGone { why: why.clone() })?;
        self.secapp.port().release(false);
        if self.card_until.is_some_and(|until| Instant::now() >= until) {
            return Err(TerminalError::NoCard(why));
        }
        self.pause()
    }

    /// Waits a moment, or for mail.
    fn pause(&mut self) -> Result<(), TerminalError> {
        let failed = |error| TerminalError::System("cannot wait", error);
        let now = clock::now().map_err(failed)?;
        self.timer
            .set(Some(now.mono + PORT_RETRY))
            .map_err(failed)?;
        wait([self.timer.fd(), self.mailbox.bell()]).map_err(failed)?;
        self.read_mail()
    }

    /// The session of this card: the one that was interrupted, or a new one from what is remembered. `false`:
    /// another terminal has it, look again.
    fn take_up(&mut self, card: &Card) -> Result<bool, TerminalError> {
        let name = card.iccid_text();
        let known = match self.setup.shelf.take(&name) {
            shelf::Session::Here(known) => *known,
            shelf::Session::New => self.remember(name.clone()).inspect_err(|_| {
                self.setup.shelf.give_up(&name);
            })?,
            shelf::Session::Elsewhere => return self.wait_for_the_other(),
        };
        self.elsewhere = false;
        if self.last.as_ref() != Some(&name) {
            self.link.close();
        }
        self.last = Some(name);
        known.desk.attend(Some(self.post()));
        self.known = Some(known);
        let state = self
            .known
            .as_ref()
            .map(|known| known.file.path().display().to_string());
        let ready = Event::CardReady {
            atr: card.atr.to_string(),
            iccid: card.iccid_text(),
            mode: card.mode.byte(),
            state: state.unwrap_or_default(),
            // A card may have none, and needs none to be worked with.
            statistics: self.secapp.statistics().ok().map(Into::into),
        };
        self.tell(&ready)?;
        Ok(true)
    }

    /// The card is there twice, or the other terminal has not noticed yet that it has left.
    fn wait_for_the_other(&mut self) -> Result<bool, TerminalError> {
        if !std::mem::replace(&mut self.elsewhere, true) {
            self.tell(&Event::CardRefused {
                why: "another reader of this bridge has a card with the same ICCID; once that one is gone, this one is served"
                    .into(),
            })?;
        }
        self.pause().map(|()| false)
    }

    /// The card is gone; its session goes on where it comes to next.
    pub(super) fn put_down(&mut self) -> Result<(), TerminalError> {
        // Again, if its place was taken away from under it.
        self.input(Input::CardGone)?;
        self.tell_agent(ota::Input::CardGone)?;
        // What the card has answered goes to its server without it.
        self.attend()?;
        if let Some(known) = self.known.take() {
            known.desk.attend(None);
            self.setup.shelf.put(known);
        }
        Ok(())
    }

    fn remember(&self, name: String) -> Result<Known, TerminalError> {
        let file = self.setup.store.card(&name)?;
        let memory = match file.load()? {
            Loaded::Known(memory) => memory,
            Loaded::New => Memory::default(),
            Loaded::Damaged { kept, why } => {
                let kept = kept.display().to_string();
                self.tell(&Event::StateDamaged { kept, why })?;
                Memory::default()
            }
        };
        let now = clock::now().map_err(|error| TerminalError::System("no clock", error))?;
        let session = Session::new(self.setup.config.clone(), memory, self.setup.seed, now);
        let (agent, desk) = self.agent(&name, &file)?;
        Ok(Known {
            name,
            file,
            session,
            agent,
            desk,
        })
    }
}
