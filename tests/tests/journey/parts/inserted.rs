//! A card in a virtual reader: `secapp insert`.

use std::path::Path;

use e2e::pcscd::Slot;
use e2e::process::{Process, Program};

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
    card.expect_line("powered on");
    card
}
