//! The whole loop for one subscriber: card in pcscd's virtual reader, terminal, lossy link, server.

use std::path::PathBuf;

use e2e::pcscd::Pcscd;
use e2e::process::{Process, Program};
use e2e::relay::Plan;
use tempfile::TempDir;

use super::inserted::inserted;
use super::server::Server;
use super::subscriber::Subscriber;
use super::terminal::{self, Terminal};
use super::wire::Wire;

/// All parts, running. In the order in which they are ended.
pub(crate) struct Whole {
    pub(crate) terminal: Terminal,
    pub(crate) card: Process,
    pub(crate) wire: Wire,
    pub(crate) server: Server,
    pub(crate) pcscd: Pcscd,
    pub(crate) subscriber: Subscriber,
    pub(crate) image: PathBuf,
    directory: TempDir,
}

impl Whole {
    /// Starts all parts with an empty queue; the terminal polls every second.
    pub(crate) fn start(subscriber: Subscriber, plan: Plan) -> Self {
        Self::start_with(subscriber, plan, |_, _| {})
    }

    /// The same, with something done before the terminal starts, such as messages queued.
    pub(crate) fn start_with(
        subscriber: Subscriber,
        plan: Plan,
        before: impl FnOnce(&Server, &Subscriber),
    ) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let pcscd = Pcscd::start(1);
        let image = subscriber.make_card(directory.path());
        let card = inserted(&image, &pcscd.slots()[0]);
        let server = Server::knowing(&[&subscriber]);
        before(&server, &subscriber);
        let wire = Wire::to(server.address(), plan);
        let program = program(&pcscd, &wire, &directory);
        Self {
            terminal: Terminal::start(program),
            card,
            wire,
            server,
            pcscd,
            subscriber,
            image,
            directory,
        }
    }

    /// The terminal as it is started.
    pub(crate) fn terminal_program(&self) -> Program {
        program(&self.pcscd, &self.wire, &self.directory)
    }

    /// Kills the terminal and starts it again; returns what the killed one has told.
    pub(crate) fn restart_terminal(&mut self) -> Terminal {
        self.terminal.process.kill();
        let again = Terminal::start(self.terminal_program());
        std::mem::replace(&mut self.terminal, again)
    }

    /// Kills the card's process and puts the card back.
    pub(crate) fn restart_card(&mut self) {
        self.card.kill();
        self.card = inserted(&self.image, &self.pcscd.slots()[0]);
    }

    /// Kills the server and starts it again.
    pub(crate) fn restart_server(&mut self) {
        self.server.kill();
        self.server.launch();
    }

    /// Kills pcscd and starts it again.
    pub(crate) fn restart_pcscd(&mut self) {
        self.pcscd.daemon().expect("it runs").kill();
        self.pcscd.restart();
    }

    /// Where the terminal remembers its card.
    pub(crate) fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub(crate) fn send(&self, ask: &[&str]) -> u64 {
        self.server.send(&self.subscriber, ask)
    }

    pub(crate) fn message_states(&self) -> Vec<(u64, String)> {
        self.server.message_states(&self.subscriber)
    }

    /// Waits until the server knows that all messages were delivered, which the next poll tells it.
    pub(crate) fn expect_all_delivered(&mut self) {
        while self
            .message_states()
            .iter()
            .any(|(_, state)| state == "queued")
        {
            self.terminal.expect_exchange();
        }
        let states = self.message_states();
        assert!(
            states.iter().all(|(_, state)| state == "delivered"),
            "{states:?}"
        );
    }

    /// What the card has counted, as `secapp inspect` tells it: the value of this row.
    pub(crate) fn on_card(&self, row: &str) -> String {
        let inspected = Program::built("secapp")
            .arg("inspect")
            .arg(&self.image)
            .run();
        let value = inspected
            .stdout
            .iter()
            .find_map(|line| line.strip_prefix(row));
        let value = value.unwrap_or_else(|| panic!("no row {row:?}: {inspected:?}"));
        value.trim().to_owned()
    }
}

fn program(pcscd: &Pcscd, wire: &Wire, directory: &TempDir) -> Program {
    let card = format!("pcsc:{}", pcscd.slots()[0].reader);
    let state = directory.path().join("state");
    pcscd.client(terminal::every_second(&card, wire.address(), &state))
}
