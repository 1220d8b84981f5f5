//! Cards and readers for scripts.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use e2e::process::{Finished, Process, Program};
pub(crate) use e2e::suite::{scripts as suite, whole_life};

/// A blank card with the test key.
pub(crate) fn blank(directory: &Path, name: &str) -> PathBuf {
    let image = directory.join(name);
    let made = Program::built("secapp")
        .args(["new", "--out"])
        .arg(&image)
        .run();
    assert!(made.status.success(), "{made:?}");
    image
}

/// A blank card whose image is wrapped, and the file of the key that it is wrapped under.
pub(crate) fn wrapped(directory: &Path) -> (PathBuf, PathBuf) {
    let key = written(directory, "wrap.hex", "000102030405060708090a0b0c0d0e0f\n");
    let image = directory.join("card.img");
    let made = Program::built("secapp").args(["new", "--out"]).arg(&image);
    passed(&made.arg("--wrap-key-file").arg(&key).run());
    (image, key)
}

/// `reader-bridge script` of these files.
pub(crate) fn script(files: &[PathBuf]) -> Program {
    Program::built("reader-bridge").arg("script").args(files)
}

/// A script of this text, and `reader-bridge script` of it on a new image.
pub(crate) fn on_image(directory: &Path, text: &str) -> Program {
    let image = blank(directory, "card.img");
    script(&[written(directory, "a.apdu", text)])
        .arg("--card")
        .arg(of(&image))
}

/// `image:FILE`.
pub(crate) fn of(image: &Path) -> String {
    format!("image:{}", image.display())
}

pub(crate) fn written(directory: &Path, name: &str, text: &str) -> PathBuf {
    let file = directory.join(name);
    fs::write(&file, text).unwrap();
    file
}

/// `secapp insert` into the reader on this port, over and over until the reader is there.
pub(crate) fn insert(image: &Path, port: u16, more: &[&str]) -> Process {
    Program::built("secapp")
        .arg("insert")
        .arg(image)
        .args(["--vpcd", &format!("127.0.0.1:{port}")])
        .args(more.iter().copied())
        .start()
}

/// A TCP port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

#[track_caller]
pub(crate) fn code(finished: &Finished) -> i32 {
    finished
        .status
        .code()
        .unwrap_or_else(|| panic!("{finished:?}"))
}

#[track_caller]
pub(crate) fn passed(finished: &Finished) {
    assert_eq!(
        code(finished),
        0,
        "{}\n{}",
        finished.stdout.join("\n"),
        finished.stderr.join("\n")
    );
}
