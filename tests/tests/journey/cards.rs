//! Cards of other kinds go the whole way too: T=0, a wrapped image, one whose power is torn in the middle of writes.

use std::fs;

use e2e::pcscd::Pcscd;
use e2e::process::Program;
use e2e::relay::Plan;

use crate::parts::inserted::{insert, inserted};
use crate::parts::server::Server;
use crate::parts::subscriber::Subscriber;
use crate::parts::terminal::{self, Terminal};
use crate::parts::whole::Whole;

#[test]
fn a_card_that_speaks_t0_goes_the_whole_way() {
    let (one, directory) = (
        Subscriber::named("t0").aes256(),
        tempfile::tempdir().unwrap(),
    );
    let (server, pcscd) = (Server::knowing(&[&one]), Pcscd::start(1));
    let slot = &pcscd.slots()[0];
    let image = one.make_card(directory.path());
    let mut card = insert(&image, slot.port).args(["--protocol", "t0"]).start();
    card.expect_line("powered on, T=0");
    let ids = [
        server.send(&one, &["generate-key", "p256", "1"]),
        server.send(&one, &["opaque", &"5a".repeat(200)]),
    ];
    let place = format!("pcsc:{}", slot.reader);
    let program = terminal::every_second(&place, server.address(), directory.path());
    let mut terminal = Terminal::start(pcscd.client(program));
    ids.iter().for_each(|id| drop(terminal.expect_message(*id)));
    terminal.expect_exchange();
    let states = server.message_states(&one);
    assert!(
        states.iter().all(|(_, state)| state == "delivered"),
        "{states:?}"
    );
    assert_eq!(terminal.acted_on(), ids);
}

#[test]
fn a_wrapped_image_needs_its_key_in_every_reader_and_works_with_it() {
    let (one, directory) = (Subscriber::named("wrapped"), tempfile::tempdir().unwrap());
    let (server, path) = (Server::knowing(&[&one]), directory.path());
    let (key, wrong) = (path.join("wrap.key"), path.join("wrong.key"));
    fs::write(&key, "0f".repeat(32)).unwrap();
    fs::write(&wrong, "f0".repeat(32)).unwrap();
    let image = one.make_card_with(path, &[("--wrap-key-file", &key)]);
    let once = |key: Option<&std::path::Path>| {
        let card = format!("image:{}", image.display());
        let program = terminal::run(&card, server.address(), path).arg("--once");
        match key {
            Some(key) => program.arg("--image-key-file").arg(key).run(),
            None => program.run(),
        }
    };
    for refused in [once(None), once(Some(&wrong)), insert(&image, 1).run()] {
        assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    }
    assert_eq!(once(Some(&key)).status.code(), Some(0));
    let inspected = Program::built("secapp")
        .arg("inspect")
        .arg(&image)
        .arg("--wrap-key-file")
        .arg(&key);
    let inspected = inspected.run();
    assert!(
        inspected
            .stdout
            .iter()
            .any(|line| line.starts_with("accepted") && line.ends_with('1')),
        "{inspected:?}"
    );
}

#[test]
fn power_torn_at_each_write_of_an_exchange_loses_nothing_and_repeats_nothing() {
    let mut whole = Whole::start(Subscriber::named("torn"), Plan::lossless());
    let mut ids = Vec::new();
    for writes in 0..4 {
        whole.terminal.expect("next-poll");
        whole.card.terminate();
        let port = whole.pcscd.slots()[0].port;
        whole.card = insert(&whole.image, port)
            .args(["--tear-after", &writes.to_string()])
            .start();
        ids.push(whole.send(&["update-available"]));
        whole.card.expect_line("power torn");
        whole.terminal.expect_message(*ids.last().unwrap());
    }
    whole.expect_all_delivered();
    whole.card.terminate();
    whole.card = inserted(&whole.image, &whole.pcscd.slots()[0]);
    assert_eq!(whole.terminal.acted_on(), ids);
    assert_eq!(
        whole.on_card("last message"),
        ids.last().unwrap().to_string()
    );
    assert_eq!(whole.on_card("refused"), "0");
}
