//! Scripts against a card that is a list of commands and answers.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::*;
use crate::card::{Power, Transport};

mod language;
mod mistakes;
mod running;

/// Files by name.
struct Texts(HashMap<PathBuf, String>);

impl Files for Texts {
    fn read(&self, path: &Path) -> io::Result<String> {
        let text = self.0.get(path).cloned();
        text.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

fn texts(files: &[(&str, &str)]) -> Texts {
    let files = files
        .iter()
        .map(|(name, text)| (name.into(), (*text).to_owned()));
    Texts(files.collect())
}

fn script(text: &str) -> Script {
    load(Path::new("a.apdu"), &texts(&[("a.apdu", text)])).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn wrong(text: &str) -> String {
    match load(Path::new("a.apdu"), &texts(&[("a.apdu", text)])) {
        Ok(_) => panic!("this is no script: {text}"),
        Err(error) => error.to_string(),
    }
}

const POWERED: Powered = Powered {
    atr: Vec::new(),
    transport: Transport::Apdu,
    anew: true,
};

/// What a script did with a card that gives these answers, in order.
struct Run {
    sent: Vec<String>,
    printed: Vec<String>,
    verdict: Verdict,
}

impl Run {
    #[track_caller]
    fn passed(self) -> Self {
        assert_eq!(self.verdict, Verdict::Passed, "{:?}", self.sent);
        self
    }

    #[track_caller]
    fn failed(&self) -> &Failure {
        match &self.verdict {
            Verdict::Failed(failure) => failure,
            other => panic!("{other:?} after {:?}", self.sent),
        }
    }
}

fn run_case(case: &Case, script: &Script, setting: &Setting, answers: &[&str]) -> Run {
    let mut machine = Machine::new(case, script, setting);
    let (mut sent, mut printed) = (Vec::new(), Vec::new());
    let mut answers = answers.iter();
    let powered = || Reply::Powered(POWERED);
    let mut request = machine.start();
    loop {
        let reply = match request {
            Request::Connect => powered(),
            Request::Power(how) => {
                sent.push(
                    if how == Power::Reset {
                        "reset"
                    } else {
                        "power-off"
                    }
                    .to_owned(),
                );
                powered()
            }
            Request::Tear(_) => Reply::Unsupported("no emulator".to_owned()),
            Request::Print(text) => {
                printed.push(text);
                Reply::Done
            }
            Request::Continue => Reply::Done,
            Request::Transmit { command, .. } => {
                sent.push(hex::encode_upper(command));
                match answers.next() {
                    Some(answer) => Reply::Answer {
                        bytes: hex::decode(answer).unwrap(),
                        elapsed: Duration::from_millis(20),
                    },
                    None => Reply::Failed("the card is mute".to_owned()),
                }
            }
            Request::Done(verdict) => {
                return Run {
                    sent,
                    printed,
                    verdict,
                };
            }
        };
        request = machine.resume(reply);
    }
}

fn run(text: &str, answers: &[&str]) -> Run {
    let script = script(text);
    run_case(&script.cases[0], &script, &Setting::default(), answers)
}
