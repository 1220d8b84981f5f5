//! One command of a case: how it is sent, and whether its answer is as expected.

use std::time::Duration;

use protocol::card::StatusWord;

use super::{
    ast::Command,
    machine::{Machine, Pending, Stop, fail},
    pattern::{self, Mismatch},
    place::Place,
    request::Request,
    value::Value,
};

/// A header (ISO/IEC 7816-4:2020, 5.2). A virtual reader takes one byte for a control code.
const MIN_COMMAND: usize = 4;

/// A command whose answer is waited for.
pub(super) struct Sent {
    place: Place,
    statement: Command,
    command: Vec<u8>,
    protected: bool,
}

impl Machine {
    pub(super) fn send(&mut self, place: &Place, statement: &Command) -> Result<Request, Stop> {
        let mut command = self.scope(|scope| scope.bytes(&statement.template))?;
        if command.len() < MIN_COMMAND {
            return Err(fail(
                place,
                format!(
                    "a command has at least {MIN_COMMAND} bytes (CLA INS P1 P2), this one {}",
                    command.len()
                ),
            ));
        }
        // Interindustry commands are the card's own, and never protected here.
        let protected = !statement.raw && command[0] & 0x80 != 0;
        if let (true, Some(session)) = (protected, &mut self.state.session) {
            command = session
                .protect(&command)
                .map_err(|error| fail(place, error.to_string()))?;
        }
        let protected = protected && self.state.session.is_some();
        if !statement.raw {
            on_channel(&mut command, self.state.channel);
        }
        self.pending = Pending::Command(Sent {
            place: place.clone(),
            statement: statement.clone(),
            command: command.clone(),
            protected,
        });
        Ok(self.transmit(command, self.state.fetch))
    }

    pub(super) const fn transmit(&self, command: Vec<u8>, whole: bool) -> Request {
        Request::Transmit {
            command,
            whole,
            limit: self.state.limit,
        }
    }

    pub(super) fn answered(
        &mut self,
        sent: &Sent,
        bytes: &[u8],
        elapsed: Duration,
    ) -> Result<(), Stop> {
        let (data, status) = split(bytes, &sent.place)?;
        let mut data = data.to_vec();
        if let (true, Some(session)) = (sent.protected, &self.state.session) {
            data = session
                .open_answer(&data, status.to_bytes())
                .map_err(|error| fail(&sent.place, error.to_string()))?;
        }
        self.elapsed = elapsed;
        let answer = [&data[..], &status.to_bytes()].concat();
        self.store_answer(data, status.to_bytes().to_vec());
        self.state.variables.insert(
            "elapsed".to_owned(),
            Value::Int(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)),
        );
        self.expected(sent, &answer)?;
        match sent.statement.within {
            Some(limit) => self.in_time(&sent.place, limit),
            None => Ok(()),
        }
    }

    pub(super) fn expected(&self, sent: &Sent, answer: &[u8]) -> Result<(), Stop> {
        let Some(expect) = &sent.statement.expect else {
            return Ok(());
        };
        let mut furthest = 0;
        for items in &expect.alternatives {
            let atoms = self.scope(|scope| scope.atoms(items))?;
            match pattern::matches(&atoms, answer) {
                Ok(()) => return Ok(()),
                Err(Mismatch(at)) => furthest = furthest.max(at),
            }
        }
        Err(fail(
            &expect.place,
            unexpected(&sent.command, answer, furthest),
        ))
    }
}

/// Data and status word.
pub(super) fn split<'a>(answer: &'a [u8], place: &Place) -> Result<(&'a [u8], StatusWord), Stop> {
    match answer.split_last_chunk::<2>() {
        Some((data, status)) => Ok((data, (*status).into())),
        None => Err(fail(
            place,
            format!("an answer of {} bytes has no status word", answer.len()),
        )),
    }
}

/// The channel's number in the class byte, if the script has not put one there (ISO/IEC 7816-4:2020, 5.4.1).
pub(super) fn on_channel(command: &mut [u8], channel: u8) {
    let Some(class) = command.first_mut() else {
        return;
    };
    match channel {
        0 => {}
        1..=3 if *class & 0x43 == 0 => *class |= channel,
        // Bit 7 tells channels from 4 on, and secure messaging moves to bit 6.
        4..=19 if *class & 0x43 == 0 => {
            let secure = if *class & 0x0C == 0 { 0 } else { 0x20 };
            *class = *class & 0x90 | 0x40 | secure | (channel - 4);
        }
        _ => {}
    }
}

fn unexpected(command: &[u8], answer: &[u8], at: usize) -> String {
    let status = answer
        .split_last_chunk::<2>()
        .map_or(String::new(), |(_, status)| {
            format!(" ({})", StatusWord::from(*status).meaning())
        });
    let offset = if at < answer.len() {
        format!("byte {at} ({:02X}) is not as expected", answer[at])
    } else {
        format!("it ends after {at} bytes, and more was expected")
    };
    format!(
        "another answer was expected\ncommand: {}\n answer: {}{status}\n         {offset}",
        hex::encode_upper(command),
        hex::encode_upper(answer)
    )
}
