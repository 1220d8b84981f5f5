//! `reader-client`: PC/SC by lines, for tests and for trying a reader by hand.
//!
//! Owns one PC/SC context and at most one connected card. A command a line on standard input, its
//! answer a line on standard output: `ok VALUE` or `error REASON`. Ends at end of file, without a reset of the card.

use std::ffi::CString;
use std::io::{self, BufRead as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use pcsc::{Card, Context, Disposition, Protocols, ReaderState, Scope, ShareMode, State};

/// How long a card's arrival or departure is waited for.
const DEADLINE: Duration = Duration::from_secs(60);

/// Talk to PC/SC readers by lines on standard input.
#[derive(Parser)]
#[command(
    after_help = "Commands: readers | await-card READER | await-empty READER | connect READER | transmit HEX | \
    reset | power-cycle | disconnect\n\nExample:\n  printf 'readers\\n' | reader-client"
)]
struct Arguments {}

fn main() -> ExitCode {
    let Arguments {} = Arguments::parse();
    match converse() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_gone) => ExitCode::FAILURE,
    }
}

fn converse() -> io::Result<()> {
    let mut session = Session {
        context: None,
        card: None,
    };
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        match session.obey(&line?) {
            Ok(value) => writeln!(out, "ok {value}")?,
            Err(reason) => writeln!(out, "error {reason}")?,
        }
        out.flush()?;
    }
    session.end();
    Ok(())
}

struct Session {
    context: Option<Context>,
    card: Option<Card>,
}

impl Session {
    fn obey(&mut self, line: &str) -> Result<String, String> {
        let (command, argument) = line.split_once(' ').unwrap_or((line, ""));
        match command {
            "readers" => self.readers(),
            "await-card" => self.wait(argument, State::PRESENT, State::MUTE),
            "await-empty" => self.wait(argument, State::EMPTY, State::empty()),
            "connect" => self.connect(argument),
            "transmit" => self.transmit(argument),
            "reset" => self.power(Disposition::ResetCard),
            "power-cycle" => self.power(Disposition::UnpowerCard),
            "disconnect" => self.disconnect(),
            _ => Err(format!("no command {command:?}; see --help")),
        }
    }

    fn readers(&mut self) -> Result<String, String> {
        let names = self.context()?.list_readers_owned().map_err(text)?;
        let names: Vec<_> = names.iter().map(|name| name.to_string_lossy()).collect();
        Ok(names.join("\t"))
    }

    /// Waits until the reader's state has all of `wanted` and none of `unwanted`; tells the card's ATR.
    fn wait(&mut self, reader: &str, wanted: State, unwanted: State) -> Result<String, String> {
        let context = self.context()?;
        let mut states = [ReaderState::new(c_string(reader)?, State::UNAWARE)];
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            context.get_status_change(left, &mut states).map_err(text)?;
            let [reader] = &mut states;
            let state = reader.event_state();
            if state.contains(wanted) && !state.intersects(unwanted) {
                return Ok(hex::encode(reader.atr()));
            }
            reader.sync_current_state();
        }
    }

    fn connect(&mut self, reader: &str) -> Result<String, String> {
        let card = self
            .context()?
            .connect(&c_string(reader)?, ShareMode::Shared, Protocols::ANY)
            .map_err(text)?;
        let atr = atr_of(&card)?;
        self.card = Some(card);
        Ok(atr)
    }

    fn transmit(&mut self, apdu: &str) -> Result<String, String> {
        let apdu =
            hex::decode(apdu).map_err(|error| format!("the APDU is not hexadecimal: {error}"))?;
        let mut answer = [0; pcsc::MAX_BUFFER_SIZE_EXTENDED];
        self.card()?
            .transmit(&apdu, &mut answer)
            .map(hex::encode)
            .map_err(text)
    }

    fn power(&mut self, how: Disposition) -> Result<String, String> {
        let card = self.card()?;
        card.reconnect(ShareMode::Shared, Protocols::ANY, how)
            .map_err(text)?;
        atr_of(card)
    }

    fn disconnect(&mut self) -> Result<String, String> {
        let card = self.card.take().ok_or("no card is connected")?;
        card.disconnect(Disposition::LeaveCard)
            .map_err(|(_, error)| text(error))?;
        Ok(String::new())
    }

    /// Leaves a card that is still connected as it is: dropped without this, its handle would reset it.
    fn end(mut self) {
        if self.card.is_some() {
            // The reader may be gone, and then there is nothing to leave.
            let _ = self.disconnect();
        }
    }

    /// The context, made at the first command that needs it.
    fn context(&mut self) -> Result<&Context, String> {
        match &mut self.context {
            Some(context) => Ok(context),
            none => Ok(none.insert(Context::establish(Scope::User).map_err(text)?)),
        }
    }

    fn card(&mut self) -> Result<&mut Card, String> {
        self.card
            .as_mut()
            .ok_or_else(|| "no card is connected".to_owned())
    }
}

fn atr_of(card: &Card) -> Result<String, String> {
    card.status2_owned()
        .map(|status| hex::encode(status.atr()))
        .map_err(text)
}

fn c_string(reader: &str) -> Result<CString, String> {
    CString::new(reader).map_err(|_| "a reader's name has no zero byte".to_owned())
}

fn text(error: pcsc::Error) -> String {
    format!("{error} ({error:?})")
}
