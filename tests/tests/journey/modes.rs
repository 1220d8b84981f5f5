//! Every kind of subscription goes the whole way: four modes, both key lengths, three kinds of first identity.

use e2e::pcscd::Pcscd;
use e2e::relay::Plan;

use crate::parts::inserted::inserted;
use crate::parts::server::Server;
use crate::parts::subscriber::Subscriber;
use crate::parts::terminal::{self, Terminal};
use crate::parts::wire::Wire;

/// The number of letters of its name tells them apart: mode, key length, first identity.
fn kinds() -> Vec<Subscriber> {
    let modes = (0..=3).flat_map(|mode| [(mode, false), (mode, true)]);
    let kinds = modes.enumerate().map(|(number, (mode, strong))| {
        let one = Subscriber::named(&format!("mode-{mode}-{number}")).mode(mode);
        let one = if strong { one.aes256() } else { one };
        match number % 3 {
            0 => one,
            1 => one.concealed(),
            _ => one.own_uid(),
        }
    });
    kinds.collect()
}

#[test]
fn all_modes_key_lengths_and_first_identities_deliver_side_by_side_over_a_link_that_loses() {
    let (kinds, directory) = (kinds(), tempfile::tempdir().unwrap());
    let server = Server::knowing(&kinds.iter().collect::<Vec<_>>());
    let pcscd = Pcscd::start(kinds.len());
    // One in five datagrams of each direction is lost, the same ones in every run of one terminal.
    let wire = Wire::to(server.address(), Plan::share(3, 20).unwrap());
    let mut running: Vec<_> = kinds
        .iter()
        .zip(pcscd.slots())
        .map(|(one, slot)| {
            let ids: Vec<_> = (0..2)
                .map(|_| server.send(one, &["update-available"]))
                .collect();
            let card = inserted(&one.make_card(directory.path()), slot);
            let state = directory.path().join("state");
            let program =
                terminal::every_second(&format!("pcsc:{}", slot.reader), wire.address(), &state);
            (Terminal::start(pcscd.client(program)), card, ids)
        })
        .collect();
    for (terminal, _, ids) in &mut running {
        ids.iter().for_each(|id| drop(terminal.expect_message(*id)));
        // The exchange after the last message's tells the server that it was accepted.
        terminal.expect_exchange();
        terminal.expect_exchange();
        assert_eq!(terminal.acted_on(), *ids);
    }
    for one in &kinds {
        let states = server.message_states(one);
        assert!(
            states.iter().all(|(_, state)| state == "delivered"),
            "{}: {states:?}",
            one.reference
        );
    }
    let counts = wire.relay.counts();
    assert!(
        counts.up.dropped > 0 && counts.down.dropped > 0,
        "{counts:?}"
    );
}

#[test]
fn a_card_and_a_server_that_disagree_on_the_mode_never_talk() {
    let directory = tempfile::tempdir().unwrap();
    for (of_card, of_server) in [(3, 1), (1, 3), (2, 3), (0, 1)] {
        let card = Subscriber::named("disagreeing").mode(of_card);
        let server = Server::knowing(&[&Subscriber::named("disagreeing").mode(of_server)]);
        let folder = directory.path().join(format!("{of_card}-{of_server}"));
        std::fs::create_dir(&folder).unwrap();
        let image = format!("image:{}", card.make_card(&folder).display());
        let program = terminal::run(&image, server.address(), &folder);
        let refused = program
            .args([
                "--once",
                "--attempts",
                "2",
                "--timeout",
                "0.2",
                "--max-timeout",
                "0.2",
            ])
            .run();
        assert_eq!(
            refused.status.code(),
            Some(5),
            "{of_card} and {of_server}: {refused:?}"
        );
        let held = server.subscription(&card);
        assert_eq!(held["uid"], held["uid_1"], "the server stays where it was");
    }
}
