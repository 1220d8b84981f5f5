//! The README's exchange is a real one: its bytes mean what it says.

use std::fs;

use protocol::chain::{Link, concealed_uid};
use protocol::identity::{Iccid, Mode, UidRand};
use protocol::key::Key;
use protocol::msg::{Msg, Object};
use protocol::poll::Poll;
use protocol::response::{Opened, Response};

use crate::tree;

/// The bytes behind a word at the start of a line.
fn bytes(readme: &str, word: &str) -> Vec<u8> {
    let line = readme
        .lines()
        .find_map(|line| line.strip_prefix(word)?.strip_prefix("  "));
    let digits = line
        .unwrap_or_else(|| panic!("no line {word:?}"))
        .replace(' ', "");
    hex::decode(digits).expect("hexadecimal digits")
}

fn first_link() -> Link {
    let k = Key::from_hex("2b7e151628aed2a6abf7158809cf4f3c").unwrap();
    let iccid: Iccid = "8988374172470184089".parse().unwrap();
    Link::first(&k, concealed_uid(&k, &iccid, Mode::DEFAULT), Mode::DEFAULT)
}

fn open(link: &Link, response: &[u8]) -> Opened {
    link.open(&Response::parse(response).unwrap()).unwrap()
}

#[test]
fn the_readmes_polls_are_those_of_the_first_two_identities() {
    let readme = fs::read_to_string(tree::root().join("README.md")).unwrap();
    let first = first_link();
    assert_eq!(first.poll(0).as_bytes(), bytes(&readme, "poll"));
    let second = first.child(open(&first, &bytes(&readme, "response")).uid_rand());
    assert_eq!(second.poll(0).as_bytes(), bytes(&readme, "next poll"));
    let shown = second.uid().to_string();
    assert!(readme.contains(&format!("UID_2, `{shown}`")), "{shown}");
    second
        .verify(&Poll::parse(&bytes(&readme, "next poll")).unwrap())
        .unwrap();
}

#[test]
fn the_readmes_response_holds_what_stands_beside_it() {
    let readme = fs::read_to_string(tree::root().join("README.md")).unwrap();
    let (response, inside) = (bytes(&readme, "response"), bytes(&readme, "inside"));
    let opened = open(&first_link(), &response);
    let (msg, trailer) = inside.split_at(inside.len() - 18);
    assert_eq!((response.len(), inside.len()), (47, 38));
    assert_eq!(opened.msg(), msg);
    assert_eq!(opened.sent().to_be_bytes(), trailer[..2]);
    assert_eq!(opened.uid_rand(), UidRand(*trailer.last_chunk().unwrap()));
    assert_eq!(
        first_link()
            .seal(msg, 1, opened.uid_rand())
            .unwrap()
            .as_bytes(),
        response
    );
    let message = Msg::parse(msg).unwrap();
    assert_eq!(message.id(), Some(1_795_419_289));
    let objects: Vec<_> = message.objects().collect();
    assert_eq!(objects, [Ok(Object::UpdateAvailable(Some("firmware-2.1")))]);
}

#[test]
fn the_poll_that_the_card_tools_show_is_the_readmes() {
    let tools = fs::read_to_string(tree::root().join("docs/tools.md")).unwrap();
    for (poll, name) in [
        (first_link().poll(0), "opensc-tool"),
        (first_link().poll(1), "scriptor"),
    ] {
        let shown: Vec<_> = poll
            .as_bytes()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        let (line, next) = (shown[..16].join(" "), shown[16..].join(" "));
        let mut lines = tools
            .lines()
            .skip_while(|text| !text.contains(&line))
            .skip(1);
        assert!(
            lines.next().is_some_and(|text| text.starts_with(&next)),
            "{name}"
        );
    }
}
