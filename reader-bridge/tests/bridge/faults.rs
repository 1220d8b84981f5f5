//! Faults on request, as a whole process: told, repeatable, and survived like real ones.

use serde_json::Value;

use crate::run::Place;

/// Short waits, so that losses cost little.
const QUICK: [&str; 7] = [
    "--once",
    "--attempts",
    "40",
    "--timeout",
    "300ms",
    "--max-timeout",
    "2s",
];

fn run(faults: &[&str]) -> (Option<i32>, Vec<Value>) {
    let place = Place::new();
    let (code, _, told) = place.run(&[&QUICK[..], faults].concat()).end();
    (code, told)
}

fn struck(told: &[Value]) -> Vec<String> {
    let faults = told.iter().filter(|event| event["event"] == "fault");
    faults
        .map(|fault| fault["what"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn lost_polls_are_told_resent_and_lost_again_under_the_same_seed() {
    let lose = |seed| run(&["--fault", "net-up:loss=60%", "--seed", seed]);
    let [one, two] = ["3", "3"].map(lose);
    assert_eq!((one.0, two.0), (Some(0), Some(0)));
    let [one, two] = [struck(&one.1), struck(&two.1)];
    assert!(!one.is_empty(), "this seed loses nothing");
    assert!(one.iter().all(|what| what == "a poll of 20 bytes is lost"));
    // A slow machine may send a poll more than it needs: what both have done is the same.
    assert!(one.iter().zip(&two).all(|(one, two)| one == two) && !two.is_empty());
    assert!(one.len().abs_diff(two.len()) <= 1, "{one:?} {two:?}");
}

#[test]
fn everything_at_once_on_the_network_ends_well_all_the_same() {
    let faults = "net:loss=20%,dup=40%,reorder=30%,corrupt=20%";
    let (code, told) = run(&["--fault", faults, "--seed", "11"]);
    assert_eq!(code, Some(0), "{told:#?}");
    assert!(!struck(&told).is_empty());
}

#[test]
fn a_card_that_is_pulled_on_request_is_back_and_its_exchange_goes_on() {
    let (code, told) = run(&["--fault", "card:pull-after=3"]);
    assert_eq!(code, Some(0), "{told:#?}");
    let events: Vec<_> = told.iter().map(|event| event["event"].as_str()).collect();
    let at = |name| events.iter().position(|event| *event == Some(name));
    let (fault, gone) = (at("fault").unwrap(), at("card-gone").unwrap());
    assert!(fault < gone, "{events:?}");
    let why = told[gone]["why"].as_str().unwrap();
    assert!(why.contains("as --fault asks"), "{why}");
}

#[test]
fn a_card_that_is_mute_now_and_then_and_asks_for_lengths_is_coped_with() {
    let faults = "card:mute=20%,6Cxx=50%,delay=1ms";
    let (code, told) = run(&["--card-timeout", "50ms", "--fault", faults, "--seed", "4"]);
    assert_eq!(code, Some(0), "{told:#?}");
    for part in ["answers 6C00", "is mute", "longer"] {
        assert!(
            struck(&told).iter().any(|what| what.contains(part)),
            "{part}: {told:#?}"
        );
    }
}
