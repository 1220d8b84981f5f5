//! A subscriber's card, its triggering server, its OTA server, and what is needed to start its terminal.

use std::fs;
use std::path::PathBuf;

use e2e::process::{Process, Program};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::parts::server::Server;
use crate::parts::subscriber::Subscriber;
use crate::parts::terminal::{self, Terminal};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/independent");

/// Everything but the terminal. In the order in which it is ended.
pub(crate) struct Rig {
    pub(crate) ota: Ota,
    pub(crate) gts: Server,
    pub(crate) subscriber: Subscriber,
    pub(crate) image: PathBuf,
    pub(crate) directory: TempDir,
}

/// The OTA server.
pub(crate) struct Ota {
    pub(crate) process: Process,
    pub(crate) url: String,
    pub(crate) ca: PathBuf,
}

/// SIGN-SESSION of this number: a command that SecApp executes, unlike any other.
pub(crate) fn command(number: u8) -> String {
    format!("8044000010{}00", hex::encode([number; 16]))
}

impl Rig {
    /// A rig whose OTA server has these command strings, and does wrong as `faults` says.
    pub(crate) fn with(name: &str, scripts: &[&[String]], faults: &Value) -> Self {
        Self::planned(name, json!({ "scripts": scripts, "faults": faults }))
    }

    /// A rig whose OTA server follows this plan.
    pub(crate) fn planned(name: &str, plan: Value) -> Self {
        let (subscriber, directory) = (Subscriber::named(name), tempfile::tempdir().unwrap());
        let image = subscriber.make_card(directory.path());
        Self {
            ota: Ota::start(&subscriber, &directory, plan),
            gts: Server::knowing(&[&subscriber]),
            subscriber,
            image,
            directory,
        }
    }

    /// Two strings of three commands and one.
    pub(crate) fn two_strings(name: &str, faults: &Value) -> Self {
        let first = [1, 2, 3].map(command);
        Self::with(name, &[&first, &[command(4)]], faults)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// The terminal for a card in this place, polling every second, as it is started.
    pub(crate) fn program(&self, card: &str) -> Program {
        terminal::every_second(card, self.gts.address(), &self.state())
            .args([
                "--ota-url",
                &self.ota.url,
                "--ota-retry",
                "0.3s",
                "--ota-ca",
            ])
            .arg(&self.ota.ca)
    }

    /// The terminal with the card in it.
    pub(crate) fn image_program(&self) -> Program {
        self.program(&format!("image:{}", self.image.display()))
    }

    /// The terminal, started.
    pub(crate) fn terminal(&self) -> Terminal {
        Terminal::start(self.image_program())
    }

    pub(crate) fn send(&self, ask: &[&str]) -> u64 {
        self.gts.send(&self.subscriber, ask)
    }
}

impl Ota {
    fn start(subscriber: &Subscriber, directory: &TempDir, mut plan: Value) -> Self {
        let ca = directory.path().join("ca.pem");
        let fields = [
            ("iccid", json!(subscriber.iccid().to_string())),
            ("key", json!(hex::encode(subscriber.k().as_bytes()))),
            ("mode", json!(3)),
            ("first_identity", json!("iccid")),
            ("ca", json!(ca)),
        ];
        for (name, value) in fields {
            plan[name] = value;
        }
        let file = directory.path().join("plan.json");
        fs::write(&file, plan.to_string()).unwrap();
        let mut process = Program::system("/usr/bin/python3")
            .arg("-B")
            .arg(format!("{SCRIPTS}/ota_server.py"))
            .arg(&file)
            .talkative()
            .start();
        let port = process.expect("its port", |line| event(line, "listening"));
        let url = format!("https://localhost:{}/start", port["listening"]);
        Self { process, url, ca }
    }

    /// Waits for the next line with this field.
    #[track_caller]
    pub(crate) fn expect(&mut self, field: &str) -> Value {
        self.process
            .expect(&format!("a line with {field:?}"), |line| event(line, field))
    }

    /// Lets the request go on that is held.
    pub(crate) fn go_on(&mut self) {
        self.process.send_line("go");
    }

    /// All lines with this field so far.
    pub(crate) fn all(&self, field: &str) -> Vec<Value> {
        let said = self.process.said();
        said.iter().filter_map(|line| event(line, field)).collect()
    }
}

fn event(line: &str, field: &str) -> Option<Value> {
    let event: Value = serde_json::from_str(line).ok()?;
    event.get(field).is_some().then_some(event)
}
