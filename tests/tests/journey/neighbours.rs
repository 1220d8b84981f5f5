//! Cards, terminals and servers side by side know nothing of each other.

use e2e::pcscd::Pcscd;

use crate::parts::inserted::inserted;
use crate::parts::server::Server;
use crate::parts::subscriber::Subscriber;
use crate::parts::terminal::{self, Terminal};

#[test]
fn two_servers_with_a_card_each_in_one_pcscd_do_not_disturb_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let (left, right) = (Subscriber::named("left"), Subscriber::named("right"));
    let (mut of_left, of_right) = (Server::knowing(&[&left]), Server::knowing(&[&right]));
    let pcscd = Pcscd::start(2);
    let [left_slot, right_slot] = pcscd.slots() else {
        panic!("two slots")
    };
    let _left_card = inserted(&left.make_card(directory.path()), left_slot);
    let _right_card = inserted(&right.make_card(directory.path()), right_slot);
    let start = |reader: &str, server: &Server| {
        let card = format!("pcsc:{reader}");
        let program = terminal::every_second(&card, server.address(), directory.path());
        Terminal::start(pcscd.client(program))
    };
    let mut at_left = start(&left_slot.reader, &of_left);
    let mut at_right = start(&right_slot.reader, &of_right);

    let mut ids = (Vec::new(), Vec::new());
    for _ in 0..2 {
        ids.0.push(of_left.send(&left, &["connect"]));
        ids.1.push(of_right.send(&right, &["open-http"]));
        at_left.expect_message(*ids.0.last().unwrap());
        at_right.expect_message(*ids.1.last().unwrap());
    }
    of_left.stop();
    ids.1.push(of_right.send(&right, &["update-available"]));
    at_right.expect_message(*ids.1.last().unwrap());
    of_left.launch();
    at_left.expect_exchange();
    at_right.expect_exchange();
    assert_eq!((at_left.acted_on(), at_right.acted_on()), ids);
    assert_eq!(of_right.dropped("unknown_identity"), 0);
}

#[test]
fn a_second_terminal_for_the_same_card_is_refused() {
    let (one, directory) = (Subscriber::named("one"), tempfile::tempdir().unwrap());
    let (server, pcscd) = (Server::knowing(&[&one]), Pcscd::start(1));
    let slot = &pcscd.slots()[0];
    let _card = inserted(&one.make_card(directory.path()), slot);
    let card = format!("pcsc:{}", slot.reader);
    let program = || {
        pcscd.client(terminal::every_second(
            &card,
            server.address(),
            directory.path(),
        ))
    };
    let mut first = Terminal::start(program());
    first.expect_exchange();
    let second = program().run();
    assert_eq!(second.status.code(), Some(7), "{second:?}");
    first.expect_exchange();
}
