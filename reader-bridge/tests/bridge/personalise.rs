//! `personalise` on images: what a blank card becomes, and what leaves it as it was.

use std::{
    fs,
    os::{fd::AsFd as _, unix::fs::PermissionsExt as _},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use applet::{
    Protocol,
    image::Image,
    manager::{Configuration, configure},
    nvm::{RamDevice, Store},
    scp03::{Keys, Options},
};
use nix::sys::eventfd::EventFd;
use protocol::{
    chain::Link,
    identity::{Iccid, Mode, UidRand},
    key::Key,
    msg::NOTHING_TO_DO,
    poll::Poll,
};
use reader_bridge::{
    card::{CardPort as _, CardSpec, Options as Place, Wait, image::ImagePort, open},
    secapp::{SecApp, SecAppError},
};
use tempfile::TempDir;

const K: &str = "2b7e151628aed2a6abf7158809cf4f3c";
const OTHER_K: &str = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4";
const CARD_KEY: &str = "505152535455565758595a5b5c5d5e5f";
const ICCID: &str = "8988374172470184089";
const OTHER_ICCID: &str = "8988374172470184097";

/// A blank card's image with a key of its own as version 30, and files beside it.
struct Desk {
    directory: TempDir,
}

fn configuration(i: u8, keys: Option<&str>) -> Configuration {
    let keys = keys.map(|key| (0x30, Keys::same(&Key::from_hex(key).unwrap())));
    Configuration {
        options: Options::new(i).unwrap(),
        keys,
        diversification: [0; 10],
    }
}

impl Desk {
    fn with(configuration: &Configuration) -> Self {
        let desk = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        let fill = |image| {
            let mut memory = Store::format(Box::new(image), None)?;
            configure(&mut memory, configuration).unwrap();
            Ok(())
        };
        Image::create(&desk.path("card.img"), false, fill).unwrap();
        desk.write("card.key", CARD_KEY);
        desk.write("k.hex", K);
        desk.write(
            "card.toml",
            &format!("iccid = \"{ICCID}\"\nkey_file = \"k.hex\"\n"),
        );
        desk
    }

    fn new() -> Self {
        Self::with(&configuration(0x70, Some(CARD_KEY)))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Exit code, standard output, standard error.
    fn personalise(&self, more: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reader-bridge"));
        command.current_dir(self.directory.path());
        command.args(["personalise", "--card", "image:card.img"]);
        if !more.contains(&"--profile") {
            command.args(["--profile", "card.toml"]);
        }
        if !more.contains(&"--card-key-file") {
            command.args(["--card-key-file", "card.key"]);
        }
        let output = command.args(more).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let said = (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        );
        for key in [K, OTHER_K, CARD_KEY] {
            assert!(!said.1.contains(key) && !said.2.contains(key), "{said:?}");
        }
        said
    }

    #[track_caller]
    fn done(&self, more: &[&str]) -> String {
        let (code, said, errors) = self.personalise(more);
        assert_eq!(code, Some(0), "{more:?}: {said}{errors}");
        said
    }

    #[track_caller]
    fn refused(&self, more: &[&str]) -> (i32, String) {
        let (code, said, errors) = self.personalise(more);
        assert_eq!(said, "", "{more:?}");
        (code.unwrap(), errors)
    }

    fn card(&self) -> SecApp {
        let place = Place {
            image_key: None,
            command_timeout: Duration::from_secs(10),
        };
        SecApp::new(open(&CardSpec::Image(self.path("card.img")), place).unwrap())
    }

    #[track_caller]
    fn assert_blank(&self) {
        let never = EventFd::new().unwrap();
        let wait = Wait::new(never.as_fd(), Some(Duration::ZERO));
        let opened = self.card().open(&wait);
        assert!(matches!(opened, Err(SecAppError::Blank)), "{opened:?}");
    }

    /// One exchange with a server's side that knows this key.
    #[track_caller]
    fn assert_exchanges(&self, iccid: &str, key: &str) {
        let never = EventFd::new().unwrap();
        let mut card = self.card();
        let ready = card.open(&Wait::new(never.as_fd(), Some(Duration::ZERO)));
        assert_eq!(ready.unwrap().iccid_text(), iccid);
        let iccid: Iccid = iccid.parse().unwrap();
        let key = Key::from_hex(key).unwrap();
        let server = Link::first(&key, iccid.into(), Mode::DEFAULT);
        let (_, datagram) = card.get_uid(false).unwrap();
        let poll = Poll::parse(&datagram).unwrap();
        assert_eq!(poll.uid, server.uid());
        server.verify(&poll).unwrap();
        let rand = UidRand([7; 8]);
        let answer = server.seal(&NOTHING_TO_DO, 1, rand).unwrap();
        assert_eq!(card.process_response(answer.as_bytes()).unwrap().sent, 1);
        let (poll, _) = card.get_uid(false).unwrap();
        let child = server.child(rand);
        assert_eq!(poll.uid, child.uid());
        child.verify(&poll).unwrap();
    }
}

#[test]
fn a_blank_card_becomes_the_subscriptions_and_talks_to_its_server() {
    let desk = Desk::new();
    desk.assert_blank();
    let said = desk.done(&[]);
    assert!(said.contains(&format!("card {ICCID}, mode 3")), "{said}");
    assert!(!said.contains("test key"), "{said}");
    desk.assert_exchanges(ICCID, K);
}

#[test]
fn every_option_of_scp03_and_every_level_personalises() {
    for i in [0x60, 0x61, 0x70, 0x71] {
        for level in ["03", "13", "33"] {
            for card_key in [CARD_KEY, OTHER_K] {
                let desk = Desk::with(&configuration(i, Some(card_key)));
                desk.write("card.key", card_key);
                desk.done(&["--security-level", level, "--key-version", "30"]);
                desk.assert_exchanges(ICCID, K);
            }
        }
    }
}

#[test]
fn three_keys_of_a_card_manager_are_taken_as_enc_mac_and_dek() {
    let mut configuration = configuration(0x70, None);
    let key = |byte| Key::from_bytes(&[byte; 16]).unwrap();
    let keys = Keys {
        enc: key(1),
        mac: key(2),
        dek: key(3),
    };
    configuration.keys = Some((0x01, keys));
    let desk = Desk::with(&configuration);
    let lines = ["01", "02", "03"].map(|byte| byte.repeat(16)).join("\n");
    desk.write("card.key", &lines);
    desk.done(&[]);
    desk.assert_exchanges(ICCID, K);
    desk.write("card.key", &format!("{CARD_KEY} {CARD_KEY}"));
    let (code, errors) = desk.refused(&[]);
    assert_eq!(code, 8);
    assert!(errors.contains("one key, or three"), "{errors}");
}

#[test]
fn wrong_card_keys_are_refused_and_the_card_stays_blank() {
    let desk = Desk::new();
    desk.write("wrong.key", K);
    let (code, errors) = desk.refused(&["--card-key-file", "wrong.key"]);
    assert_eq!(code, 10);
    assert!(errors.contains("version 30"), "{errors}");
    let (code, errors) = desk.refused(&["--key-version", "31"]);
    assert_eq!(code, 10);
    assert!(errors.contains("version 31"), "{errors}");
    desk.assert_blank();
    // Nothing of it was counted as a guess.
    desk.done(&[]);
    desk.assert_exchanges(ICCID, K);
}

#[test]
fn wrong_card_keys_leave_a_personalised_card_to_its_subscription() {
    let desk = Desk::new();
    desk.done(&[]);
    desk.write("wrong.key", OTHER_K);
    desk.write("k.hex", OTHER_K);
    assert_eq!(desk.refused(&["--card-key-file", "wrong.key"]).0, 10);
    desk.assert_exchanges(ICCID, K);
}

#[test]
fn a_card_without_keys_says_that_nobody_can_open_it() {
    let desk = Desk::with(&configuration(0x70, None));
    let (code, errors) = desk.refused(&[]);
    assert_eq!(code, 10);
    assert!(errors.contains("no card manager's keys"), "{errors}");
}

#[test]
fn a_second_profile_replaces_the_first() {
    let desk = Desk::new();
    desk.done(&[]);
    desk.assert_exchanges(ICCID, K);
    desk.write(
        "other.toml",
        &format!("iccid = \"{OTHER_ICCID}\"\nkey = \"{OTHER_K}\"\n"),
    );
    let said = desk.done(&["--profile", "other.toml", "--json"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["replaced"], true);
    assert_eq!(said["iccid"], OTHER_ICCID);
    assert_eq!(said["key_version"], "30");
    desk.assert_exchanges(OTHER_ICCID, OTHER_K);
}

#[test]
fn a_profile_that_cannot_be_used_is_refused_before_the_card_is_touched() {
    let desk = Desk::new();
    let before = fs::read(desk.path("card.img")).unwrap();
    desk.write(
        "open.toml",
        &format!("iccid = \"{ICCID}\"\nkey = \"{K}\"\n"),
    );
    let everybody = fs::Permissions::from_mode(0o644);
    fs::set_permissions(desk.path("open.toml"), everybody).unwrap();
    desk.write("wrong.toml", &format!("iccid = \"{ICCID}\"\nkey = {K}\n"));
    desk.write(
        "lost.toml",
        &format!("iccid = \"{ICCID}\"\nkey_file = \"lost.hex\"\n"),
    );
    for (profile, hint) in [
        ("open.toml", "chmod 600"),
        ("wrong.toml", "line 2"),
        ("lost.toml", "lost.hex"),
        ("none.toml", "none.toml"),
    ] {
        let (code, errors) = desk.refused(&["--profile", profile]);
        assert_eq!(code, 8, "{profile}: {errors}");
        assert!(errors.contains(hint), "{profile}: {errors}");
    }
    let (code, errors) = desk.refused(&["--card-key-file", "none.key"]);
    assert_eq!(code, 8);
    assert!(errors.contains("none.key"), "{errors}");
    assert!(fs::read(desk.path("card.img")).unwrap() == before);
}

#[test]
fn a_bridge_says_of_a_blank_card_what_to_do() {
    let desk = Desk::new();
    let output = Command::new(env!("CARGO_BIN_EXE_reader-bridge"))
        .current_dir(desk.directory.path())
        .args(["run", "--once", "--card", "image:card.img"])
        .args([
            "--gts",
            "127.0.0.1:9",
            "--wait-card",
            "0.1",
            "--state",
            "state",
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(6));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("reader-bridge personalise"), "{errors}");
}

#[test]
fn an_image_holds_back_its_answers_from_one_who_guesses_card_keys() {
    let mut memory = Store::format(Box::new(RamDevice::blank()), None).unwrap();
    configure(&mut memory, &configuration(0x70, Some(CARD_KEY))).unwrap();
    let card = applet::card(memory, Protocol::T1).unwrap();
    let mut port = ImagePort::new(card, Protocol::T1, "image:test".into());
    let never = EventFd::new().unwrap();
    port.connect(&Wait::new(never.as_fd(), Some(Duration::ZERO)))
        .unwrap();
    let mut held = port.hold().unwrap();
    let initialize = [&[0x80, 0x50, 0, 0, 8][..], &[1; 8], &[0]].concat();
    let guess = [&[0x84, 0x82, 0x33, 0, 16][..], &[0; 16]].concat();
    for _ in 0..4 {
        assert_eq!(held.transmit(&initialize).unwrap().len(), 32 + 2);
        assert_eq!(held.transmit(&guess).unwrap(), [0x63, 0x00]);
    }
    let begun = Instant::now();
    held.transmit(&initialize).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(100));
}
