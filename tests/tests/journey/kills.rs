//! Each part killed with SIGKILL at each stage of an exchange, and started again: the loop goes on, and nothing is
//! executed twice.

use e2e::relay::Plan;
use serde_json::Value;

use crate::parts::subscriber::Subscriber;
use crate::parts::terminal;
use crate::parts::whole::Whole;

/// The events after which something is killed.
const STAGES: [&str; 4] = ["poll-sent", "answer-received", "exchange-done", "message"];

/// For each stage queues a message, waits for the stage of the exchange that brings it, and kills.
fn kill_at_each_stage(name: &str, mut kill: impl FnMut(&mut Whole)) -> (Whole, Vec<u64>) {
    let mut whole = Whole::start(Subscriber::named(name), Plan::lossless());
    let mut ids = Vec::new();
    for stage in STAGES {
        whole.terminal.expect("next-poll");
        ids.push(whole.send(&["update-available", stage]));
        whole.terminal.expect(stage);
        kill(&mut whole);
    }
    ids.push(whole.send(&["update-available", "last"]));
    whole.expect_all_delivered();
    (whole, ids)
}

/// Everything was executed once: by the terminal, by the card, and by the server's account.
fn assert_exactly_once(whole: &Whole, ids: &[u64]) {
    assert_eq!(whole.terminal.acted_on(), ids);
    assert_eq!(
        whole.on_card("last message"),
        ids.last().unwrap().to_string()
    );
    assert_eq!(whole.on_card("refused"), "0");
}

#[test]
fn the_server_killed_at_each_stage() {
    let (whole, ids) = kill_at_each_stage("server-killed", Whole::restart_server);
    assert_exactly_once(&whole, &ids);
}

#[test]
fn the_card_killed_at_each_stage() {
    let (whole, ids) = kill_at_each_stage("card-killed", Whole::restart_card);
    assert_exactly_once(&whole, &ids);
}

#[test]
fn pcscd_killed_at_each_stage() {
    let (whole, ids) = kill_at_each_stage("pcscd-killed", Whole::restart_pcscd);
    assert_exactly_once(&whole, &ids);
}

#[test]
fn pcscd_restarted_in_good_order_in_the_middle_of_exchanges() {
    let (whole, ids) = kill_at_each_stage("pcscd-restarted", |whole| whole.pcscd.restart());
    assert_exactly_once(&whole, &ids);
}

#[test]
fn the_terminal_killed_at_each_stage() {
    let mut told: Vec<Value> = Vec::new();
    let (whole, ids) = kill_at_each_stage("terminal-killed", |whole| {
        told.extend(whole.restart_terminal().events());
    });
    told.extend(whole.terminal.events());
    // The card executes exactly once; a terminal killed between telling and remembering tells again, with the same id.
    assert_eq!(
        whole.on_card("last message"),
        ids.last().unwrap().to_string()
    );
    let mut acted = terminal::acted_on(&told);
    acted.dedup();
    assert_eq!(acted, ids, "each at least once, and in order");
}

#[test]
fn a_terminal_killed_after_it_has_remembered_a_message_does_not_act_on_it_again() {
    let mut whole = Whole::start(Subscriber::named("remembered"), Plan::lossless());
    let id = whole.send(&["update-available"]);
    whole.terminal.expect_message(id);
    whole.terminal.expect("next-poll");
    let killed = whole.restart_terminal();
    whole.terminal.expect_exchange();
    assert_eq!(
        (killed.acted_on(), whole.terminal.acted_on()),
        (vec![id], vec![])
    );
}

#[test]
fn everything_killed_at_once_again_and_again() {
    let mut told: Vec<Value> = Vec::new();
    let (whole, ids) = kill_at_each_stage("all-killed", |whole| {
        whole.terminal.process.kill();
        whole.server.kill();
        whole.card.kill();
        whole.restart_pcscd();
        whole.card = crate::parts::inserted::inserted(&whole.image, &whole.pcscd.slots()[0]);
        whole.server.launch();
        told.extend(whole.restart_terminal().events());
    });
    told.extend(whole.terminal.events());
    let mut acted = terminal::acted_on(&told);
    acted.dedup();
    assert_eq!(acted, ids);
    assert_eq!(
        whole.on_card("last message"),
        ids.last().unwrap().to_string()
    );
}
