//! A foreign card: `vicc`, the emulator of Debian's package vsmartcard-vpicc, knows nothing of SecApp.

use e2e::process::{Process, Program};

use crate::parts::inserted::insert;
use crate::parts::server::Server;
use crate::parts::subscriber::Subscriber;
use crate::parts::terminal::{self, Terminal};

/// Debian's `vicc` asks for pycryptodome under the name that it had elsewhere.
const VICC: &str = "\
import runpy, sys
import Cryptodome
sys.modules['Crypto'] = Cryptodome
sys.argv[0] = 'vicc'
runpy.run_path('/usr/bin/vicc', run_name='__main__')
";

/// `vicc` as a card with ISO/IEC 7816-4's file system, in the reader that listens on `port`.
fn vicc(port: &str) -> Process {
    let python = Program::system("/usr/bin/python3").args(["-c", VICC]);
    let python = python.args([
        "--type",
        "iso7816",
        "--hostname",
        "127.0.0.1",
        "--port",
        port,
    ]);
    python
        .env(
            "PYTHONPATH",
            "/usr/lib/python3/site-packages/virtualsmartcard",
        )
        .start()
}

fn await_port(terminal: &mut Terminal) -> String {
    let waiting = terminal.expect("waiting-for-card");
    let card = waiting["card"].as_str().unwrap();
    card.strip_prefix("vpcd:").unwrap().to_owned()
}

/// What every refusal of it must say.
fn is_clear(why: &str) -> bool {
    ["no SecApp", "6A82", "secapp new"]
        .iter()
        .all(|part| why.contains(part))
}

#[test]
fn vicc_is_refused_as_a_card_without_the_applet_and_others_are_served_beside_it() {
    let (one, directory) = (Subscriber::named("one"), tempfile::tempdir().unwrap());
    let server = Server::knowing(&[&one]);
    let image = one.make_card(directory.path());
    let program = terminal::every_second("vpcd:0", server.address(), directory.path());
    let mut terminal = Terminal::start(program);
    let port = await_port(&mut terminal);
    let foreign = vicc(&port);
    let refused = terminal.expect("card-refused");
    assert!(
        is_clear(refused["why"].as_str().unwrap()),
        "{refused}\n{foreign}"
    );
    let _card = insert(&image, port.parse().unwrap()).start();
    let done = terminal.expect_exchange();
    assert_eq!(done["card"], format!("vpcd:{port}/1"));
    assert_eq!(terminal.process.count("card-refused"), 1);
}

#[test]
fn a_single_exchange_with_vicc_ends_with_the_exit_code_of_a_card_without_the_applet() {
    let directory = tempfile::tempdir().unwrap();
    let nobody = ([127, 0, 0, 1], 9).into();
    let program = terminal::run("vpcd:0", nobody, directory.path());
    let mut terminal = Terminal::start(program.args(["--once", "--wait-card", "60s"]));
    let port = await_port(&mut terminal);
    let _foreign = vicc(&port);
    let status = terminal.process.expect_exit();
    assert_eq!(status.code(), Some(4));
    terminal
        .process
        .expect("why", |line| is_clear(line).then_some(()));
}
