//! What a card's thread does with its mail.

use super::{Mail, PollNowReply, PollNowResult, Terminal, TerminalError};
use crate::{
    ota,
    session::{Input, Occasion},
};

impl Terminal<'_> {
    /// Reads all the mail that there is.
    pub(super) fn read_mail(&mut self) -> Result<(), TerminalError> {
        for mail in self.mailbox.take() {
            match mail {
                Mail::Stop => self.stopping = true,
                Mail::Close(why) => self.closed = Some(why),
                Mail::Wake(occasion) => {
                    if occasion == Occasion::NetworkChange {
                        self.tell_agent(ota::Input::NetworkChange)?;
                    }
                    self.input(Input::Wake(occasion))?;
                }
                Mail::Desk => self.clear_desk()?,
                Mail::PollNow { iccid, reply } => {
                    let answer = self.poll_now(iccid.as_deref())?;
                    // Whoever asked may have gone.
                    let _ = reply.send(answer);
                }
                Mail::Resolved {
                    endpoint,
                    addresses,
                } => {
                    let to = endpoint.clone();
                    if let Err(error) = self.link.resolved(endpoint, addresses) {
                        self.link_failed_to(to, &error)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn poll_now(&mut self, iccid: Option<&str>) -> Result<PollNowReply, TerminalError> {
        let known = self.known.as_ref().filter(|_| self.card_is_there);
        let result = match known {
            None => PollNowResult::NoCard,
            Some(known) if iccid.is_some_and(|iccid| iccid != known.name) => {
                PollNowResult::OtherCard
            }
            Some(known) if known.session.allows(Occasion::HostRequest) => PollNowResult::Polling,
            Some(_) => PollNowResult::NotAllowed,
        };
        let reply = PollNowReply {
            card: self.label.clone(),
            iccid: known.map(|known| known.name.clone()),
            result,
        };
        if matches!(result, PollNowResult::Polling | PollNowResult::NotAllowed) {
            self.input(Input::Wake(Occasion::HostRequest))?;
        }
        Ok(reply)
    }
}
