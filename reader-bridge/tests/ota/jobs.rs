//! When sessions are opened, tried again, given up and taken up again; what servers may not do.

use std::time::Duration;

use protocol::remote::{NEXT_URI, PROTOCOL};
use reader_bridge::ota::{Action, Agenda, Agent, Deed, Ended, Input, Options, Response};

use crate::{
    server::{answer, challenged},
    world::{URL, World, iccid, options, script, wish},
};

fn world() -> World {
    let mut world = World::with(&[script(&[1]), script(&[2])]);
    world.message(wish(7, URL, None, &[]));
    world
}

/// The server answers its n-th request so.
fn world_where(answers: impl IntoIterator<Item = (usize, Response)>) -> World {
    let mut world = world();
    world.server.instead.extend(answers);
    world.run();
    world
}

/// When each attempt failed, and how long after the last one.
fn delays(world: &World) -> Vec<u64> {
    let delays = world.deeds.iter().filter_map(|deed| match deed {
        Deed::OtaFailed { retry_in_ms, .. } => *retry_in_ms,
        _ => None,
    });
    delays.collect()
}

#[test]
fn a_server_that_is_down_is_tried_again_ever_later_and_given_up_after_a_limit() {
    let world = world_where((0..100).map(|n| (n, answer(503, &[]))));
    assert_eq!(world.ended(), [(7, Ended::GivenUp)]);
    let options = Options::default();
    let delays = delays(&world);
    assert_eq!(delays.len() + 1, usize::try_from(options.attempts).unwrap());
    for (n, delay) in (0u32..).zip(&delays) {
        let whole = options
            .retry
            .saturating_mul(1 << n)
            .min(Duration::from_secs(3600));
        let straying = whole.mul_f64(0.79)..whole.mul_f64(1.21);
        assert!(
            straying.contains(&Duration::from_millis(*delay)),
            "{n}: {delay}"
        );
    }
    assert!(world.disk.jobs.is_empty() && world.disk.owed.is_empty());
}

#[test]
fn a_server_says_when_to_come_again() {
    let world = world_where([(0, answer(503, &[("Retry-After", "600")]))]);
    assert_eq!(world.ended(), [(7, Ended::Done)]);
    assert_eq!(delays(&world), [600_000]);
    let world = world_where([(0, answer(429, &[("Retry-After", "999999999")]))]);
    assert_eq!(delays(&world), [3_600_000]);
}

#[test]
fn answers_of_a_session_that_was_given_up_go_to_the_server_with_the_next_one() {
    let mut world = world();
    // The two that ask for proof and give the first string, then nothing any more.
    world
        .server
        .instead
        .extend((2..14).map(|n| (n, answer(500, &[]))));
    world.run();
    assert_eq!(world.ended(), [(7, Ended::GivenUp)]);
    assert_eq!((world.executed.len(), world.disk.owed.len()), (1, 1));
    world.restart();
    world.message(wish(8, URL, None, &[]));
    world.run();
    assert_eq!(world.ended()[1], (8, Ended::Done));
    assert_eq!(
        world.executed.len(),
        2,
        "the first string is not executed again"
    );
    let (url, resumed) = &world.server.seen[14];
    assert_eq!((url.as_str(), resumed), ("/1", &true));
    assert!(world.disk.owed.is_empty());
}

#[test]
fn a_session_that_the_server_has_forgotten_begins_anew() {
    let world = world_where([(2, answer(500, &[])), (3, answer(404, &[]))]);
    assert_eq!(world.ended(), [(7, Ended::Done)]);
    let urls: Vec<_> = world
        .server
        .seen
        .iter()
        .map(|(url, _)| url.as_str())
        .collect();
    assert_eq!(urls, ["/start", "/start", "/1", "/1", "/start", "/1", "/2"]);
    assert!(world.failures()[1].contains("forgotten"));
}

#[test]
fn a_session_for_a_time_waits_for_it_over_restarts_and_jumps_of_the_clock() {
    let mut world = World::with(&[]);
    let at = u32::try_from(world.now.wall + 86_400).unwrap();
    world.message(wish(7, URL, Some(at), &[]));
    world.settle();
    world.restart();
    assert!(world.agent.is_settled(world.now) && world.server.seen.is_empty());
    // The clock is set back, then far ahead; the time between is as long as the terminal says.
    world.now.wall -= 10_000;
    let next = world.agent.deadline(world.now).unwrap();
    assert!(next <= world.now.mono + Duration::from_secs(60));
    world.now.mono = next;
    world.input(Input::Time);
    assert!(world.agent.is_settled(world.now));
    world.now.wall = u64::from(at);
    world.now.mono += Duration::from_secs(60);
    world.input(Input::Time);
    world.run();
    assert_eq!(world.ended(), [(7, Ended::Done)]);
}

#[test]
fn a_time_that_has_passed_is_now() {
    let mut world = World::with(&[]);
    world.message(wish(7, URL, Some(1), &[]));
    world.run();
    assert_eq!(world.ended(), [(7, Ended::Done)]);
}

#[test]
fn one_server_that_is_down_does_not_hold_up_another() {
    let mut world = World::with(&[]);
    world.server.instead.insert(0, answer(500, &[]));
    world.message(wish(7, URL, None, &[]));
    world.message(wish(8, "https://other.example/", None, &[]));
    world.run();
    assert_eq!(world.ended(), [(8, Ended::Done), (7, Ended::Done)]);
}

#[test]
fn whoever_asks_again_and_a_network_that_comes_back_cut_the_waiting_short() {
    for hurry in [true, false] {
        let mut world = World::with(&[]);
        world.server.instead.insert(0, answer(500, &[]));
        world.message(wish(7, URL, None, &[]));
        let begun = world.now.mono;
        while world.failures().is_empty() {
            let next = world.done + 1;
            world.run_to(next);
        }
        if hurry {
            world.message(wish(8, URL, None, &[]));
        } else {
            world.input(Input::NetworkChange);
        }
        world.run();
        assert_eq!(world.now.mono, begun, "no time has passed");
        assert_eq!(world.ended()[0], (7, Ended::Done));
    }
}

#[test]
fn a_server_that_never_takes_the_proof_ends_the_session() {
    let world = world_where((0..10).map(|n| (n, challenged())));
    assert_eq!(world.ended(), [(7, Ended::Refused)]);
    assert_eq!(world.server.seen.len(), 3);
    // A challenge that has grown too old may be renewed.
    let world = world_where([(1, challenged())]);
    assert_eq!(world.ended(), [(7, Ended::Done)]);
}

#[test]
fn a_challenge_that_is_none_is_told_and_nothing_is_signed() {
    let long = format!("GTS-Session challenge=\"{}\"", "00".repeat(2000));
    for challenge in ["", "Basic realm=x", "GTS-Session challenge=\"00\"", &long] {
        let world = world_where([(0, answer(401, &[("WWW-Authenticate", challenge)]))]);
        assert!(
            world.failures()[0].contains("401"),
            "{:?}",
            world.failures()
        );
        assert_eq!(world.ended(), [(7, Ended::Done)], "later it goes on");
    }
}

#[test]
fn nobody_sends_a_session_elsewhere() {
    let redirect = answer(302, &[("Location", "https://evil.example/")]);
    let world = world_where([(0, redirect)]);
    assert!(world.failures()[0].contains("redirects are not followed"));
    assert!(world.server.seen.iter().all(|(url, _)| url != "/"));
    for next in [
        "https://evil.example/1",
        "//evil.example/1",
        "http://ota.example/1",
        "https://u:p@ota.example/",
    ] {
        let mut with_next = answer(204, &[]);
        with_next.headers.push((NEXT_URI.into(), next.into()));
        let world = world_where([(0, with_next)]);
        assert_eq!(world.ended(), [(7, Ended::Refused)], "{next}");
        assert_eq!(world.server.seen.len(), 1);
    }
    let mut world = World::with(&[]);
    world.message(wish(7, "https://evil.example/", None, &[]));
    world.run();
    assert_eq!(
        (world.ended(), world.server.seen.len()),
        (vec![(7, Ended::Refused)], 0)
    );
}

#[test]
fn the_proof_is_for_the_server_that_asked_for_it() {
    let mut elsewhere = answer(204, &[]);
    elsewhere
        .headers
        .push((NEXT_URI.into(), "https://other.example/2".into()));
    let mut world = world();
    world.server.instead.insert(1, elsewhere);
    let mut requests = Vec::new();
    while let Some(action) = world.agent.next_action() {
        match action {
            Action::Post(number, request) => {
                let response = world.server.handle(&request);
                let proof = request
                    .headers
                    .iter()
                    .any(|(name, _)| *name == "Authorization");
                requests.push((request.url.host_str().unwrap().to_owned(), proof));
                world.input(Input::Http(number, Ok(response)));
            }
            Action::Sign(_) => world.input(Input::Signed(Ok([0x5A; 16]))),
            Action::Transmit(_) => world.input(Input::CardGone),
            _ => {}
        }
        if requests.len() == 3 {
            break;
        }
    }
    let expected = [
        ("ota.example", false),
        ("ota.example", true),
        ("other.example", false),
    ];
    let expected = expected.map(|(host, proof)| (host.to_owned(), proof));
    assert_eq!(requests, expected);
}

#[test]
fn a_server_without_an_end_is_left() {
    let mut more = answer(204, &[]);
    more.headers.push((NEXT_URI.into(), "/more".into()));
    let world = world_where((0..3000).map(|n| (n, more.clone())));
    assert_eq!(world.ended(), [(7, Ended::Refused)]);
    assert!(world.failures()[0].contains("no end"));
    assert!(world.server.seen.len() <= 1001);
}

#[test]
fn answers_that_mean_nothing_end_the_session_or_are_tried_again() {
    let mut html = answer(200, &[("Content-Type", "text/html")]);
    html.body = b"<html>".to_vec();
    let mut other = answer(204, &[]);
    other.headers = vec![(PROTOCOL.into(), "globalplatform-remote-admin/2.0".into())];
    for (response, ended) in [
        (html, Ended::Refused),
        (other, Ended::Refused),
        (answer(400, &[]), Ended::Refused),
        (answer(403, &[]), Ended::Refused),
        (answer(404, &[]), Ended::Refused),
        (answer(408, &[]), Ended::Done),
        (answer(201, &[]), Ended::Done),
        (answer(100, &[]), Ended::Done),
    ] {
        let world = world_where([(0, response.clone())]);
        assert_eq!(world.ended(), [(7, ended)], "{response:?}");
        assert_eq!(world.failures().len(), 1);
    }
}

#[test]
fn a_flood_of_messages_has_a_limit() {
    let mut world = World::with(&[]);
    for id in 1..=40 {
        world.message(wish(id, URL, Some(u32::MAX), &[]));
    }
    world.settle();
    assert_eq!(world.disk.jobs.len(), 32);
    assert_eq!(world.failures().len(), 8);
}

#[test]
fn an_answer_that_comes_too_late_changes_nothing() {
    let mut agent = Agent::new(options(), Some(iccid()), Agenda::default(), 1);
    let now = World::with(&[]).now;
    agent.handle(Input::CardReady, now);
    agent.handle(Input::Message(wish(7, URL, None, &[])), now);
    let number = std::iter::from_fn(|| agent.next_action()).find_map(|action| match action {
        Action::Post(number, _) => Some(number),
        _ => None,
    });
    let number = number.unwrap();
    for late in [number - 1, number + 1, 0] {
        agent.handle(Input::Http(late, Ok(answer(204, &[]))), now);
        assert_eq!(agent.next_action(), None);
    }
    agent.handle(Input::Http(number, Ok(answer(204, &[]))), now);
    assert!(agent.next_action().is_some());
}
