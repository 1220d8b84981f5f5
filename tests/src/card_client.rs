//! A PC/SC client under a test's control.
//!
//! Owns one child process (`reader-client`) that talks to one pcscd through libpcsclite. It is a
//! process because libpcsclite reads `PCSCLITE_CSOCK_NAME` once: a test program that drives several
//! private daemons cannot be a client of all of them. Refuses to know what an APDU means.

use crate::pcscd::Pcscd;
use crate::process::{Process, Program};

/// A client of one private pcscd, with at most one card connected. After a restart of the daemon, make a new one.
#[derive(Debug)]
pub struct CardClient {
    process: Process,
}

impl CardClient {
    /// Starts a client of `pcscd`.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    #[track_caller]
    pub fn of(pcscd: &Pcscd) -> Self {
        Self {
            process: pcscd
                .client(Program::built("reader-client").talkative())
                .start(),
        }
    }

    /// The names of all readers.
    ///
    /// # Errors
    ///
    /// What PC/SC answered instead.
    pub fn try_readers(&mut self) -> Result<Vec<String>, String> {
        let names = self.ask("readers")?;
        Ok(names
            .split('\t')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect())
    }

    /// Waits (`SCardGetStatusChange`) until a card is in `reader`; returns its ATR.
    ///
    /// # Errors
    ///
    /// What PC/SC answered instead; `SCARD_E_TIMEOUT` after a minute.
    pub fn await_card(&mut self, reader: &str) -> Result<Vec<u8>, String> {
        self.ask_bytes(&format!("await-card {reader}"))
    }

    /// Waits (`SCardGetStatusChange`) until no card is in `reader`.
    ///
    /// # Errors
    ///
    /// As [`Self::await_card`].
    pub fn await_empty(&mut self, reader: &str) -> Result<(), String> {
        self.ask(&format!("await-empty {reader}")).map(drop)
    }

    /// Connects to the card in `reader`, shared, T=0 or T=1; returns its ATR.
    ///
    /// # Errors
    ///
    /// What PC/SC answered instead.
    pub fn connect(&mut self, reader: &str) -> Result<Vec<u8>, String> {
        self.ask_bytes(&format!("connect {reader}"))
    }

    /// Sends a command APDU to the connected card; returns its answer with the status word.
    ///
    /// # Errors
    ///
    /// What PC/SC answered instead.
    pub fn transmit(&mut self, apdu: &[u8]) -> Result<Vec<u8>, String> {
        self.ask_bytes(&format!("transmit {}", hex::encode(apdu)))
    }

    /// Resets the connected card, warm (`SCARD_RESET_CARD`); returns its ATR.
    ///
    /// # Errors
    ///
    /// What PC/SC answered instead.
    pub fn reset(&mut self) -> Result<Vec<u8>, String> {
        self.ask_bytes("reset")
    }

    /// Takes the connected card's power and gives it again (`SCARD_UNPOWER_CARD`); returns its ATR.
    ///
    /// # Errors
    ///
    /// What PC/SC answered instead.
    pub fn power_cycle(&mut self) -> Result<Vec<u8>, String> {
        self.ask_bytes("power-cycle")
    }

    /// Lets go of the connected card and leaves it as it is.
    ///
    /// # Errors
    ///
    /// What PC/SC answered instead.
    pub fn disconnect(&mut self) -> Result<(), String> {
        self.ask("disconnect").map(drop)
    }

    fn ask_bytes(&mut self, command: &str) -> Result<Vec<u8>, String> {
        let answer = self.ask(command)?;
        hex::decode(&answer).map_err(|error| format!("{answer:?}: {error}"))
    }

    fn ask(&mut self, command: &str) -> Result<String, String> {
        self.process.send_line(command);
        self.process
            .expect(&format!("an answer to {command:?}"), |line| {
                let ok = line.strip_prefix("ok ").map(|value| Ok(value.to_owned()));
                ok.or_else(|| line.strip_prefix("error ").map(|why| Err(why.to_owned())))
            })
    }
}

/// Ends at its own pace: a client killed while it holds a card makes pcscd reset the card, and whoever connects
/// meanwhile gets a handle without a protocol (`SCARD_E_PROTO_MISMATCH` at the first command).
impl Drop for CardClient {
    fn drop(&mut self) {
        self.process.end_by_eof();
    }
}
