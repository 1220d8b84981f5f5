//! A card in a virtual reader: `secapp insert`.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::pcscd::Slot;
use e2e::process::{Process, Program};

/// SELECT of SecApp by its whole AID, with its file control information.
pub(crate) const SELECT: [u8; 14] = [
    0x00, 0xA4, 0x04, 0x00, 0x08, 0xF0, 0x47, 0x54, 0x53, 0x41, 0x50, 0x50, 0x01, 0x00,
];

/// `secapp insert` of `image` into the reader that listens on `port`.
pub(crate) fn insert(image: &Path, port: u16) -> Program {
    Program::built("secapp")
        .arg("insert")
        .arg(image)
        .args(["--vpcd", &format!("127.0.0.1:{port}")])
}

/// Puts a card into a slot and waits until it has power.
pub(crate) fn inserted(image: &Path, slot: &Slot) -> Process {
    let mut card = insert(image, slot.port).start();
    // A reader that has not seen the card before leave resets this one.
    card.expect("that it has power", |line| {
        (line.starts_with("powered on") || line == "reset").then_some(())
    });
    card
}

/// Has `secapp new` make a blank card in `directory`. Its card manager has this key, written to `card.key`, or else the
/// test key.
pub(crate) fn blank(directory: &Path, card_key: Option<&str>) -> PathBuf {
    let (image, key) = (directory.join("blank.img"), directory.join("card.key"));
    let mut program = Program::built("secapp").args(["new", "--out"]).arg(&image);
    if let Some(digits) = card_key {
        fs::write(&key, digits).expect("the directory is ours");
        program = program.arg("--card-key-file").arg(&key);
    }
    let made = program.run();
    assert!(made.status.success(), "{made:?}");
    image
}
