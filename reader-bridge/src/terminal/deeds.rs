//! Acting on messages: runs a card's [`Agent`](crate::ota::Agent) with the card, HTTP, the hook program and a file.
//!
//! Owns doing what the agent says. A command string holds the card from its first command to its last: no poll, and
//! no other program, comes between them. Requests and hook programs run elsewhere; their answers come over the desk.

use std::sync::Arc;

use protocol::identity::Iccid;

use super::{
    Known, Step, Terminal, TerminalError, clock,
    desk::Desk,
    hook::Hook,
    store::{CardFile, Loaded},
};
use crate::{
    card::{CardError, exchange::whole_answer},
    ota::{Action, Agenda, Agent, Deed, HookCall, Input, Options, Request, http::Http},
    secapp::SecAppError,
    session::{Event, Now},
};

/// What messages are acted on with.
#[derive(Clone, Debug, Default)]
pub struct Acting {
    /// What the agents go by.
    pub options: Options,
    /// The way to OTA servers; without it no session is opened.
    pub http: Option<Arc<Http>>,
    /// The program that is told of messages.
    pub hook: Option<Hook>,
}

impl Terminal<'_> {
    /// The agent of the card with this name, with what is still to be done.
    pub(super) fn agent(
        &self,
        name: &str,
        file: &CardFile,
    ) -> Result<(Agent, Desk), TerminalError> {
        let agenda = match file.load_agenda()? {
            Loaded::Known(agenda) => agenda,
            Loaded::New => Agenda::default(),
            Loaded::Damaged { kept, why } => {
                let kept = kept.display().to_string();
                self.tell(&Event::Deed(Deed::AgendaDamaged { kept, why }))?;
                Agenda::default()
            }
        };
        let iccid: Option<Iccid> = name.parse().ok();
        let options = self.setup.acting.options.clone();
        Ok((
            Agent::new(options, iccid, agenda, self.setup.seed),
            Desk::new(),
        ))
    }

    /// Tells the agent what happened.
    pub(super) fn tell_agent(&mut self, input: Input) -> Result<(), TerminalError> {
        let now = now()?;
        if let Some(known) = &mut self.known {
            known.agent.handle(input, now);
        }
        Ok(())
    }

    /// Gives the agent what lies on the desk.
    pub(super) fn clear_desk(&mut self) -> Result<(), TerminalError> {
        while let Some(input) = self.known.as_ref().and_then(|known| known.desk.take()) {
            self.tell_agent(input)?;
        }
        Ok(())
    }

    /// Puts on disk what the agent has promised, before anything that relies on it.
    pub(super) fn keep_promises(&mut self) -> Result<(), TerminalError> {
        while let Some(action) = self.next_if(Agent::next_promise) {
            self.do_deed(action)?;
        }
        Ok(())
    }

    /// Does what the agent wants done.
    pub(super) fn attend(&mut self) -> Result<Step, TerminalError> {
        let mut step = Step::On;
        while let Some(action) = self.next_if(Agent::next_action) {
            if let lost @ Step::CardLost { .. } = self.do_deed(action)? {
                step = lost;
            }
        }
        Ok(step)
    }

    fn next_if(&mut self, next: impl FnOnce(&mut Agent) -> Option<Action>) -> Option<Action> {
        self.known.as_mut().and_then(|known| next(&mut known.agent))
    }

    fn do_deed(&mut self, action: Action) -> Result<Step, TerminalError> {
        match action {
            Action::Save(agenda) => self.save_agenda(&agenda)?,
            Action::Tell(deed) => self.tell(&Event::Deed(deed))?,
            Action::Post(number, request) => self.send_request(number, request)?,
            Action::Hook(call) => self.start_hook(&call)?,
            Action::Sign(challenge) => {
                let signed = self.secapp.sign_session(&challenge);
                return self.card_said(signed, Input::Signed);
            }
            Action::ReadKey(slot) => {
                let key = self.secapp.public_key(slot);
                return self.card_said(key, Input::Key);
            }
            Action::Transmit(command) => return self.hold_and_transmit(command),
        }
        Ok(Step::On)
    }

    /// Hands on what SecApp has answered; a broken way to the card is something else.
    fn card_said<T>(
        &mut self,
        said: Result<T, SecAppError>,
        input: impl FnOnce(Result<T, String>) -> Input,
    ) -> Result<Step, TerminalError> {
        let said = match said {
            Err(SecAppError::Port(error)) => return self.lost(&error),
            said => said.map_err(|error| error.to_string()),
        };
        self.tell_agent(input(said))?;
        Ok(Step::On)
    }

    /// Gives this command to the card, and those that follow it, without letting go.
    fn hold_and_transmit(&mut self, command: Vec<u8>) -> Result<Step, TerminalError> {
        match self.transmit_held(command)? {
            Ok(()) => Ok(Step::On),
            Err(error) => self.lost(&error),
        }
    }

    fn transmit_held(&mut self, command: Vec<u8>) -> Result<Result<(), CardError>, TerminalError> {
        let Some(known) = &mut self.known else {
            return Ok(Ok(()));
        };
        let mut held = match self.secapp.port().hold() {
            Ok(held) => held,
            Err(error) => return Ok(Err(error)),
        };
        let mut next = Some(command);
        while let Some(command) = next.take() {
            match whole_answer(held.as_mut(), &command) {
                Ok(answer) => known.agent.handle(Input::Answered(answer), now()?),
                Err(error) => return Ok(Err(error)),
            }
            while next.is_none()
                && let Some(action) = known.agent.next_while_held()
            {
                match action {
                    Action::Save(agenda) => known.file.save_agenda(&agenda)?,
                    Action::Tell(deed) => self
                        .reporter
                        .tell(&self.label, &Event::Deed(deed))
                        .map_err(TerminalError::Output)?,
                    Action::Transmit(command) => next = Some(command),
                    // The agent keeps the rest to itself meanwhile.
                    _ => {}
                }
            }
        }
        Ok(Ok(()))
    }

    fn send_request(&mut self, number: u64, request: Request) -> Result<(), TerminalError> {
        let Some(tray) = self.known.as_ref().map(|known| known.desk.tray()) else {
            return Ok(());
        };
        match &self.setup.acting.http {
            Some(http) => {
                let trace = self.trace.clone();
                http.send(request, trace, move |result| {
                    tray.put(Input::Http(number, result))
                });
                Ok(())
            }
            None => {
                let why = "this bridge opens no sessions (--ota-url)".to_owned();
                self.tell_agent(Input::Http(number, Err(why)))
            }
        }
    }

    fn start_hook(&mut self, call: &HookCall) -> Result<(), TerminalError> {
        let (Some(known), Some(hook)) = (&self.known, &self.setup.acting.hook) else {
            return Ok(());
        };
        let tray = known.desk.tray();
        let started = hook.start(call, &self.label, &known.name, move |result| {
            tray.put(Input::Hook(result));
        });
        match started {
            Ok(()) => Ok(()),
            Err(error) => self.tell_agent(Input::Hook(Err((error.to_string(), String::new())))),
        }
    }

    fn save_agenda(&self, agenda: &Agenda) -> Result<(), TerminalError> {
        match &self.known {
            Some(known) => Ok(known.file.save_agenda(agenda)?),
            None => Ok(()),
        }
    }
}

impl Known {
    /// Whether nothing is under way because of messages, and nothing due.
    pub(super) fn is_settled(&self, now: Now) -> bool {
        self.agent.is_settled(now)
    }
}

pub(super) fn now() -> Result<Now, TerminalError> {
    clock::now().map_err(|error| TerminalError::System("no clock", error))
}
