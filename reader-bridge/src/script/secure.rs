//! How a case opens a secure channel: INITIALIZE UPDATE, EXTERNAL AUTHENTICATE (GlobalPlatform Amendment D, 7.1).

use protocol::{card::StatusWord, key::Key};

use super::{
    ast::SecureChannel,
    exchange::{on_channel, split},
    machine::{Machine, Pending, Stop, fail},
    place::Place,
    request::Request,
    template::Template,
};
use crate::scp03::{Session, StaticKeys};

/// Bytes of a challenge, without and with S16.
const S8: usize = 8;
const S16: usize = 16;

/// A secure channel that is being opened.
pub(super) struct Greeting {
    keys: StaticKeys,
    level: u8,
    version: u8,
    host: Vec<u8>,
    given: bool,
}

impl Machine {
    pub(super) fn greet(
        &mut self,
        place: &Place,
        channel: &SecureChannel,
    ) -> Result<Request, Stop> {
        let level = self.one_byte(&channel.level, "a level")?;
        let version = match &channel.version {
            Some(version) => self.one_byte(version, "a key version")?,
            None => 0,
        };
        let keys = StaticKeys {
            enc: self.key(&channel.enc)?,
            mac: self.key(&channel.mac)?,
            dek: self.key(&channel.dek)?,
        };
        let given = match &channel.host_challenge {
            Some(challenge) => Some(self.scope(|scope| scope.bytes(challenge))?),
            None => None,
        };
        self.state.session = None;
        let greeting = Greeting {
            keys,
            level,
            version,
            given: given.is_some(),
            host: given.unwrap_or_else(|| self.random_bytes(S8)),
        };
        Ok(self.initialize_update(place, greeting))
    }

    pub(super) fn random_bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.random.fill(&mut bytes);
        bytes
    }

    pub(super) fn one_byte(&self, template: &Template, what: &str) -> Result<u8, Stop> {
        match self.scope(|scope| scope.bytes(template))?[..] {
            [byte] => Ok(byte),
            _ => Err(fail(&template.place, format!("{what} is one byte"))),
        }
    }

    pub(super) fn key(&self, template: &Template) -> Result<Key, Stop> {
        let bytes = self.scope(|scope| scope.bytes(template))?;
        Key::from_bytes(&bytes).map_err(|error| fail(&template.place, error.to_string()))
    }

    pub(super) fn initialize_update(&mut self, place: &Place, greeting: Greeting) -> Request {
        let lc = u8::try_from(greeting.host.len()).unwrap_or(u8::MAX);
        let mut command = [
            &[0x80, 0x50, greeting.version, 0, lc],
            &greeting.host[..],
            &[0],
        ]
        .concat();
        on_channel(&mut command, self.state.channel);
        self.pending = Pending::Greeting(place.clone(), Box::new(greeting));
        self.transmit(command, true)
    }

    /// A card of 16-byte challenges says that 8 bytes are too few; then it is asked again, once.
    pub(super) fn greeted(
        &mut self,
        place: Place,
        mut greeting: Greeting,
        answer: &[u8],
    ) -> Result<Request, Stop> {
        let (data, status) = split(answer, &place)?;
        if status == StatusWord::WRONG_LENGTH && !greeting.given && greeting.host.len() == S8 {
            greeting.host = self.random_bytes(S16);
            return Ok(self.initialize_update(&place, greeting));
        }
        if status != StatusWord::OK {
            return Err(fail(
                &place,
                format!("INITIALIZE UPDATE was answered with {status}"),
            ));
        }
        let opened = Session::open(&greeting.keys, &greeting.host, data, greeting.level);
        let (session, mut command) = opened.map_err(|error| fail(&place, error.to_string()))?;
        on_channel(&mut command, self.state.channel);
        self.pending = Pending::Authenticate(place, Box::new(session));
        Ok(self.transmit(command, true))
    }
}
