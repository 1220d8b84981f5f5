//! A server that has lost all that it knew of its cards finds them again by their recovery identity.

use e2e::relay::Plan;
use protocol::chain::RecoveryLink;
use protocol::identity::Mode;

use crate::parts::server::Server;
use crate::parts::subscriber::Subscriber;
use crate::parts::terminal::{self, Terminal};
use crate::parts::wire::Wire;

/// Resends after which a poll goes out under the recovery identity.
const RESENDS: u8 = 24;

#[test]
fn after_a_lost_store_24_resends_bring_the_card_back_and_it_gets_its_message() {
    let (one, directory) = (
        Subscriber::named("left-behind"),
        tempfile::tempdir().unwrap(),
    );
    let card = format!("image:{}", one.make_card(directory.path()).display());
    let before = Server::knowing(&[&one]);
    for _ in 0..3 {
        let once = terminal::run(&card, before.address(), directory.path())
            .arg("--once")
            .run();
        assert!(once.status.success(), "{once:?}");
    }
    drop(before);

    let after = Server::knowing(&[&one]);
    let id = after.send(&one, &["update-available"]);
    let wire = Wire::to(after.address(), Plan::lossless());
    let program = terminal::run(&card, wire.address(), directory.path())
        .args(["--interval", "1s", "--jitter", "0"])
        .args(["--timeout", "50ms", "--max-timeout", "100ms"]);
    let mut terminal = Terminal::start(program);
    let back = terminal.expect_exchange();
    let recovery = RecoveryLink::first(&one.k(), one.uid_1(), Mode::DEFAULT).identity();
    assert_eq!(back["message"], "nothing to do");
    terminal.expect_message(id);
    terminal.expect_exchange();

    let polls = wire.polls();
    let under_recovery = polls.iter().find(|poll| poll.uid == recovery.uid());
    assert_eq!(
        under_recovery.map(|poll| poll.resend_counter),
        Some(RESENDS)
    );
    let held = after.subscription(&one);
    assert_eq!(
        (&held["e"], &held["messages"][0]["state"]),
        (&1.into(), &"delivered".into())
    );
    assert_eq!(after.ask(&["status", "--json"])["recoveries"], 1);
    assert_eq!(terminal.acted_on(), [id]);
}
