//! A blank card over PC/SC: personalised in the field, known to its server, reached by a message.

use std::fs;

use e2e::pcscd::Pcscd;
use e2e::process::Program;

use crate::parts::inserted::{blank, inserted};
use crate::parts::server::Server;
use crate::parts::subscriber::Subscriber;
use crate::parts::terminal::{acted_on, events, run};

const CARD_KEY: &str = "505152535455565758595A5B5C5D5E5F";

#[test]
fn a_blank_card_is_personalised_over_pcsc_and_its_first_message_arrives() {
    for one in [
        Subscriber::named("field"),
        Subscriber::named("field-256").aes256().concealed().mode(1),
        Subscriber::named("field-uid").own_uid().mode(2),
    ] {
        personalised_and_reached(&one);
    }
}

fn personalised_and_reached(one: &Subscriber) {
    let directory = tempfile::tempdir().unwrap();
    let image = blank(directory.path(), Some(CARD_KEY));
    let pcscd = Pcscd::start(1);
    let slot = &pcscd.slots()[0];
    let _card = inserted(&image, slot);
    let place = format!("pcsc:{}", slot.reader);
    let profile = directory.path().join("card.toml");
    fs::write(
        directory.path().join("k.hex"),
        hex::encode(one.k().as_bytes()),
    )
    .unwrap();
    fs::write(&profile, one.profile("k.hex")).unwrap();
    let personalise = |card_key: &str| {
        let program = Program::built("reader-bridge")
            .args(["personalise", "--card", &place, "--profile"])
            .arg(&profile)
            .arg("--card-key-file")
            .arg(directory.path().join(card_key));
        pcscd.client(program).run()
    };
    let refused = personalise("k.hex");
    assert_eq!(refused.status.code(), Some(10), "{refused:?}");
    let done = personalise("card.key");
    assert!(done.status.success(), "{done:?}");
    assert!(
        done.stdout.concat().contains(&one.iccid().to_string()),
        "{done:?}"
    );

    let server = Server::knowing(&[one]);
    let id = server.send(one, &["connect"]);
    let state = directory.path().join("state");
    let program = run(&place, server.address(), &state).arg("--once");
    let terminal = pcscd.client(program).run();
    assert!(terminal.status.success(), "{terminal:?}");
    assert_eq!(acted_on(&events(&terminal.stdout)), [id]);
}
