//! The security domain as the runtime lends it to applets: sessions by channel, keys of the card manager.
//!
//! An applet that takes part in a secure channel hands INITIALIZE UPDATE and EXTERNAL AUTHENTICATE to
//! [`Env::process_security`], as applets do with GlobalPlatform's `SecureChannel` interface.

use std::time::Duration;

use protocol::card::{StatusWord, ins};
use zeroize::Zeroizing;

use super::Env;
use crate::{
    aid::Aid,
    apdu::{Command, Messaging},
    manager::objects,
    scp03::{KeySet, Level, Options, Session, pseudo_random_challenge},
};

/// Authentication of host cryptogram failed (Amendment D, 7.1.2.4).
const NOT_THE_HOST: StatusWord = StatusWord(0x6300);
/// Failed authentications that cost nothing.
const FREE_FAILURES: u32 = 3;
/// The wait after the first that does; doubled with each.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest wait. The card can always be used again: it slows down and never locks itself.
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// What a channel has of a session.
#[derive(Default)]
pub(super) enum Secure {
    /// Nothing.
    #[default]
    None,
    /// INITIALIZE UPDATE was answered.
    Begun(Box<Session>),
    /// The host is authenticated.
    Open(Box<Session>),
}

impl Secure {
    /// What the session on this channel protects.
    pub(super) fn level(&self) -> Option<Level> {
        match self {
            Self::Open(session) => Some(session.level()),
            Self::None | Self::Begun(_) => None,
        }
    }
}

/// Instructions that set up a session.
pub(crate) const fn is_setup(command: &Command<'_>) -> bool {
    command.class.proprietary
        && matches!(
            command.ins,
            ins::INITIALIZE_UPDATE | ins::EXTERNAL_AUTHENTICATE
        )
}

/// How long the answer to a session's beginning waits after this many failures.
fn delay(failures: u32) -> Duration {
    match failures.checked_sub(FREE_FAILURES) {
        None | Some(0) => Duration::ZERO,
        Some(more) => (FIRST_DELAY * 2u32.saturating_pow(more.min(10) - 1)).min(LONGEST_DELAY),
    }
}

impl Env<'_> {
    /// What the session on this channel protects; [`Level::NONE`] without one.
    pub fn security_level(&self) -> Level {
        self.secure.level().unwrap_or(Level::NONE)
    }

    /// Whether a session is open on this channel.
    pub fn is_authenticated(&self) -> bool {
        self.secure.level().is_some()
    }

    /// Decrypts a secret that came under the session's DEK; 6982 without a session, 6A80 if it is none.
    pub fn decrypt_secret(&self, secret: &[u8]) -> Result<Zeroizing<Vec<u8>>, StatusWord> {
        match &*self.secure {
            Secure::Open(session) => session.decrypt_secret(secret).ok_or(StatusWord::WRONG_DATA),
            Secure::None | Secure::Begun(_) => Err(StatusWord::SECURITY_STATUS),
        }
    }

    /// Answers INITIALIZE UPDATE and EXTERNAL AUTHENTICATE; `aid` is the applet's own.
    pub fn process_security(&mut self, aid: &Aid, command: &Command<'_>) -> Result<(), StatusWord> {
        if command.ins == ins::INITIALIZE_UPDATE {
            self.initialize_update(aid, command)
        } else {
            self.external_authenticate(command)
        }
    }

    /// Amendment D, 7.1.1. A session that was open on the channel is over.
    fn initialize_update(&mut self, aid: &Aid, command: &Command<'_>) -> Result<(), StatusWord> {
        *self.secure = Secure::None;
        let options = objects::options(self);
        if command.data.len() != options.size() {
            return Err(StatusWord::WRONG_LENGTH);
        }
        let (version, mut set) =
            objects::key_set(self, command.p1).ok_or(StatusWord::NO_SUCH_DATA)?;
        *self.delay = delay(objects::failures(self));
        let challenge = self.challenge(version, &mut set, options, aid)?;
        let (session, greeting) = Session::begin(&set, options, command.data, challenge);
        let diversification = objects::diversification(self);
        let answer = self.answer();
        answer.extend_from_slice(&diversification);
        answer.extend_from_slice(&[version, 0x03, options.byte()]);
        answer.extend_from_slice(&greeting.challenge);
        answer.extend_from_slice(&greeting.cryptogram);
        if options.pseudo_random() {
            answer.extend_from_slice(&set.sequence.to_be_bytes()[1..]);
        }
        *self.secure = Secure::Begun(Box::new(session));
        Ok(())
    }

    /// A pseudo-random challenge never comes twice: the sequence counter is raised, durably, before it is used.
    fn challenge(
        &mut self,
        version: u8,
        set: &mut KeySet,
        options: Options,
        aid: &Aid,
    ) -> Result<Vec<u8>, StatusWord> {
        if options.pseudo_random() {
            objects::raise_sequence(self, version, set)?;
            return Ok(pseudo_random_challenge(set, options, aid.as_bytes()));
        }
        let mut challenge = vec![0; options.size()];
        self.random(&mut challenge)?;
        Ok(challenge)
    }

    /// Amendment D, 7.1.2. A failure is counted and a success forgets them, durably before the answer leaves.
    fn external_authenticate(&mut self, command: &Command<'_>) -> Result<(), StatusWord> {
        if command.class.messaging == Messaging::None {
            return Err(StatusWord::SECURITY_STATUS);
        }
        let Secure::Begun(mut session) = std::mem::take(self.secure) else {
            return Err(StatusWord::CONDITIONS);
        };
        let level = Level::new(command.p1).ok_or(StatusWord::WRONG_P1P2)?;
        if command.data.len() != 2 * session.size() {
            return Err(StatusWord::WRONG_LENGTH);
        }
        let header = [command.cla, command.ins, command.p1, command.p2];
        if !session.authenticate(header, command.data, level) {
            objects::count_failure(self)?;
            return Err(NOT_THE_HOST);
        }
        objects::forget_failures(self)?;
        *self.secure = Secure::Open(session);
        Ok(())
    }
}
