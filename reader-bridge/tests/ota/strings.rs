//! What command strings do on the card, and how they are answered.

use protocol::{
    card::ins,
    remote::{BadFormat, Chaining, ChainingTrouble, Coding, Item, Script, Trouble},
};
use reader_bridge::ota::{Deed, Ended};

use crate::{
    server::Delivered,
    world::{Break, URL, World, command, script, wish},
};

/// Runs a session with these strings; what was delivered for each.
fn run(scripts: &[Script]) -> (World, Vec<Delivered>) {
    run_for(scripts, None)
}

fn run_for(scripts: &[Script], target: Option<&str>) -> (World, Vec<Delivered>) {
    let mut world = World::with(scripts);
    world.server.target = target.map(str::to_owned);
    world.message(wish(7, URL, None, &[]));
    world.run();
    assert_eq!(world.ended(), [(7, Ended::Done)], "{:?}", world.deeds);
    world.assert_card_is_as_before();
    let delivered = world.server.delivered.values().cloned().collect();
    (world, delivered)
}

fn answers(delivered: &Delivered) -> Vec<String> {
    let answer = delivered.answer.as_ref().unwrap();
    answer.answers.iter().map(hex::encode).collect()
}

fn trouble(delivered: &Delivered) -> Option<Trouble> {
    delivered.answer.as_ref().unwrap().trouble
}

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

#[test]
fn a_command_that_fails_ends_its_string() {
    let failing = bytes("80ca123400");
    let (world, delivered) = run(&[Script::of([command(1), failing, command(2)])]);
    let answers = answers(&delivered[0]);
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[1], "6a88");
    assert_eq!(world.executed, [vec![1; 16]]);
}

#[test]
fn commands_are_for_secapp_unless_another_application_is_targeted() {
    let card_data = || Script::of([bytes("80ca006600")]);
    let (_, secapp) = run(&[card_data()]);
    assert_eq!(answers(&secapp[0]), ["6a88"]);
    let (_, manager) = run_for(&[card_data()], Some("//aid/A000000151/000000"));
    assert!(answers(&manager[0])[0].ends_with("9000"));
}

#[test]
fn an_application_that_is_not_there_is_told_and_nothing_is_executed() {
    let (world, delivered) = run_for(&[script(&[1])], Some("//aid/A000000999/00"));
    assert_eq!(delivered[0].status, "unknown-application");
    assert!(delivered[0].answer.is_none() && world.executed.is_empty());
}

#[test]
fn a_script_may_select_what_it_likes_and_polls_still_find_secapp() {
    let select_manager = bytes("00a4040008a000000151000000");
    let (_, delivered) = run(&[Script::of([select_manager, bytes("80ca006600")])]);
    assert!(
        answers(&delivered[0])
            .iter()
            .all(|answer| answer.ends_with("9000"))
    );
}

#[test]
fn a_chain_of_strings_keeps_what_is_selected_and_others_begin_anew() {
    let select = bytes("00a4040008a000000151000000");
    let chained = |chaining, command: Vec<u8>| Script {
        chaining: Some(chaining),
        ..Script::of([command])
    };
    let card_data = bytes("80ca006600");
    let (_, delivered) = run(&[
        chained(Chaining::First, select.clone()),
        chained(Chaining::Next, card_data.clone()),
        chained(Chaining::Last, card_data.clone()),
        Script::of([card_data.clone()]),
    ]);
    let all: Vec<_> = delivered.iter().flat_map(answers).collect();
    assert!(
        all[..3].iter().all(|answer| answer.ends_with("9000")),
        "{all:?}"
    );
    assert_eq!(all[3], "6a88", "SecApp again");
    let (_, delivered) = run(&[chained(Chaining::Last, card_data)]);
    let none = Trouble::Chaining(ChainingTrouble::NoPreviousScript);
    assert_eq!(trouble(&delivered[0]), Some(none));
    let (_, delivered) = run(&[chained(Chaining::FirstOverResets, select)]);
    let no = Trouble::Chaining(ChainingTrouble::NotSupported);
    assert_eq!(trouble(&delivered[0]), Some(no));
}

#[test]
fn a_chain_that_the_card_has_lost_is_told() {
    let chained = |chaining, number| Script {
        chaining: Some(chaining),
        ..script(&[number])
    };
    let scripts = [chained(Chaining::First, 1), chained(Chaining::Last, 2)];
    let mut world = World::with(&scripts);
    world.message(wish(7, URL, None, &[]));
    while world.executed.is_empty() {
        let next = world.done + 1;
        world.run_to(next);
    }
    world.input(reader_bridge::ota::Input::CardGone);
    world.insert();
    world.run();
    let lost = Trouble::Chaining(ChainingTrouble::UnableToProcess);
    assert_eq!(trouble(&world.server.delivered[&1]), Some(lost));
    assert_eq!(world.executed, [vec![1; 16]]);
}

#[test]
fn what_cannot_be_read_is_answered_as_such_in_its_own_form() {
    for (string, coding, error) in [
        ("aa03220100", Coding::Definite, BadFormat::WrongLength),
        (
            "ae80a20480ca00000000",
            Coding::Indefinite,
            BadFormat::UnknownTag,
        ),
        ("00", Coding::Definite, BadFormat::UnknownTag),
        ("aa80", Coding::Definite, BadFormat::LengthNotFound),
    ] {
        let mut world = World::with(&[]);
        world.server.scripts = vec![bytes(string)];
        world.message(wish(7, URL, None, &[]));
        world.run();
        let delivered = &world.server.delivered[&0];
        let answer = delivered.answer.as_ref().unwrap();
        assert_eq!((answer.coding, answer.executed), (coding, 0), "{string}");
        assert_eq!(answer.trouble, Some(Trouble::BadFormat(error)), "{string}");
        assert_eq!(world.ended(), [(7, Ended::Done)]);
    }
}

#[test]
fn an_immediate_action_is_not_pretended_and_an_error_action_does_no_harm() {
    let immediate = Script {
        immediate_action: Some(vec![0x81]),
        ..script(&[1])
    };
    let (world, delivered) = run(&[immediate]);
    assert_eq!(trouble(&delivered[0]), Some(Trouble::ImmediateAction));
    assert!(world.executed.is_empty());
    let with_error_action = Script {
        items: vec![Item::ErrorAction(vec![]), Item::Command(command(1))],
        ..Script::default()
    };
    let (_, delivered) = run(&[with_error_action]);
    assert!(answers(&delivered[0])[0].ends_with("9000"));
}

#[test]
fn the_indefinite_form_is_answered_in_the_indefinite_form() {
    let indefinite = Script {
        coding: Coding::Indefinite,
        ..script(&[1])
    };
    let (_, delivered) = run(&[indefinite]);
    assert_eq!(
        delivered[0].answer.as_ref().unwrap().coding,
        Coding::Indefinite
    );
}

#[test]
fn a_string_cannot_leave_its_channel() {
    let (world, delivered) = run(&[
        Script::of([vec![0, ins::MANAGE_CHANNEL, 0, 0, 1]]),
        Script::of([bytes("4040000000")]),
    ]);
    assert_eq!(answers(&delivered[0]), ["6881"]);
    assert_eq!(answers(&delivered[1]), ["6e00"]);
    let told = world
        .deeds
        .iter()
        .filter(|deed| matches!(deed, Deed::OtaScript { why: Some(_), .. }));
    assert_eq!(told.count(), 2);
}

#[test]
fn a_card_that_goes_before_a_string_gets_all_of_it_when_it_is_back() {
    let mut world = World::with(&[script(&[1, 2])]);
    world.message(wish(7, URL, None, &[]));
    while world.server.proved == 0 {
        let next = world.done + 1;
        world.run_to(next);
    }
    // The channel is opened next.
    world.cut = Some((world.done, Break::Before));
    world.run();
    assert!(world.was_cut && world.server.delivered[&0].cut.is_none());
    assert_eq!(world.executed.len(), 2);
}

#[test]
fn the_last_string_without_a_next_uri_is_executed_and_not_answered() {
    let mut world = World::with(&[]);
    let mut last =
        crate::server::answer(200, &[("Content-Type", protocol::remote::media::COMMANDS)]);
    last.body = script(&[1]).encode();
    world.server.instead.insert(0, last);
    world.message(wish(7, URL, None, &[]));
    world.run();
    assert_eq!(world.executed.len(), 1);
    assert_eq!(world.server.seen.len(), 1);
    assert_eq!(world.ended(), [(7, Ended::Done)]);
}
